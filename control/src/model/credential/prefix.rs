//! Below which URLs a credential may be used.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use staccato_protocols::ObjectUrl;

/// `SCHEME://HOST[:PORT]`, and perhaps a path: that URL, and those below it. A path ends where one of its segments does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPrefix(ObjectUrl);

impl UrlPrefix {
    /// Its scheme.
    pub fn scheme(&self) -> &str {
        self.0.scheme()
    }

    /// Whether `url` is this one, or lies below it. With a path, one whose segments could be taken for several when they
    /// are decoded (`%2F`) does not: a server might follow `..` in it.
    pub fn covers(&self, url: &ObjectUrl) -> bool {
        let (own, other) = (self.0.url(), url.url());
        let one_server = own.scheme() == other.scheme()
            && own.host_str() == other.host_str()
            && own.port_or_known_default() == other.port_or_known_default()
            && other.username().is_empty();
        let own = segments(own.path()).expect("it was checked when it was parsed");
        one_server && (own.is_empty() || segments(other.path()).is_some_and(|other| other.starts_with(&own)))
    }
}

/// The decoded segments of a path, without an empty one at its end; nothing where one of them holds what separates or leads
/// up, in however many layers of encoding.
fn segments(path: &str) -> Option<Vec<Vec<u8>>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let one = |segment: &str| {
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        let hides = decoded.iter().any(|byte| b"/\\%".contains(byte)) || decoded == b"." || decoded == b"..";
        (!hides).then_some(decoded)
    };
    if path.is_empty() { Some(Vec::new()) } else { path.split('/').map(one).collect() }
}

impl FromStr for UrlPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| format!("{why}; write SCHEME://HOST[:PORT], perhaps with a path");
        let url = ObjectUrl::parse(text).map_err(|error| error.message)?;
        // The parser skips surplus slashes, so that http:///path would mean the host "path".
        let authority = text.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        if authority.is_empty() || authority.starts_with(['/', '\\']) || url.url().host_str().is_none_or(str::is_empty)
        {
            return Err(refused("a URL of a credential names a host"));
        }
        if url.url().query().is_some() || !url.url().username().is_empty() {
            return Err(refused("a URL of a credential has neither a query nor a user"));
        }
        if segments(url.url().path()).is_none() {
            return Err(refused("a URL of a credential has no encoded / \\ or % in its path"));
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for UrlPrefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<UrlPrefix> for String {
    fn from(prefix: UrlPrefix) -> Self {
        prefix.0.into()
    }
}

impl fmt::Display for UrlPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_one_server_and_whole_segments_below_its_path() {
        for (prefix, url, covered) in [
            ("https://h", "https://h/a/b?sig=1", true),
            ("https://h/", "https://H:443/", true),
            ("https://h", "https://h/a%2Fb", true),
            ("https://h", "http://h/a", false),
            ("https://h", "https://h:444/a", false),
            ("https://h", "https://h.evil.example/a", false),
            ("https://h", "https://evil.example/h", false),
            ("https://h", "https://u@h/a", false),
            ("https://h/a", "https://h/a", true),
            ("https://h/a/", "https://h/a/b", true),
            ("https://h/a", "https://h/%61/b", true),
            ("https://h/a", "https://h/ab", false),
            ("https://h/a", "https://h//a/b", false),
            ("https://h/a", "https://h/", false),
            ("https://h/a", "https://h/a/..%2Fb", false),
            ("https://h/a", "https://h/a/%2e%2e%2fb", false),
            ("https://h/a", "https://h/a/%252e%252e%252fb", false),
            ("s3://backups/daily", "s3://backups/daily/x", true),
            ("s3://backups", "s3://backups2/x", false),
        ] {
            let found = prefix.parse::<UrlPrefix>().unwrap().covers(&ObjectUrl::parse(url).unwrap());
            assert_eq!(found, covered, "{prefix} {url}");
        }
    }

    #[test]
    fn what_names_no_server_is_no_prefix() {
        for text in
            ["", "h", "https:///a", "https://u@h", "https://h/?x", "https://h/a%2Fb", "https://h/a/../b", "file:///a"]
        {
            assert!(text.parse::<UrlPrefix>().is_err(), "{text}");
        }
    }
}
