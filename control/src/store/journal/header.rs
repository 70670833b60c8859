//! The first bytes of every file of the journal: what it is, which store it belongs to, and where it begins.

use super::super::digest::{DIGEST_BYTES, Digest, Point};

/// Length of a header; a multiple of 8.
pub const HEADER_BYTES: usize = 64;

/// Version of both formats, segments and exports. Raise it with every change that an older program would misread.
const VERSION: u32 = 2;

/// What tells one store's files from another's.
pub type StoreId = [u8; 16];

/// Kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Groups of commits.
    Segment,
    /// All records at one point.
    Export,
}

/// Header of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the file is.
    pub kind: Kind,
    /// The store it belongs to.
    pub store: StoreId,
    /// The state before a segment's first group; the state an export holds.
    pub point: Point,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Segment => b"STACJRNL",
            Self::Export => b"STACEXPT",
        }
    }
}

impl Header {
    /// magic 8, version 4, CRC-32 of the whole with this field zero 4, store 16, revision 8, digest 24. Little-endian.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.store);
        bytes[32..40].copy_from_slice(&self.point.revision.to_le_bytes());
        bytes[40..64].copy_from_slice(&self.point.digest.to_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Undoes [`Header::to_bytes`]; the error says what is wrong.
    pub fn from_bytes(kind: Kind, bytes: &[u8]) -> Result<Self, String> {
        let bytes: [u8; HEADER_BYTES] = bytes
            .get(..HEADER_BYTES)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| "it is shorter than its header".to_owned())?;
        if &bytes[..8] != kind.magic() {
            return Err("its header is damaged, or it is no such file".to_owned());
        }
        let (version, crc) = (u32_at(&bytes, 8), u32_at(&bytes, 12));
        if version != VERSION {
            return Err(format!("it has format {version}, this program knows format {VERSION} only"));
        }
        let mut unsealed = bytes;
        unsealed[12..16].fill(0);
        if crc32fast::hash(&unsealed) != crc {
            return Err("its header is damaged".to_owned());
        }
        let mut digest = [0; DIGEST_BYTES];
        digest.copy_from_slice(&bytes[40..64]);
        let point = Point { revision: u64_at(&bytes, 32), digest: Digest::from_bytes(digest) };
        Ok(Self { kind, store: bytes[16..32].try_into().expect("16 bytes"), point })
    }

    /// What the checksums of everything behind this header begin with, so that bytes of another file never pass.
    pub fn salt(&self) -> u32 {
        let mut identity = [0; 24];
        identity[..16].copy_from_slice(&self.store);
        identity[16..].copy_from_slice(&self.point.revision.to_le_bytes());
        crc32fast::hash(&identity)
    }
}

/// Little-endian number at a place that exists.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Little-endian number at a place that exists.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_any_bit_changed_is_refused() {
        let point = Point { revision: 77, digest: Digest::from_bytes([9; DIGEST_BYTES]) };
        let header = Header { kind: Kind::Segment, store: [3; 16], point };
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(Kind::Segment, &bytes), Ok(header));
        assert!(Header::from_bytes(Kind::Export, &bytes).is_err());
        assert!(Header::from_bytes(Kind::Segment, &bytes[..63]).is_err());
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::from_bytes(Kind::Segment, &bytes).is_err(), "bit {bit}");
        }
    }
}
