//! What a URL of Glance means. Pure.

use url::Url;

use super::options::GlanceOptions;
use crate::{Code, Error, ObjectUrl, keystone::Account, web::settings::invalid};

/// Port of an endpoint that writes none.
const PORT_DEFAULT: u16 = 9292;
/// Longest id of an image.
const ID_BYTES_MAX: usize = 255;

/// A URL of Glance, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The endpoint, where the URL names one.
    pub base: Option<Url>,
    /// The image, where the URL names one.
    id: Option<String>,
    shown: String,
}

impl Target {
    pub fn parse(url: &ObjectUrl) -> Result<Self, Error> {
        let refused = |why: &str| Error::fatal(Code::InvalidUrl, format!("{url} {why}"));
        let parsed = url.url();
        if !parsed.username().is_empty() {
            return Err(refused("names a user; say who asks with options (auth_url, username, password)"));
        }
        if parsed.query().is_some() {
            return Err(refused("has a query; write glance://HOST/IMAGE_ID"));
        }
        if parsed.cannot_be_a_base() {
            return Err(refused("has no //; write glance://HOST/IMAGE_ID"));
        }
        let (prefix, id) = parsed.path().rsplit_once('/').unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if id.len() > ID_BYTES_MAX || !id.bytes().all(is_plain) {
            return Err(refused("does not end with the id of an image; `openstack image list` shows them"));
        }
        let base = match parsed.host_str().filter(|host| !host.is_empty()) {
            Some(host) => {
                let scheme = if parsed.scheme() == "glance+https" { "https" } else { "http" };
                let port = parsed.port().unwrap_or(PORT_DEFAULT);
                let base = format!("{scheme}://{host}:{port}{prefix}");
                Some(
                    Url::parse(&base)
                        .map_err(|error| refused(&format!("names no host that can be asked ({error})")))?,
                )
            }
            None if !prefix.is_empty() => return Err(refused("names a path but no host; write glance:///IMAGE_ID")),
            None => None,
        };
        Ok(Self { base, id: (!id.is_empty()).then(|| id.to_owned()), shown: url.to_string() })
    }

    /// The image to read.
    pub fn id(&self) -> Result<&str, Error> {
        let missing = || Error::fatal(Code::InvalidUrl, format!("{} names no image; add its id", self.shown));
        self.id.as_deref().ok_or_else(missing)
    }

    /// The image to make, where the URL says which.
    pub fn new_id(&self) -> Result<Option<&str>, Error> {
        match self.id.as_deref() {
            Some(id) if !is_uuid(id) => Err(Error::fatal(
                Code::InvalidUrl,
                format!("{} cannot be made: the id of an image is a UUID; `uuidgen` makes one", self.shown),
            )),
            id => Ok(id),
        }
    }

    /// Whether the endpoint can be found with these options.
    pub fn check(&self, options: &GlanceOptions) -> Result<(), Error> {
        match (&self.base, &options.account) {
            (None, Account::Nobody | Account::Token(_)) => Err(invalid(format!(
                "{} names no host; write one, or say with auth_url which Keystone knows it",
                self.shown
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether Glance takes a text for an id.
fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_an_endpoint_and_an_image() {
        for (text, base, id) in [
            ("glance://h/i-1", Some("http://h:9292/"), Some("i-1")),
            ("glance://H:80/image/i", Some("http://h/image"), Some("i")),
            ("glance+https://h:443/i", Some("https://h/"), Some("i")),
            ("glance+https://[::1]/i", Some("https://[::1]:9292/"), Some("i")),
            ("glance:///i", None, Some("i")),
            ("glance://h/", Some("http://h:9292/"), None),
            ("glance://h", Some("http://h:9292/"), None),
        ] {
            let target = Target::parse(&ObjectUrl::parse(text).unwrap()).expect(text);
            assert_eq!((target.base.as_ref().map(Url::as_str), target.id.as_deref()), (base, id), "{text}");
        }
        for text in
            ["glance://u@h/i", "glance://h/i?x=1", "glance:i", "glance:///a/i", "glance://h/a%20b", "glance://h/ä"]
        {
            let parsed = Target::parse(&ObjectUrl::parse(text).unwrap());
            assert_eq!(parsed.expect_err(text).code, Code::InvalidUrl, "{text}");
        }
    }

    #[test]
    fn an_image_that_is_made_has_a_uuid() {
        let id = |text: &str| {
            Target::parse(&ObjectUrl::parse(text).unwrap()).unwrap().new_id().map(|id| id.map(str::to_owned))
        };
        let uuid = "11111111-2222-4333-8444-55555555555A";
        assert_eq!(id(&format!("glance://h/{uuid}")), Ok(Some(uuid.into())));
        assert_eq!(id("glance://h/"), Ok(None));
        for text in [
            "glance://h/debian",
            "glance://h/11111111-2222-4333-8444-55555555555",
            "glance://h/1111111122224333844455555555555a",
        ] {
            assert_eq!(id(text).unwrap_err().code, Code::InvalidUrl, "{text}");
        }
    }
}
