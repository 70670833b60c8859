//! The state after an export and the segments behind it: everything the journal knows, in order of keys.
//!
//! Both the next export and a new sled are made of this, so that neither ever depends on what sled has kept. Memory is
//! bounded by the number of keys in the segments; values are read again when their turn comes.

use std::{collections::BTreeMap, fs::File, iter::Peekable, os::unix::fs::FileExt, path::Path};

use super::{
    super::{Record, Revision, StoreError, digest::Point},
    export::ExportReader,
    files::{Listing, failed},
    header::StoreId,
    segment::{Segment, unsound},
};

/// An iterator over all records at [`Merge::end`].
pub struct Merge {
    export: Option<Peekable<ExportReader>>,
    changes: Peekable<std::collections::btree_map::IntoIter<Vec<u8>, Option<Place>>>,
    files: Vec<(File, std::path::PathBuf)>,
    end: Point,
    ended: bool,
}

/// Where a value is.
struct Place {
    file: usize,
    at: u64,
    len: usize,
    revision: Revision,
}

impl Merge {
    /// The state at the end of the journal, or, given `until`, at the segment that follows that commit. A torn group
    /// at the journal's end is left out.
    pub fn open(dir: &Path, store: StoreId, until: Option<Revision>) -> Result<Self, StoreError> {
        let listing = Listing::read(dir)?;
        let within = |revision: &&Revision| until.is_none_or(|until| **revision < until);
        let export = listing.exports.iter().rev().find(|revision| until.is_none_or(|until| **revision <= until));
        let export = export.map(|revision| ExportReader::open(dir, store, *revision)).transpose()?;
        let mut end = export.as_ref().map_or(Point::default(), ExportReader::point);
        let (mut changes, mut files) = (BTreeMap::new(), Vec::new());
        let (first, last) = (end.revision, listing.segments.last().copied());
        for base in listing.segments.iter().filter(within).filter(|base| **base >= first) {
            let segment = Segment::read(dir, *base, Some(store))?;
            if *base != end.revision {
                return Err(unsound(
                    segment.path(),
                    &format!("commits {} to {base}, which come before it, are missing", end.revision + 1),
                ));
            }
            let contents = segment.contents(Some(*base) == last)?;
            for placed in &contents.groups {
                let malformed = || unsound(segment.path(), &format!("the group at byte {} is malformed", placed.at));
                for write in placed.group.writes().ok_or_else(malformed)? {
                    let place = write.value.map(|value| Place {
                        file: files.len(),
                        at: placed.at + write.value_at as u64,
                        len: value.len(),
                        revision: write.revision,
                    });
                    changes.insert(write.key.to_vec(), place);
                }
            }
            end = contents.end;
            let file = File::open(segment.path()).map_err(failed("cannot open", segment.path()))?;
            files.push((file, segment.path().to_owned()));
        }
        if until.is_some_and(|until| until != end.revision) {
            return Err(StoreError(format!("the journal has no state at commit {}", until.unwrap_or_default())));
        }
        let export = export.map(Iterator::peekable);
        Ok(Self { export, changes: changes.into_iter().peekable(), files, end, ended: false })
    }

    /// The state it holds, as it was recorded when it was committed.
    pub fn end(&self) -> Point {
        self.end
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Record)>, StoreError> {
        loop {
            let exported = match self.export.as_mut().and_then(Peekable::peek) {
                Some(Err(error)) => return Err(error.clone()),
                Some(Ok((key, _))) => Some(key),
                None => None,
            };
            let changed = self.changes.peek().map(|(key, _)| key);
            let (take_exported, take_changed) = match (exported, changed) {
                (None, None) => return Ok(None),
                (Some(_), None) => (true, false),
                (None, Some(_)) => (false, true),
                (Some(exported), Some(changed)) => (exported <= changed, changed <= exported),
            };
            let exported =
                if take_exported { self.export.as_mut().and_then(Iterator::next).transpose()? } else { None };
            if !take_changed {
                return Ok(exported);
            }
            if let Some((key, Some(place))) = self.changes.next() {
                let mut value = vec![0; place.len];
                let (file, path) = &self.files[place.file];
                file.read_exact_at(&mut value, place.at).map_err(failed("cannot read", path))?;
                return Ok(Some((key, Record { value, revision: place.revision })));
            }
        }
    }
}

impl Iterator for Merge {
    type Item = Result<(Vec<u8>, Record), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
