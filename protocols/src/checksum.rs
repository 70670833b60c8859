//! Checksums of whole objects, as requests name them and storage publishes them.

use std::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

use crate::{Code, Error};

pub use hasher::Hasher;

mod hasher;

/// A checksum that the moved bytes must have, written `KIND:HEX`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum {
    kind: ChecksumKind,
    digest: Vec<u8>,
}

/// Kinds of checksum a request can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// SHA-256, FIPS 180-4.
    Sha256,
    /// SHA-512, FIPS 180-4.
    Sha512,
    /// MD5, RFC 1321; against faults, not malice.
    Md5,
    /// CRC-32 as in IEEE 802.3 and zip, big-endian hex.
    Crc32,
    /// CRC-32C (Castagnoli), RFC 3720, big-endian hex.
    Crc32c,
}

impl ChecksumKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Sha256, Self::Sha512, Self::Md5, Self::Crc32, Self::Crc32c];

    /// Its name in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Md5 => "md5",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
        }
    }

    /// Length of its digests, in bytes.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
            Self::Crc32 | Self::Crc32c => 4,
        }
    }
}

impl Checksum {
    /// A checksum of this kind; the digest's length must be the kind's.
    pub fn new(kind: ChecksumKind, digest: Vec<u8>) -> Self {
        assert_eq!(digest.len(), kind.digest_len(), "digests of a kind have one length");
        Self { kind, digest }
    }

    /// Which kind.
    pub fn kind(&self) -> ChecksumKind {
        self.kind
    }

    /// The digest's bytes, in the order they are written in hex.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl FromStr for Checksum {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::fatal(
                Code::InvalidOption,
                format!(
                    "{text:?} is no checksum; write sha256, sha512, md5, crc32 or crc32c, a colon and the digest in hex"
                ),
            )
        };
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let kind = ChecksumKind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or_else(invalid)?;
        let digest = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok();
        let digest = digest.filter(|digest| digest.len() == kind.digest_len()).ok_or_else(invalid)?;
        Ok(Self { kind, digest })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), HEXLOWER.encode(&self.digest))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Checksum {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_parsed_or_refused_whole() {
        let text = "crc32:0a0B0c0d";
        assert_eq!(text.parse::<Checksum>().unwrap().to_string(), "crc32:0a0b0c0d");
        for text in ["", "crc32", "crc32:", "crc32:0a", "crc32:zz0b0c0d", "sha1:00", "md5:0a0b0c0d", "crc32:+a0b0c0d"] {
            assert!(text.parse::<Checksum>().is_err(), "{text}");
        }
    }
}
