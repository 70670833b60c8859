//! A process of another user.

use std::{io, os::unix::process::CommandExt, process::Command};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// Lets a command start as this user, in a group of the same number and in no other; only root can. The folder that the
/// command starts in is entered before: what lies in it can be named from there, whoever may pass the folders above.
pub fn become_user(id: u32, command: &mut Command) {
    let change = move || -> io::Result<()> {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        Ok(set_thread_res_uid(user, user, user)?)
    };
    // SAFETY: between fork and exec only three system calls are made: no allocation, no lock. Of the forked process
    // this is the only thread.
    unsafe { command.pre_exec(change) };
}
