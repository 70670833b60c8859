//! The folder of a destination, and what attempts leave in it.

use std::{
    ffi::{OsStr, OsString},
    fs::File as StdFile,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, Dir},
    io::Errno,
};

use super::{
    names::{Entry, Names},
    roots::{Place, Roots},
};
use crate::{Code, Error, ObjectUrl};

/// Removes everything that attempts of `transfer` left beside a destination.
pub(super) fn sweep(roots: &Roots, url: &ObjectUrl, transfer: &str) -> Result<(), Error> {
    let (folder, name, path) = match open_folder(&roots.locate(url, true)?) {
        Err(error) if error.code == Code::DestinationFolderMissing => return Ok(()),
        other => other?,
    };
    let names = Names::new(&name, transfer, 0);
    let removed = entries(&folder, &names)
        .and_then(|entries| entries.iter().try_for_each(|(entry, _)| remove_at(&folder, entry)));
    removed
        .map_err(|error| Error::from_io(&error, Code::WriteFailed, format_args!("clean up beside {}", path.display())))
}

pub(super) fn open_folder(place: &Place<'_>) -> Result<(OwnedFd, OsString, PathBuf), Error> {
    let name =
        place.name().map_err(|error| Error::fatal(Code::InvalidUrl, format!("{}: {error}", place.path.display())))?;
    let folder = place
        .open_folder()
        .map_err(|error| place.open_error(&error, Code::DestinationFolderMissing, Code::WriteFailed))?;
    Ok((folder, name.to_owned(), place.path.clone()))
}

pub(super) fn entries(folder: &OwnedFd, names: &Names) -> io::Result<Vec<(OsString, Entry)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if let Some(entry) = names.classify(&name) {
            found.push((name, entry));
        }
    }
    Ok(found)
}

pub(super) fn remove_at(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

/// Copies the data, and only the data, of a sparse file.
pub(super) fn copy_data(from: &StdFile, to: &StdFile) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            match from.read_at(&mut buffer[..want], at)? {
                0 => return Ok(()),
                found => {
                    to.write_all_at(&buffer[..found], at)?;
                    at += found as u64;
                }
            }
        }
    }
}
