//! The journal: the only thing an acknowledged commit depends on.
//!
//! Invariants:
//!
//! - A group is acknowledged only after it was written and `fdatasync` has returned. Groups are synced one by one, so
//!   only the last one can be torn, and that one was not acknowledged.
//! - After a write or sync has failed nothing is written any more: the kernel may have dropped what it could not write
//!   and report success the next time ("fsyncgate"). For the same reason, opening writes the last group again before it
//!   syncs: in the page cache it may look whole and yet be on no disk.
//! - Segments form a chain: each is named for the last commit before it. A segment has its name only once its header is
//!   durable and its space is allocated.
//! - The export with the highest commit and the segments from that commit on hold the whole state. Whatever is older is
//!   removed, but only once that export is durable under its name.
//! - Every opening begins a new segment; nothing is appended behind a place where a torn group may have been.
//!
//! A crash at any moment leaves one of these, and each is put right at the next opening:
//!
//! | moment | what is found | what is done |
//! | --- | --- | --- |
//! | while a segment or export is made | a `.new` file | it is removed (as it is when making it fails) |
//! | after a new segment got its name | an empty segment | it is replaced by the one that opening begins |
//! | while a group is written | a torn group at the end | it is cut |
//! | after an export got its name | older exports and segments | they are removed |
//! | while those are removed | some of them | they are removed |

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{
    Revision, StoreError,
    digest::{Digest, Point},
};

pub mod export;
pub mod files;
pub mod group;
pub mod header;
pub mod merge;
pub mod segment;

use export::{ExportReader, ExportWriter, Exported};
use files::{Listing, Unfinished, failed, segment_path};
use group::GroupWriter;
use header::{HEADER_BYTES, Header, Kind, StoreId};
use merge::Merge;
use segment::Segment;

/// How much the journal may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Bytes preallocated for a segment; a larger group gets a larger one.
    pub segment_bytes: u64,
    /// Bytes of full segments that make an export due. With a large state more are kept (half of the last export), so
    /// that exports do not cost more than the commits themselves.
    pub export_after_bytes: u64,
}

/// Segments that make an export due however small they are: opening makes one each time.
const SEGMENTS_MAX: usize = 64;
/// How long a failed export is left alone while no further segment is full: each try reads all that are. It is tried
/// again without one, because on a full disk it may be what makes room for the next segment.
const EXPORT_RETRY: Duration = Duration::from_secs(60);

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, export_after_bytes: 64 << 20 }
    }
}

/// The writing end of a journal.
pub struct Journal {
    dir: PathBuf,
    store: StoreId,
    options: JournalOptions,
    file: File,
    base: Revision,
    salt: u32,
    at: u64,
    capacity: u64,
    end: Point,
    /// Full segments that no export has made superfluous yet, and their lengths.
    closed: VecDeque<(Revision, u64)>,
    exported_bytes: u64,
    exporting: bool,
    /// Where the journal was when the last export failed, and when that was; none when it went well.
    export_failed: Option<(Revision, Instant)>,
}

/// Why a group was not appended.
#[derive(Debug)]
pub enum AppendError {
    /// Nothing was written: there was no room for a new segment. The next group may fare better.
    Refused(StoreError),
    /// A write or sync failed. Nothing may be appended any more.
    Failed(StoreError),
}

impl Journal {
    /// Begins a new segment behind `end`, which must be the end of a settled journal (see [`settle`]), or 0.
    pub fn start(dir: &Path, store: StoreId, end: Point, options: JournalOptions) -> Result<Self, StoreError> {
        let listing = Listing::read(dir)?;
        let mut closed = VecDeque::new();
        for base in listing.segments.into_iter().filter(|base| *base < end.revision) {
            let path = segment_path(dir, base);
            closed.push_back((base, fs::metadata(&path).map_err(failed("cannot read", &path))?.len()));
        }
        let exported_bytes = match listing.exports.last() {
            Some(revision) => {
                let path = files::export_path(dir, *revision);
                fs::metadata(&path).map_err(failed("cannot read", &path))?.len()
            }
            None => 0,
        };
        let header = Header { kind: Kind::Segment, store, point: end };
        let (file, unfinished) = create_segment(dir, &header, options.segment_bytes)?;
        unfinished.publish()?;
        Ok(Self {
            dir: dir.to_owned(),
            store,
            options,
            file,
            base: end.revision,
            salt: header.salt(),
            at: HEADER_BYTES as u64,
            capacity: options.segment_bytes,
            end,
            closed,
            exported_bytes,
            exporting: false,
            export_failed: None,
        })
    }

