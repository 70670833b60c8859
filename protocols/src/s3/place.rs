//! Which object, and where requests about it go. Pure.

use std::fmt;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use url::Url;

use super::options::Endpoint;
use crate::{
    Code, Error, ObjectUrl,
    web::{
        encode::{PATH, query as written},
        place::Place,
    },
};

/// Longest key, in bytes of UTF-8.
const KEY_BYTES_MAX: usize = 1024;
/// Longest name of a bucket, as old ones may have.
const BUCKET_BYTES_MAX: usize = 255;

/// An object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub bucket: String,
    pub key: String,
}

impl Target {
    /// `s3://BUCKET/KEY`, the key percent-encoded.
    pub fn parse(url: &ObjectUrl) -> Result<Self, Error> {
        let target = Self::below(url)?;
        if target.key.is_empty() {
            return Err(Error::fatal(Code::InvalidUrl, format!("{url} names no key; write s3://BUCKET/KEY")));
        }
        Ok(target)
    }

    /// `s3://BUCKET/PREFIX`: what keys begin with, or nothing.
    pub fn below(url: &ObjectUrl) -> Result<Self, Error> {
        let invalid = |why: &str| Error::fatal(Code::InvalidUrl, format!("{url} {why}"));
        let parsed = url.url();
        if !parsed.username().is_empty() {
            return Err(invalid("names a user; pass credentials as the options access_key and secret_key"));
        }
        if parsed.port().is_some() {
            return Err(invalid("names a port; a server is named by the option endpoint, here stands a bucket"));
        }
        if parsed.query().is_some() {
            return Err(invalid("has a query; percent-encode a ? that belongs to the key as %3F"));
        }
        let bucket = parsed.host_str().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if bucket.is_empty() || bucket.len() > BUCKET_BYTES_MAX || !bucket.bytes().all(plain) {
            return Err(invalid("names no bucket; write s3://BUCKET/KEY"));
        }
        let path = parsed.path().strip_prefix('/').unwrap_or_default();
        let key = percent_decode_str(path).decode_utf8().map_err(|_| invalid("has a key that is not UTF-8"))?;
        if key.len() > KEY_BYTES_MAX {
            return Err(invalid(&format!("has a key of {} bytes; at most {KEY_BYTES_MAX} are possible", key.len())));
        }
        Self { bucket: bucket.to_owned(), key: String::new() }.with_key(&key)
    }

    /// How an object of the same bucket is shown.
    pub fn shown(&self, key: &str) -> String {
        Self { bucket: self.bucket.clone(), key: key.to_owned() }.to_string()
    }

    /// An object of the same bucket.
    pub fn with_key(&self, key: &str) -> Result<Self, Error> {
        let target = Self { bucket: self.bucket.clone(), key: key.to_owned() };
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            let why = "has a key with . or .. as a part, which no URL can carry; rename the object";
            return Err(Error::fatal(Code::InvalidUrl, format!("{target} {why}")));
        }
        Ok(target)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, utf8_percent_encode(&self.key, PATH))
    }
}

/// Where requests about an object and its bucket go.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub target: Target,
    /// The bucket's URL, without a slash at its end.
    bucket: String,
}

impl Address {
    pub fn new(target: &Target, endpoint: &Endpoint) -> Result<Self, Error> {
        let Target { bucket, .. } = target;
        let base = endpoint.url.as_str().trim_end_matches('/');
        let bucket = match base.split_once("://") {
            Some((scheme, rest)) if !endpoint.path_style(bucket) => format!("{scheme}://{bucket}.{rest}"),
            _ => format!("{base}/{bucket}"),
        };
        Ok(Self { target: target.clone(), bucket })
    }

    /// The object, with a query.
    pub fn object(&self, query: &[(&str, &str)]) -> Result<Place, Error> {
        let key = utf8_percent_encode(&self.target.key, PATH);
        place(format!("{}/{key}{}", self.bucket, written(query)))
    }

    /// Its bucket, with a query.
    pub fn bucket(&self, query: &[(&str, &str)]) -> Result<Place, Error> {
        place(format!("{}/{}", self.bucket, written(query)))
    }
}

fn place(text: String) -> Result<Place, Error> {
    let url = Url::parse(&text)
        .map_err(|error| Error::fatal(Code::InvalidUrl, format!("bucket and endpoint make no URL ({error})")))?;
    Place::at(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, s3::options::S3Options};

    fn target(url: &str) -> Result<Target, Error> {
        Target::parse(&ObjectUrl::parse(url).unwrap())
    }

    fn object(url: &str, options: &[(&str, &str)]) -> String {
        let options: Options = options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let endpoint = S3Options::parse(&options).unwrap().endpoint;
        let address = Address::new(&target(url).unwrap(), &endpoint).unwrap();
        address.object(&[("uploads", ""), ("id", "a+b/=")]).unwrap().uri().to_string()
    }

    #[test]
    fn urls_name_a_bucket_and_a_key() {
        let parsed = target("s3://My_bucket.1/a%20b//c%2Fd%3F+~").unwrap();
        assert_eq!((parsed.bucket.as_str(), parsed.key.as_str()), ("My_bucket.1", "a b//c/d?+~"));
        for url in ["s3://b", "s3://b/", "s3:///k", "s3:k", "s3://b:1/k", "s3://u@b/k", "s3://b/k?x", "s3://b/%ff"] {
            assert_eq!(target(url).expect_err(url).code, Code::InvalidUrl, "{url}");
        }
        assert!(target(&format!("s3://b/{}", "x".repeat(KEY_BYTES_MAX))).is_ok());
        assert!(target(&format!("s3://b/{}", "x".repeat(KEY_BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn no_key_leads_to_another_bucket() {
        for url in ["s3://b/a%2F..%2Fk", "s3://b/..%2Fother%2Fk", "s3://b/.%2Fk"] {
            assert_eq!(target(url).expect_err(url).code, Code::InvalidUrl, "{url}");
        }
        assert_eq!(target("s3://b/%252e%252e/...").unwrap().key, "%2e%2e/...");
    }

    #[test]
    fn requests_go_to_the_endpoint_in_its_style() {
        let query = "?uploads&id=a%2Bb%2F%3D";
        for (url, options, wanted) in [
            ("s3://b/k", vec![], "https://b.s3.us-east-1.amazonaws.com/k"),
            ("s3://b.c/k", vec![], "https://s3.us-east-1.amazonaws.com/b.c/k"),
            ("s3://b/k", vec![("region", "eu-west-1")], "https://b.s3.eu-west-1.amazonaws.com/k"),
            ("s3://b/k", vec![("region", "cn-north-1")], "https://b.s3.cn-north-1.amazonaws.com.cn/k"),
            ("s3://b/k", vec![("path_style", "true")], "https://s3.us-east-1.amazonaws.com/b/k"),
            ("s3://b/%C3%A4%20%2B'", vec![("endpoint", "http://h:9000")], "http://h:9000/b/%C3%A4%20%2B%27"),
            ("s3://b//k", vec![("endpoint", "http://h/s3/")], "http://h/s3/b//k"),
            ("s3://b/k", vec![("endpoint", "http://h"), ("path_style", "false")], "http://b.h/k"),
        ] {
            assert_eq!(object(url, &options), format!("{wanted}{query}"));
        }
    }
}
