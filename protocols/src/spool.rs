//! A bounded cache on local disk: objects whose source cannot seek, or whose destination takes one stream only, are
//! kept here until they have arrived.
//!
//! An entry is named by a key, which stands for one version of one object. Its folder holds a file of the same name and
//! whatever its writer keeps beside it. One process fills an entry, others wait for it; while somebody uses an entry it
//! stays. What nobody uses is removed when room is needed, what was unused for longest first.
//!
//! Locks are `flock`s on a file that stays in the folder of the spool, so that they end with their process; several
//! processes can share one spool.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use crate::{Code, Error, Interrupt};

/// What is locked while room is promised: no key, which have no underscore.
const ALL: &str = "_all";

/// How long to wait before a look whether somebody else is done.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a spool may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Its folder; made when it is not there.
    pub folder: PathBuf,
    /// Most bytes on disk.
    pub bytes_max: u64,
    /// What happens when no room can be made.
    pub when_full: WhenFull,
}

/// What happens when everything in a spool is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Who needs room waits for it.
    #[default]
    Wait,
    /// It fails, and may be tried again.
    Fail,
}

/// The spool of one host.
#[derive(Clone, Debug)]
pub struct Spool {
    config: SpoolConfig,
}

/// The right to use an entry. While it is held, the entry stays.
#[derive(Debug)]
pub struct Entry {
    folder: PathBuf,
    key: String,
    lock: File,
}

impl Spool {
    /// The spool in a folder, which is made when it is first needed.
    pub fn new(config: SpoolConfig) -> Self {
        Self { config }
    }

    fn make_folder(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.config.folder)
            .map_err(|error| self.failed(&error, format_args!("make {}", self.config.folder.display())))
    }

    /// The folder in which all entries lie.
    pub fn folder(&self) -> &Path {
        &self.config.folder
    }

    /// Takes the entry `key` for filling it with `bytes` (none: not known yet), or for reading what is there: waits for
    /// whoever fills it, and for room. One holder at a time; [`Entry::share`] lets others in.
    ///
    /// A key is made of letters, digits and `-`.
    pub fn enter(&self, key: &str, bytes: Option<u64>, interrupt: &Interrupt) -> Result<Entry, Error> {
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "a key is a plain name");
        if let Some(bytes) = bytes.filter(|bytes| *bytes > self.config.bytes_max) {
            return Err(Error::fatal(
                Code::NoSpace,
                format!(
                    "the object has {bytes} bytes and must be kept on this host while it is moved, where the spool may \
                     use {} bytes; raise --spool-size",
                    self.config.bytes_max
                ),
            ));
        }
        self.make_folder()?;
        let entry = self.lock(key, interrupt)?;
        while !self.promise(&entry, bytes.unwrap_or(0))? {
            if self.config.when_full == WhenFull::Fail {
                return Err(Error::retry(
                    Code::NoSpace,
                    format!(
                        "the spool {} is full of objects that are being moved; raise --spool-size, or run fewer \
                         transfers at a time",
                        self.config.folder.display()
                    ),
                ));
            }
            pause(interrupt)?;
        }
        Ok(entry)
    }

    /// Whether what was not promised in advance still fits, now that the entry has grown to `bytes`; makes room.
    pub fn fits(&self, entry: &Entry, bytes: u64) -> Result<bool, Error> {
        Ok(bytes <= self.config.bytes_max && self.promise(entry, bytes)?)
    }

    /// Bytes on disk, all entries together.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.entries()?.iter().map(|(_, bytes, _)| bytes).sum())
    }

    fn lock(&self, key: &str, interrupt: &Interrupt) -> Result<Entry, Error> {
        let folder = self.config.folder.join(key);
        loop {
            let lock = self.lock_file(key)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    fs::create_dir_all(&folder)
                        .map_err(|error| self.failed(&error, format_args!("make {}", folder.display())))?;
                    return Ok(Entry { folder, key: key.to_owned(), lock });
                }
                // Whoever reads it does not keep others from reading.
                Err(Errno::WOULDBLOCK) if folder.join(key).exists() => {
                    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() && folder.join(key).exists() {
                        return Ok(Entry { folder, key: key.to_owned(), lock });
                    }
                    pause(interrupt)?;
                }
                Err(Errno::WOULDBLOCK) => pause(interrupt)?,
                Err(error) => return Err(self.failed(&error.into(), format_args!("lock the entry {key}"))),
            }
        }
    }

    /// Promises an entry that it may have `bytes`, if they fit; the promise is the length of its lock's file.
    fn promise(&self, own: &Entry, bytes: u64) -> Result<bool, Error> {
        let all = self.lock_file(ALL)?;
        flock(&all, FlockOperation::LockExclusive)
            .map_err(|error| self.failed(&error.into(), format_args!("lock all entries")))?;
        let fits = own.is_complete() || self.has_room(own, bytes)?;
        if fits && !own.is_complete() {
            own.lock.set_len(bytes).map_err(|error| self.failed(&error, format_args!("promise room")))?;
        }
        Ok(fits)
    }

    /// Whether `bytes` fit beside all the others; removes what nobody uses until they do.
    fn has_room(&self, own: &Entry, bytes: u64) -> Result<bool, Error> {
        let mut others = self.entries()?;
        others.retain(|(key, ..)| *key != own.key);
        others.sort_by_key(|(_, _, used)| *used);
        let mut taken: u64 = others.iter().map(|(_, bytes, _)| bytes).sum();
        for (key, there, _) in others {
            if taken.saturating_add(bytes) <= self.config.bytes_max {
                break;
            }
            if self.remove_if_unused(&key)? {
                taken -= there;
            }
        }
        Ok(taken.saturating_add(bytes) <= self.config.bytes_max)
    }

    fn remove_if_unused(&self, key: &str) -> Result<bool, Error> {
        let lock = self.lock_file(key)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        let folder = self.config.folder.join(key);
        lock.set_len(0).map_err(|error| self.failed(&error, format_args!("take a promise back")))?;
        match fs::remove_dir_all(&folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.failed(&error, format_args!("remove {}", folder.display()))),
        }
    }

    /// Key, bytes and last use of each entry. What was promised counts as used.
    fn entries(&self) -> Result<Vec<(String, u64, SystemTime)>, Error> {
        let failed = |error: io::Error| self.failed(&error, format_args!("read {}", self.config.folder.display()));
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.config.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let (true, Ok(key)) = (is_folder, entry.file_name().into_string()) {
                let lock = fs::metadata(self.lock_path(&key)).ok();
                let used = lock.as_ref().and_then(|lock| lock.modified().ok()).unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = bytes_below(&entry.path()).max(lock.map_or(0, |lock| lock.len()));
                entries.push((key, bytes, used));
            }
        }
        Ok(entries)
    }

    fn lock_file(&self, key: &str) -> Result<File, Error> {
        let path = self.lock_path(key);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| self.failed(&error, format_args!("open {}", path.display())))
    }

    fn lock_path(&self, key: &str) -> PathBuf {
        self.config.folder.join(format!(".{key}.lock"))
    }

    fn failed(&self, error: &io::Error, doing: std::fmt::Arguments<'_>) -> Error {
        Error::from_io(error, Code::WriteFailed, format_args!("{doing} in the spool"))
    }
}

