//! Opens a data directory: finds out what the journal holds and whether sled can be believed.
//!
//! | sled's content | what is done |
//! | --- | --- |
//! | is what the journal says of the commit it is at | the groups after that commit are applied to it |
//! | anything else: missing, damaged, of another store, ahead of the journal, or opening it fails, panics, or has ended the process twice | it is put aside, and built anew from export and journal |
//!
//! The journal itself is believed or the store does not open.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    super::{
        Derive, Revision, StoreError, Write,
        digest::{Digest, Point},
        effects,
        journal::{
            self, Journal, JournalOptions,
            export::{ExportReader, ExportWriter},
            files::{self, Listing, failed},
            group::Group,
            header::StoreId,
            merge::Merge,
            segment::{Segment, unsound},
        },
    },
    SledOptions,
    pending::Pending,
    records::{Records, guarded},
};
use crate::folder;

/// Records loaded into a new sled at once.
const LOAD_RECORDS: usize = 1000;
/// Bytes of records loaded at once.
const LOAD_BYTES: usize = 1 << 20;
/// Attempts to open sled that ended the process before it is not tried again.
const OPENINGS_MAX: u64 = 2;

/// An opened data directory.
pub struct Recovered {
    /// Holds the directory.
    pub lock: File,
    /// All records at the journal's end.
    pub records: Records,
    /// Ready for the next group.
    pub journal: Journal,
    /// Where the journal lies.
    pub journal_dir: PathBuf,
    /// The store's id.
    pub store: StoreId,
}

/// Opens sled's folder.
type OpenRecords<'a> = &'a dyn Fn(&Path) -> Result<Records, StoreError>;

/// Opens or creates a data directory.
pub fn recover(dir: &Path, derive: Derive, options: SledOptions) -> Result<Recovered, StoreError> {
    let folders = Folders::new(dir);
    let open = |dir: &Path| Records::open(dir, options.cache_bytes, derive);
    folder::create(&folders.journal).map_err(failed("cannot create", &folders.journal))?;
    let lock = lock(dir, options.lock_wait)?;
    files::remove_unfinished(&folders.journal)?;
    let journal_options =
        JournalOptions { segment_bytes: options.segment_bytes, export_after_bytes: options.export_after_bytes };
    let listing = Listing::read(&folders.journal)?;
    let (store, records, end) = match listing.segments.last() {
        Some(last) => {
            let store = Segment::read(&folders.journal, *last, None)?.header().store;
            journal::settle(&folders.journal, store, *last)?;
            let (records, end) = open_or_build(&folders, store, &open)?;
            (store, records, end)
        }
        None => {
            refuse_remains(&folders, &listing)?;
            files::sync_dir(dir)?;
            let mut store = StoreId::default();
            rustix::rand::getrandom(&mut store, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| StoreError(format!("cannot get random bytes: {error}")))?;
            // The journal comes first: where there is no journal, nothing was ever stored.
            drop(Journal::start(&folders.journal, store, Point::default(), journal_options)?);
            let (records, end) = build(&folders, store, &open)?;
            (store, records, end)
        }
    };
    let journal = Journal::start(&folders.journal, store, end, journal_options)?;
    // Not before: there must always be a segment.
    journal::retire(&folders.journal, store)?;
    Ok(Recovered { lock, records, journal, journal_dir: folders.journal, store })
}

/// Where things lie in a data directory.
struct Folders {
    journal: PathBuf,
    sled: PathBuf,
    /// What sled's folder becomes when it is not believed; the last one is kept for study.
    sled_aside: PathBuf,
    /// A byte for every time sled was about to be opened since that last went well.
    sled_openings: PathBuf,
}

impl Folders {
    fn new(dir: &Path) -> Self {
        Self {
            journal: dir.join("journal"),
            sled: dir.join("sled"),
            sled_aside: dir.join("sled.aside"),
            sled_openings: dir.join("sled.openings"),
        }
    }
}

fn lock(dir: &Path, wait: Duration) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(failed("cannot open", &path))?;
    let give_up = Instant::now() + wait;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < give_up => thread::sleep(Duration::from_millis(20)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError(format!(
                    "{} is in use by another process; stop that one first, or name another data directory",
                    dir.display()
                )));
            }
            Err(error) => return Err(failed("cannot lock", &path)(io::Error::from(error))),
        }
    }
}

