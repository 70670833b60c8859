//! A process to which the kernel denies io_uring, as containers often do.

use std::{io, os::unix::process::CommandExt, process::Command};

/// The system calls of io_uring.
pub const IO_URING_CALLS: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Lets a command start under a seccomp filter (seccomp(2)) that answers one system call with EPERM.
pub fn deny(command: &mut Command, call: libc::c_long) {
    // What the filter looks at: `nr`, the first field of `struct seccomp_data`.
    const SYSTEM_CALL: u32 = 0;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(LOAD_WORD, 0, 0, SYSTEM_CALL),
        step(JUMP_IF_EQUAL, 0, 1, call as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        // SAFETY: prctl(2) with constants; the kernel copies the program, which lives until the call returns.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
        };
        if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec only prctl is called: no allocation, no lock.
    unsafe { command.pre_exec(install) };
}
