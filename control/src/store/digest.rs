//! A digest of everything a store holds, kept up to date change by change.
//!
//! It tells whether sled's content is what the journal says it should be. Each record is hashed with its key and
//! revision (SHA-256, cut to 128 bits) and the hashes are added modulo 2^128, so that the order of changes does not
//! matter and a record can be taken out again (the construction is AdHash: Bellare and Micciancio, "A new paradigm for
//! collision-free hashing", 1997). It catches faults; against malice 128 bits of such a sum would be too few.

use sha2::{Digest as _, Sha256};

use super::{Record, Revision};

/// Digest of a set of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    sum: u128,
    records: u64,
}

/// A state of the store: the last commit in it, and the digest of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The last commit.
    pub revision: Revision,
    /// Digest of all live records after it.
    pub digest: Digest,
}

/// Length of a digest in files.
pub const DIGEST_BYTES: usize = 24;

impl Digest {
    /// Number of records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Takes a record in.
    pub fn add(&mut self, key: &[u8], record: &Record) {
        self.sum = self.sum.wrapping_add(fingerprint(key, record));
        self.records = self.records.wrapping_add(1);
    }

    /// Takes a record out that is in.
    pub fn remove(&mut self, key: &[u8], record: &Record) {
        self.sum = self.sum.wrapping_sub(fingerprint(key, record));
        self.records = self.records.wrapping_sub(1);
    }

    /// The digest of two sets that share no key.
    pub fn join(self, other: Self) -> Self {
        Self { sum: self.sum.wrapping_add(other.sum), records: self.records.wrapping_add(other.records) }
    }

    /// As it stands in files.
    pub fn to_bytes(self) -> [u8; DIGEST_BYTES] {
        let mut bytes = [0; DIGEST_BYTES];
        bytes[..16].copy_from_slice(&self.sum.to_le_bytes());
        bytes[16..].copy_from_slice(&self.records.to_le_bytes());
        bytes
    }

    /// Undoes [`Digest::to_bytes`].
    pub fn from_bytes(bytes: [u8; DIGEST_BYTES]) -> Self {
        let (sum, records) = bytes.split_at(16);
        Self {
            sum: u128::from_le_bytes(sum.try_into().expect("16 bytes")),
            records: u64::from_le_bytes(records.try_into().expect("8 bytes")),
        }
    }
}

fn fingerprint(key: &[u8], record: &Record) -> u128 {
    let hash = Sha256::new()
        .chain_update((key.len() as u64).to_le_bytes())
        .chain_update(record.revision.to_le_bytes())
        .chain_update(key)
        .chain_update(&record.value)
        .finalize();
    u128::from_le_bytes(hash[..16].try_into().expect("SHA-256 has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str, revision: Revision) -> Record {
        Record { value: value.into(), revision }
    }

    #[test]
    fn order_does_not_matter_and_every_part_does() {
        let (mut one, mut two) = (Digest::default(), Digest::default());
        one.add(b"a", &record("1", 1));
        one.add(b"b", &record("2", 2));
        two.add(b"b", &record("2", 2));
        two.add(b"c", &record("3", 3));
        two.add(b"a", &record("1", 1));
        assert_ne!(one, two);
        two.remove(b"c", &record("3", 3));
        assert_eq!(one, two);
        assert_eq!(one, Digest::from_bytes(one.to_bytes()));
        for (key, record) in [("a", record("1", 2)), ("a", record("2", 1)), ("a1", record("", 1))] {
            let mut other = Digest::default();
            other.add(key.as_bytes(), &record);
            let mut first = Digest::default();
            first.add(b"a", &self::record("1", 1));
            assert_ne!(other, first);
        }
    }
}
