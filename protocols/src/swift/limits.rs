//! What a server says of its limits, and how an object is cut by them.
//!
//! `GET /info` is open to everybody unless an operator has closed it
//! (<https://docs.openstack.org/swift/latest/api/discoverability.html>). Where it is closed or missing, or says nothing of a
//! limit, Swift's default holds.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::Storage;
use crate::{
    CRC_BLOCK, Code, Error,
    parts::{PART_BYTES_MAX, PARTS_MAX, part_bytes},
    web::{
        client::{Agent, Client},
        place::Place,
        sign::Unsigned,
    },
};

/// How long a server may take to tell its limits: they are worth no more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer that is looked at.
const INFO_BYTES_MAX: usize = 256 << 10;

/// Length of segments unless told: each is an object to Swift, which costs it more than a part costs a server of S3.
const SEGMENT_BYTES_DEFAULT: u64 = 32 << 20;

/// Limits of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Most segments that a manifest names.
    pub manifest_segments_max: u64,
    /// Shortest segment, but for an object's last.
    segment_bytes_min: u64,
    /// Longest plain object, and so the longest segment.
    pub object_bytes_max: u64,
    /// Whether a TempURL may be written to.
    pub temp_urls_write: bool,
}

impl Default for Limits {
    /// Those of a Swift whose operator has changed none. In this crate's own tests manifests are short, so that there are
    /// manifests of manifests.
    fn default() -> Self {
        let manifest_segments_max = if cfg!(test) { 3 } else { 1000 };
        Self { manifest_segments_max, segment_bytes_min: 1, object_bytes_max: 5 << 30, temp_urls_write: true }
    }
}

impl Limits {
    /// What a server's answer says.
    fn of(info: &Value) -> Self {
        let told = |path: &str| info.pointer(path).and_then(Value::as_u64).filter(|limit| *limit > 0);
        let default = Self::default();
        let methods = info.pointer("/tempurl/methods").and_then(Value::as_array);
        Self {
            manifest_segments_max: told("/slo/max_manifest_segments").unwrap_or(default.manifest_segments_max),
            segment_bytes_min: told("/slo/min_segment_size").unwrap_or(default.segment_bytes_min),
            object_bytes_max: told("/swift/max_file_size").unwrap_or(default.object_bytes_max),
            temp_urls_write: methods.is_none_or(|methods| methods.iter().any(|method| method == "PUT")),
        }
    }

    /// Length of the segments of an object, as near to what was asked for as the limits allow.
    pub fn segment_bytes(&self, length: Option<u64>, asked: Option<u64>) -> Result<u64, Error> {
        let most = PART_BYTES_MAX.min(self.object_bytes_max / CRC_BLOCK * CRC_BLOCK);
        let least = self.segment_bytes_min.checked_next_multiple_of(CRC_BLOCK).unwrap_or(u64::MAX);
        let count_max = PARTS_MAX.min(self.manifest_segments_max.saturating_mul(self.manifest_segments_max));
        let mut bytes = part_bytes(length, asked.or(Some(SEGMENT_BYTES_DEFAULT)))?.min(most).max(least);
        let count = |bytes: u64| length.map_or(1, |length| length.div_ceil(bytes));
        while bytes < most && count(bytes) > count_max {
            bytes = (bytes * 2).min(most);
        }
        if bytes > most || count(bytes) > count_max {
            return Err(Error::fatal(
                Code::WriteFailed,
                format!(
                    "the object does not fit into the server's limits: {count_max} segments of {least} to {most} bytes"
                ),
            ));
        }
        Ok(bytes)
    }
}

impl Storage {
    /// The limits of the server that has this account. Nobody in particular asks.
    pub async fn limits(&self, agent: Agent, account: &str) -> Limits {
        let told = async {
            // Whatever stands before, Swift knows its own path only.
            let (server, _) = account.split_once("/v1/")?;
            let place = Place::at(Url::parse(&format!("{server}/info")).ok()?).ok()?;
            let client = Client::over(agent, Rc::new(Unsigned));
            let mut answer = client.send(Method::GET, &place, &HeaderMap::new(), &[]).await.ok()?;
            let document = answer.document(INFO_BYTES_MAX).await.ok()?;
            let info = serde_json::from_slice(&document).ok()?;
            answer.head().status.is_success().then(|| Limits::of(&info))
        };
        timeout(PATIENCE, told).await.ok().flatten().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_not_told_is_as_by_default() {
        for info in
            [json!({}), json!([]), json!({"slo": {"max_manifest_segments": "x"}, "swift": {"max_file_size": 0}})]
        {
            assert_eq!(Limits::of(&info), Limits::default(), "{info}");
        }
        let info = json!({"slo": {"max_manifest_segments": 7, "min_segment_size": 2 * MIB}, "swift": {"max_file_size": 9},
            "tempurl": {"methods": ["GET", "HEAD"]}});
        let told = Limits {
            manifest_segments_max: 7,
            segment_bytes_min: 2 * MIB,
            object_bytes_max: 9,
            temp_urls_write: false,
        };
        assert_eq!(Limits::of(&info), told);
    }

    #[test]
    fn segments_are_as_long_as_the_limits_want_them() {
        let limits = Limits { manifest_segments_max: 1000, ..Limits::default() };
        assert_eq!(limits.segment_bytes(Some(320_000 * MIB), None), Ok(32 * MIB));
        assert_eq!(limits.segment_bytes(Some(320_000 * MIB + 1), None), Ok(64 * MIB));
        assert_eq!(limits.segment_bytes(None, None), Ok(32 * MIB));
        let few = Limits { manifest_segments_max: 10, ..limits.clone() };
        assert_eq!(few.segment_bytes(Some(3200 * MIB), None), Ok(32 * MIB));
        assert_eq!(few.segment_bytes(Some(3201 * MIB), None), Ok(64 * MIB));
        let long = Limits { segment_bytes_min: 20 * MIB + 1, ..limits.clone() };
        assert_eq!(long.segment_bytes(Some(MIB), Some(MIB)), Ok(21 * MIB));
        let short = Limits { object_bytes_max: 5 * MIB + 7, ..limits };
        assert_eq!(short.segment_bytes(Some(50_000 * MIB), Some(8 * MIB)), Ok(5 * MIB));
        for impossible in [
            short.segment_bytes(Some(50_000 * MIB + 1), None),
            Limits { segment_bytes_min: 6 * MIB, ..short.clone() }.segment_bytes(Some(1), None),
            Limits { object_bytes_max: 9, ..short }.segment_bytes(Some(1), None),
        ] {
            assert_eq!(impossible.unwrap_err().code, Code::WriteFailed);
        }
    }
}
