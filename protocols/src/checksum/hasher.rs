//! Checksums while they are computed.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

use super::{Checksum, ChecksumKind};

/// A checksum of bytes that come in order.
#[derive(Clone)]
pub struct Hasher {
    kind: ChecksumKind,
    state: State,
}

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
}

impl Hasher {
    /// The checksum of nothing, as yet.
    pub fn new(kind: ChecksumKind) -> Self {
        let state = match kind {
            ChecksumKind::Sha256 => State::Sha256(Sha256::new()),
            ChecksumKind::Sha512 => State::Sha512(Sha512::new()),
            ChecksumKind::Md5 => State::Md5(Md5::new()),
            ChecksumKind::Crc32 => State::Crc32(crc32fast::Hasher::new()),
            ChecksumKind::Crc32c => State::Crc32c(0),
        };
        Self { kind, state }
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
            State::Md5(hasher) => hasher.update(bytes),
            State::Crc32(hasher) => hasher.update(bytes),
            State::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
        }
    }

    /// The checksum of all that was added.
    pub fn finish(self) -> Checksum {
        let digest = match self.state {
            State::Sha256(hasher) => hasher.finalize().to_vec(),
            State::Sha512(hasher) => hasher.finalize().to_vec(),
            State::Md5(hasher) => hasher.finalize().to_vec(),
            State::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
            State::Crc32c(crc) => crc.to_be_bytes().to_vec(),
        };
        Checksum::new(self.kind, digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        // Test vectors for "123456789" (CRC catalogue) and "abc" (FIPS 180-4, RFC 1321).
        let checksum = |kind, text: &str| {
            let mut hasher = Hasher::new(kind);
            text.as_bytes().chunks(2).for_each(|piece| hasher.update(piece));
            hasher.finish().to_string()
        };
        assert_eq!(checksum(ChecksumKind::Crc32, "123456789"), "crc32:cbf43926");
        assert_eq!(checksum(ChecksumKind::Crc32c, "123456789"), "crc32c:e3069283");
        assert_eq!(checksum(ChecksumKind::Md5, "abc"), "md5:900150983cd24fb0d6963f7d28e17f72");
        assert!(checksum(ChecksumKind::Sha256, "abc").starts_with("sha256:ba7816bf8f01cfea"));
        assert!(checksum(ChecksumKind::Sha512, "abc").starts_with("sha512:ddaf35a193617aba"));
    }
}
