//! What a protocol knows of an object before its bytes are read.

use serde::{Deserialize, Serialize};

/// An object as its storage describes it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Length in bytes; unknown only with [`Access::Sequential`].
    pub size: Option<u64>,
    /// What tells this version of the object from every other one; none when the storage offers nothing that is
    /// strong enough (weak ETags are not).
    pub validator: Option<Validator>,
    /// How its bytes may be asked for.
    pub access: Access,
}

/// How the bytes of an object may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Any range, in any order, several at once.
    Random,
    /// From the front, one range at a time. Going back is allowed but costs reading everything again.
    Sequential,
}

/// What tells one version of an object from another. It is pinned on a transfer when the source is first opened, sent
/// with every read and checked again before commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Validator {
    /// A regular file: device, inode, size and its two times.
    Inode {
        /// Device number.
        device: u64,
        /// Inode number.
        inode: u64,
        /// Size in bytes.
        size: u64,
        /// When its bytes were last written.
        mtime: FileTime,
        /// When the inode last changed.
        ctime: FileTime,
    },
    /// A strong entity tag (RFC 9110 §8.8.3), quotes included, and the size it came with.
    Etag {
        /// The tag, quotes included.
        etag: String,
        /// Size in bytes, where the server told.
        size: Option<u64>,
    },
    /// A name that the storage gave this version, and gives no other: a version id, or the id of an object that is
    /// never changed.
    Version {
        /// The name.
        version: String,
        /// Size in bytes, where the storage told.
        size: Option<u64>,
    },
    /// An object that is made from its URL and options, and so never changes.
    Constant {
        /// Size in bytes.
        size: u64,
        /// What its bytes are made from, where there is more than the size.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
    },
}

/// A time as the kernel keeps it for an inode (`struct statx_timestamp`). Not one number of nanoseconds: 64 bits do not
/// hold every time, and serde reads 128 bits in no enum with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTime {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds of that second.
    pub nanoseconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_validator_is_read_as_it_was_written() {
        let time = |seconds| FileTime { seconds, nanoseconds: 999_999_999 };
        for validator in [
            Validator::Inode { device: u64::MAX, inode: 1, size: 2, mtime: time(i64::MIN), ctime: time(i64::MAX) },
            Validator::Etag { etag: "\"a\"".into(), size: None },
            Validator::Version { version: "v".into(), size: Some(3) },
            Validator::Constant { size: 0, seed: None },
            Validator::Constant { size: 1, seed: Some(2) },
        ] {
            let written = serde_json::to_string(&validator).unwrap();
            assert_eq!(serde_json::from_str::<Validator>(&written).unwrap(), validator, "{written}");
        }
    }
}
