//! A destination file as an attempt owns it: the partial's names, its locks, and commit.
//!
//! Invariants:
//!
//! - Every attempt has a name of its own for the partial. A new attempt first *renames* its predecessor's partial to
//!   that name, so that a stale rename or unlink by the old name finds nothing; then it takes a lock that no
//!   description of an earlier attempt shares ([`lock`](super::lock)). What is still held after a while
//!   ([`lock::FENCE_WAIT`]) is copied to a new inode, which the old holder cannot reach.
//! - The destination's own name is touched by nothing but [`Session::commit`], by one rename.
//! - What is at the destination is only ever read (`present`). A commit that leaves it there was preceded by a sync of
//!   it, and its identity, size and times have been the same since before it was read.
//! - Starting over means a new inode.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs::File as StdFile,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{
    destination::Opening,
    folder::{copy_data, entries, open_folder, remove_at},
    lock,
    names::{Entry, Kind, Names},
    present::PresentFile,
    roots::Roots,
    sidecar::Sidecar,
    source,
};
use crate::{
    ByteRange, Code, Error, Session,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, Present, SourceRequest,
        WriteShape,
    },
};

/// One attempt's hold on a destination.
pub(super) struct FileSession {
    roots: Arc<Roots>,
    folder: OwnedFd,
    name: OsString,
    names: Names,
    epoch: u64,
    overwrite: Overwrite,
    path: PathBuf,
    found: Found,
    /// None once the object is committed.
    partial: Option<Partial>,
    /// What is at the destination, where that shall be repaired.
    present: Option<PresentFile>,
    /// That object, once it has been found right as a whole.
    kept: Option<Identity>,
}

struct Partial {
    file: StdFile,
    identity: Identity,
    /// Made with the first note.
    sidecar: Option<Sidecar>,
    direct: bool,
}

impl FileSession {
    /// `patience`: how long holders of an earlier attempt are waited for.
    pub fn begin(roots: Arc<Roots>, request: &DestinationRequest, patience: Duration) -> Result<Self, Error> {
        let (folder, name, path) = open_folder(&roots.locate(&request.url, true)?)?;
        let names = Names::new(&name, &request.transfer, request.epoch);
        let mut session = Self {
            roots,
            folder,
            name,
            names,
            epoch: request.epoch,
            overwrite: request.overwrite,
            path,
            found: Found::Nothing,
            partial: None,
            present: None,
            kept: None,
        };
        session.find(request, patience).map(|()| session)
    }

    fn find(&mut self, request: &DestinationRequest, patience: Duration) -> Result<(), Error> {
        // First this: a stale attempt's rename has been done by now, or never will be. Looking at the destination
        // earlier could miss a commit that comes in between.
        // Epochs begin at 1: the first attempt need not look for others.
        let left = if self.epoch > 1 { self.entries() } else { Ok(Vec::new()) };
        let predecessor = left.and_then(|left| self.take_over(&left));
        let predecessor = predecessor.map_err(|error| self.failed(&error, "take over the partial of"))?;
        let present = self.stat(&self.name).map_err(|error| self.failed(&error, "look at"))?;
        let prepared = request.prepared.and_then(|prepared| prepared.identity);
        if let (Some((identity, _)), Some(prepared)) = (present, prepared)
            && identity == prepared
        {
            // The rename was done; whether it was durable is not known.
            self.sync_folder()?;
            self.remove_left_over().map_err(|error| self.failed(&error, "clean up beside"))?;
            self.found = Found::Committed;
            return Ok(());
        }
        match present {
            Some((_, kind)) if kind != FileType::RegularFile => {
                return Err(Error::fatal(
                    Code::DestinationNotRegular,
                    format!("{} is there and is not a regular file; name another destination", self.path.display()),
                ));
            }
            Some(_) if self.overwrite == Overwrite::Never => return Err(self.exists()),
            _ => (),
        }
        let resumed = predecessor && request.resume;
        if predecessor && !request.resume {
            self.remove(&self.names.partial()).map_err(|error| self.failed(&error, "remove the old partial of"))?;
            self.remove(&self.names.sidecar()).map_err(|error| self.failed(&error, "remove the old sidecar of"))?;
        }
        self.open_partial(resumed, patience)?;
        self.found = if resumed { Found::Partial } else { Found::Nothing };
        Ok(())
    }

