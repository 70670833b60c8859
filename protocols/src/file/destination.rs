//! A partial as the lanes write it.

use std::{fs::File as StdFile, path::PathBuf, rc::Rc};

use futures_util::{FutureExt, future::LocalBoxFuture};
use rustix::fs::FallocateFlags;

use super::{lane_file::LaneFile, lock, present::OnLane, source};
use crate::{BufferPool, ByteRange, CRC_BLOCK, Chunk, Code, Destination, Error, Lane, contract::OpenDestination};

/// What a lane needs to open its half of a partial.
pub(super) struct Opening {
    pub file: StdFile,
    pub epoch: u64,
    pub direct: bool,
    pub path: PathBuf,
    /// What is at the destination, where that shall be repaired.
    pub present: Option<OnLane>,
}

impl Opening {
    pub fn into_open(self) -> OpenDestination {
        Box::new(move |lane: &Lane| {
            async move { Ok(Rc::new(FileDestination::open(self, lane).await?) as Rc<dyn Destination>) }.boxed_local()
        })
    }
}

/// A partial, open on one lane.
struct FileDestination {
    path: PathBuf,
    direct: bool,
    file: StdFile,
    lane_file: LaneFile,
    pool: BufferPool,
    present: Option<Readable>,
}

/// What is at the destination, as this lane reads it.
enum Readable {
    /// From the partial.
    InPlace,
    /// The descriptor beside the lane's own is for finding holes.
    Beside { file: StdFile, lane_file: LaneFile },
}

impl FileDestination {
    async fn open(opening: Opening, lane: &Lane) -> Result<Self, Error> {
        let Opening { file, epoch, direct, path, present } = opening;
        let failed = |error: &std::io::Error| {
            Error::from_io(error, Code::WriteFailed, format_args!("open the partial of {}", path.display()))
        };
        let duplicate = file.try_clone().map_err(|error| failed(&error))?;
        let lane_file = LaneFile::adopt(duplicate, lane.runtime, direct, true).await.map_err(|error| failed(&error))?;
        if !lock::share(lane_file.raw_fd(), epoch).map_err(|error| failed(&error))? {
            if let Err(error) = lane_file.close().await {
                tracing::warn!(%error, path = %path.display(), "closing a fenced partial failed");
            }
            return Err(Error::retry(
                Code::LeaseLost,
                format!("a later attempt has taken over the partial of {}", path.display()),
            ));
        }
        let present = match present {
            None => None,
            Some(OnLane::InPlace) => Some(Readable::InPlace),
            Some(OnLane::Beside { file, direct }) => match Self::open_present(&file, direct, lane).await {
                Ok(lane_file) => Some(Readable::Beside { file, lane_file }),
                Err(error) => {
                    if let Err(error) = lane_file.close().await {
                        tracing::warn!(%error, path = %path.display(), "closing a partial failed");
                    }
                    return Err(failed(&error));
                }
            },
        };
        Ok(Self { path, direct, file, lane_file, pool: lane.pool.clone(), present })
    }

    async fn open_present(file: &StdFile, direct: bool, lane: &Lane) -> std::io::Result<LaneFile> {
        LaneFile::adopt(file.try_clone()?, lane.runtime, direct, false).await
    }

    fn write_error(&self, error: &std::io::Error, range: ByteRange) -> Error {
        Error::from_io(
            error,
            Code::WriteFailed,
            format_args!("write the partial of {} at {range}", self.path.display()),
        )
    }

    /// Deallocates; where the file system cannot, stores zeros.
    async fn punch(&self, range: ByteRange) -> Result<(), Error> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, how, range.start(), range.len()) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => (),
            Err(error) => return Err(self.write_error(&error.into(), range)),
        }
        for piece in range.pieces(CRC_BLOCK) {
            let mut chunk = self.pool.take(piece.len() as usize).await;
            if let Some(buffer) = chunk.buffer_mut() {
                buffer.fill(0);
            }
            self.lane_file
                .write(piece.start(), chunk, self.direct)
                .await
                .map_err(|error| self.write_error(&error, piece))?;
        }
        Ok(())
    }
}

impl Destination for FileDestination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let range = ByteRange::at(offset, chunk.len() as u64).expect("files end before the largest offset");
            if chunk.is_zero() {
                return self.punch(range).await;
            }
            self.lane_file.write(offset, chunk, self.direct).await.map_err(|error| self.write_error(&error, range))
        }
        .boxed_local()
    }

    fn zero(&self, range: ByteRange, untouched: bool) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move { if untouched { Ok(()) } else { self.punch(range).await } }.boxed_local()
    }

    fn read_back<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let chunk = pool.take(range.len() as usize).await;
            let mut chunk = self.lane_file.read(range, chunk).await.map_err(|error| {
                let doing = format_args!("read back the partial of {} at {range}", self.path.display());
                Error::from_io(&error, Code::ReadFailed, doing)
            })?;
            // Behind its end a partial is a hole that set_length has yet to make.
            let (found, wanted) = (chunk.len(), range.len() as usize);
            if found < wanted {
                if let Some(buffer) = chunk.buffer_mut() {
                    buffer[found..wanted].fill(0);
                }
                chunk.set_len(wanted);
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn read_present<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let (file, lane_file) = match &self.present {
                None => return Err(Error::fatal(Code::Internal, "there is no object to repair")),
                Some(Readable::InPlace) => return self.read_back(range, pool).await,
                Some(Readable::Beside { file, lane_file }) => (file, lane_file),
            };
            if source::is_hole(file, range) {
                return Ok(Chunk::zero(range.len() as usize));
            }
            let chunk = lane_file.read(range, pool.take(range.len() as usize).await).await;
            let doing = format_args!("read {} at {range}", self.path.display());
            let chunk = chunk.map_err(|error| Error::from_io(&error, Code::ReadFailed, doing))?;
            if chunk.len() as u64 == range.len() {
                return Ok(chunk);
            }
            Err(Error::retry(Code::ReadFailed, format!("{} has become shorter than {range}", self.path.display())))
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            self.lane_file.sync().await.map_err(|error| {
                // Whatever the errno, what was written since the last sync may be lost, and asking again would not
                // tell (fsync(2), "errors"): only a new attempt can help.
                let mut error = Error::from_io(
                    &error,
                    Code::SyncFailed,
                    format_args!("sync the partial of {}", self.path.display()),
                );
                if error.code != Code::NoSpace {
                    error.code = Code::SyncFailed;
                }
                error
            })
        }
        .boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let Ok(destination) = Rc::try_unwrap(self) else { return };
            let mut files = vec![destination.lane_file];
            if let Some(Readable::Beside { lane_file, .. }) = destination.present {
                files.push(lane_file);
            }
            for file in files {
                if let Err(error) = file.close().await {
                    tracing::warn!(%error, path = %destination.path.display(), "closing a partial failed");
                }
            }
        }
        .boxed_local()
    }
}
