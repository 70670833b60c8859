//! One record of the journal: the commits that became durable together.
//!
//! Invariants:
//!
//! - The commits of a group have the revisions `first..=last` without a gap, and groups follow each other without one.
//! - The checksum covers everything but itself and begins with the segment's salt: a group is whole and of this
//!   segment, or it is none.
//! - The digest is that of all live records after the group.
//! - A group begins at, and is padded with zeros to, a multiple of [`GROUP_ALIGNMENT`].

use super::{
    super::{
        Revision, Write,
        contract::{COMMIT_WRITES_MAX, COMMITS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX},
        digest::{DIGEST_BYTES, Digest, Point},
    },
    header::{u32_at, u64_at},
};

/// Where groups begin.
pub const GROUP_ALIGNMENT: usize = 8;

const MAGIC: [u8; 4] = *b"SGRP";
/// magic 4, CRC-32 4, length of the payload 4, number of commits 4, first revision 8, digest 24. Little-endian.
const FRAME_BYTES: usize = 24 + DIGEST_BYTES;
/// Commits in one group.
pub const GROUP_COMMITS_MAX: usize = 1024;
const _: () = assert!(COMMITS_MAX <= GROUP_COMMITS_MAX, "what is handed over together fits into a group");
/// A group takes no further commit when its payload has reached this.
pub const GROUP_BYTES_FULL: usize = 4 << 20;
/// No payload is longer: a group may be just short of full and take commits of the largest size together. Bounds what
/// is believed of a length field.
const PAYLOAD_BYTES_MAX: usize =
    GROUP_BYTES_FULL + 4 * COMMITS_MAX + COMMIT_WRITES_MAX * (7 + KEY_BYTES_MAX + VALUE_BYTES_MAX);

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A group under construction.
pub struct GroupWriter {
    bytes: Vec<u8>,
    first: Revision,
    commits: u32,
}

impl GroupWriter {
    /// A group whose first commit will be `first`.
    pub fn new(first: Revision) -> Self {
        Self { bytes: vec![0; FRAME_BYTES], first, commits: 0 }
    }

    /// Whether so many commits can be taken; always true of an empty group and [`COMMITS_MAX`].
    pub fn has_room_for(&self, commits: usize) -> bool {
        self.commits as usize + commits <= GROUP_COMMITS_MAX
    }

    /// Takes a commit of bounded size and gives it the next revision.
    pub fn push(&mut self, writes: &[Write]) -> Revision {
        assert!(self.has_room_for(1), "a full group takes no commit");
        self.bytes.extend((writes.len() as u32).to_le_bytes());
        for write in writes {
            let (kind, key, value): (u8, &[u8], &[u8]) = match write {
                Write::Put(key, value) => (PUT, key, value),
                Write::Delete(key) => (DELETE, key, &[]),
            };
            self.bytes.push(kind);
            self.bytes.extend((key.len() as u16).to_le_bytes());
            self.bytes.extend((value.len() as u32).to_le_bytes());
            self.bytes.extend(key);
            self.bytes.extend(value);
        }
        self.commits += 1;
        self.next_revision() - 1
    }

    /// Whether it has no commit yet.
    pub fn is_empty(&self) -> bool {
        self.commits == 0
    }

    /// Whether another commit has to go into the next group.
    pub fn is_full(&self) -> bool {
        self.commits as usize >= GROUP_COMMITS_MAX || self.bytes.len() >= FRAME_BYTES + GROUP_BYTES_FULL
    }

    /// The revision the next commit will have.
    pub fn next_revision(&self) -> Revision {
        self.first + u64::from(self.commits)
    }

    /// Bytes it takes in a segment.
    pub fn len(&self) -> usize {
        self.bytes.len().next_multiple_of(GROUP_ALIGNMENT)
    }

    /// The finished group, as it goes to a segment with this salt.
    pub fn seal(&mut self, digest: Digest, salt: u32) -> &[u8] {
        let payload = self.bytes.len() - FRAME_BYTES;
        assert!(payload <= PAYLOAD_BYTES_MAX && !self.is_empty(), "a group of {payload} bytes");
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[8..12].copy_from_slice(&(payload as u32).to_le_bytes());
        self.bytes[12..16].copy_from_slice(&self.commits.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        self.bytes[24..FRAME_BYTES].copy_from_slice(&digest.to_bytes());
        let crc = checksum(salt, &self.bytes[8..]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(self.len(), 0);
        &self.bytes
    }
}

/// A whole group, read.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Its first commit.
    pub first: Revision,
    /// The state after it.
    pub end: Point,
    /// Offset of the payload behind the group's first byte.
    payload: &'a [u8],
}

/// One change in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWrite<'a> {
    /// The commit it belongs to.
    pub revision: Revision,
    /// The key.
    pub key: &'a [u8],
    /// The new value; none when the key is removed.
    pub value: Option<&'a [u8]>,
    /// Where the value begins, counted from the group's first byte.
    pub value_at: usize,
}

