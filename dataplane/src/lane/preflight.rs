//! Whether the kernel offers what lanes need, asked before anything starts.

use std::{io, os::fd::OwnedFd, ptr};

use rustix::{
    io::Errno,
    io_uring::{
        IoringEnterFlags, IoringRegisterOp, io_uring_enter, io_uring_params, io_uring_probe, io_uring_register,
        io_uring_setup,
    },
    process::{Resource, getrlimit},
};
use staccato_protocols::{Code, Error};

use super::RING_ENTRIES;
use crate::DataplaneConfig;

/// Makes each of the three system calls of io_uring, sets up as many rings as the lanes will have, and closes them
/// again. The error says what is missing and what to do.
pub fn check_io_uring(config: &DataplaneConfig) -> Result<(), Error> {
    let rings: Result<Vec<OwnedFd>, Errno> = (0..config.rings()).map(|_| ring()).collect();
    rings.map(drop).map_err(|error| {
        refused(error, std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok(), config.rings())
    })
}

/// A ring on which every call is allowed.
fn ring() -> Result<OwnedFd, Errno> {
    let mut params = io_uring_params::default();
    // SAFETY: `params` is a valid structure of the kernel's layout, with no flags and so no other pointers in it.
    let ring = unsafe { io_uring_setup(RING_ENTRIES, &mut params) }?;
    // SAFETY: nothing is submitted or waited for, and no argument is handed over.
    unsafe { io_uring_enter(&ring, 0, 0, IoringEnterFlags::empty()) }?;
    let mut probe = io_uring_probe::default();
    // SAFETY: `probe` is a valid structure of the kernel's layout with room for the 0 operations it is asked about.
    unsafe { io_uring_register(&ring, IoringRegisterOp::RegisterProbe, ptr::from_mut(&mut probe).cast(), 0) }?;
    Ok(ring)
}

/// The error for a ring that the kernel refused; `disabled` is the content of `kernel.io_uring_disabled`.
fn refused(error: Errno, disabled: Option<String>, rings: usize) -> Error {
    let setting = disabled.as_deref().map(str::trim);
    let why = match (error, setting) {
        (Errno::NOSYS, _) => "this kernel (or the container's seccomp profile) has no io_uring; \
            use Linux 5.10 or later and allow the io_uring_* system calls"
            .to_owned(),
        (Errno::PERM, Some("2")) => {
            "io_uring is switched off on this machine; set sysctl kernel.io_uring_disabled=0".to_owned()
        }
        (Errno::PERM, Some("1")) => "io_uring is for privileged processes only on this machine; \
            set sysctl kernel.io_uring_disabled=0, or run with CAP_SYS_ADMIN or in the group kernel.io_uring_group"
            .to_owned(),
        (Errno::PERM | Errno::ACCESS, _) => "the container or its seccomp profile denies io_uring; \
            allow io_uring_setup, io_uring_enter and io_uring_register"
            .to_owned(),
        (Errno::NOMEM, _) => {
            format!(
                "RLIMIT_MEMLOCK is too small for {rings} rings, or memory is short; raise it (ulimit -l), or use fewer lanes"
            )
        }
        (other, _) => format!("the kernel refused a ring: {}", io::Error::from(other)),
    };
    Error::fatal(Code::IoUringUnavailable, format!("lanes cannot start: {why}"))
}

/// Warns when RLIMIT_MEMLOCK is too small to register `bytes`; glommio itself would fall back in silence.
pub fn warn_about_memlock(bytes: u64) {
    let limit = getrlimit(Resource::Memlock).current;
    if limit.is_some_and(|limit| limit < bytes) && !may_lock_memory() {
        tracing::warn!(
            limit_bytes = limit.unwrap_or_default(),
            wanted_bytes = bytes,
            "RLIMIT_MEMLOCK is too small to register the lanes' buffers: raise it (ulimit -l), or accept more CPU per byte"
        );
    }
}

/// CAP_IPC_LOCK, number 14 of capability.h, lifts the limit.
fn may_lock_memory() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits & (1 << 14) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::LaneChoice::Glommio;

    #[test]
    fn this_machine_offers_io_uring() {
        let config = DataplaneConfig {
            memory_bytes: 64 << 20,
            lanes: 2,
            lane_choice: Glommio,
            chunk_bytes: 4 << 20,
            attempts_max: 1,
            spool: None,
            among_others: false,
        };
        check_io_uring(&config).expect("the tests of lanes need io_uring");
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (error, setting) in [
            (Errno::NOSYS, None),
            (Errno::PERM, Some("0\n")),
            (Errno::PERM, Some("1\n")),
            (Errno::PERM, Some("2\n")),
            (Errno::PERM, None),
            (Errno::NOMEM, None),
            (Errno::MFILE, None),
        ] {
            let refusal = refused(error, setting.map(str::to_owned), 2);
            assert_eq!(refusal.code, Code::IoUringUnavailable);
            assert!(refusal.message.starts_with("lanes cannot start: "), "{refusal}");
        }
        assert!(refused(Errno::PERM, Some("2\n".into()), 2).message.contains("sysctl"));
    }
}
