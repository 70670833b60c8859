//! A sound probe for polled I/O.
//!
//! When glommio opens a file on a device it has not met on this thread, it reads the file's first sector through its
//! polled ring, and believes that the device can be polled unless the kernel answers ENOTSUP. A read that needs no
//! device (an empty file, a hole at the front) succeeds on every device, and from then on every real read fails. So
//! the first file of a device that a lane opens must have its first sector on the device.

use std::{
    cell::RefCell, collections::HashSet, fs::File as StdFile, io, os::unix::fs::FileExt, os::unix::fs::MetadataExt,
};

use rustix::fs::SeekFrom;

use crate::chunk::{ALIGNMENT, AlignedBuf};

thread_local! {
    /// Devices that glommio has probed soundly on this thread.
    static PROBED: RefCell<HashSet<u64>> = RefCell::default();
}

/// Whether glommio may open `file` with O_DIRECT on this thread. An empty file that may be written (`write`) gets a
/// first sector for the length of the probe: call [`done`] afterwards.
pub(super) fn prepare(file: &StdFile, write: bool) -> io::Result<Probe> {
    let stat = file.metadata()?;
    if PROBED.with_borrow(|probed| probed.contains(&stat.dev())) {
        return Ok(Probe::Known);
    }
    if stat.size() == 0 && write {
        // Aligned, so that it goes to the device whether the descriptor is O_DIRECT or not; synced, for the latter.
        file.write_all_at(&AlignedBuf::new(ALIGNMENT), 0)?;
        file.sync_data()?;
        return Ok(Probe::Lent(stat.dev()));
    }
    let data_in_front = stat.size() >= ALIGNMENT as u64 && rustix::fs::seek(file, SeekFrom::Data(0)) == Ok(0);
    Ok(if data_in_front { Probe::Sound(stat.dev()) } else { Probe::Unsound })
}

/// What opening a file would tell glommio about its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Nothing new.
    Known,
    /// The truth about this device.
    Sound(u64),
    /// The truth about this device, thanks to a sector lent to an empty file.
    Lent(u64),
    /// Something wrong: do not open it with O_DIRECT.
    Unsound,
}

/// After glommio has opened the file: takes back what was lent and remembers the device.
pub(super) fn done(probe: Probe, file: &StdFile) -> io::Result<()> {
    match probe {
        Probe::Known | Probe::Unsound => return Ok(()),
        Probe::Sound(device) | Probe::Lent(device) => PROBED.with_borrow_mut(|probed| probed.insert(device)),
    };
    if let Probe::Lent(_) = probe { file.set_len(0) } else { Ok(()) }
}
