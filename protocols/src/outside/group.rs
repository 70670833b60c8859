//! What there is to kill of an executable that was started.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Child, ExitStatus},
    sync::Mutex,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

const POISON: &str = "no code panics while it holds this lock";

/// A process and its children, which anybody may kill at any time. Dropped, they are killed.
pub struct Group {
    leader: Pid,
    /// Readable when the leader has ended.
    ended: OwnedFd,
    /// None once the leader's number may be somebody else's.
    child: Mutex<Option<Child>>,
}

impl Group {
    /// The group of a process that was just started as the leader of one.
    pub fn of(mut child: Child) -> io::Result<Self> {
        let leader = Pid::from_raw(child.id().cast_signed()).expect("process ids are above 0");
        match pidfd_open(leader, PidfdFlags::empty()) {
            Ok(ended) => Ok(Self { leader, ended, child: Mutex::new(Some(child)) }),
            Err(error) => {
                let _ = kill_process_group(leader, Signal::KILL);
                let _ = child.wait();
                Err(error.into())
            }
        }
    }

    /// The leader's number.
    pub fn pid(&self) -> u32 {
        self.leader.as_raw_nonzero().get().cast_unsigned()
    }

    /// Whether the leader ends by itself within this time.
    pub fn ends(&self, within: Duration) -> bool {
        let limit = Timespec::try_from(within).expect("it is short");
        let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).is_ok() && !fds[0].revents().is_empty()
    }

    /// Kills the leader and those of its children that have stayed in its group, waits for the end of the leader, and says
    /// how it ended. None when that was known before.
    pub fn end(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect(POISON).take()?;
        // It fails where all of them have ended.
        let _ = kill_process_group(self.leader, Signal::KILL);
        child.wait().ok()
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}
