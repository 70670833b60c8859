//! Where requests go: the URL of the request, or what redirects made of it. Pure.

use std::fmt;

use http::Uri;
use url::Url;

use crate::{Code, Error, ObjectUrl};

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 10;

/// A URL that requests can be sent to.
#[derive(Clone)]
pub(crate) struct Place {
    url: Url,
    uri: Uri,
    /// Whether no redirect on the way here led to another origin. The client's headers go nowhere else, and once an
    /// origin was left they are not sent again: whoever sent us away would choose what they are sent for.
    home: bool,
}

impl Place {
    /// The URL a client named.
    pub fn origin(url: &ObjectUrl) -> Result<Self, Error> {
        let invalid = |why: &str| Error::fatal(Code::InvalidUrl, format!("{url} {why}"));
        // The parser skips surplus slashes, so that http:///path would mean the host "path".
        let authority = url.as_str().split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        if authority.starts_with(['/', '\\', '?', ':']) || authority.is_empty() || url.url().host().is_none() {
            return Err(invalid("names no host; write http://HOST/PATH"));
        }
        if !url.url().username().is_empty() {
            return Err(invalid("names a user; pass credentials as the option header.Authorization"));
        }
        if !is_http(url.url()) {
            return Err(invalid("is neither http nor https"));
        }
        let uri = Uri::try_from(url.url().as_str())
            .map_err(|error| invalid(&format!("cannot be sent to a server ({error}); percent-encode it")))?;
        Ok(Self { url: url.url().clone(), uri, home: true })
    }

    /// A URL that a module made from what the client named.
    pub fn at(url: Url) -> Result<Self, Error> {
        let invalid = |why: &str| Error::fatal(Code::InvalidUrl, format!("{} {why}", shown(&url)));
        if !is_http(&url) || url.host().is_none() {
            return Err(invalid("is no http or https URL with a host"));
        }
        let uri = Uri::try_from(url.as_str()).map_err(|error| invalid(&format!("cannot be sent ({error})")))?;
        Ok(Self { url, uri, home: true })
    }

    /// The URL for a request line and its connection.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether there is a query, which may be a signature.
    pub fn has_query(&self) -> bool {
        self.url.query().is_some()
    }

    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Whether the client's own headers may be sent there.
    pub fn is_home(&self) -> bool {
        self.home
    }

    /// Whether requests would be the same.
    pub fn is(&self, other: &Self) -> bool {
        self.url == other.url && self.home == other.home
    }

    /// Where a `Location` header leads from here.
    pub fn redirected(&self, location: &[u8]) -> Result<Self, Error> {
        let refused = |why: &str| Error::fatal(Code::RedirectRefused, format!("{self} redirects {why}"));
        let text = std::str::from_utf8(location).map_err(|_| refused("to something that is not a URL"))?;
        let mut url =
            self.url.join(text).map_err(|error| refused(&format!("to something that is not a URL ({error})")))?;
        if !is_http(&url) {
            return Err(refused(&format!("to the scheme {:?}; only http and https are followed", url.scheme())));
        }
        if self.is_secure() && url.scheme() != "https" {
            return Err(refused("from https to http, which anybody could read and change; this is not followed"));
        }
        // Credentials in a Location are the server's idea, not the client's.
        if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
            return Err(refused("to a URL without a host"));
        }
        url.set_fragment(None);
        let uri = Uri::try_from(url.as_str()).map_err(|error| refused(&format!("to something unusable ({error})")))?;
        let home = self.home && url.origin() == self.url.origin();
        Ok(Self { url, uri, home })
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// As it may be shown: a query may carry a signature.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

fn shown(url: &Url) -> String {
    match url.as_str().split_once('?') {
        Some((before, _)) => format!("{before}?<redacted>"),
        None => url.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        Place::origin(&ObjectUrl::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn a_url_without_a_host_or_with_a_user_is_refused() {
        for url in ["http:///path", "http:path", "http:/path", "https:////x", "http:\\\\h/p", "http://u@h/"] {
            if let Ok(url) = ObjectUrl::parse(url) {
                assert_eq!(Place::origin(&url).err().map(|error| error.code), Some(Code::InvalidUrl), "{url}");
            }
        }
        for url in ["http://h", "https://[::1]:8443/a%20b?q=%25", "HTTP://H:1/ä"] {
            place(url);
        }
    }

    #[test]
    fn redirects_never_lead_to_a_weaker_scheme_or_another_kind() {
        for (from, to) in [
            ("https://h/a", "http://h/a"),
            ("https://h/a", "http://other/"),
            ("http://h/a", "file:///etc/passwd"),
            ("http://h/a", "ftp://h/a"),
            ("http://h/a", "javascript:1"),
            ("http://h/a", "http://"),
        ] {
            let error = place(from).redirected(to.as_bytes()).err().expect(to);
            assert_eq!(error.code, Code::RedirectRefused, "{to}");
        }
    }

    #[test]
    fn redirects_are_relative_and_lose_their_credentials() {
        let next = place("https://h/a/b?x=1").redirected(b"../c?sig=hush#part").unwrap();
        assert_eq!(next.uri().to_string(), "https://h/c?sig=hush");
        assert!(!next.to_string().contains("hush"));
        assert_eq!(place("http://h/a").redirected(b"//u:p@k/").unwrap().uri().to_string(), "http://k/");
        assert!(place("http://h/").redirected(b"https://h/").is_ok(), "a stronger scheme is welcome");
    }

    #[test]
    fn leaving_the_origin_is_for_good() {
        let home = place("http://h/a");
        assert!(home.redirected(b"/b").unwrap().is_home());
        for away in ["http://h:81/", "https://h/", "http://k/"] {
            let away = home.redirected(away.as_bytes()).unwrap();
            assert!(!away.is_home());
            if !away.is_secure() {
                assert!(!away.redirected(b"http://h/a").unwrap().is_home());
            }
        }
    }
}
