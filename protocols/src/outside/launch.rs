//! How an executable from outside is started: with as few rights as can be.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::{BorrowedFd, RawFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setrlimit, setsid},
    thread::{clear_ambient_capability_set, set_no_new_privs},
};

use super::SystemUser;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment beside `PATH` and `LANG`.
    pub environment: BTreeMap<String, String>,
    /// The user it runs as; none: the service's own.
    pub user: Option<SystemUser>,
}

/// The first descriptor that is none of standard input, output and error.
const FIRST_OTHER: RawFd = 3;
/// Most descriptors that it may have open.
const DESCRIPTORS_MAX: u64 = 1024;

impl Launch {
    /// An executable, as the service's user, with nothing besides.
    pub fn of(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new(), environment: BTreeMap::new(), user: None }
    }

    /// What it is called until it has said its name.
    pub fn shown(&self) -> String {
        self.program.file_name().unwrap_or(self.program.as_os_str()).to_string_lossy().into_owned()
    }

    /// What to do about an executable that could not be started.
    pub fn why_not(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound if self.program.exists() => {
                "the interpreter that its first line names is not there".into()
            }
            io::ErrorKind::NotFound => "there is no such file".into(),
            io::ErrorKind::PermissionDenied if self.user.is_some() => {
                "it is not executable (chmod +x), or the user that it shall run as may not reach it, or only root may \
                 start processes of another user"
                    .into()
            }
            io::ErrorKind::PermissionDenied => "it is not executable (chmod +x), or may not be reached".into(),
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                "it is no program, and its first line names no interpreter (#!/usr/bin/env python3)".into()
            }
            _ => error.to_string(),
        }
    }

    /// The command: a session and group of its own, pipes and `inherited` and no other descriptor, none of the service's
    /// environment but `PATH` and `LANG`. It ends with the thread that starts it, so that has to be one that stays.
    /// `inherited` must be open until it is started, and keeps its number.
    pub fn command(&self, inherited: Option<RawFd>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
        command.env("LANG", std::env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into()));
        command.envs(&self.environment);
        if let Some(user) = self.user {
            // Supplementary groups are given up, too: the standard library does that for root.
            command.gid(user.gid).uid(user.uid);
        }
        let parent = getpid();
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe { command.pre_exec(move || confine(parent, inherited)) };
        command
    }
}

/// Takes from this process, which is about to become a plug-in, what no plug-in needs. Behind the change of its user,
/// which would undo some of it.
fn confine(parent: Pid, inherited: Option<RawFd>) -> io::Result<()> {
    // A session of its own is a group of its own, and has no terminal.
    setsid()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(parent) {
        // It was gone before the signal could be asked for.
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    clear_ambient_capability_set()?;
    set_no_new_privs(true)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, DESCRIPTORS_MAX)?;
    close_others_on_exec();
    if let Some(inherited) = inherited {
        // SAFETY: whoever asked for the command keeps it open until it is started.
        fcntl_setfd(unsafe { BorrowedFd::borrow_raw(inherited) }, FdFlags::empty())?;
    }
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    let lower = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    Ok(setrlimit(resource, Rlimit { current: lower(now.current), maximum: lower(now.maximum) })?)
}

/// Descriptors of the service close by themselves; this is about those that whoever started it has left open.
fn close_others_on_exec() {
    // SAFETY: the call changes flags of descriptors, and no memory.
    let closed =
        unsafe { libc::syscall(libc::SYS_close_range, FIRST_OTHER, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if closed == 0 {
        return;
    }
    // Linux before 5.11 does not know the flag: one by one, as many as anybody has.
    for descriptor in FIRST_OTHER..DESCRIPTORS_MAX as RawFd {
        // SAFETY: it is borrowed for one call, which fails where there is no such descriptor.
        let _ = fcntl_setfd(unsafe { BorrowedFd::borrow_raw(descriptor) }, FdFlags::CLOEXEC);
    }
}
