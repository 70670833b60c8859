//! The disk, read and written at once by one bare io_uring with O_DIRECT and registered buffers.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use io_uring::{IoUring, opcode, squeue, types::Fd};
use rustix::fs::{FallocateFlags, fallocate};
use staccato_protocols::chunk::AlignedBuf;

use crate::cases::{Contestant, Kind, cpu_seconds_of_self};

/// Bytes of one operation.
const BLOCK: u64 = 4 << 20;
/// Operations under way in each direction.
const DEPTH: usize = 8;

/// Reads the source and writes as many other bytes beside it, both from front to back and neither waiting for the other.
pub struct RawDisk;

impl Contestant for RawDisk {
    fn name(&self) -> String {
        "limit: bare io_uring".into()
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<f64> {
        let before = cpu_seconds_of_self();
        read_and_write(from, to)?;
        Ok(cpu_seconds_of_self() - before)
    }
}

fn read_and_write(from: &Path, to: &Path) -> io::Result<()> {
    let source = File::options().read(true).custom_flags(libc::O_DIRECT).open(from)?;
    let target = File::options().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(to)?;
    let bytes = source.metadata()?.len();
    if bytes == 0 || !bytes.is_multiple_of(BLOCK) {
        return Err(io::Error::other(format!("a raw probe moves multiples of {BLOCK} bytes")));
    }
    fallocate(&target, FallocateFlags::empty(), 0, bytes)?;
    let mut ring = IoUring::new(4 * DEPTH as u32)?;
    let mut buffers: Vec<AlignedBuf> = (0..2 * DEPTH).map(|_| AlignedBuf::new(BLOCK as usize)).collect();
    for (seed, buffer) in buffers.iter_mut().enumerate() {
        fastrand::Rng::with_seed(seed as u64).fill(buffer);
    }
    let vectors: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    // SAFETY: the buffers outlive the ring's use of them: every operation is waited for below.
    unsafe { ring.submitter().register_buffers(&vectors)? };
    let mut lines = [Line::new(source.as_raw_fd(), false, bytes), Line::new(target.as_raw_fd(), true, bytes)];
    for slot in 0..2 * DEPTH {
        push(&mut ring, lines[slot / DEPTH].next(slot, &vectors[slot]))?;
    }
    while lines.iter().any(|line| line.done < bytes) {
        ring.submit_and_wait(1)?;
        let completed: Vec<(usize, i32)> =
            ring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect();
        for (slot, result) in completed {
            if result != BLOCK as i32 {
                // Leaving with operations under way would free their buffers under the kernel.
                eprintln!("staccato-bench: an operation of the raw probe gave {result}");
                std::process::abort();
            }
            let line = &mut lines[slot / DEPTH];
            line.done += BLOCK;
            push(&mut ring, line.next(slot, &vectors[slot]))?;
        }
    }
    target.sync_data()
}

fn push(ring: &mut IoUring, entry: Option<squeue::Entry>) -> io::Result<()> {
    let Some(entry) = entry else { return Ok(()) };
    // SAFETY: the entry's buffer is registered and lives until its completion has been seen.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)
}

/// One direction.
struct Line {
    file: RawFd,
    writes: bool,
    bytes: u64,
    begun: u64,
    done: u64,
}

impl Line {
    fn new(file: RawFd, writes: bool, bytes: u64) -> Self {
        Self { file, writes, bytes, begun: 0, done: 0 }
    }

    /// The operation that follows, with the buffer of `slot`.
    fn next(&mut self, slot: usize, buffer: &libc::iovec) -> Option<squeue::Entry> {
        if self.begun == self.bytes {
            return None;
        }
        let (file, offset, start) = (Fd(self.file), self.begun, buffer.iov_base.cast::<u8>());
        self.begun += BLOCK;
        let entry = if self.writes {
            opcode::WriteFixed::new(file, start, BLOCK as u32, slot as u16).offset(offset as _).build()
        } else {
            opcode::ReadFixed::new(file, start, BLOCK as u32, slot as u16).offset(offset as _).build()
        };
        Some(entry.user_data(slot as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_source_is_read_and_as_much_is_written() {
        // Beside the test itself: file systems in memory need not take O_DIRECT.
        let test = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(test.parent().unwrap()).unwrap();
        let (from, to) = (folder.path().join("s"), folder.path().join("t"));
        std::fs::write(&from, vec![1; 5 * BLOCK as usize]).unwrap();
        RawDisk.copy(&from, &to).unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 5 * BLOCK);
    }
}
