//! What the client asked for, parsed once.

use std::fmt;

use http::HeaderValue;
use url::Url;

use crate::{
    Error, Options,
    contract::OptionSpec,
    parts::parse_part_size,
    web::settings::{self, Settings, header, invalid},
};

/// Shortest part that every server takes, but for the last one.
const PART_BYTES_MIN: u64 = 5 << 20;
const REGION_DEFAULT: &str = "us-east-1";

/// Those that say neither where secrets go nor whom to trust with them.
pub(super) const HARMLESS: &[&str] =
    &["part_size", "checksum", "content_type", "storage_class", "connect_timeout", "stall_timeout", "total_timeout"];

/// The options that the module knows.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "endpoint",
        secret: false,
        help: "URL of the server, for instance https://objects.example.org:9000 (default Amazon's for the region)",
    },
    OptionSpec { name: "region", secret: false, help: "region that signatures are made for (default us-east-1)" },
    OptionSpec {
        name: "path_style",
        secret: false,
        help: "whether the bucket stands in the path (true) or in the host's name (false); default true where an \
               endpoint is given, or the bucket's name has a dot",
    },
    OptionSpec {
        name: "access_key",
        secret: false,
        help: "who asks: the access key's id; without it nothing is signed",
    },
    OptionSpec { name: "secret_key", secret: true, help: "the secret that belongs to access_key" },
    OptionSpec { name: "session_token", secret: true, help: "the token of temporary credentials" },
    OptionSpec {
        name: "part_size",
        secret: false,
        help: "bytes of a part that is written, 5 MiB to 1 GiB in whole MiB, for instance 16M (default 8 MiB, 16 MiB \
               where the length is not known); doubled until an object has 10,000 parts at most",
    },
    OptionSpec {
        name: "checksum",
        secret: false,
        help: "by what the server notices a damaged part: crc32 (default, costs nothing), sha256, md5 for servers that \
               know no other, or none",
    },
    OptionSpec { name: "content_type", secret: false, help: "Content-Type of the object that is written" },
    OptionSpec { name: "storage_class", secret: false, help: "storage class of the object that is written" },
    settings::CA,
    settings::CONNECT_TIMEOUT,
    settings::STALL_TIMEOUT,
    settings::TOTAL_TIMEOUT,
];

/// Valid options.
#[derive(Clone, Debug)]
pub(super) struct S3Options {
    pub endpoint: Endpoint,
    pub credentials: Option<Credentials>,
    /// What was asked for; none where the default holds.
    pub part_bytes: Option<u64>,
    pub checksum: PartChecksum,
    pub content_type: Option<HeaderValue>,
    pub storage_class: Option<HeaderValue>,
    pub settings: Settings,
}

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub url: Url,
    pub region: String,
    path_style: Option<bool>,
    named: bool,
}

impl Endpoint {
    /// Whether a bucket stands in the path. No certificate for `*.HOST` is one for a bucket with a dot.
    pub fn path_style(&self, bucket: &str) -> bool {
        self.path_style.unwrap_or(self.named || bucket.contains('.'))
    }
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: Option<String>,
}

/// By what a server notices that a part was damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartChecksum {
    /// CRC-32, which is known of every chunk anyway.
    Crc32,
    /// SHA-256, which also proves what was written.
    Sha256,
    /// `Content-MD5`, and the part's tag, which is its MD5 with most servers.
    Md5,
    /// Nothing.
    None,
}

impl S3Options {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let mut settings = Settings::default();
        let text = |name: &str| options.get(name).map(String::as_str);
        for (name, value) in options {
            if !OPTIONS.iter().any(|known| known.name == name) {
                return Err(invalid(format!("{name:?} is not an option of s3")));
            }
            settings.take(name, value)?;
        }
        Ok(Self {
            endpoint: endpoint(text("endpoint"), text("region"), text("path_style"))?,
            credentials: credentials(text("access_key"), text("secret_key"), text("session_token"))?,
            part_bytes: text("part_size").map(|text| parse_part_size(text, PART_BYTES_MIN)).transpose()?,
            checksum: text("checksum").map_or(Ok(PartChecksum::Crc32), checksum)?,
            content_type: header("content_type", text("content_type"))?,
            storage_class: header("storage_class", text("storage_class"))?,
            settings,
        })
    }
}

