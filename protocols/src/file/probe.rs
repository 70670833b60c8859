//! A sound probe for polled I/O.
//!
//! When glommio opens a file on a device it has not met on this thread, it reads the file's first sector through its
//! polled ring, and believes that the device can be polled unless the kernel answers ENOTSUP. A read that needs no
//! device (an empty file, a hole at the front) succeeds on every device, and from then on every real read fails. So
//! the first file of a device that a lane opens must have its first sector on the device.

use std::{
    cell::RefCell, collections::HashSet, fs::File as StdFile, io, os::unix::fs::FileExt, os::unix::fs::MetadataExt,
};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate},
    io::Errno,
};

use crate::chunk::{ALIGNMENT, AlignedBuf};

const SECTOR: u64 = ALIGNMENT as u64;

thread_local! {
    /// Devices that glommio has probed soundly on this thread.
    static PROBED: RefCell<HashSet<u64>> = RefCell::default();
}

/// Whether glommio may open `file` with O_DIRECT on this thread. A file that may be written (`write`) and has no first
/// sector on the device gets one for the length of the probe: call [`done`] afterwards. Nobody may be writing to it,
/// which the contract promises while lanes open a destination.
pub(super) fn prepare(file: &StdFile, write: bool) -> io::Result<Probe> {
    let stat = file.metadata()?;
    let (device, size) = (stat.dev(), stat.size());
    if PROBED.with_borrow(|probed| probed.contains(&device)) {
        return Ok(Probe::Known);
    }
    let hole = rustix::fs::seek(file, SeekFrom::Data(0)) != Ok(0);
    if !hole && size >= SECTOR {
        return Ok(Probe::Sound { device });
    }
    if !write {
        return Ok(Probe::Unsound);
    }
    // What is there, with zeros behind its end. Aligned, so that it goes to the device whether the descriptor is
    // O_DIRECT or not; synced, for the latter.
    let mut sector = AlignedBuf::new(ALIGNMENT);
    file.read_at(&mut sector, 0)?;
    file.write_all_at(&sector, 0)?;
    file.sync_data()?;
    Ok(Probe::Lent { device, size, hole })
}

/// What opening a file would tell glommio about its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Nothing new.
    Known,
    /// The truth about this device.
    Sound {
        /// Its number.
        device: u64,
    },
    /// The truth about this device, thanks to a sector lent to the file.
    Lent {
        /// Its number.
        device: u64,
        /// The file's own size.
        size: u64,
        /// Whether the file begins with a hole.
        hole: bool,
    },
    /// Something wrong: do not open it with O_DIRECT.
    Unsound,
}

/// After glommio has opened the file: takes back what was lent and remembers the device.
pub(super) fn done(probe: Probe, file: &StdFile) -> io::Result<()> {
    match probe {
        Probe::Known | Probe::Unsound => return Ok(()),
        Probe::Sound { device } | Probe::Lent { device, .. } => PROBED.with_borrow_mut(|probed| probed.insert(device)),
    };
    let Probe::Lent { size, hole, .. } = probe else { return Ok(()) };
    if hole {
        match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, SECTOR) {
            // Where holes cannot be punched the sector stays, and reads as the same zeros.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => (),
            Err(error) => return Err(error.into()),
        }
    }
    if size < SECTOR { file.set_len(size) } else { Ok(()) }
}