    /// Renames the newest earlier attempt's files to this attempt's names and removes the others; whether there was a
    /// partial. One that was being copied because somebody held it is the partial still: its copy need not be whole.
    /// Touches only what is in `left`, one listing of the folder: what a later attempt makes in the meantime is its
    /// own.
    pub(super) fn take_over(&self, left: &[(OsString, Entry)]) -> io::Result<bool> {
        if let Some((_, later)) = left.iter().find(|(_, entry)| entry.epoch > self.epoch) {
            return Err(io::Error::other(format!("epoch {} has taken it over already", later.epoch)));
        }
        let partials = left.iter().filter(|(_, entry)| entry.kind != Kind::Sidecar);
        let Some(newest) = partials.clone().map(|(_, entry)| entry.epoch).max() else {
            left.iter().try_for_each(|(name, _)| self.remove(name))?;
            return Ok(false);
        };
        let held = partials.into_iter().any(|(_, entry)| entry.kind == Kind::Held && entry.epoch == newest);
        let kind = if held { Kind::Held } else { Kind::Partial };
        // Whatever is at the names of this very attempt was left by an interrupted take-over.
        for (name, entry) in left {
            match entry.kind {
                found if entry.epoch == newest && found == kind => self.rename(name, &self.names.partial())?,
                Kind::Sidecar if entry.epoch == newest => self.rename(name, &self.names.sidecar())?,
                Kind::Partial if entry.epoch == self.epoch => (),
                _ => self.remove(name)?,
            }
        }
        Ok(true)
    }

    fn open_partial(&mut self, resumed: bool, patience: Duration) -> Result<(), Error> {
        let mut file = self.open_or_create(&self.names.partial(), !resumed)?;
        let free =
            lock::fence(&file, self.epoch, patience).map_err(|error| self.failed(&error, "lock the partial of"))?;
        if !free {
            tracing::warn!(path = %self.path.display(), epoch = self.epoch, "an earlier attempt still holds the partial: copying it");
            file = self.leave_to_holder(file)?;
        }
        let stat = rustix::fs::fstat(&file).map_err(|error| self.failed(&error.into(), "look at the partial of"))?;
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        let flags =
            rustix::fs::fcntl_getfl(&file).map_err(|error| self.failed(&error.into(), "look at the partial of"))?;
        let direct = source::offers_direct(&file) && rustix::fs::fcntl_setfl(&file, flags | OFlags::DIRECT).is_ok();
        if !direct {
            tracing::warn!(path = %self.path.display(), "this file system does not take O_DIRECT: writing through the page cache");
        }
        let sidecar = if resumed { Some(self.open_sidecar()?) } else { None };
        self.partial = Some(Partial { file, identity, sidecar, direct });
        Ok(())
    }

    fn open_sidecar(&self) -> Result<Sidecar, Error> {
        Sidecar::open(self.open_or_create(&self.names.sidecar(), false)?)
            .map_err(|error| self.failed(&error, "open the sidecar of"))
    }

    /// Moves what an earlier attempt still holds out of the way and copies its data to a new inode. Nothing in it is
    /// trusted: resuming compares every block with its CRC.
    fn leave_to_holder(&self, held: StdFile) -> Result<StdFile, Error> {
        let copy = || -> io::Result<StdFile> {
            self.rename(&self.names.partial(), &self.names.held())?;
            let file = self.create(&self.names.partial())?;
            if rustix::fs::ioctl_ficlone(&file, &held).is_err() {
                copy_data(&held, &file)?;
            }
            // What the ledger was promised of the old inode must not be lost with it.
            file.sync_data()?;
            rustix::fs::fsync(&self.folder)?;
            self.remove(&self.names.held())?;
            Ok(file)
        };
        let file = copy().map_err(|error| self.failed(&error, "copy the held partial of"))?;
        match lock::fence(&file, self.epoch, Duration::ZERO) {
            Ok(true) => Ok(file),
            Ok(false) => Err(Error::retry(
                Code::PartialBusy,
                format!("somebody holds the new partial of {}", self.path.display()),
            )),
            Err(error) => Err(self.failed(&error, "lock the partial of")),
        }
    }

