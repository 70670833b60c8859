//! A process to whom permissions of files apply, also when its user is root.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::process::geteuid;

// From linux/capability.h; the `libc` crate does not name them.
const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
const CAP_DAC_READ_SEARCH: libc::c_ulong = 2;

/// Lets a command start without the capabilities that make root pass over the permissions of files. They leave the
/// bounding set, and what is not in that, root does not get at `exec` either (capabilities(7)). Other users have none.
pub fn obey_file_permissions(command: &mut Command) {
    if !geteuid().is_root() {
        return;
    }
    let drop_both = || {
        for capability in [CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH] {
            // SAFETY: prctl(2) with constants; it touches no memory of this process.
            if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called: no allocation, no lock.
    unsafe { command.pre_exec(drop_both) };
}
