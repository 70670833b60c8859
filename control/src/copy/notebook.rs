//! What a copy notes beside its destination, so that the next one can go on.
//!
//! Two files, readable by their owner only: the notes (`.NAME.staccato-copy.json`), replaced as a whole and durably,
//! and a lock (`.NAME.staccato-copy.lock`) that is held while a copy runs. The notes hold a digest of the source's URL,
//! not the URL: a signature in it is nobody's business. Both are gone when there is nothing left to go on from.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStringExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use percent_encoding::percent_decode_str;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use staccato_dataplane::attempt::{Completion, VerifiedRange};
use staccato_protocols::{Code, Error, ObjectUrl, Validator, file::hidden};
use uuid::Uuid;

const NOTES_VERSION: u32 = 1;
/// What the longest of our names adds to the destination's.
const LONGEST_ADDITION: &str = ".staccato-copy.json.new";

/// What is noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    version: u32,
    /// SHA-256 of the source's URL.
    source: String,
    /// Number of the last attempt; only grows.
    pub epoch: u64,
    /// The source's version.
    pub validator: Option<Validator>,
    /// What is durable.
    pub checkpoint: Vec<VerifiedRange>,
    /// The upload that was begun, where the destination takes parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// A commit that may have been done.
    pub prepared: Option<Completion>,
}

impl Notes {
    fn of(source: &ObjectUrl) -> Self {
        let source = HEXLOWER.encode(&Sha256::digest(source.as_str()));
        Self {
            version: NOTES_VERSION,
            source,
            epoch: 0,
            validator: None,
            checkpoint: Vec::new(),
            upload: None,
            prepared: None,
        }
    }

    /// Everything is to be fetched again.
    pub fn forget(&mut self) {
        self.validator = None;
        self.checkpoint.clear();
        self.prepared = None;
    }

    /// Whether the next copy can begin with them.
    pub fn are_worth_keeping(&self) -> bool {
        !self.checkpoint.is_empty() || self.prepared.is_some()
    }
}

/// Name of a copy among transfers: what its partial is called after.
const TRANSFER: &str = "copy";

/// The notes of one destination, locked. Destinations that are no files have none on disk.
#[derive(Debug)]
pub(super) struct Notebook {
    /// What the copy is called at the destination. Beside a file all have one name, by which the next finds what the last
    /// has left; elsewhere each has its own, so that none is taken for another.
    pub transfer: String,
    place: Option<Place>,
    pub notes: Notes,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// Held open for its lock.
    _lock: File,
}

impl Notebook {
    /// Opens the notes of `destination`, or begins new ones where there are none of `source` that can be read. The
    /// epoch is a new one. `partial_busy` while another copy to the destination runs.
    pub fn open(source: &ObjectUrl, destination: &ObjectUrl) -> Result<Self, Error> {
        let fresh = Notes::of(source);
        let Some(path) = notes_path(destination) else {
            let transfer = Uuid::now_v7().to_string();
            return Ok(Self { transfer, place: None, notes: Notes { epoch: 1, ..fresh } });
        };
        let lock = lock(&path.with_extension("lock"), destination)?;
        let known = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Notes>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let mut notes = match known {
            Some(known) if known.version == NOTES_VERSION && known.source == fresh.source => known,
            _ => fresh,
        };
        notes.epoch += 1;
        let mut notebook = Self { transfer: TRANSFER.into(), place: Some(Place { path, _lock: lock }), notes };
        notebook.note(|_| ())?;
        Ok(notebook)
    }

    /// Whether the next copy finds it.
    pub fn is_kept(&self) -> bool {
        self.place.is_some()
    }

    /// Changes the notes and makes them durable.
    pub fn note(&mut self, change: impl FnOnce(&mut Notes)) -> Result<(), Error> {
        change(&mut self.notes);
        let Some(Place { path, .. }) = &self.place else { return Ok(()) };
        let bytes = serde_json::to_vec(&self.notes).expect("notes are plain values");
        replace(path, &bytes).map_err(|error| cannot("write", path, &error))
    }

    /// Nothing needs to be known any more. The lock goes last, so that nobody's new notes are removed.
    pub fn remove(self) -> io::Result<()> {
        let Some(Place { path, .. }) = &self.place else { return Ok(()) };
        fs::remove_file(path)?;
        fs::remove_file(path.with_extension("lock"))
    }
}

/// Opens and locks a file that its last holder may remove at any time.
fn lock(path: &Path, destination: &ObjectUrl) -> Result<File, Error> {
    loop {
        let file = match File::options().create(true).truncate(false).write(true).mode(0o600).open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                let message =
                    format!("the folder of {destination} does not exist; make it, then run the command again");
                return Err(Error::fatal(Code::DestinationFolderMissing, message));
            }
            Err(error) => return Err(cannot("open", path, &error)),
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let message = format!("another copy to {destination} is running; wait for it or stop it");
            return Err(Error::fatal(Code::PartialBusy, message));
        }
        // A lock on a file that has lost its name excludes nobody.
        let locked = file.metadata().map_err(|error| cannot("open", path, &error))?;
        if fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

