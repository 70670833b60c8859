//! Names and order of the journal's files, and the calls that make their names durable.
//!
//! `REVISION.journal` is a segment: the groups behind the commit it is named for. `REVISION.export` holds all records
//! after that commit. Both appear under these names only when they are complete and durable; while they are made they
//! end in `.new`, and whoever opens the store removes what was left of that kind.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::super::{Revision, StoreError};

const SEGMENT: &str = "journal";
const EXPORT: &str = "export";
const NEW: &str = "new";

/// What there is in the journal's folder, each list in order of revisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Segments, by the commit they follow.
    pub segments: Vec<Revision>,
    /// Exports, by their last commit.
    pub exports: Vec<Revision>,
}

impl Listing {
    /// Reads the folder.
    pub fn read(dir: &Path) -> Result<Self, StoreError> {
        let mut listing = Self::default();
        for name in names(dir)? {
            match name.split_once('.').map(|(stem, kind)| (stem.parse(), kind)) {
                Some((Ok(revision), SEGMENT)) => listing.segments.push(revision),
                Some((Ok(revision), EXPORT)) => listing.exports.push(revision),
                _ => (),
            }
        }
        listing.segments.sort_unstable();
        listing.exports.sort_unstable();
        Ok(listing)
    }
}

/// Where the segment that follows a commit is.
pub fn segment_path(dir: &Path, base: Revision) -> PathBuf {
    dir.join(format!("{base:020}.{SEGMENT}"))
}

/// Where the export of the state after a commit is.
pub fn export_path(dir: &Path, revision: Revision) -> PathBuf {
    dir.join(format!("{revision:020}.{EXPORT}"))
}

/// Where a file is made before it gets this name.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(NEW);
    path.into()
}

/// A file that is being made and has no name yet. Dropped before it got one, it goes away, and gives back what it took
/// of a disk that may be full.
pub struct Unfinished {
    path: PathBuf,
    named: bool,
}

impl Unfinished {
    /// Begins the file that is to be called `path`.
    pub fn create(path: &Path) -> Result<(File, Self), StoreError> {
        let aside = unfinished(path);
        let file = File::create(&aside).map_err(failed("cannot create", &aside))?;
        Ok((file, Self { path: path.to_owned(), named: false }))
    }

    /// Gives the file, which must be synced, its name, durably.
    pub fn publish(mut self) -> Result<(), StoreError> {
        let path = &self.path;
        fs::rename(unfinished(path), path).map_err(failed("cannot rename", path))?;
        self.named = true;
        sync_dir(self.path.parent().expect("files of the journal lie in a folder"))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named
            && let Err(error) = remove(&unfinished(&self.path))
        {
            tracing::warn!(%error, "an unfinished file stays until the next start");
        }
    }
}

/// Removes what a crash left unfinished.
pub fn remove_unfinished(dir: &Path) -> Result<(), StoreError> {
    for name in names(dir)? {
        if name.rsplit_once('.').is_some_and(|(_, kind)| kind == NEW) {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes a file; it may be gone already.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("cannot remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes names in a folder durable.
pub fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("cannot sync", dir))
}

/// An error of the operating system as a sentence.
pub fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let text = format!("{what} {}", path.display());
    move |error| StoreError(format!("{text}: {error}"))
}

fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = fs::read_dir(dir).map_err(failed("cannot read", dir))?;
    entries
        .map(|entry| Ok(entry.map_err(failed("cannot read", dir))?.file_name().to_string_lossy().into_owned()))
        .collect()
}
