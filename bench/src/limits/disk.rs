//! The disk, read and written at once by one bare io_uring with O_DIRECT and registered buffers.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use io_uring::{IoUring, opcode, squeue, types::Fd};
use rustix::fs::{FallocateFlags, fallocate};
use staccato_protocols::chunk::{ALIGNMENT, AlignedBuf};

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
    if !bytes.is_multiple_of(ALIGNMENT as u64) {
        return Err(io::Error::other(format!("a raw probe moves multiples of {ALIGNMENT} bytes")));
    }
    fallocate(&target, FallocateFlags::empty(), 0, bytes)?;
    let mut buffers: Vec<AlignedBuf> = (0..2 * DEPTH).map(|_| AlignedBuf::new(BLOCK as usize)).collect();
    for (seed, buffer) in buffers.iter_mut().enumerate() {
        fastrand::Rng::with_seed(seed as u64).fill(buffer);
    }
    let vectors: Vec<libc::iovec> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
        .collect();
    let mut ring = IoUring::new(2 * DEPTH as u32)?;
    // SAFETY: the buffers outlive every operation: `drive` returns when all have completed, or not at all.
    unsafe { ring.submitter().register_buffers(&vectors)? };
    drive(&mut ring, [Line::new(&source, false, bytes), Line::new(&target, true, bytes)], &vectors);
    target.sync_data()
}

/// Moves both lines to their ends. An error ends the process: others' memory must not be given back while the kernel may
/// still write to it.
fn drive(ring: &mut IoUring, mut lines: [Line; 2], buffers: &[libc::iovec]) {
    let mut under_way = vec![0; buffers.len()];
    let begin = |ring: &mut IoUring, line: &mut Line, slot: usize, under_way: &mut Vec<i32>| {
        let Some((entry, len)) = line.next(slot, &buffers[slot]) else { return };
        under_way[slot] = len;
        // SAFETY: the entry's buffer is registered and lives until its completion has been seen.
        unsafe { ring.submission().push(&entry) }.unwrap_or_else(|error| broken(&error));
    };
    for slot in 0..buffers.len() {
        begin(ring, &mut lines[slot / DEPTH], slot, &mut under_way);
    }
    while lines.iter().any(|line| line.done < line.bytes) {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => broken(&error),
            _ => (),
        }
        let completed: Vec<(usize, i32)> =
            ring.completion().map(|entry| (entry.user_data() as usize, entry.result())).collect();
        for (slot, result) in completed {
            if result != under_way[slot] {
                broken(&format_args!("an operation gave {result} instead of {}", under_way[slot]));
            }
            let line = &mut lines[slot / DEPTH];
            line.done += result as u64;
            begin(ring, line, slot, &mut under_way);
        }
    }
}

fn broken(why: &dyn fmt::Display) -> ! {
    eprintln!("staccato-bench: the raw probe of the disk failed: {why}");
    std::process::abort();
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
    fn new(file: &File, writes: bool, bytes: u64) -> Self {
        Self { file: file.as_raw_fd(), writes, bytes, begun: 0, done: 0 }
    }

    /// The operation that follows, with the buffer of `slot`, and its length.
    fn next(&mut self, slot: usize, buffer: &libc::iovec) -> Option<(squeue::Entry, i32)> {
        let len = BLOCK.min(self.bytes - self.begun) as u32;
        if len == 0 {
            return None;
        }
        let (file, offset, start) = (Fd(self.file), self.begun, buffer.iov_base.cast::<u8>());
        self.begun += u64::from(len);
        let entry = if self.writes {
            opcode::WriteFixed::new(file, start, len, slot as u16).offset(offset as _).build()
        } else {
            opcode::ReadFixed::new(file, start, len, slot as u16).offset(offset as _).build()
        };
        Some((entry.user_data(slot as u64), len as i32))
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
        for bytes in [ALIGNMENT as u64, 20 * BLOCK + (1 << 20)] {
            std::fs::write(&from, vec![1; bytes as usize]).unwrap();
            RawDisk.copy(&from, &to).unwrap();
            assert_eq!(std::fs::metadata(&to).unwrap().len(), bytes);
            std::fs::remove_file(&to).unwrap();
        }
    }
}