fn endpoint(url: Option<&str>, region: Option<&str>, style: Option<&str>) -> Result<Endpoint, Error> {
    let region = region.unwrap_or(REGION_DEFAULT);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if region.is_empty() || region.len() > 64 || !region.bytes().all(plain) {
        return Err(invalid(format!("region: {region:?} is not the name of a region, as us-east-1 is one")));
    }
    let path_style = match style {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(invalid(format!("path_style: {other:?} is neither true nor false"))),
    };
    let amazon = || {
        let country = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://s3.{region}.amazonaws.com{country}")
    };
    // What is refused is not repeated: it may hold a password.
    let unusable = || {
        invalid(
            "endpoint: this is no URL of a server; write for instance https://HOST:PORT, without user or query".into(),
        )
    };
    let parsed = Url::parse(url.map_or_else(amazon, str::to_owned).as_str()).map_err(|_| unusable())?;
    let bare = parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none();
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() || !bare || parsed.fragment().is_some() {
        return Err(unusable());
    }
    Ok(Endpoint { url: parsed, region: region.to_owned(), path_style, named: url.is_some() })
}

fn credentials(access: Option<&str>, secret: Option<&str>, token: Option<&str>) -> Result<Option<Credentials>, Error> {
    let printable =
        |name: &str, value: &str| match !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(value.to_owned()),
            false => Err(invalid(format!("{name}: the value is empty, or holds characters that no credential has"))),
        };
    match (access, secret, token) {
        (None, None, None) => Ok(None),
        (Some(access), Some(secret), token) => Ok(Some(Credentials {
            access_key: printable("access_key", access)?,
            secret_key: printable("secret_key", secret)?,
            session_token: token.map(|token| printable("session_token", token)).transpose()?,
        })),
        (None, ..) => Err(invalid("access_key: it is missing, though a secret was given".into())),
        (_, None, _) => Err(invalid("secret_key: it is missing; give it beside access_key".into())),
    }
}

fn checksum(text: &str) -> Result<PartChecksum, Error> {
    match text {
        "crc32" => Ok(PartChecksum::Crc32),
        "sha256" => Ok(PartChecksum::Sha256),
        "md5" => Ok(PartChecksum::Md5),
        "none" => Ok(PartChecksum::None),
        _ => Err(invalid(format!("checksum: {text:?} is none of crc32, sha256, md5 and none"))),
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn parse(pairs: &[(&str, &str)]) -> Result<S3Options, Error> {
        S3Options::parse(&pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn what_is_wrong_is_said_and_no_secret_is_repeated() {
        for pairs in [
            &[("endpoint", "ftp://h")][..],
            &[("endpoint", "h:9000")],
            &[("endpoint", "https://u:hush@h")],
            &[("endpoint", "https://h/?x=hush")],
            &[("region", "a b")],
            &[("path_style", "yes")],
            &[("access_key", "a")],
            &[("secret_key", "hush")],
            &[("session_token", "hush")],
            &[("access_key", "a"), ("secret_key", "hush\n")],
            &[("access_key", "a"), ("secret_key", "")],
            &[("part_size", "4M")],
            &[("part_size", "5242881")],
            &[("part_size", "2G")],
            &[("checksum", "sha1")],
            &[("content_type", "a\nb")],
            &[("content_type", "")],
            &[("storage-class", "COLD")],
        ] {
            let error = parse(pairs).expect_err(&format!("{pairs:?}"));
            assert_eq!(error.code, Code::InvalidOption, "{pairs:?}");
            assert!(!error.message.contains("hush"), "{error}");
        }
        let secrets = [("access_key", "who"), ("secret_key", "hush"), ("session_token", "hush")];
        let shown = format!("{:?}", parse(&secrets).unwrap());
        assert!(shown.contains("who") && !shown.contains("hush"), "{shown}");
        assert_eq!(parse(&[("part_size", "64MiB")]).unwrap().part_bytes, Some(64 << 20));
    }
}