    /// The state after everything appended so far.
    pub fn end(&self) -> Point {
        self.end
    }

    /// Makes a group durable. `digest` is that of the state after it.
    pub fn append(&mut self, group: &mut GroupWriter, digest: Digest) -> Result<(), AppendError> {
        let last = group.next_revision() - 1;
        let len = group.len() as u64;
        if self.at + len > self.capacity {
            self.rotate(len)?;
        }
        let bytes = group.seal(digest, self.salt);
        let path = segment_path(&self.dir, self.base);
        self.file
            .write_all_at(bytes, self.at)
            .map_err(|error| AppendError::Failed(failed("cannot write", &path)(error)))?;
        self.file.sync_data().map_err(|error| AppendError::Failed(failed("cannot sync", &path)(error)))?;
        self.at += len;
        self.end = Point { revision: last, digest };
        Ok(())
    }

    /// When enough has gathered and no export is under way: the commit up to which to export now. The answer to the
    /// order is given to [`Journal::exported`]. After a failure none is due before one more segment is full, or for a
    /// minute.
    pub fn export_due(&mut self, now: Instant) -> Option<Revision> {
        let bytes: u64 = self.closed.iter().map(|(_, bytes)| bytes).sum();
        let enough = bytes >= self.options.export_after_bytes.max(self.exported_bytes / 2);
        let in_vain = self.export_failed.is_some_and(|(base, at)| base == self.base && now < at + EXPORT_RETRY);
        let may = !self.exporting && !in_vain && !self.closed.is_empty();
        let due = may && (enough || self.closed.len() >= SEGMENTS_MAX);
        self.exporting |= due;
        due.then_some(self.base)
    }

    /// An export has ended; none when it failed.
    pub fn exported(&mut self, exported: Option<Exported>, now: Instant) {
        self.exporting = false;
        self.export_failed = exported.is_none().then_some((self.base, now));
        if let Some(Exported { point, bytes }) = exported {
            self.closed.retain(|(base, _)| *base >= point.revision);
            self.exported_bytes = bytes;
        }
    }

    fn rotate(&mut self, group_bytes: u64) -> Result<(), AppendError> {
        let header = Header { kind: Kind::Segment, store: self.store, point: self.end };
        let wanted = self.options.segment_bytes.max(HEADER_BYTES as u64 + group_bytes);
        let (file, unfinished) = create_segment(&self.dir, &header, wanted).map_err(AppendError::Refused)?;
        unfinished.publish().map_err(AppendError::Failed)?;
        if self.at > HEADER_BYTES as u64 {
            // Gives back what was allocated and not used. It does not matter whether that succeeds or lasts: zeros
            // behind the last group are sound.
            let _ = self.file.set_len(self.at);
            self.closed.push_back((self.base, self.at));
        }
        self.file = file;
        (self.base, self.salt) = (self.end.revision, header.salt());
        (self.at, self.capacity) = (HEADER_BYTES as u64, wanted);
        Ok(())
    }
}

/// Puts right the end of a journal that was not closed: cuts a torn group and makes the last whole one durable. Returns
/// the state at its end. `base` is the last segment.
pub fn settle(dir: &Path, store: StoreId, base: Revision) -> Result<Point, StoreError> {
    let segment = Segment::read(dir, base, Some(store))?;
    let contents = segment.contents(true)?;
    let path = segment.path();
    if contents.torn {
        tracing::warn!(segment = %path.display(), at = contents.end_at, "cut a torn group, which was never acknowledged");
    }
    let file = File::options().write(true).open(path).map_err(failed("cannot open", path))?;
    let last = contents.groups.last().map_or(0, |placed| placed.at as usize);
    let end = segment.bytes().len().min(contents.end_at as usize);
    (file.write_all_at(&segment.bytes()[last..end], last as u64))
        .and_then(|()| file.set_len(contents.end_at))
        .and_then(|()| file.sync_all())
        .map_err(failed("cannot settle", path))?;
    Ok(contents.end)
}

