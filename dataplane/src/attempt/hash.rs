//! Checksums over a whole object, fed in order.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use staccato_protocols::{CRC_BLOCK, Chunk};

use super::ChecksumKind;

/// A checksum being computed.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    Crc32(crc32fast::Hasher),
    Crc32c(u32),
}

impl Hasher {
    pub fn new(kind: ChecksumKind) -> Self {
        match kind {
            ChecksumKind::Sha256 => Self::Sha256(Sha256::new()),
            ChecksumKind::Sha512 => Self::Sha512(Sha512::new()),
            ChecksumKind::Md5 => Self::Md5(Md5::new()),
            ChecksumKind::Crc32 => Self::Crc32(crc32fast::Hasher::new()),
            ChecksumKind::Crc32c => Self::Crc32c(0),
        }
    }

    /// Adds the next chunk.
    pub fn update(&mut self, chunk: &Chunk) {
        static ZEROS: [u8; CRC_BLOCK as usize] = [0; CRC_BLOCK as usize];
        match chunk.bytes() {
            Some(bytes) => self.update_bytes(bytes),
            None => {
                let mut left = chunk.len();
                while left > 0 {
                    let piece = left.min(ZEROS.len());
                    self.update_bytes(&ZEROS[..piece]);
                    left -= piece;
                }
            }
        }
    }

    fn update_bytes(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
        }
    }

    /// The digest, in the order it is written in hex.
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
            Self::Crc32c(crc) => crc.to_be_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use futures_util::FutureExt;
    use staccato_protocols::BufferPool;

    #[test]
    fn digests_are_those_of_the_standards() {
        // Test vectors for "123456789" (CRC catalogue) and "abc" (FIPS 180-4, RFC 1321).
        let digest = |kind, text: &str| {
            let pool = BufferPool::heap(1 << 20);
            let mut chunk = pool.take(text.len()).now_or_never().unwrap();
            chunk.buffer_mut().unwrap()[..text.len()].copy_from_slice(text.as_bytes());
            let mut hasher = Hasher::new(kind);
            hasher.update(&chunk);
            HEXLOWER.encode(&hasher.finish())
        };
        assert_eq!(digest(ChecksumKind::Crc32, "123456789"), "cbf43926");
        assert_eq!(digest(ChecksumKind::Crc32c, "123456789"), "e3069283");
        assert_eq!(digest(ChecksumKind::Md5, "abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert!(digest(ChecksumKind::Sha256, "abc").starts_with("ba7816bf8f01cfea"));
        assert!(digest(ChecksumKind::Sha512, "abc").starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn zero_chunks_hash_like_stored_zeros() {
        let mut sparse = Hasher::new(ChecksumKind::Md5);
        sparse.update(&Chunk::zero(3 << 20));
        let mut stored = Hasher::new(ChecksumKind::Md5);
        stored.update_bytes(&vec![0; 3 << 20]);
        assert_eq!(sparse.finish(), stored.finish());
    }
}
