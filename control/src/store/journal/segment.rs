//! Reads one segment of the journal.
//!
//! What is behind the last whole group decides whether the segment is sound:
//!
//! | behind the last whole group | last segment | an earlier one |
//! | --- | --- | --- |
//! | nothing, or zeros (preallocated) | sound | sound |
//! | other bytes, no later group among them | a torn write, never acknowledged: cut | corruption |
//! | other bytes, a later group among them | corruption | corruption |
//!
//! Groups are written one after the other and each is synced before the next, so only the last can be torn.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{Revision, StoreError, digest::Point},
    files::{failed, segment_path},
    group::{GROUP_ALIGNMENT, Group},
    header::{HEADER_BYTES, Header, Kind, StoreId},
};

/// A segment in memory.
pub struct Segment {
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

/// A group and where it begins.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    /// The group.
    pub group: Group<'a>,
    /// Offset of its first byte in the file.
    pub at: u64,
}

/// What a segment holds.
pub struct Contents<'a> {
    /// Its groups, in order and without a gap.
    pub groups: Vec<Placed<'a>>,
    /// The state after the last group, or before the first when there is none.
    pub end: Point,
    /// Offset behind the last group.
    pub end_at: u64,
    /// Whether a torn group follows.
    pub torn: bool,
}

impl Segment {
    /// Reads the segment that follows a commit. `store` is known once another file was read.
    pub fn read(dir: &Path, base: Revision, store: Option<StoreId>) -> Result<Self, StoreError> {
        let path = segment_path(dir, base);
        let bytes = fs::read(&path).map_err(failed("cannot read", &path))?;
        let header = Header::from_bytes(Kind::Segment, &bytes).map_err(|why| unsound(&path, &why))?;
        if header.point.revision != base || store.is_some_and(|store| store != header.store) {
            return Err(unsound(&path, "it is a segment of another journal, or was renamed"));
        }
        Ok(Self { path, header, bytes })
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its groups; an error when it is not sound (see the module).
    pub fn contents(&self, last: bool) -> Result<Contents<'_>, StoreError> {
        let (salt, mut at, mut end) = (self.header.salt(), HEADER_BYTES, self.header.point);
        let mut groups = Vec::new();
        while let Some((group, len)) = Group::parse(&self.bytes[at.min(self.bytes.len())..], salt) {
            if group.first != end.revision + 1 {
                return Err(self.corrupt(at, &format!("commit {} follows commit {}", group.first, end.revision)));
            }
            groups.push(Placed { group, at: at as u64 });
            end = group.end;
            at += len;
        }
        let rest = &self.bytes[at.min(self.bytes.len())..];
        let torn = rest.iter().any(|byte| *byte != 0);
        if torn && !last {
            return Err(self.corrupt(at, "a group in an earlier segment is damaged"));
        }
        if torn && self.later_group(at, end.revision) {
            return Err(self.corrupt(at, "a group is damaged, and whole ones follow it"));
        }
        Ok(Contents { groups, end, end_at: at as u64, torn })
    }

    fn later_group(&self, at: usize, after: Revision) -> bool {
        (at..self.bytes.len())
            .step_by(GROUP_ALIGNMENT)
            .any(|at| Group::parse(&self.bytes[at..], self.header.salt()).is_some_and(|(group, _)| group.first > after))
    }

    fn corrupt(&self, at: usize, what: &str) -> StoreError {
        unsound(&self.path, &format!("at byte {at}, {what}"))
    }
}

/// The error for a file that the storage has spoiled.
pub fn unsound(path: &Path, why: &str) -> StoreError {
    StoreError(format!(
        "the journal is corrupt, and acknowledged commits may be lost: {}: {why}; restore the data directory from a \
         copy, or check the storage it lies on",
        path.display()
    ))
}
