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
}