/// Without a segment there must be nothing else: to begin afresh would forget what was acknowledged.
fn refuse_remains(folders: &Folders, listing: &Listing) -> Result<(), StoreError> {
    if listing.exports.is_empty() && !folders.sled.exists() {
        return Ok(());
    }
    Err(unsound(&folders.journal, "it has no segment, although there was a store here"))
}

fn open_or_build(folders: &Folders, store: StoreId, open: OpenRecords<'_>) -> Result<(Records, Point), StoreError> {
    match open_sled(folders, store, open) {
        Ok((records, end)) => {
            mend_export(folders, store, &records, end)?;
            Ok((records, end))
        }
        Err(Doubt::Sled(why)) => {
            tracing::warn!(why, "sled's files are not believed: building them anew from the journal");
            build(folders, store, open)
        }
        Err(Doubt::Journal(error)) => Err(error),
    }
}

/// Why sled's content could not be taken as it is.
enum Doubt {
    /// It is not what the journal says; build it anew.
    Sled(String),
    /// The journal is not sound; nothing can be opened.
    Journal(StoreError),
}

fn open_sled(folders: &Folders, store: StoreId, open: OpenRecords<'_>) -> Result<(Records, Point), Doubt> {
    let sled = |error: StoreError| Doubt::Sled(error.0);
    if !folders.sled.is_dir() {
        return Err(Doubt::Sled("they are missing".to_owned()));
    }
    let openings = fs::metadata(&folders.sled_openings).map_or(0, |openings| openings.len());
    if openings >= OPENINGS_MAX {
        return Err(Doubt::Sled(format!("the last {openings} starts ended while they were read")));
    }
    (File::options().create(true).append(true).open(&folders.sled_openings))
        .and_then(|mut openings| openings.write_all(b"."))
        .map_err(|error| Doubt::Journal(failed("cannot write", &folders.sled_openings)(error)))?;
    remove_half_snapshots(&folders.sled).map_err(Doubt::Journal)?;

    let records = open(&folders.sled).map_err(sled)?;
    let replayed = (|| {
        let (of, revision) = records.meta().map_err(sled)?.ok_or(Doubt::Sled("they are not complete".to_owned()))?;
        if of != store {
            return Err(Doubt::Sled("they belong to another store".to_owned()));
        }
        let found = Point { revision, digest: records.scan().map_err(sled)? };
        catch_up(folders, store, &records, found)
    })();
    match replayed {
        Ok(end) => {
            files::remove(&folders.sled_openings).map_err(Doubt::Journal)?;
            Ok((records, end))
        }
        Err(doubt) => {
            let _ = guarded(|| {
                drop(records);
                Ok(())
            });
            Err(doubt)
        }
    }
}

/// When the export that the journal begins with is gone or cut short, a new one is made from sled, the digest of which
/// was just found to be right. Damage inside an export shows when it is read for the next one.
fn mend_export(folders: &Folders, store: StoreId, records: &Records, end: Point) -> Result<(), StoreError> {
    let dir = &folders.journal;
    let listing = Listing::read(dir)?;
    let why = match listing.exports.last() {
        None if listing.segments.first() == Some(&0) => return Ok(()),
        None => "it is missing".to_owned(),
        Some(last) => match ExportReader::open(dir, store, *last) {
            Ok(_) => return Ok(()),
            Err(error) => error.0,
        },
    };
    tracing::error!(why, "the journal's export is lost: making a new one from sled, which is whole");
    let mut writer = ExportWriter::create(dir, store, end.revision)?;
    records.each(|key, record| writer.push(key, &record))?;
    let exported = writer.finish()?;
    if exported.point == end {
        Ok(())
    } else {
        Err(StoreError("sled's records changed while they were read".to_owned()))
    }
}

/// A crash while sled wrote a snapshot leaves a file that it later takes for a damaged snapshot. The one before is
/// still there, and whether it leads to the right content is checked anyway.
fn remove_half_snapshots(sled: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(sled).map_err(failed("cannot read", sled))? {
        let path = entry.map_err(failed("cannot read", sled))?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            files::remove(&path)?;
        }
    }
    Ok(())
}