    fn open_or_create(&self, name: &OsStr, new: bool) -> Result<StdFile, Error> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = if new {
            self.create(name)
        } else {
            rustix::fs::openat(&self.folder, name, flags | OFlags::CREATE, FILE_MODE)
                .map(StdFile::from)
                .map_err(io::Error::from)
        };
        opened.map_err(|error| self.failed(&error, "create the partial of"))
    }

    fn create(&self, name: &OsStr) -> io::Result<StdFile> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        match rustix::fs::openat(&self.folder, name, flags, FILE_MODE) {
            // Left by an attempt of the same number that died while beginning.
            Err(Errno::EXIST) => {
                self.remove(name)?;
                Ok(rustix::fs::openat(&self.folder, name, flags, FILE_MODE)?.into())
            }
            other => Ok(other?.into()),
        }
    }

    fn stat(&self, name: &OsStr) -> io::Result<Option<(Identity, FileType)>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
                Ok(Some((identity, FileType::from_raw_mode(stat.st_mode))))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.folder, from, &self.folder, to)?)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        remove_at(&self.folder, name)
    }

    pub(super) fn entries(&self) -> io::Result<Vec<(OsString, Entry)>> {
        entries(&self.folder, &self.names)
    }

    /// Removes what this attempt and earlier ones left.
    fn remove_left_over(&self) -> io::Result<()> {
        self.entries()?
            .iter()
            .filter(|(_, entry)| entry.epoch <= self.epoch)
            .try_for_each(|(name, _)| self.remove(name))
    }

    fn sync_folder(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.folder).map_err(|error| self.failed(&error.into(), "sync the folder of"))
    }

    fn exists(&self) -> Error {
        Error::fatal(
            Code::DestinationExists,
            format!(
                "{} exists; remove it, name another destination, or have it replaced: overwrite=always (command line: --overwrite)",
                self.path.display()
            ),
        )
    }

    fn failed(&self, error: &io::Error, doing: &str) -> Error {
        Error::from_io(error, Code::WriteFailed, format_args!("{doing} {}", self.path.display()))
    }

    fn partial(&mut self) -> Result<&mut Partial, Error> {
        let path = &self.path;
        self.partial
            .as_mut()
            .ok_or_else(|| Error::fatal(Code::Internal, format!("{} is committed already", path.display())))
    }
}

const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

