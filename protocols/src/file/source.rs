//! A file as a source.

use std::{fs::File as StdFile, io, os::fd::AsFd, path::PathBuf, rc::Rc};

use futures_util::{FutureExt, future::LocalBoxFuture};
use rustix::fs::{FileType, OFlags, SeekFrom, Stat};

use super::{lane_file::LaneFile, roots::Roots};
use crate::{
    Access, BufferPool, ByteRange, Chunk, Code, Error, FileTime, Interrupt, Object, Runtime, Source, Validator,
    contract::{SourceRequest, Sums},
    sums,
};

/// A regular file, open on one lane.
pub(super) struct FileSource {
    path: PathBuf,
    object: Object,
    size: u64,
    /// Kept beside the lane's own descriptor: for fstat and for finding holes.
    file: StdFile,
    lane_file: LaneFile,
    interrupt: Interrupt,
}

/// Opens a source file and looks at it; shared with cloning.
pub(super) fn open_regular(roots: &Roots, request: &SourceRequest) -> Result<(StdFile, Object, PathBuf), Error> {
    let place = roots.locate(&request.url, false)?;
    // O_NONBLOCK: opening a named pipe must not wait for its writer.
    let file = place
        .open(OFlags::RDONLY | OFlags::NONBLOCK)
        .map_err(|error| place.open_error(&error, Code::SourceMissing, Code::ReadFailed))?;
    let stat = stat(&file, &place.path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::fatal(
            Code::SourceNotRegular,
            format!("{} is not a regular file; only regular files can be moved", place.path.display()),
        ));
    }
    let validator = validator(&stat);
    if request.pinned.as_ref().is_some_and(|pinned| *pinned != validator) {
        return Err(changed(&place.path));
    }
    let object = Object { size: Some(stat.st_size as u64), validator: Some(validator), access: Access::Random };
    Ok((StdFile::from(file), object, place.path))
}

impl FileSource {
    pub async fn open(roots: &Roots, request: &SourceRequest, runtime: Runtime) -> Result<Self, Error> {
        let (file, object, path) = open_regular(roots, request)?;
        let failed =
            |error: &io::Error| Error::from_io(error, Code::ReadFailed, format_args!("open {}", path.display()));
        let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| failed(&error.into()))? - OFlags::NONBLOCK;
        let direct =
            request.aligned && offers_direct(&file) && rustix::fs::fcntl_setfl(&file, flags | OFlags::DIRECT).is_ok();
        if !direct {
            rustix::fs::fcntl_setfl(&file, flags).map_err(|error| failed(&error.into()))?;
        }
        if request.aligned && !direct {
            tracing::warn!(path = %path.display(), "this file system does not take O_DIRECT: reading through the page cache");
        }
        let duplicate = file.try_clone().map_err(|error| failed(&error))?;
        let lane_file = LaneFile::adopt(duplicate, runtime, direct, false).await.map_err(|error| failed(&error))?;
        let size = object.size.expect("files have a size");
        Ok(Self { path, object, size, file, lane_file, interrupt: request.interrupt.clone() })
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        let now = validator(&stat(&self.file, &self.path)?);
        if self.object.validator.as_ref() == Some(&now) { Ok(()) } else { Err(changed(&self.path)) }
    }
}

impl Source for FileSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn is_hole(&self, range: ByteRange) -> bool {
        range.end() <= self.size && is_hole(&self.file, range)
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            // Memory may be late, when others hold it; the read itself takes moments.
            let chunk = self.interrupt.cut(pool.take(range.len() as usize).map(Ok)).await?;
            let chunk = self.lane_file.read(range, chunk).await.map_err(|error| {
                Error::from_io(&error, Code::ReadFailed, format_args!("read {} at {range}", self.path.display()))
            })?;
            if (chunk.len() as u64) < range.len() {
                self.check_unchanged()?;
                return Err(Error::retry(
                    Code::ReadFailed,
                    format!(
                        "{} gave {} of {} bytes at {}",
                        self.path.display(),
                        chunk.len(),
                        range.len(),
                        range.start()
                    ),
                ));
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move { self.check_unchanged() }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            if let Ok(source) = Rc::try_unwrap(self)
                && let Err(error) = source.lane_file.close().await
            {
                tracing::warn!(%error, path = %source.path.display(), "closing a source failed");
            }
        }
        .boxed_local()
    }
}

impl Sums for FileSource {
    fn crcs<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        sums::by_reading(self, range, pool).boxed_local()
    }
}

/// Whether a range of a file, which was that long once, is a hole now.
pub(super) fn is_hole(file: &StdFile, range: ByteRange) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(range.start())) {
        Ok(data) => data >= range.end(),
        // Nothing but a hole until the end of the file, which is not shorter than it was.
        Err(rustix::io::Errno::NXIO) => rustix::fs::fstat(file).is_ok_and(|stat| stat.st_size as u64 >= range.end()),
        Err(_) => false,
    }
}

/// Whether the file system takes O_DIRECT with the alignment buffers and blocks have.
pub(super) fn offers_direct(file: impl AsFd) -> bool {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    match statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(stat) if stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            let alignment = stat.stx_dio_offset_align.max(stat.stx_dio_mem_align) as usize;
            (1..=crate::chunk::ALIGNMENT).contains(&alignment)
        }
        // Older kernels and file systems do not tell; setting the flag will.
        _ => true,
    }
}

fn stat(file: impl AsFd, path: &std::path::Path) -> Result<Stat, Error> {
    rustix::fs::fstat(file)
        .map_err(|error| Error::from_io(&error.into(), Code::ReadFailed, format_args!("look at {}", path.display())))
}

fn validator(stat: &Stat) -> Validator {
    Validator::Inode {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size as u64,
        mtime: FileTime { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        ctime: FileTime { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 },
    }
}

fn changed(path: &std::path::Path) -> Error {
    Error::source_changed(format!("{} changed since the transfer first opened it", path.display()))
}