/// Checks that the journal agrees with what was found in sled and applies what came after.
fn catch_up(folders: &Folders, store: StoreId, records: &Records, found: Point) -> Result<Point, Doubt> {
    let listing = Listing::read(&folders.journal).map_err(Doubt::Journal)?;
    let first = listing.segments.partition_point(|base| *base <= found.revision);
    let first = first.checked_sub(1).ok_or_else(|| Doubt::Sled("they are older than the journal".to_owned()))?;
    let last = listing.segments.last().copied();
    let (mut at, mut known, mut segment_end) = (found, false, None);
    for base in &listing.segments[first..] {
        let segment = Segment::read(&folders.journal, *base, Some(store)).map_err(Doubt::Journal)?;
        if segment_end.is_some_and(|end| end != *base) {
            return Err(Doubt::Journal(unsound(segment.path(), "the segment before it ends earlier")));
        }
        let contents = segment.contents(Some(*base) == last).map_err(Doubt::Journal)?;
        segment_end = Some(contents.end.revision);
        let groups = contents.groups.iter().map(|placed| (placed.group.end, Some(&placed.group)));
        for (point, group) in [(segment.header().point, None)].into_iter().chain(groups) {
            if point.revision < at.revision {
                continue;
            }
            if point.revision > at.revision {
                let group = group.filter(|_| known).ok_or_else(|| not_in_journal(at.revision))?;
                at = Point { revision: point.revision, digest: apply(records, store, group, at.digest)? };
            }
            if point != at {
                return Err(Doubt::Sled(format!("their records are not those of commit {}", at.revision)));
            }
            known = true;
        }
    }
    if known { Ok(at) } else { Err(not_in_journal(at.revision)) }
}

fn not_in_journal(revision: Revision) -> Doubt {
    Doubt::Sled(format!("they are at commit {revision}, which the journal does not have"))
}

/// Applies a group to the state with this digest; returns the digest after it.
fn apply(records: &Records, store: StoreId, group: &Group<'_>, digest: Digest) -> Result<Digest, Doubt> {
    let sled = |error: StoreError| Doubt::Sled(error.0);
    let writes = group.writes().ok_or_else(|| {
        Doubt::Journal(StoreError(format!("the journal's group of commit {} is malformed", group.end.revision)))
    })?;
    let mut pending = Pending::over(records);
    for commit in writes.chunk_by(|one, next| one.revision == next.revision) {
        let own = commit.iter().map(|write| match write.value {
            Some(value) => Write::Put(write.key.to_vec(), value.to_vec()),
            None => Write::Delete(write.key.to_vec()),
        });
        effects::apply(&mut pending, own.collect(), commit[0].revision, records.derive()).map_err(sled)?;
    }
    let digest = pending.digest_after(digest);
    pending.apply(store, group.end.revision).map_err(sled)?;
    Ok(digest)
}

/// Builds sled's files from the journal. The records of the journal count, also where they are not what was recorded of
/// them: then it was sled that had misled the committer.
fn build(folders: &Folders, store: StoreId, open: OpenRecords<'_>) -> Result<(Records, Point), StoreError> {
    put_aside(folders)?;
    let merge = Merge::open(&folders.journal, store, None)?;
    let recorded = merge.end();
    let records = open(&folders.sled)?;
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    for item in merge {
        let (key, record) = item?;
        bytes += key.len() + record.value.len();
        waiting.push((key, record));
        if waiting.len() >= LOAD_RECORDS || bytes >= LOAD_BYTES {
            records.load(&waiting)?;
            waiting.clear();
            bytes = 0;
        }
    }
    records.load(&waiting)?;
    let digest = records.scan()?;
    records.apply(std::iter::empty(), &[], store, recorded.revision)?;
    if digest != recorded.digest {
        tracing::error!(
            revision = recorded.revision,
            "the journal's records are not what was recorded of them; going on with the records"
        );
    }
    files::remove(&folders.sled_openings)?;
    Ok((records, Point { revision: recorded.revision, digest }))
}

fn put_aside(folders: &Folders) -> Result<(), StoreError> {
    if folders.sled.exists() {
        if folders.sled_aside.exists() {
            fs::remove_dir_all(&folders.sled_aside).map_err(failed("cannot remove", &folders.sled_aside))?;
        }
        fs::rename(&folders.sled, &folders.sled_aside).map_err(failed("cannot put aside", &folders.sled))?;
    }
    Ok(())
}
