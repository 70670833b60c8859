//! Which object, and where requests about it go. Pure.

use std::fmt;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use url::Url;

use super::upload::NAME_BYTES_ADDED_MAX;
use crate::{
    Code, Error, ObjectUrl,
    web::{
        encode::{PATH, QUERY, query as written},
        place::Place,
    },
};

/// Longest name of an object, in bytes of UTF-8, unless a server is set up otherwise.
const OBJECT_BYTES_MAX: usize = 1024;
/// The same of a container.
const CONTAINER_BYTES_MAX: usize = 256;

/// An object in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub container: String,
    pub object: String,
}

impl Target {
    /// `swift://CONTAINER/OBJECT`, both percent-encoded.
    pub fn parse(url: &ObjectUrl) -> Result<Self, Error> {
        let target = Self::below(url)?;
        if target.object.is_empty() {
            return Err(Error::fatal(
                Code::InvalidUrl,
                format!("{url} names no object; write swift://CONTAINER/OBJECT"),
            ));
        }
        Ok(target)
    }

    /// `swift://CONTAINER/PREFIX`: what names begin with, or nothing.
    pub fn below(url: &ObjectUrl) -> Result<Self, Error> {
        let invalid = |why: &str| Error::fatal(Code::InvalidUrl, format!("{url} {why}"));
        let parsed = url.url();
        if !parsed.username().is_empty() {
            return Err(invalid("names a user; say who asks with the options auth_url, username and password"));
        }
        if parsed.port().is_some() {
            return Err(invalid("names a port; a server is named by the option storage_url, here stands a container"));
        }
        if parsed.query().is_some() {
            return Err(invalid("has a query; percent-encode a ? that belongs to the object's name as %3F"));
        }
        let decoded = |text| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let container = decoded(parsed.host_str().unwrap_or_default());
        let object = decoded(parsed.path().strip_prefix('/').unwrap_or_default());
        let (Ok(container), Ok(object)) = (container, object) else {
            return Err(invalid("has a name that is not UTF-8"));
        };
        if !is_container(&container) {
            return Err(invalid("names no container; write swift://CONTAINER/OBJECT"));
        }
        if object.len() > OBJECT_BYTES_MAX {
            let why = format!("has a name of {} bytes; at most {OBJECT_BYTES_MAX} are possible", object.len());
            return Err(invalid(&why));
        }
        Self { container, object: String::new() }.with_object(&object)
    }

    /// An object of the same container.
    pub fn with_object(&self, object: &str) -> Result<Self, Error> {
        let target = Self { container: self.container.clone(), object: object.to_owned() };
        if object.split('/').any(is_dots) {
            let why = "has a name with . or .. as a part, which no URL can carry; rename the object";
            return Err(Error::fatal(Code::InvalidUrl, format!("{target} {why}")));
        }
        Ok(target)
    }

    /// Refuses names that leave no room for those of segments.
    pub fn check_destination(&self) -> Result<(), Error> {
        let most = OBJECT_BYTES_MAX - NAME_BYTES_ADDED_MAX;
        if self.object.len() <= most {
            return Ok(());
        }
        let len = self.object.len();
        Err(Error::fatal(
            Code::InvalidUrl,
            format!("{self} has a name of {len} bytes; at most {most} can be written, since segments add to it"),
        ))
    }
}

/// Whether a text can be the name of a container: a URL is cut at its slashes.
pub(super) fn is_container(name: &str) -> bool {
    !name.is_empty() && name.len() <= CONTAINER_BYTES_MAX && !name.contains('/') && !is_dots(name)
}

/// What URLs take for another place.
fn is_dots(name: &str) -> bool {
    matches!(name, "." | "..")
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (container, object) =
            (utf8_percent_encode(&self.container, QUERY), utf8_percent_encode(&self.object, PATH));
        write!(f, "swift://{container}/{object}")
    }
}

