//! The disk, read and written at once (or one of the two) by one bare io_uring with O_DIRECT and registered buffers.

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsRawFd, RawFd},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Instant,
};

use clap::{Args, ValueEnum};
use io_uring::{IoUring, opcode, squeue, types::Fd};
use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use staccato_protocols::chunk::{ALIGNMENT, AlignedBuf};

/// Most operations under way in each direction: with the largest blocks, their buffers still fit into 32 GiB.
const DEPTH_MAX: i64 = 256;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From the source.
    Read,
    /// To the target.
    Write,
    /// Both at once, neither waiting for the other.
    Both,
}

impl Direction {
    /// Whether the source is read.
    pub fn reads(self) -> bool {
        self != Self::Write
    }

    /// Whether the target is written.
    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Both => "both",
        })
    }
}

/// What to move. What is written is made durable.
#[derive(Clone, Debug, Args)]
pub struct Disk {
    /// Which way
    direction: Direction,
    /// Bytes in each direction: a multiple of 4096
    bytes: u64,
    /// The file to read
    source: PathBuf,
    /// The file to write: made where it is not there, else written over
    target: PathBuf,
    #[command(flatten)]
    load: DiskLoad,
}

/// What is under way at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct DiskLoad {
    /// MiB of one operation
    #[arg(long, default_value_t = Self::default().block_mib, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub block_mib: u64,
    /// Operations under way in each direction
    #[arg(long, default_value_t = Self::default().depth, value_parser = clap::value_parser!(u16).range(1..=DEPTH_MAX))]
    pub depth: u16,
}

impl Default for DiskLoad {
    /// As deep as it helps on the disks at hand.
    fn default() -> Self {
        Self { block_mib: 4, depth: 8 }
    }
}

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskTold {
    /// From opening the files until everything is durable; buffers are there before.
    pub seconds: f64,
}

impl Disk {
    /// Moves everything.
    pub fn run(&self) -> io::Result<DiskTold> {
        if !self.bytes.is_multiple_of(ALIGNMENT as u64) {
            return Err(io::Error::other(format!("a raw probe moves multiples of {ALIGNMENT} bytes")));
        }
        let directions = usize::from(self.direction.reads()) + usize::from(self.direction.writes());
        let (block, depth) = (self.load.block_mib << 20, usize::from(self.load.depth));
        let mut buffers: Vec<AlignedBuf> = (0..directions * depth).map(|_| AlignedBuf::new(block as usize)).collect();
        for (seed, buffer) in buffers.iter_mut().enumerate() {
            fastrand::Rng::with_seed(seed as u64).fill(buffer);
        }
        let vectors: Vec<libc::iovec> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() })
            .collect();
        let mut ring = IoUring::new(2 * u32::from(self.load.depth))?;
        // SAFETY: the buffers outlive every operation: `drive` returns when all have completed, or not at all.
        unsafe { ring.submitter().register_buffers(&vectors)? };
        let began = Instant::now();
        let source = self.direction.reads().then(|| open(&self.source, false, self.bytes)).transpose()?;
        let target = self.direction.writes().then(|| open(&self.target, true, self.bytes)).transpose()?;
        let files: Vec<(&File, bool)> =
            source.iter().map(|file| (file, false)).chain(target.iter().map(|file| (file, true))).collect();
        let lines = files.iter().map(|(file, writes)| Line::new(file, *writes, self.bytes, block)).collect();
        drive(&mut ring, lines, depth, &vectors);
        target.map_or(Ok(()), |target| target.sync_data())?;
        Ok(DiskTold { seconds: began.elapsed().as_secs_f64() })
    }
}

fn open(path: &Path, write: bool, bytes: u64) -> io::Result<File> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut options = File::options();
    options.read(!write).write(write).create(write).custom_flags(libc::O_DIRECT);
    let file = options.open(path).map_err(explain)?;
    if write {
        fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(|error| explain(error.into()))?;
    }
    Ok(file)
}

/// Moves all lines to their ends, each with `depth` of the buffers. An error ends the process: others' memory must not
/// be given back while the kernel may still write to it.
fn drive(ring: &mut IoUring, mut lines: Vec<Line>, depth: usize, buffers: &[libc::iovec]) {
    let mut under_way = vec![0; buffers.len()];
    let begin = |ring: &mut IoUring, line: &mut Line, slot: usize, under_way: &mut Vec<i32>| {
        let Some((entry, len)) = line.next(slot, &buffers[slot]) else { return };
        under_way[slot] = len;
        // SAFETY: the entry's buffer is registered and lives until its completion has been seen.
        unsafe { ring.submission().push(&entry) }.unwrap_or_else(|error| broken(&error));
    };
    for slot in 0..buffers.len() {
        begin(ring, &mut lines[slot / depth], slot, &mut under_way);
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
            let line = &mut lines[slot / depth];
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
    block: u64,
    begun: u64,
    done: u64,
}

impl Line {
    fn new(file: &File, writes: bool, bytes: u64, block: u64) -> Self {
        Self { file: file.as_raw_fd(), writes, bytes, block, begun: 0, done: 0 }
    }

    /// The operation that follows, with the buffer of `slot`, and its length.
    fn next(&mut self, slot: usize, buffer: &libc::iovec) -> Option<(squeue::Entry, i32)> {
        let len = self.block.min(self.bytes - self.begun) as u32;
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
    fn as_much_is_written_as_was_asked_for() {
        // Beside the test itself: file systems in memory need not take O_DIRECT.
        let test = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(test.parent().unwrap()).unwrap();
        let (source, target) = (folder.path().join("s"), folder.path().join("t"));
        for (bytes, block_mib, depth) in [(ALIGNMENT as u64, 4, 8), (81 << 20, 4, 8), (33 << 20, 2, 1)] {
            std::fs::write(&source, vec![1; bytes as usize]).unwrap();
            for direction in [Direction::Read, Direction::Both, Direction::Write] {
                let load = DiskLoad { block_mib, depth };
                let disk = Disk { direction, bytes, source: source.clone(), target: target.clone(), load };
                disk.run().unwrap();
                assert_eq!(target.exists(), direction.writes());
            }
            assert_eq!(std::fs::metadata(&target).unwrap().len(), bytes);
            std::fs::remove_file(&target).unwrap();
        }
        let (source, load) = (folder.path().join("gone"), DiskLoad::default());
        let missing = Disk { direction: Direction::Read, bytes: 4096, source, target, load };
        assert!(missing.run().unwrap_err().to_string().contains("gone"));
    }
}