fn cannot(doing: &str, path: &Path, error: &io::Error) -> Error {
    Error::from_io(error, Code::WriteFailed, format_args!("{doing} {}", path.display()))
}

/// Where the notes of a destination lie; nothing for one that is no file. A name too long for the addition is cut, and
/// told from others that begin alike by its digest.
fn notes_path(destination: &ObjectUrl) -> Option<PathBuf> {
    if destination.scheme() != "file" {
        return None;
    }
    let bytes: Vec<u8> = percent_decode_str(destination.url().path()).collect();
    let path = PathBuf::from(OsString::from_vec(bytes));
    let mut ours = hidden(path.file_name()?, LONGEST_ADDITION.len());
    ours.extend_from_slice(b".staccato-copy.json");
    Some(path.with_file_name(OsString::from_vec(ours)))
}

/// Replaces a file as a whole, durably.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("json.new");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use staccato_protocols::{ByteRange, file::NAME_BYTES_MAX};

    use super::*;

    fn url(text: &str) -> ObjectUrl {
        ObjectUrl::parse(text).unwrap()
    }

    fn in_folder(folder: &tempfile::TempDir, name: &str) -> ObjectUrl {
        url(url::Url::from_file_path(folder.path().join(name)).unwrap().as_str())
    }

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    const SOURCE: &str = "http://h/x?signature=hunter2";

    fn some_range() -> Vec<VerifiedRange> {
        vec![VerifiedRange { range: ByteRange::new(0, 5).unwrap(), crc32: 7 }]
    }

    #[test]
    fn notes_are_found_again_under_a_new_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let destination = in_folder(&folder, "with space %");
        let mut notebook = Notebook::open(&url(SOURCE), &destination).unwrap();
        assert_eq!((notebook.notes.epoch, notebook.notes.are_worth_keeping()), (1, false));
        notebook.note(|notes| notes.checkpoint = some_range()).unwrap();
        drop(notebook);
        assert_eq!(names(&folder), [".with space %.staccato-copy.json", ".with space %.staccato-copy.lock"]);
        let again = Notebook::open(&url(SOURCE), &destination).unwrap();
        assert_eq!((again.notes.epoch, &again.notes.checkpoint), (2, &some_range()));
        again.remove().unwrap();
        assert_eq!(names(&folder), [""; 0]);
    }

    #[test]
    fn one_copy_at_a_time_writes_to_a_destination() {
        let folder = tempfile::tempdir().unwrap();
        let destination = in_folder(&folder, "d");
        let first = Notebook::open(&url(SOURCE), &destination).unwrap();
        let error = Notebook::open(&url(SOURCE), &destination).unwrap_err();
        assert_eq!(error.code, Code::PartialBusy);
        Notebook::open(&url(SOURCE), &in_folder(&folder, "other")).unwrap();
        first.remove().unwrap();
        Notebook::open(&url(SOURCE), &destination).unwrap();
    }

    #[test]
    fn damaged_notes_and_those_of_another_source_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let destination = in_folder(&folder, "d");
        let mut notebook = Notebook::open(&url(SOURCE), &destination).unwrap();
        notebook.note(|notes| notes.checkpoint = some_range()).unwrap();
        drop(notebook);
        let other = Notebook::open(&url("http://h/other"), &destination).unwrap();
        assert!(!other.notes.are_worth_keeping());
        drop(other);
        for damaged in ["", "{", "[]", "{\"version\": 1}"] {
            fs::write(folder.path().join(".d.staccato-copy.json"), damaged).unwrap();
            assert!(!Notebook::open(&url(SOURCE), &destination).unwrap().notes.are_worth_keeping(), "{damaged}");
        }
    }

    #[test]
    fn notes_are_their_owners_and_hold_no_secret_of_the_url() {
        let folder = tempfile::tempdir().unwrap();
        let _notebook = Notebook::open(&url(SOURCE), &in_folder(&folder, "d")).unwrap();
        for name in names(&folder) {
            let path = folder.path().join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"));
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        let long = "x".repeat(NAME_BYTES_MAX - 1);
        let notebooks = ["a", "b"].map(|end| {
            let destination = in_folder(&folder, &format!("{long}{end}"));
            Notebook::open(&url(SOURCE), &destination).unwrap()
        });
        assert_eq!(names(&folder).len(), 4);
        notebooks.into_iter().for_each(|notebook| notebook.remove().unwrap());
    }

    #[test]
    fn a_missing_folder_is_called_that() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        for name in ["no/folder/d", "file/d"] {
            let error = Notebook::open(&url(SOURCE), &in_folder(&folder, name)).unwrap_err();
            assert_eq!(error.code, Code::DestinationFolderMissing, "{name}");
        }
    }

    #[test]
    fn destinations_that_are_no_files_need_no_notes() {
        let mut notebook = Notebook::open(&url(SOURCE), &url("null:///")).unwrap();
        notebook.note(|notes| notes.checkpoint = some_range()).unwrap();
        notebook.remove().unwrap();
    }
}
