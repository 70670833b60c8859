//! What Glance tells of an image. Pure.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;

use crate::{Checksum, ChecksumKind, Code, Error};

/// An image as Glance describes it, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    /// Its id.
    pub id: String,
    status: String,
    /// Length of its data in bytes.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(default)]
    checksum: Option<String>,
    #[serde(default)]
    os_hash_algo: Option<String>,
    #[serde(default)]
    os_hash_value: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    /// The transfer that made it, where one did.
    #[serde(default)]
    pub staccato_transfer: Option<String>,
}

/// How far an image that is made has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for its data.
    Queued,
    /// Its data is coming, or being looked at.
    Busy,
    /// It is complete, and everybody sees it.
    Active,
    /// It will never be complete.
    Gone,
}

impl Record {
    /// The strongest checksum of its data that is published.
    pub fn published(&self) -> Option<Checksum> {
        let parse = |kind: ChecksumKind, hex: &String| {
            let digest = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok()?;
            (digest.len() == kind.digest_len()).then(|| Checksum::new(kind, digest))
        };
        let algorithm = self.os_hash_algo.as_deref();
        let kind = ChecksumKind::ALL.into_iter().find(|kind| Some(kind.as_str()) == algorithm);
        let strong = kind.zip(self.os_hash_value.as_ref()).and_then(|(kind, hex)| parse(kind, hex));
        strong.or_else(|| self.checksum.as_ref().and_then(|hex| parse(ChecksumKind::Md5, hex)))
    }

    /// What tells its data from any other's: the data of one image never changes, but an id may be used again.
    pub fn version(&self) -> String {
        match self.published() {
            Some(checksum) => format!("{} {checksum}", self.id),
            None => format!("{} {}", self.id, self.created_at.as_deref().unwrap_or_default()),
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        match self.status.as_str() {
            "queued" => Stage::Queued,
            "saving" | "uploading" | "importing" => Stage::Busy,
            "active" => Stage::Active,
            _ => Stage::Gone,
        }
    }

    /// Whether its data can be read.
    pub fn check_readable(&self) -> Result<(), Error> {
        let id = &self.id;
        match self.status.as_str() {
            "active" => Ok(()),
            status @ ("queued" | "saving" | "uploading" | "importing") => Err(Error::retry(
                Code::ReadFailed,
                format!("the image {id} is {status}: its data is not there yet; it is tried again later"),
            )),
            "deactivated" => Err(Error::fatal(
                Code::PermissionDenied,
                format!("the image {id} is deactivated; have its operator reactivate it"),
            )),
            status => Err(Error::fatal(Code::SourceMissing, format!("the image {id} has no data: it is {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Disposition;

    fn record(fields: serde_json::Value) -> Record {
        let mut document = serde_json::json!({"id": "i", "status": "active", "size": 3, "created_at": "then"});
        document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn the_strongest_checksum_counts() {
        let (md5, sha512) = ("0".repeat(32), "a".repeat(128));
        let both = record(serde_json::json!({"checksum": md5, "os_hash_algo": "sha512", "os_hash_value": sha512}));
        assert_eq!(both.published().unwrap().to_string(), format!("sha512:{sha512}"));
        assert_eq!(both.version(), format!("i sha512:{sha512}"));
        let odd = record(serde_json::json!({"checksum": md5, "os_hash_algo": "blake2b", "os_hash_value": sha512}));
        assert_eq!(odd.published().unwrap().to_string(), format!("md5:{md5}"));
        let cut = record(serde_json::json!({"os_hash_algo": "sha512", "os_hash_value": "aa"}));
        assert_eq!((cut.published(), cut.version()), (None, "i then".into()));
    }

    #[test]
    fn only_active_images_are_read() {
        let check = |status: &str| record(serde_json::json!({ "status": status })).check_readable();
        assert_eq!(check("active"), Ok(()));
        for status in ["queued", "saving", "importing"] {
            assert_eq!(check(status).unwrap_err().disposition, Disposition::Retry { after: None }, "{status}");
        }
        for (status, code) in [
            ("deactivated", Code::PermissionDenied),
            ("killed", Code::SourceMissing),
            ("deleted", Code::SourceMissing),
            ("pending_delete", Code::SourceMissing),
        ] {
            let error = check(status).unwrap_err();
            assert_eq!((error.code, error.disposition), (code, Disposition::Fatal), "{status}");
        }
    }
}
