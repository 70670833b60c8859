//! The thread that keeps a plug-in: start, lines in both directions, end.

use std::{
    io::{self, Read, Write},
    process::{ChildStdin, ChildStdout},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
};

use super::{
    Known, Plan,
    area::Area,
    message::{Answer, Hello, LINE_BYTES_MAX, start_line},
    process::Shared,
};
use crate::outside::{Group, complaints};

/// Bytes that are read in one go.
const READ_BYTES: usize = 64 << 10;
/// How long a plug-in may take to end once its standard input is closed.
const FAREWELL_MAX: std::time::Duration = std::time::Duration::from_millis(500);
/// How long after the end of its output a plug-in may take to end.
const END_MAX: std::time::Duration = std::time::Duration::from_millis(100);

/// Starts the plug-in of a plan, and stays until it has ended.
pub(super) fn keep(known: &Known, shared: &Shared, area: &Area) {
    let plan = &known.plan;
    let how = match Kept::start(plan, area) {
        Ok(mut kept) => match kept.hello(known).and_then(|()| kept.serve(plan, shared, area)) {
            Ok(()) => {
                kept.dismiss();
                return shared.over("is not wanted any more");
            }
            Err(how) => {
                kept.group.end();
                how
            }
        },
        Err(why) => format!("cannot be started: {why}"),
    };
    tracing::warn!("the plug-in {} {how}; it is started again when it is needed", known.hello.name);
    shared.over(&how);
}

/// Starts the plug-in of a plan for its hello alone.
pub(super) fn hear(plan: &Plan) -> Result<Hello, String> {
    let area = Area::new().map_err(|error| error.to_string())?;
    let mut kept = Kept::start(plan, &area).map_err(|why| format!("cannot be started: {why}"))?;
    let hello = kept.first_line(plan).and_then(|line| Hello::parse(&line));
    match hello {
        Ok(hello) => {
            kept.dismiss();
            Ok(hello)
        }
        Err(how) => {
            kept.group.end();
            Err(how)
        }
    }
}

struct Kept {
    group: Group,
    input: ChildStdin,
    output: ChildStdout,
    /// What is to be written yet.
    unsent: Vec<u8>,
    /// What it wrote behind the last line that was read.
    unread: Vec<u8>,
}

impl Kept {
    fn start(plan: &Plan, area: &Area) -> Result<Self, String> {
        let launch = &plan.launch;
        let mut child = launch.command(Some(area.descriptor())).spawn().map_err(|error| launch.why_not(&error))?;
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let errors = child.stderr.take().expect("piped");
        let prepared = Group::of(child).and_then(|group| {
            fcntl_setfl(&input, OFlags::NONBLOCK)?;
            fcntl_setfl(&output, OFlags::NONBLOCK)?;
            fcntl_setfl(&errors, OFlags::NONBLOCK)?;
            let ended = std::os::fd::AsFd::as_fd(&group).try_clone_to_owned()?;
            complaints::forward(errors, ended, launch.shown())?;
            Ok(group)
        });
        let group = prepared.map_err(|error| error.to_string())?;
        Ok(Self { group, input, output, unsent: Vec::new(), unread: Vec::new() })
    }