/// Makes the export of the state at the segment that follows `until` from the last export and the segments behind it.
/// Nothing when `cancel` was set before it was done.
pub fn export(
    dir: &Path,
    store: StoreId,
    until: Revision,
    cancel: &AtomicBool,
) -> Result<Option<Exported>, StoreError> {
    let records = Merge::open(dir, store, Some(until))?;
    let recorded = records.end();
    let mut writer = ExportWriter::create(dir, store, until)?;
    for item in records {
        if cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (key, record) = item?;
        writer.push(&key, &record)?;
    }
    let exported = writer.finish()?;
    if exported.point != recorded {
        tracing::error!(
            revision = until,
            recorded = ?recorded.digest,
            exported = ?exported.point.digest,
            "the journal's records are not what was recorded of them; the records count, and the next start builds anew"
        );
    }
    Ok(Some(exported))
}

/// Removes what the last export has made superfluous, oldest first, so that what remains is always a chain.
pub fn retire(dir: &Path, store: StoreId) -> Result<(), StoreError> {
    let listing = Listing::read(dir)?;
    let Some(last) = listing.exports.last() else { return Ok(()) };
    if listing.segments.first() >= Some(last) && listing.exports.len() == 1 {
        return Ok(());
    }
    // Nothing goes on the word of a file name.
    ExportReader::open(dir, store, *last)?;
    for base in listing.segments.iter().filter(|base| *base < last) {
        files::remove(&segment_path(dir, *base))?;
    }
    for revision in listing.exports.iter().filter(|revision| *revision < last) {
        files::remove(&files::export_path(dir, *revision))?;
    }
    Ok(())
}

/// Makes a segment that has no name yet: header and allocated space, durable.
fn create_segment(dir: &Path, header: &Header, bytes: u64) -> Result<(File, Unfinished), StoreError> {
    let path = segment_path(dir, header.point.revision);
    let (file, unfinished) = Unfinished::create(&path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // Without preallocation it works as well, only slower.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => (),
        Err(error) => return Err(failed("cannot allocate", &path)(io::Error::from(error))),
    }
    file.write_all_at(&header.to_bytes(), 0).and_then(|()| file.sync_all()).map_err(failed("cannot write", &path))?;
    Ok((file, unfinished))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Commit;

    /// Appends until a segment is full.
    fn fill_segment(journal: &mut Journal) {
        let base = journal.base;
        while journal.base == base {
            let mut group = GroupWriter::new(journal.end().revision + 1);
            group.push(&Commit::new().put("key", vec![1; 1000]).writes);
            journal.append(&mut group, Digest::default()).unwrap();
        }
    }

    #[test]
    fn a_failed_export_is_due_again_after_one_more_segment_or_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions { segment_bytes: 4 << 10, export_after_bytes: 1 };
        let mut journal = Journal::start(dir.path(), [7; 16], Point::default(), options).unwrap();
        let mut now = Instant::now();
        assert_eq!(journal.export_due(now), None, "no segment is full");
        fill_segment(&mut journal);
        assert_eq!(journal.export_due(now), Some(journal.base));
        assert_eq!(journal.export_due(now), None, "it is under way");

        journal.exported(None, now);
        assert_eq!(journal.export_due(now), None);
        now += EXPORT_RETRY - Duration::from_millis(1);
        assert_eq!(journal.export_due(now), None);
        now += Duration::from_millis(1);
        assert_eq!(journal.export_due(now), Some(journal.base), "a minute has passed");
        journal.exported(None, now);
        assert_eq!(journal.export_due(now), None);
        fill_segment(&mut journal);
        assert_eq!(journal.export_due(now), Some(journal.base), "there is more to export");

        let point = Point { revision: journal.base, digest: Digest::default() };
        journal.exported(Some(Exported { point, bytes: 1 }), now);
        fill_segment(&mut journal);
        assert_eq!(journal.export_due(now), Some(journal.base), "the failure is forgotten");
    }
}
