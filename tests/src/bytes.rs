//! Contents of test objects.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// One mebibyte.
pub const MIB: usize = 1 << 20;

/// Bytes that look random and are the same for the same seed.
pub fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
