//! A sound probe for polled I/O.
//!
//! When glommio opens a file on a device it has not met on this thread, it reads the file's first sector through its
//! polled ring, and believes that the device can be polled unless the kernel answers ENOTSUP. A read that needs no
//! device (an empty file, a hole at the front) succeeds on every device, and from then on real reads fail and large
//! writes are waited for by a lane that does nothing else. So the first file of a device that a lane opens must have its
//! first sector on the device, whatever others do to it meanwhile: a destination is spared, and a file without a name
//! stands in for it.

use std::{
    cell::RefCell,
    collections::HashSet,
    fs::{self, File as StdFile},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::PathBuf,
};

use glommio::io::OpenOptions;
use rustix::fs::SeekFrom;

use crate::chunk::ALIGNMENT;

thread_local! {
    /// Devices that glommio has probed soundly on this thread.
    static PROBED: RefCell<HashSet<u64>> = RefCell::default();
}

/// Where glommio finds an open file.
pub(super) fn path_of(file: &StdFile) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Has glommio learn the truth about the device of `file` on this thread. `false` where it would learn something wrong:
/// then the file must not be opened with O_DIRECT.
pub(super) async fn learn(file: &StdFile, write: bool) -> io::Result<bool> {
    let stat = file.metadata()?;
    if PROBED.with_borrow(|probed| probed.contains(&stat.dev())) {
        return Ok(true);
    }
    if write {
        match stand_in(file, stat.dev()) {
            Ok(beside) => probe(&beside).await?,
            // On a full disk, for instance: what needs no space still goes on.
            Err(error) => {
                tracing::warn!(%error, "no file to probe a device with: a destination is written through the page cache");
                return Ok(false);
            }
        }
    } else {
        let first_sector = stat.size() >= ALIGNMENT as u64 && rustix::fs::seek(file, SeekFrom::Data(0)) == Ok(0);
        if !first_sector {
            return Ok(false);
        }
        probe(file).await?;
    }
    PROBED.with_borrow_mut(|probed| probed.insert(stat.dev()));
    Ok(true)
}

/// A file of nobody else's beside another one, which has its first sector on this device.
fn stand_in(file: &StdFile, device: u64) -> io::Result<StdFile> {
    let path = fs::read_link(path_of(file))?;
    let beside = tempfile::tempfile_in(path.parent().unwrap_or(&path))?;
    if beside.metadata()?.dev() != device {
        return Err(io::Error::other(format!("{} is on another device than its folder", path.display())));
    }
    beside.write_all_at(&[0; ALIGNMENT], 0)?;
    beside.sync_data()?;
    Ok(beside)
}

async fn probe(file: &StdFile) -> io::Result<()> {
    let opened = OpenOptions::new().read(true).dma_open(path_of(file)).await?;
    Ok(opened.close().await?)
}
