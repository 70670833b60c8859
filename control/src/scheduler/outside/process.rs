//! The process of a plug-in from outside: asked one line at a time, each with a deadline, and killed with all that it
//! has started.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{Child, ChildStdin, ChildStdout, ExitStatus},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

use staccato_protocols::outside::complaints;

use super::{
    fault::Fault,
    launch::Launch,
    protocol::{LINE_BYTES_MAX, name_in},
};

/// Bytes that are read in one go.
const READ_BYTES: usize = 64 << 10;
/// How long a plug-in may take to end once its standard input is closed.
const FAREWELL_MAX: Duration = Duration::from_millis(500);
/// How long after the end of its output a plug-in may take to end.
const END_MAX: Duration = Duration::from_millis(100);

const POISON: &str = "no code panics while it holds this lock";

/// A plug-in that runs. Dropped, it and its children are killed.
pub(super) struct Process {
    group: Arc<Group>,
    child: Child,
    /// None once nothing more is to be said.
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// Readable when the process has ended.
    ended: OwnedFd,
    /// What it wrote behind the last line that was read.
    unread: Vec<u8>,
    /// Snapshots that it was shown.
    shown: u64,
}

/// The process and its children, which anybody may kill at any time.
pub(super) struct Group {
    leader: Pid,
    /// Whether the leader's number may be somebody else's by now.
    reaped: Mutex<bool>,
}

impl Process {
    /// Starts a plug-in. It has not said anything yet.
    pub fn start(launch: &Launch) -> io::Result<Self> {
        let mut child = launch.command().spawn()?;
        let leader = Pid::from_raw(child.id().cast_signed()).expect("process ids are above 0");
        let group = Arc::new(Group { leader, reaped: Mutex::new(false) });
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let errors = child.stderr.take().expect("piped");
        let prepared = (|| {
            let ended = pidfd_open(leader, PidfdFlags::empty())?;
            for pipe in [input.as_fd(), output.as_fd(), errors.as_fd()] {
                fcntl_setfl(pipe, OFlags::NONBLOCK)?;
            }
            complaints::forward(errors, ended.try_clone()?, launch.shown())?;
            Ok(ended)
        })();
        match prepared {
            Ok(ended) => Ok(Self { group, child, input: Some(input), output, ended, unread: Vec::new(), shown: 0 }),
            Err(error) => {
                group.end(&mut child);
                Err(error)
            }
        }
    }

    /// What stands for it wherever it has to be killed while somebody else talks to it.
    pub fn group(&self) -> Arc<Group> {
        self.group.clone()
    }

    /// Its number.
    #[cfg(test)]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name in its first line.
    pub fn hello(&mut self, within: Duration) -> Result<String, Fault> {
        name_in(&self.exchange(&[], within)?).map_err(Fault::Garbage)
    }

    /// The number of the next snapshot.
    pub fn next_number(&mut self) -> u64 {
        self.shown += 1;
        self.shown
    }

    /// Writes a question (with the end of its line) and reads one line (without). Whatever goes wrong, the plug-in cannot
    /// be asked again.
    pub fn exchange(&mut self, mut question: &[u8], within: Duration) -> Result<Vec<u8>, Fault> {
        let deadline = Instant::now() + within;
        let mut searched = 0;
        loop {
            if question.is_empty() {
                if let Some(end) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                    let mut line = self.unread.split_off(searched + end + 1);
                    std::mem::swap(&mut line, &mut self.unread);
                    line.pop();
                    return Ok(line);
                }
                searched = self.unread.len();
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(Fault::Flood);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Silent(within));
            }
            let Ready { readable, writable, ended } = self.wait(!question.is_empty(), left).map_err(Fault::Pipe)?;
            if readable {
                match self.read().map_err(Fault::Pipe)? {
                    true => continue,
                    false => return Err(self.gone()),
                }
            }
            // What it wrote before its end has been read by now.
            if ended {
                return Err(self.gone());
            }
            if writable && let Some(input) = &mut self.input {
                match input.write(question) {
                    Ok(written) => question = &question[written..],
                    Err(error) if again(&error) => {}
                    // It does not listen any more: its last words may say why.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(self.gone()),
                    Err(error) => return Err(Fault::Pipe(error)),
                }
            }
        }
    }

    /// Whether it has ended by itself, or does within this time.
    fn ends(&self, within: Duration) -> bool {
        let limit = Timespec::try_from(within).expect("it is short");
        let mut fds = [PollFd::new(&self.ended, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).is_ok() && !fds[0].revents().is_empty()
    }

    /// How it ended, if it has ended by itself.
    pub fn check(&mut self) -> Result<(), Fault> {
        if self.ends(Duration::ZERO) { Err(self.gone()) } else { Ok(()) }
    }

    /// Lets it end: its standard input ends, and a moment later it is killed with what is left of its children.
    pub fn dismiss(mut self) {
        self.input = None;
        // Whether or not: it is killed next.
        self.ends(FAREWELL_MAX);
    }

    /// Kills it with its children, and says how it ended where it does by itself: a pipe is closed a moment before.
    fn gone(&mut self) -> Fault {
        let by_itself = self.ends(END_MAX);
        let status = self.group.end(&mut self.child);
        Fault::Ended(status.filter(|_| by_itself))
    }

    fn wait(&self, wants_to_write: bool, left: Duration) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&self.output, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        if let Some(input) = self.input.as_ref().filter(|_| wants_to_write) {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        let limit = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready { readable: is_ready(0), ended: is_ready(1), writable: is_ready(2) })
    }

    /// Reads what is there; `false` at the end of its output.
    fn read(&mut self) -> io::Result<bool> {
        let known = self.unread.len();
        self.unread.resize(known + READ_BYTES, 0);
        let read = self.output.read(&mut self.unread[known..]);
        self.unread.truncate(known + read.as_ref().copied().unwrap_or(0));
        match read {
            Err(error) if again(&error) => Ok(true),
            read => Ok(read? > 0),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.end(&mut self.child);
    }
}

impl Group {
    /// Kills the process and those of its children that have stayed in its group.
    pub fn kill(&self) {
        let reaped = self.reaped.lock().expect(POISON);
        if !*reaped {
            // It fails where all of them have ended.
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
    }

    /// Kills them, and waits for the end of the leader, whose number is somebody else's then.
    fn end(&self, child: &mut Child) -> Option<ExitStatus> {
        let mut reaped = self.reaped.lock().expect(POISON);
        if !std::mem::replace(&mut *reaped, true) {
            let _ = kill_process_group(self.leader, Signal::KILL);
        }
        child.wait().ok()
    }
}

/// What can be done without waiting.
struct Ready {
    readable: bool,
    writable: bool,
    ended: bool,
}

/// Whether there is only nothing to be had at this moment.
fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