impl Entry {
    /// The folder of the entry, for whatever is kept beside its file.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that holds the object once all of it is there.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.key)
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.path().exists()
    }

    /// It is complete: others may read it, too. It counts as used now.
    pub fn share(&self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::from_io(&error, Code::WriteFailed, "share an entry of the spool");
        self.lock.set_modified(SystemTime::now()).map_err(failed)?;
        flock(&self.lock, FlockOperation::NonBlockingLockShared).map_err(|error| failed(error.into()))
    }

    /// Removes it: what it holds is worth nothing.
    pub fn remove(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(|error| {
            Error::from_io(&error, Code::WriteFailed, format_args!("remove {}", self.folder.display()))
        })
    }
}

fn pause(interrupt: &Interrupt) -> Result<(), Error> {
    if interrupt.is_raised() {
        return Err(Error::canceled());
    }
    std::thread::sleep(LOOK_AGAIN);
    Ok(())
}

/// What the files of a folder take, holes included.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    files.flatten().filter_map(|file| file.metadata().ok()).map(|about| about.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(bytes_max: u64, when_full: WhenFull) -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let config = SpoolConfig { folder: folder.path().join("spool"), bytes_max, when_full };
        (folder, Spool::new(config))
    }

    fn fill(entry: &Entry, bytes: usize) {
        fs::write(entry.path(), vec![1; bytes]).unwrap();
    }

    fn enter(spool: &Spool, key: &str, bytes: u64) -> Result<Entry, Error> {
        spool.enter(key, Some(bytes), &Interrupt::default())
    }

    #[test]
    fn what_was_unused_for_longest_makes_room_and_what_is_used_stays() {
        let (_folder, spool) = spool(100, WhenFull::Fail);
        for key in ["a", "b"] {
            let entry = enter(&spool, key, 40).unwrap();
            fill(&entry, 40);
            entry.share().unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        let used = enter(&spool, "b", 40).unwrap();
        assert!(used.is_complete());
        let new = enter(&spool, "c", 60).unwrap();
        assert!(!enter(&spool, "a", 0).unwrap().is_complete(), "it made room");
        assert!(used.is_complete(), "it is in use");
        let error = enter(&spool, "d", 90).unwrap_err();
        assert!(error.code == Code::NoSpace && error.is_retryable(), "{error}");
        drop((used, new));
        enter(&spool, "d", 90).unwrap();
    }

    #[test]
    fn an_object_that_never_fits_is_refused_for_good() {
        let (_folder, spool) = spool(100, WhenFull::Wait);
        let error = enter(&spool, "a", 101).unwrap_err();
        assert!(error.code == Code::NoSpace && !error.is_retryable(), "{error}");
    }

    #[test]
    fn one_fills_an_entry_while_others_wait_and_then_all_read_it() {
        let (_folder, spool) = spool(100, WhenFull::Wait);
        let first = enter(&spool, "a", 10).unwrap();
        let waiting = {
            let spool = spool.clone();
            std::thread::spawn(move || enter(&spool, "a", 10).map(|entry| entry.is_complete()))
        };
        std::thread::sleep(2 * LOOK_AGAIN);
        assert!(!waiting.is_finished());
        fill(&first, 10);
        first.share().unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(true));
        assert!(first.is_complete());
    }

    #[test]
    fn who_waits_for_room_gets_it_or_is_interrupted() {
        let (_folder, spool) = spool(100, WhenFull::Wait);
        let busy = enter(&spool, "a", 80).unwrap();
        fill(&busy, 80);
        let interrupt = Interrupt::default();
        let waiting = {
            let (spool, interrupt) = (spool.clone(), interrupt.clone());
            std::thread::spawn(move || spool.enter("b", Some(30), &interrupt).map(drop))
        };
        std::thread::sleep(2 * LOOK_AGAIN);
        assert!(!waiting.is_finished());
        interrupt.raise();
        assert_eq!(waiting.join().unwrap().unwrap_err().code, Code::Canceled);
        busy.share().unwrap();
        drop(busy);
        enter(&spool, "b", 30).unwrap();
    }
}
