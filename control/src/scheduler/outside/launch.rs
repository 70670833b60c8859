//! How a plug-in from outside is started: with as few rights as can be.

use std::{
    ffi::OsString,
    io,
    os::{fd::BorrowedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal},
    thread::{clear_ambient_capability_set, set_no_new_privs},
};

use crate::config::SystemUser;

/// What is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The user it runs as; none: the service's own.
    pub user: Option<SystemUser>,
}

/// The first descriptor that is none of standard input, output and error.
const FIRST_OTHER: u32 = 3;
/// Where descriptors cannot be closed all at once (Linux before 5.11), those up to this one are looked at.
const LOOKED_AT: i32 = 1024;

impl Launch {
    /// What it is called until it has said its name.
    pub fn shown(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// What to do about an executable that could not be started.
    pub(super) fn why_not(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound if self.program.exists() => {
                "the interpreter that its first line names is not there".into()
            }
            io::ErrorKind::NotFound => "there is no such file".into(),
            io::ErrorKind::PermissionDenied if self.user.is_some() => {
                "it is not executable (chmod +x), or the user of scheduler_user may not reach it, or only root may start \
                 processes of another user"
                    .into()
            }
            io::ErrorKind::PermissionDenied => "it is not executable (chmod +x), or may not be reached".into(),
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                "it is no program, and its first line names no interpreter (#!/usr/bin/env python3)".into()
            }
            _ => error.to_string(),
        }
    }

    /// The command: a group of its own, pipes and no other descriptor, none of the service's environment but `PATH` and
    /// `LANG`. It ends with the thread that starts it, so that has to be one that stays.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
        command.env("LANG", std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into()));
        if let Some(user) = self.user {
            // Supplementary groups are given up, too: the standard library does that for root.
            command.gid(user.gid).uid(user.uid);
        }
        let parent = getpid();
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe { command.pre_exec(move || confine(parent)) };
        command
    }
}

/// Takes from this process, which is about to become a plug-in, what no plug-in needs. Behind the change of its user,
/// which would undo some of it.
fn confine(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // It was gone before the signal could be asked for.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    clear_ambient_capability_set()?;
    set_no_new_privs(true)?;
    close_others_on_exec();
    Ok(())
}

/// Descriptors of the service close by themselves; this is about those that whoever started it has left open.
fn close_others_on_exec() {
    // SAFETY: the call changes flags of descriptors, and no memory.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST_OTHER, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed == 0 {
        return;
    }
    for descriptor in FIRST_OTHER.cast_signed()..LOOKED_AT {
        // SAFETY: it is borrowed for one call, which fails where there is no such descriptor.
        let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(descriptor) }, FdFlags::CLOEXEC);
    }
}