/// Where requests about an object and its segments go.
#[derive(Clone, Debug)]
pub(super) struct Address {
    /// The account's URL, without a slash at its end.
    pub account: String,
    pub target: Target,
    /// The container of segments.
    pub segments: String,
}

impl Address {
    /// The object, with a query.
    pub fn object(&self, query: &[(&str, &str)]) -> Result<Place, Error> {
        self.named(&self.target.container, &self.target.object, query)
    }

    /// An object in the container of segments, with a query.
    pub fn segment(&self, name: &str, query: &[(&str, &str)]) -> Result<Place, Error> {
        self.named(&self.segments, name, query)
    }

    /// A container, with a query.
    pub fn container(&self, name: &str, query: &[(&str, &str)]) -> Result<Place, Error> {
        self.place(format!("{}{}", utf8_percent_encode(name, QUERY), written(query)))
    }

    fn named(&self, container: &str, object: &str, query: &[(&str, &str)]) -> Result<Place, Error> {
        let (container, object) = (utf8_percent_encode(container, QUERY), utf8_percent_encode(object, PATH));
        self.place(format!("{container}/{object}{}", written(query)))
    }

    fn place(&self, rest: String) -> Result<Place, Error> {
        let url = Url::parse(&format!("{}/{rest}", self.account)).map_err(|error| {
            Error::fatal(Code::InvalidUrl, format!("{} is no URL of an account ({error})", self.account))
        })?;
        Place::at(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, Error> {
        Target::parse(&ObjectUrl::parse(url).unwrap())
    }

    #[test]
    fn urls_name_a_container_and_an_object() {
        let parsed = target("swift://My%20images/a%20b//c%2Fd%3F+~").unwrap();
        assert_eq!((parsed.container.as_str(), parsed.object.as_str()), ("My images", "a b//c/d?+~"));
        assert_eq!(parsed.to_string(), "swift://My%20images/a%20b//c/d%3F%2B~");
        for url in [
            "swift://c",
            "swift://c/",
            "swift:///o",
            "swift:o",
            "swift://c:1/o",
            "swift://u@c/o",
            "swift://c/o?x",
            "swift://c/%ff",
            "swift://a%2Fb/o",
        ] {
            assert_eq!(target(url).expect_err(url).code, Code::InvalidUrl, "{url}");
        }
        let long = |len: usize| target(&format!("swift://c/{}", "x".repeat(len)));
        assert!(long(OBJECT_BYTES_MAX).unwrap().check_destination().is_err());
        assert!(long(OBJECT_BYTES_MAX - NAME_BYTES_ADDED_MAX).unwrap().check_destination().is_ok());
        assert!(long(OBJECT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn no_name_leads_to_another_container() {
        for url in ["swift://c/a%2F..%2Fb", "swift://c/..%2F..%2Fother%2Fo", "swift://c/%252E%2F.%2Fo"] {
            assert_eq!(target(url).expect_err(url).code, Code::InvalidUrl, "{url}");
        }
        assert_eq!(target("swift://c/%252e%252e/...").unwrap().object, "%2e%2e/...");
    }

    #[test]
    fn requests_go_to_the_account() {
        let target = target("swift://c%20d/x/%C3%A4%3F").unwrap();
        let address = Address { account: "https://h/v1/AUTH_p".into(), target, segments: "s t".into() };
        let uri = |place: Result<Place, Error>| place.unwrap().uri().to_string();
        assert_eq!(
            uri(address.object(&[("multipart-manifest", "put")])),
            "https://h/v1/AUTH_p/c%20d/x/%C3%A4%3F?multipart-manifest=put"
        );
        assert_eq!(uri(address.segment("x/1", &[])), "https://h/v1/AUTH_p/s%20t/x/1");
        assert_eq!(uri(address.container("s t", &[("prefix", "a/b")])), "https://h/v1/AUTH_p/s%20t?prefix=a%2Fb");
    }
}
