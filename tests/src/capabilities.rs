//! A process without some of root's rights.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::process::{Resource, Rlimit, geteuid, setrlimit};

// From linux/capability.h; the `libc` crate does not name them.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;
const CAP_IPC_LOCK: libc::c_ulong = 14;

/// Lets a command start as somebody to whom permissions of files apply, also when the user is root.
pub fn obey_file_permissions(command: &mut Command) {
    start_without(&[CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH], command);
}

/// Lets a command start as somebody who may lock so many bytes of memory, also when the user is root.
pub fn obey_memlock(bytes: u64, command: &mut Command) {
    start_without(&[CAP_IPC_LOCK], command);
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // SAFETY: between fork and exec only setrlimit is called: no allocation, no lock.
    unsafe { command.pre_exec(move || Ok(setrlimit(Resource::Memlock, limit)?)) };
}

/// The capabilities leave the bounding set, and what is not in that, root does not get at `exec` either
/// (capabilities(7)). Other users have none.
fn start_without(capabilities: &'static [libc::c_ulong], command: &mut Command) {
    if !geteuid().is_root() {
        return;
    }
    let drop_all = move || {
        for capability in capabilities {
            // SAFETY: prctl(2) with constants; it touches no memory of this process.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called: no allocation, no lock.
    unsafe { command.pre_exec(drop_all) };
}
