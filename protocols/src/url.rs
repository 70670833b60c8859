//! URLs of objects: parsed once, valid ever after.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Code, Error};

/// Longest URL that is accepted, in bytes.
pub const URL_BYTES_MAX: usize = 4096;
/// Longest spelling of a segment that means `..`.
const DOTS_BYTES_MAX: usize = "%2e%2e".len();

/// The URL of an object: absolute, without `..`, without a password, without a fragment. Keeps the spelling it came
/// with.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectUrl {
    text: String,
    url: Url,
}

impl ObjectUrl {
    /// Parses and checks what holds for every scheme.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: String| Error::fatal(Code::InvalidUrl, why);
        if text.len() > URL_BYTES_MAX {
            return Err(invalid(format!("the URL has {} bytes; at most {URL_BYTES_MAX} are accepted", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid("the URL holds a control character; percent-encode it".into()));
        }
        let shown = || harmless(text);
        let url = Url::parse(text).map_err(|error| {
            invalid(format!(
                "{:?} is not an absolute URL ({error}); write for instance file:///path or https://host/path",
                shown()
            ))
        })?;
        if url.password().is_some() {
            return Err(invalid(
                "a password does not belong in a URL; pass it in source_options or destination_options".into(),
            ));
        }
        if url.fragment().is_some() {
            return Err(invalid(format!(
                "{:?} has a fragment (#...); percent-encode a # that belongs to the name as %23",
                shown()
            )));
        }
        // The parser resolves dot segments silently; a client that sends them shall learn that nobody follows them.
        let hierarchy = text.split(['?', '#']).next().unwrap_or(text);
        let is_dots = |segment: &str| {
            segment.len() <= DOTS_BYTES_MAX && {
                let plain = segment.to_ascii_lowercase().replace("%2e", ".");
                plain == ".." || plain == "."
            }
        };
        if hierarchy.split(['/', '\\']).any(is_dots) {
            return Err(invalid(format!("{:?} has a . or .. segment; write the path it stands for", shown())));
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// Its scheme, in lower case.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its parsed form.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host it names; none when it names none, or `localhost`.
    pub fn host(&self) -> Option<&str> {
        self.url.host_str().filter(|host| !host.is_empty() && *host != "localhost")
    }

    /// The same object as its own host calls it: without the host.
    pub fn without_host(&self) -> Self {
        let local = || {
            let (scheme, rest) = self.text.split_once("://")?;
            let path = rest.find('/').map_or("/", |at| &rest[at..]);
            Self::parse(&format!("{scheme}://{path}")).ok()
        };
        local().unwrap_or_else(|| self.clone())
    }

    /// As it may be shown: the query, which may carry a signature, is replaced.
    pub fn redacted(&self) -> String {
        match self.text.split_once('?') {
            Some((before, _)) => format!("{before}?<redacted>"),
            None => self.text.clone(),
        }
    }
}

/// What may be repeated of a text that may hold secrets in the places where URLs do: nothing behind `?` or `#`, nothing
/// before `@`.
fn harmless(text: &str) -> String {
    let hierarchy = text.split(['?', '#']).next().unwrap_or(text);
    match hierarchy.rsplit_once('@') {
        Some((_, rest)) => format!("<redacted>@{rest}"),
        None => hierarchy.to_owned(),
    }
}

impl fmt::Debug for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl TryFrom<String> for ObjectUrl {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<ObjectUrl> for String {
    fn from(url: ObjectUrl) -> Self {
        url.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_with_spaces_unicode_and_percent_signs() {
        for text in ["file:///a b", "file:///%E4%BD%A0%20x", "file:///100%25", "http://h:1/p?q=../x", "zero:///10"] {
            assert_eq!(ObjectUrl::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_what_no_scheme_can_mean() {
        for text in [
            "",
            "a/b",
            "/etc/passwd",
            "file:///a/../b",
            "file:///a/%2e%2E/b",
            "file:///./a",
            "http://u:p@h/",
            "http://h/#x",
            "http://h/\n",
        ] {
            let error = ObjectUrl::parse(text).expect_err(text);
            assert_eq!(error.code, Code::InvalidUrl, "{text}");
        }
        assert!(ObjectUrl::parse(&format!("http://h/{}", "x".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn refusals_repeat_no_secret() {
        for text in [
            "http://u:secret@:99999999/x",
            "//h/x?sig=secret",
            "http://h/../x?sig=secret",
            "http://h/x?sig=secret#part",
            "http://h/x#secret",
            "http://u:secret@h/x",
        ] {
            let error = ObjectUrl::parse(text).expect_err(text);
            assert!(!error.message.contains("secret"), "{}", error.message);
        }
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(ObjectUrl::parse("http://h/p?sig=1").unwrap().to_string(), "http://h/p?<redacted>");
    }

    #[test]
    fn a_host_is_told_and_left_out() {
        for (text, host, local) in [
            ("file://h1/a%20b", Some("h1"), "file:///a%20b"),
            ("file:///a", None, "file:///a"),
            ("file://localhost/a", None, "file:///a"),
            ("file:/a", None, "file:/a"),
            ("zero://h1/10M?seed=1", Some("h1"), "zero:///10M?seed=1"),
            ("null://h1", Some("h1"), "null:///"),
        ] {
            let url = ObjectUrl::parse(text).unwrap();
            assert_eq!((url.host(), url.without_host().as_str()), (host, local), "{text}");
        }
    }
}
