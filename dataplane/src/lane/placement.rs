//! Which core a lane runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores this process may use, lowest number first.
pub fn cores() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(allowed) => (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect(),
        Err(error) => {
            tracing::warn!(%error, "the allowed cores cannot be read: lanes are not pinned");
            Vec::new()
        }
    }
}

/// Pins the calling thread to a core; with none, it stays where the kernel puts it.
pub fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut only = CpuSet::new();
    only.set(core);
    if let Err(error) = sched_setaffinity(None, &only) {
        tracing::warn!(%error, core, "a lane cannot be pinned to its core");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_use_its_core_only() {
        let all = cores();
        let last = *all.last().expect("a process has a core");
        let seen = std::thread::spawn(move || {
            pin(Some(last));
            cores()
        });
        assert_eq!(seen.join().unwrap(), [last]);
        assert_eq!(cores(), all, "other threads are not touched");
    }
}