    fn first_line(&mut self, plan: &Plan) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + plan.patience.hello;
        loop {
            if let Some(line) = self.next_line()? {
                return Ok(line);
            }
            if Instant::now() >= deadline {
                return Err(format!("did not say hello within {:?}", plan.patience.hello));
            }
            self.wait_and_move(None, Some(deadline))?;
        }
    }

    fn hello(&mut self, known: &Known) -> Result<(), String> {
        let line = self.first_line(&known.plan)?;
        if Hello::parse(&line)? != known.hello {
            return Err("says hello in another way than before: restart the service to take it as it is now".into());
        }
        Ok(())
    }

    /// Talks to it until it is not wanted any more, or what it did that no plug-in may do.
    fn serve(&mut self, plan: &Plan, shared: &Shared, area: &Area) -> Result<(), String> {
        shared.begin();
        self.unsent.extend(start_line(area.descriptor(), area.bytes(), &plan.settings));
        loop {
            {
                let mut queue = shared.queue();
                if queue.ending {
                    return Ok(());
                }
                if let Some(fault) = queue.fault.take() {
                    return Err(fault);
                }
                // Not more than a pipe holds: the rest waits where it is.
                while self.unsent.len() < READ_BYTES
                    && let Some(line) = queue.lines.pop_front()
                {
                    self.unsent.extend(line);
                }
            }
            while let Some(line) = self.next_line()? {
                let unclear = |error| format!("gave an answer that is not understood: {error}");
                let answer: Answer = serde_json::from_slice(&line).map_err(unclear)?;
                shared.answered(answer)?;
            }
            let deadline = shared.deadline(Instant::now())?;
            self.wait_and_move(Some(shared), deadline)?;
        }
    }

    /// A line that was read, without its end.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let end = self.unread.iter().position(|byte| *byte == b'\n');
        if end.unwrap_or(self.unread.len()) > LINE_BYTES_MAX {
            return Err(format!("wrote a line of more than {LINE_BYTES_MAX} bytes"));
        }
        Ok(end.map(|end| {
            let mut line: Vec<u8> = self.unread.drain(..=end).collect();
            line.pop();
            line
        }))
    }

    /// Waits until something can be read or written or somebody has woken it, and reads and writes.
    fn wait_and_move(&mut self, shared: Option<&Shared>, deadline: Option<Instant>) -> Result<(), String> {
        let limit = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = limit.map(|left| Timespec::try_from(left).expect("patience is short"));
        let mut fds = vec![PollFd::new(&self.output, PollFlags::IN), PollFd::new(&self.group, PollFlags::IN)];
        if let Some(shared) = shared {
            fds.push(PollFd::new(&shared.wake, PollFlags::IN));
        }
        if !self.unsent.is_empty() {
            fds.push(PollFd::new(&self.input, PollFlags::OUT));
        }
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot be heard: {error}")),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(shared) = shared
            && ready[2]
        {
            let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
        }
        if ready[0] {
            return if self.read()? { Ok(()) } else { Err(self.gone("closed its output")) };
        }
        // What it wrote before its end has been read by now.
        if ready[1] {
            return Err(self.gone("ended"));
        }
        if ready.len() > 2 && !self.unsent.is_empty() && ready[ready.len() - 1] {
            match self.input.write(&self.unsent) {
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(error) if again(&error) => {}
                // It does not listen any more: its last words may say why.
                Err(_) => return Err(self.gone("closed its input")),
            }
        }
        Ok(())
    }

    /// Reads what is there; `false` at the end of its output.
    fn read(&mut self) -> Result<bool, String> {
        let known = self.unread.len();
        self.unread.resize(known + READ_BYTES, 0);
        let read = self.output.read(&mut self.unread[known..]);
        self.unread.truncate(known + read.as_ref().copied().unwrap_or(0));
        match read {
            Err(error) if again(&error) => Ok(true),
            read => read.map(|bytes| bytes > 0).map_err(|error| format!("cannot be heard: {error}")),
        }
    }

    /// How it ended, where it does by itself; else what it did. A pipe is closed a moment before the end.
    fn gone(&self, what: &str) -> String {
        let by_itself = self.group.ends(END_MAX);
        match self.group.end().filter(|_| by_itself) {
            Some(status) => format!("ended ({status})"),
            None => what.into(),
        }
    }

    /// Lets it end: its standard input ends, and a moment later it is killed with what is left of its children.
    fn dismiss(self) {
        let Self { group, input, .. } = self;
        drop(input);
        // Whether or not: it is killed next.
        group.ends(FAREWELL_MAX);
    }
}

/// Whether there is only nothing to be had at this moment.
fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
