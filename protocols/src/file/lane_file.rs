//! A file on a lane: one face for the two runtimes.

use std::{
    fs::File as StdFile,
    io,
    os::fd::{AsRawFd, RawFd},
    rc::Rc,
};

use glommio::io::{BufferedFile, DmaFile, OpenOptions};
use tokio_uring::{buf::BoundedBuf, fs::File as UringFile};

use super::probe;
use crate::{
    ByteRange, Chunk, Runtime,
    chunk::{ALIGNMENT, Body},
};

/// A descriptor as the lane's runtime wants it.
pub(super) enum LaneFile {
    /// tokio-uring; O_DIRECT or not is a property of the descriptor.
    Uring(UringFile),
    /// glommio with O_DIRECT.
    Dma(Rc<DmaFile>),
    /// glommio through the page cache.
    Buffered(BufferedFile),
}

impl LaneFile {
    /// Brings `file` onto a lane. tokio-uring takes over the description itself; glommio can only open files by
    /// name, so it opens the same inode once more, through `/proc`.
    pub async fn adopt(file: StdFile, runtime: Runtime, direct: bool, write: bool) -> io::Result<Self> {
        match runtime {
            Runtime::TokioUring => Ok(Self::Uring(UringFile::from_std(file))),
            Runtime::Glommio => {
                let direct = direct && probe::learn(&file, write).await?;
                let (path, mut options) = (probe::path_of(&file), OpenOptions::new());
                options.read(true).write(write);
                Ok(if direct {
                    Self::Dma(Rc::new(options.dma_open(path).await?))
                } else {
                    Self::Buffered(options.buffered_open(path).await?)
                })
            }
        }
    }

    /// The descriptor I/O goes to.
    pub fn raw_fd(&self) -> RawFd {
        match self {
            Self::Uring(file) => file.as_raw_fd(),
            Self::Dma(file) => file.as_raw_fd(),
            Self::Buffered(file) => file.as_raw_fd(),
        }
    }

    /// Fills `chunk` from `range`. Returns it with the number of bytes that were there: less than asked for only at the
    /// end of the file.
    pub async fn read(&self, range: ByteRange, mut chunk: Chunk) -> io::Result<Chunk> {
        let len = range.len() as usize;
        // With O_DIRECT the length must be aligned too; what lies behind the range is cut off again.
        let padded = len.next_multiple_of(ALIGNMENT);
        let found = match self {
            Self::Uring(file) => {
                let (body, rest) = chunk.into_parts();
                let (found, body) = read_uring(file, body, range.start(), padded).await;
                chunk = Chunk::from_parts(body, rest);
                found?
            }
            Self::Dma(file) => {
                let mut done = 0;
                while done < len {
                    let piece = file.read_at_aligned(range.start() + done as u64, padded - done).await?;
                    if piece.len() >= len {
                        chunk.set_read(piece);
                        return Ok(chunk);
                    }
                    let target = chunk.buffer_mut().ok_or_else(no_buffer)?;
                    target[done..done + piece.len()].copy_from_slice(&piece);
                    done += piece.len();
                    if piece.is_empty() || done % ALIGNMENT != 0 {
                        break;
                    }
                }
                done
            }
            Self::Buffered(file) => {
                let mut done = 0;
                while done < len {
                    let piece = file.read_at(range.start() + done as u64, len - done).await?;
                    if piece.is_empty() {
                        break;
                    }
                    let target = chunk.buffer_mut().ok_or_else(no_buffer)?;
                    target[done..done + piece.len()].copy_from_slice(&piece);
                    done += piece.len();
                }
                done
            }
        };
        chunk.set_len(found.min(len));
        Ok(chunk)
    }

