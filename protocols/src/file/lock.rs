//! Locks that tell whether somebody still holds a partial.
//!
//! Open-file-description locks (fcntl(2), `F_OFD_SETLK`) belong to the open description: they last until its last
//! descriptor is closed, also those that the kernel holds for I/O in flight in a process that was stopped or killed.
//! Each attempt holds byte `EPOCH` of the partial with a shared lock on every description it opens, and the bytes
//! `0..EPOCH` with an exclusive lock on its first one. So a new attempt gets its exclusive lock only when no
//! description of an earlier attempt is left, and no earlier attempt can open another one afterwards. The bytes
//! locked need not exist.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    thread,
    time::{Duration, Instant},
};

/// How long an earlier attempt's holders are waited for.
pub(super) const FENCE_WAIT: Duration = Duration::from_secs(5);

/// Keeps every attempt before `epoch` out; `Ok(false)` when one of them still holds the file after `wait`.
pub(super) fn fence(file: impl AsFd, epoch: u64, wait: Duration) -> io::Result<bool> {
    let fd = file.as_fd().as_raw_fd();
    let deadline = Instant::now() + wait;
    while !set(fd, libc::F_WRLCK as libc::c_short, 0, epoch)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    if set(fd, libc::F_RDLCK as libc::c_short, epoch, 1)? {
        Ok(true)
    } else {
        Err(io::Error::other(format!("epoch {epoch} of this partial is fenced off by a later one")))
    }
}

/// Marks one more description as held by `epoch`; `Ok(false)` when a later attempt has fenced it off.
pub(super) fn share(fd: RawFd, epoch: u64) -> io::Result<bool> {
    set(fd, libc::F_RDLCK as libc::c_short, epoch, 1)
}

fn set(fd: RawFd, kind: libc::c_short, start: u64, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(true); // A length of 0 would mean "to the end of the file".
    }
    let lock = libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start as libc::off_t,
        l_len: len as libc::off_t,
        l_pid: 0,
    };
    // SAFETY: `lock` is a valid flock that outlives the call; F_OFD_SETLK only reads it.
    let result = unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &lock) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_waits_for_every_description_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("partial");
        let open =
            || std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let none = Duration::ZERO;
        let (first, second) = (open(), open());
        assert!(fence(&first, 1, none).unwrap());
        assert!(share(second.as_raw_fd(), 1).unwrap());
        let duplicate = first.try_clone().unwrap();
        drop(first);
        let later = open();
        assert!(!fence(&later, 2, none).unwrap(), "two descriptions are left");
        drop(duplicate);
        assert!(!fence(&later, 2, none).unwrap(), "one is left");
        drop(second);
        assert!(fence(&later, 2, none).unwrap());
        let stale = open();
        assert!(!share(stale.as_raw_fd(), 1).unwrap(), "the old epoch cannot open another one");
        assert!(share(open().as_raw_fd(), 2).unwrap());
    }
}