impl Session for FileSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        if self.kept.is_some() {
            return self.kept;
        }
        self.partial.as_ref().map(|partial| partial.identity)
    }

    fn load_block_crcs(&mut self, blocks: u64) -> Result<BTreeMap<u64, u32>, Error> {
        let Some(sidecar) = &self.partial()?.sidecar else { return Ok(BTreeMap::new()) };
        sidecar.load(blocks).map_err(|error| self.failed(&error, "read the sidecar of"))
    }

    fn append_block_crcs(&mut self, blocks: &[(u64, u32)]) -> Result<(), Error> {
        if self.partial()?.sidecar.is_none() {
            let sidecar = self.open_sidecar()?;
            self.partial()?.sidecar = Some(sidecar);
        }
        let appended = self.partial()?.sidecar.as_mut().expect("it was just opened").append(blocks);
        appended.map_err(|error| self.failed(&error, "append to the sidecar of"))
    }

    fn open_on_lane(&self, shape: WriteShape) -> Result<OpenDestination, Error> {
        let partial =
            self.partial.as_ref().ok_or_else(|| Error::fatal(Code::Internal, "the object is committed already"))?;
        assert!(shape.aligned || !partial.direct, "chunks are written at multiples of the CRC block");
        let file = partial.file.try_clone().map_err(|error| self.failed(&error, "open the partial of"))?;
        let present = self.present.as_ref().map(|present| present.on_lane()).transpose();
        let present = present.map_err(|error| self.failed(&error, "open what is to be repaired at"))?;
        let opening = Opening { file, epoch: self.epoch, direct: partial.direct, path: self.path.clone(), present };
        Ok(opening.into_open())
    }

    fn try_clone(&mut self, request: &SourceRequest, part: ByteRange) -> Result<bool, Error> {
        if request.url.scheme() != "file" {
            return Ok(false);
        }
        let roots = self.roots.clone();
        let (file, object, _) = source::open_regular(&roots, request)?;
        if part.start() != 0 || object.size != Some(part.end()) {
            return Ok(false);
        }
        self.clone_whole(&file, part.end())
    }

    fn use_present(&mut self) -> Result<Option<Present>, Error> {
        if self.overwrite != Overwrite::Repair {
            return Ok(None);
        }
        let mut present = match PresentFile::open(&self.folder, &self.name) {
            Ok(Some(present)) => present,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "what is to be repaired cannot be read: fetching everything");
                return Ok(None);
            }
        };
        // What an earlier attempt wrote into its partial is not replaced by a clone. Nor is the partial compared as if it
        // were one: beyond what a checkpoint promises, a cache may show what a failed sync has lost.
        if self.found == Found::Nothing && self.clone_whole(&present.file, present.seen.size)? {
            present.in_place = true;
        }
        let found = Present { length: present.seen.size, in_place: present.in_place };
        self.present = Some(present);
        Ok(Some(found))
    }

    fn keep_present(&mut self) -> Result<bool, Error> {
        let Some(present) = &self.present else { return Ok(false) };
        match present.is_as_it_was(&self.folder, &self.name) {
            Ok(true) => self.kept = Some(present.seen.identity),
            Ok(false) => tracing::info!(path = %self.path.display(), "it changed while it was compared: replacing it"),
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "what is right is not known to be durable: replacing it");
            }
        }
        Ok(self.kept.is_some())
    }

    fn sync_name(&mut self) -> Result<(), Error> {
        self.sync_folder()
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        let cut = rustix::fs::ftruncate(&self.partial()?.file, length);
        cut.map_err(|error| self.failed(&error.into(), "set the length of"))
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        if let Some(kept) = self.kept {
            return self.commit_kept(kept);
        }
        let identity = self.check_partial().map_err(CommitError::NotDone)?;
        let partial = self.names.partial();
        let renamed = match self.overwrite {
            Overwrite::Always | Overwrite::Repair => self.rename(&partial, &self.name),
            Overwrite::Never => self.rename_to_free_name(&partial),
        };
        if let Err(error) = renamed {
            // An error does not always mean that nothing happened (rename(3p) says so of EIO, and a server may have
            // lost its answer only): the name itself tells.
            return Err(match self.stat(&self.name) {
                Ok(named) if named.map(|(named, _)| named) != Some(identity) => {
                    CommitError::NotDone(self.rename_refused(&error))
                }
                _ => CommitError::Unknown(self.failed(&error, "rename the partial to")),
            });
        }
        self.sync_folder().map_err(CommitError::Unknown)?;
        let noted = self.partial.take().is_some_and(|partial| partial.sidecar.is_some());
        self.found = Found::Committed;
        // The object is there; a sidecar that cannot be removed must not turn that into a failure.
        if noted && let Err(error) = self.remove(&self.names.sidecar()) {
            tracing::warn!(%error, path = %self.path.display(), "a sidecar stays behind");
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.partial = None;
        for name in [self.names.partial(), self.names.sidecar(), self.names.held()] {
            self.remove(&name).map_err(|error| self.failed(&error, "remove the partial of"))?;
        }
        Ok(())
    }
}

impl FileSession {
    /// Makes the empty partial share all the bytes of a file that is `length` bytes long, where the file system can;
    /// else it stays empty.
    fn clone_whole(&mut self, file: &StdFile, length: u64) -> Result<bool, Error> {
        let partial = &self.partial()?.file;
        let cloned = rustix::fs::ioctl_ficlone(partial, file).is_ok();
        // Seen on XFS: a clone that meets an error half-way may be called done, or leave extents behind when it is
        // called failed. The length tells, for the partial was empty.
        let whole = cloned && rustix::fs::fstat(partial).is_ok_and(|stat| stat.st_size as u64 == length);
        if !whole {
            let emptied = rustix::fs::ftruncate(partial, 0);
            emptied.map_err(|error| self.failed(&error.into(), "empty the partial of"))?;
        }
        Ok(whole)
    }

