//! What is at a destination that shall be repaired: read, and never touched.

use std::{
    ffi::OsStr,
    fs::File as StdFile,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::source;
use crate::{FileTime, contract::Identity};

/// An object that is at a destination, open for reading.
pub(super) struct PresentFile {
    pub file: StdFile,
    /// As it was before anything of it was read.
    pub seen: Seen,
    /// Whether the partial is a clone of it: lanes need not read this one.
    pub in_place: bool,
    direct: bool,
}

/// What changes with a file's bytes, or when its name becomes another file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub identity: Identity,
    pub size: u64,
    mtime: FileTime,
    ctime: FileTime,
}

/// How lanes read a present object.
pub(super) enum OnLane {
    /// From the partial, which is a clone of it.
    InPlace,
    /// From the object itself.
    Beside { file: StdFile, direct: bool },
}

impl PresentFile {
    /// Opens what is there, if that is a regular file.
    pub fn open(folder: &OwnedFd, name: &OsStr) -> io::Result<Option<Self>> {
        // O_NONBLOCK: opening a named pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
            Ok(file) => StdFile::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let seen = Seen::of(&stat);
        // After the look: pages that somebody has mapped are clean from here on, so that writing to them shows in the
        // times again. And what is cloned or read past the page cache is on the disk.
        file.sync_data()?;
        let flags = rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK;
        let direct =
            source::offers_direct(file.as_fd()) && rustix::fs::fcntl_setfl(&file, flags | OFlags::DIRECT).is_ok();
        if !direct {
            rustix::fs::fcntl_setfl(&file, flags)?;
        }
        Ok(Some(Self { file, seen, in_place: false, direct }))
    }

    /// What a lane needs to read it.
    pub fn on_lane(&self) -> io::Result<OnLane> {
        if self.in_place {
            return Ok(OnLane::InPlace);
        }
        Ok(OnLane::Beside { file: self.file.try_clone()?, direct: self.direct })
    }

    /// Makes it durable, and says whether it is what it was, at the same name.
    pub fn is_as_it_was(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        self.file.sync_data()?;
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Seen::of(&stat) == self.seen),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self {
            identity: Identity { device: stat.st_dev, inode: stat.st_ino },
            size: stat.st_size as u64,
            mtime: FileTime { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
            ctime: FileTime { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 },
        }
    }
}