    /// Writes `chunk`, padded to the alignment when `direct`, at `offset`.
    pub async fn write(&self, offset: u64, mut chunk: Chunk, direct: bool) -> io::Result<()> {
        // Not where it goes through the page cache after all.
        let padded = direct && !matches!(self, Self::Buffered(_));
        let len = if padded { chunk.pad() } else { chunk.len() };
        match self {
            Self::Uring(file) => {
                let (body, rest) = chunk.into_parts();
                let (result, body) = write_uring(file, body, offset, len).await;
                drop(Chunk::from_parts(body, rest));
                result
            }
            Self::Dma(file) => {
                // What was read is copied here: glommio writes from buffers that it knows nothing else of.
                let _ = chunk.buffer_mut();
                let (body, _rest) = chunk.into_parts();
                let Body::Dma(mut buffer) = body else { return Err(no_buffer()) };
                buffer.trim_to_size(len);
                // A short write is an error here: the buffer is gone, and the cause (no space) shows at the next try.
                complete(file.write_at(buffer, offset).await?, len)
            }
            Self::Buffered(file) => {
                let bytes = chunk.bytes().ok_or_else(no_buffer)?.to_vec();
                let mut done = file.write_at(bytes, offset).await?;
                while done < len {
                    let rest = chunk.bytes().ok_or_else(no_buffer)?[done..].to_vec();
                    match file.write_at(rest, offset + done as u64).await? {
                        0 => return complete(done, len),
                        more => done += more,
                    }
                }
                Ok(())
            }
        }
    }

    /// fdatasync(2).
    pub async fn sync(&self) -> io::Result<()> {
        match self {
            Self::Uring(file) => file.sync_data().await,
            Self::Dma(file) => file.fdatasync().await.map_err(io::Error::from),
            Self::Buffered(file) => file.fdatasync().await.map_err(io::Error::from),
        }
    }

    /// Closes the descriptor and waits for that.
    pub async fn close(self) -> io::Result<()> {
        match self {
            Self::Uring(file) => file.close().await,
            Self::Dma(file) => file.close_rc().await.map(drop).map_err(io::Error::from),
            Self::Buffered(file) => file.close().await.map_err(io::Error::from),
        }
    }
}

async fn read_uring(file: &UringFile, mut body: Body, offset: u64, len: usize) -> (io::Result<usize>, Body) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let result;
        (result, body) = match body {
            Body::Fixed(buffer) => {
                let (result, slice) = file.read_fixed_at(buffer.slice(done..len), at).await;
                (result, Body::Fixed(slice.into_inner()))
            }
            Body::Heap(buffer) => {
                let (result, slice) = file.read_at(buffer.slice(done..len), at).await;
                (result, Body::Heap(slice.into_inner()))
            }
            other => return (Err(no_buffer()), other),
        };
        match result {
            Ok(0) => break,
            Ok(found) => done += found,
            Err(error) => return (Err(error), body),
        }
        // An unaligned count means the end of the file; O_DIRECT could not go on from there anyway.
        if done % ALIGNMENT != 0 {
            break;
        }
    }
    (Ok(done), body)
}

async fn write_uring(file: &UringFile, mut body: Body, offset: u64, len: usize) -> (io::Result<()>, Body) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let result;
        (result, body) = match body {
            Body::Fixed(buffer) => {
                let (result, slice) = file.write_fixed_at(buffer.slice(done..len), at).await;
                (result, Body::Fixed(slice.into_inner()))
            }
            Body::Heap(buffer) => {
                let (result, slice) = file.write_at(buffer.slice(done..len), at).submit().await;
                (result, Body::Heap(slice.into_inner()))
            }
            other => return (Err(no_buffer()), other),
        };
        match result {
            Ok(0) => return (complete(done, len), body),
            Ok(more) => done += more,
            Err(error) => return (Err(error), body),
        }
    }
    (Ok(()), body)
}

fn complete(done: usize, len: usize) -> io::Result<()> {
    if done == len {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, format!("only {done} of {len} bytes were taken")))
}

fn no_buffer() -> io::Error {
    io::Error::other("the chunk's buffer is not one of this lane's pool")
}
