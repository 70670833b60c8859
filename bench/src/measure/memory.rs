//! The state of the machine's memory. A hypervisor that takes back what a guest does not use gives it again page by
//! page: who needs new memory (the page cache above all) is then two to three times as slow as on memory that is there.
//! Neither state is the true one, so both are measured.

use std::{fmt, io, ptr, time::Instant};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// A page of the smallest size.
const PAGE: usize = 4096;
/// What [`first_touch_rate`] touches.
const PROBE_BYTES: usize = 64 << 20;

/// In which state memory is before a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryState {
    /// As the machine is.
    AsFound,
    /// Touched and freed just before, so that it is there.
    Touched,
}

impl MemoryState {
    /// Brings memory into this state: as much of it as a sample of `bytes` can use, but never more than half of what is
    /// available.
    pub fn prepare(self, bytes: u64) -> io::Result<()> {
        if self == Self::AsFound {
            return Ok(());
        }
        // Source and destination in the page cache, and what the tools themselves need.
        let wanted = 2 * bytes + (256 << 20);
        let most = available_bytes() / 2;
        touch(usize::try_from(wanted.min(most)).unwrap_or(usize::MAX)).map(drop)
    }
}

impl fmt::Display for MemoryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsFound => "as found",
            Self::Touched => "touched before",
        })
    }
}

/// How many bytes of new memory per second this machine gives at the moment.
pub fn first_touch_rate() -> Option<f64> {
    touch(PROBE_BYTES).ok()
}

/// Maps, touches and frees memory; bytes per second.
fn touch(bytes: usize) -> io::Result<f64> {
    if bytes < PAGE {
        return Ok(f64::INFINITY);
    }
    // SAFETY: a new mapping, at an address of the kernel's choice, touches nobody else's.
    let start =
        unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
    let began = Instant::now();
    for at in (0..bytes).step_by(PAGE) {
        // SAFETY: it lies within the mapping, which is writable and ours alone.
        unsafe { start.cast::<u8>().add(at).write_volatile(1) };
    }
    let seconds = began.elapsed().as_secs_f64();
    // SAFETY: the mapping from above, whole; nothing points into it any more.
    unsafe { munmap(start, bytes)? };
    forget_peak();
    Ok(bytes as f64 / seconds.max(f64::EPSILON))
}

/// A child inherits the peak of the memory of whoever starts it (exec_mmap in the kernel's fs/exec.c), and would be
/// said to have used what was only touched here. "5" resets the peak (proc_pid_clear_refs(5)).
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// `MemAvailable` of proc_meminfo(5).
fn available_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_touched_within_bounds() {
        assert!(available_bytes() > 64 << 20);
        assert!(touch(8 << 20).unwrap() > 1e6);
        MemoryState::Touched.prepare(1 << 20).unwrap();
    }
}