impl<'a> Group<'a> {
    /// The group that `bytes` begins with, and the bytes it takes; nothing when they do not begin with a whole one.
    pub fn parse(bytes: &'a [u8], salt: u32) -> Option<(Self, usize)> {
        if bytes.len() < FRAME_BYTES || bytes[..4] != MAGIC {
            return None;
        }
        let (payload, commits) = (u32_at(bytes, 8) as usize, u32_at(bytes, 12) as usize);
        if payload > PAYLOAD_BYTES_MAX || commits == 0 || commits > GROUP_COMMITS_MAX {
            return None;
        }
        let len = FRAME_BYTES + payload;
        if bytes.len() < len || checksum(salt, &bytes[8..len]) != u32_at(bytes, 4) {
            return None;
        }
        let first = u64_at(bytes, 16);
        let digest = Digest::from_bytes(bytes[24..FRAME_BYTES].try_into().expect("a digest's length"));
        let end = Point { revision: first.checked_add(commits as u64 - 1)?, digest };
        Some((Self { first, end, payload: &bytes[FRAME_BYTES..len] }, len.next_multiple_of(GROUP_ALIGNMENT)))
    }

    /// All changes, in order; nothing when the payload is malformed although its checksum is right.
    pub fn writes(&self) -> Option<Vec<GroupWrite<'a>>> {
        let mut cursor = Cursor { bytes: self.payload, at: 0 };
        let mut writes = Vec::new();
        for revision in self.first..=self.end.revision {
            for _ in 0..cursor.u32()? {
                let kind = cursor.take(1)?[0];
                let key_len = u16::from_le_bytes(cursor.take(2)?.try_into().ok()?) as usize;
                let value_len = cursor.u32()? as usize;
                let key = cursor.take(key_len)?;
                let value_at = FRAME_BYTES + cursor.at;
                let value = cursor.take(value_len)?;
                let value = match kind {
                    PUT => Some(value),
                    DELETE if value.is_empty() => None,
                    _ => return None,
                };
                writes.push(GroupWrite { revision, key, value, value_at });
            }
        }
        (cursor.at == self.payload.len()).then_some(writes)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32_at(self.take(4)?, 0))
    }
}

fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_comes_back_whole_or_not_at_all() {
        let mut writer = GroupWriter::new(5);
        let writes = [Write::Put(b"key".into(), b"value".into()), Write::Delete(b"gone".into())];
        assert_eq!(writer.push(&writes), 5);
        assert_eq!(writer.push(&[]), 6);
        assert_eq!(writer.push(&[Write::Put(Vec::new(), Vec::new())]), 7);
        let digest = Digest::from_bytes([1; DIGEST_BYTES]);
        let len = writer.len();
        let bytes = writer.seal(digest, 99).to_vec();
        assert_eq!(bytes.len(), len);
        let (group, taken) = Group::parse(&bytes, 99).expect("it is whole");
        assert_eq!((taken, group.first, group.end), (len, 5, Point { revision: 7, digest }));
        let writes = group.writes().expect("it is well formed");
        assert_eq!(writes.len(), 3);
        assert_eq!((writes[0].key, writes[0].value, writes[0].revision), (&b"key"[..], Some(&b"value"[..]), 5));
        assert_eq!(&bytes[writes[0].value_at..][..5], b"value");
        assert_eq!((writes[1].key, writes[1].value), (&b"gone"[..], None));
        assert_eq!((writes[2].value, writes[2].revision), (Some(&b""[..]), 7));

        assert!(Group::parse(&bytes, 98).is_none(), "of another segment");
        let unpadded = writer.bytes.len() - 8;
        for end in 0..unpadded {
            assert!(Group::parse(&bytes[..end], 99).is_none(), "cut at {end}");
            let mut damaged = bytes.clone();
            damaged[end] ^= 0x10;
            assert!(Group::parse(&damaged, 99).is_none(), "damaged at {end}");
        }
    }
}
