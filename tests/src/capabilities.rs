//! A process to whom permissions and limits apply, also when its user is root.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

// From linux/capability.h; the `libc` crate does not name them.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Lets a command start without the capabilities that make root pass over the permissions of files. They leave the
/// bounding set, and what is not in that, root does not get at `exec` either (capabilities(7)). Other users have none.
pub fn obey_file_permissions(command: &mut Command) {
    if !geteuid().is_root() {
        return;
    }
    let drop_both = || [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH].into_iter().try_for_each(drop_from_bounding_set);
    // SAFETY: between fork and exec only prctl is called: no allocation, no lock.
    unsafe { command.pre_exec(drop_both) };
}

/// Lets a command start with a limit on the memory it may lock, and without the capability that lifts the limit. Only
/// root can drop that; others have none.
pub fn lock_little_memory(command: &mut Command, bytes: u64) {
    let limit = move || {
        if geteuid().is_root() {
            drop_from_bounding_set(CAP_IPC_LOCK)?;
        }
        setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: Some(bytes) }).map_err(io::Error::from)
    };
    // SAFETY: between fork and exec only prctl, geteuid and setrlimit are called: no allocation, no lock.
    unsafe { command.pre_exec(limit) };
}

fn drop_from_bounding_set(capability: libc::c_ulong) -> io::Result<()> {
    // SAFETY: prctl(2) with constants; it touches no memory of this process.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