    /// The object that is there is the one: the partial is not needed any more. But it must be there: without it, a later
    /// attempt has taken over.
    fn commit_kept(&mut self, kept: Identity) -> Result<(), CommitError> {
        self.check_partial().map_err(CommitError::NotDone)?;
        let named = self.stat(&self.name).map_err(|error| self.failed(&error, "look at"));
        if named.map_err(CommitError::NotDone)?.map(|(named, _)| named) != Some(kept) {
            return Err(CommitError::NotDone(Error::retry(
                Code::WriteFailed,
                format!("{} was right, and somebody has put something else there since", self.path.display()),
            )));
        }
        self.sync_folder().map_err(CommitError::Unknown)?;
        self.found = Found::Committed;
        // Like a sidecar: it only takes space, until the transfer's left-overs are swept.
        if let Err(error) = self.discard() {
            tracing::warn!(%error, path = %self.path.display(), "a partial stays behind");
        }
        Ok(())
    }

    /// Identity of the partial, which must be there under this attempt's name.
    fn check_partial(&mut self) -> Result<Identity, Error> {
        let identity = self.partial()?.identity;
        let named = self.stat(&self.names.partial());
        let named = named.map_err(|error| self.failed(&error, "look at the partial of"))?;
        if named.map(|(named, _)| named) == Some(identity) {
            return Ok(identity);
        }
        Err(Error::retry(
            Code::LeaseLost,
            format!("the partial of {} is not there under this attempt's name", self.path.display()),
        ))
    }

    fn rename_refused(&self, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::AlreadyExists => self.exists(),
            io::ErrorKind::IsADirectory | io::ErrorKind::DirectoryNotEmpty => Error::fatal(
                Code::DestinationNotRegular,
                format!("{} is a directory by now; name another destination", self.path.display()),
            ),
            _ => self.failed(error, "rename the partial to"),
        }
    }

    fn rename_to_free_name(&self, partial: &OsStr) -> io::Result<()> {
        match rustix::fs::renameat_with(&self.folder, partial, &self.folder, &self.name, RenameFlags::NOREPLACE) {
            // File systems without RENAME_NOREPLACE (NFS among them): a hard link does not replace either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(&self.folder, partial, &self.folder, &self.name, AtFlags::empty())?;
                self.remove(partial)
            }
            other => Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Interrupt, ObjectUrl,
        contract::PreparedCommit,
        file::{Root, RootAccess},
    };

    fn folder() -> (tempfile::TempDir, Arc<Roots>) {
        let folder = tempfile::tempdir().unwrap();
        let roots = Arc::new(Roots::new(vec![Root::new(folder.path(), RootAccess::ReadWrite).unwrap()]));
        (folder, roots)
    }

    fn request(folder: &tempfile::TempDir, epoch: u64) -> DestinationRequest {
        DestinationRequest {
            url: ObjectUrl::parse(&format!("file://{}/d", folder.path().display())).unwrap(),
            options: Default::default(),
            transfer: "t".into(),
            epoch,
            overwrite: Overwrite::Never,
            resume: true,
            upload: None,
            prepared: None,
            interrupt: Interrupt::default(),
        }
    }

    #[test]
    fn a_rename_that_is_not_known_to_be_durable_is_not_called_undone() {
        let (folder, roots) = folder();
        let mut session = FileSession::begin(roots.clone(), &request(&folder, 1), Duration::ZERO).unwrap();
        let prepared = Some(PreparedCommit { length: 0, identity: session.identity() });
        // What is open for its path only takes renames and refuses to be synced.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        session.folder = rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap();
        let Err(CommitError::Unknown(error)) = session.commit() else { panic!("it may have been done") };
        assert!(error.message.contains("sync the folder"), "{error}");
        drop(session);

        let request = DestinationRequest { prepared, ..request(&folder, 2) };
        let later = FileSession::begin(roots, &request, Duration::ZERO).unwrap();
        assert_eq!(later.found(), Found::Committed, "a later attempt finds out");
    }

    #[test]
    fn a_rename_that_failed_leaves_the_destination_as_it_was_and_says_so() {
        let (folder, roots) = folder();
        let mut session = FileSession::begin(roots, &request(&folder, 1), Duration::ZERO).unwrap();
        session.overwrite = Overwrite::Always;
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let Err(CommitError::NotDone(error)) = session.commit() else { panic!("it was not done") };
        assert_eq!(error.code, Code::DestinationNotRegular);
        assert!(folder.path().join(".d.staccato-t.1").exists(), "the partial is there still");
    }
}
