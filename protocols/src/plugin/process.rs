//! A plug-in that runs: who talks to it, what it was asked, and its end.
//!
//! One thread keeps it: starts it, writes what there is to say, reads answers and gives them to whoever waits, each
//! question with a deadline. The first rule that is broken ends the process with its children, and every question that
//! is not answered then fails with an error that another try may not meet. Whoever asks never blocks: lines are queued.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, eventfd};

use super::{
    Known,
    area::Area,
    keeper,
    message::{self, Answer, Request},
};
use crate::{Code, Error};

/// How long plug-ins are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the first line of one that was started.
    pub hello: Duration,
    /// For an answer; four times as long where a storage may take long: to begin, sync, commit and sweep.
    pub answer: Duration,
    /// For the answer to what is not wanted any more.
    pub cancel: Duration,
    /// First and longest wait before one that has died young twice is started again; it doubles.
    pub restart: (Duration, Duration),
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            cancel: Duration::from_secs(5),
            restart: (Duration::from_millis(100), Duration::from_secs(30)),
        }
    }
}

/// What is done with an answer.
type Done = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

/// A plug-in that runs, or did. Dropped, it ends.
pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) area: Arc<Area>,
}

/// What the thread that keeps it and those who ask have in common.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// Readable when there is something new in the queue.
    pub wake: OwnedFd,
    patience: Patience,
    name: String,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Lines that are to be written.
    pub lines: VecDeque<Vec<u8>>,
    pending: HashMap<u64, Pending>,
    asked: u64,
    /// Whether it is not wanted any more.
    pub ending: bool,
    /// What somebody found it to have done that no plug-in may do.
    pub fault: Option<String>,
    /// How it has ended, and when.
    ended: Option<(String, Instant)>,
    /// Whether it has answered anything.
    pub useful: bool,
}

struct Pending {
    what: &'static str,
    deadline: Instant,
    within: Duration,
    done: Done,
}

impl Process {
    /// Starts a plug-in. Questions may be asked at once; they wait until it has said hello.
    pub fn start(known: Arc<Known>) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::from_io(&error, Code::ConnectFailed, "start a plug-in");
        let area = Arc::new(Area::new().map_err(failed)?);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let (name, patience) = (known.hello.name.clone(), known.plan.patience);
        let shared = Arc::new(Shared { queue: Mutex::default(), wake, patience, name });
        let (keeper, kept) = (shared.clone(), area.clone());
        // Plug-ins end with the thread that has started them: this one lives as long as they shall.
        let run = move || keeper::keep(&known, &keeper, &kept);
        thread::Builder::new().name("plug-in".into()).spawn(run).map_err(failed)?;
        Ok(Self { shared, area })
    }

    /// Asks; `done` is called once, on whatever thread. The number is for [`Process::cancel`].
    pub fn send(&self, request: &Request<'_>, done: Done) -> u64 {
        let mut queue = self.shared.queue();
        queue.asked += 1;
        let id = queue.asked;
        let refused = match &queue.ended {
            Some((how, _)) => Some(self.shared.lost(how)),
            None => match request.line(id) {
                Ok(line) => {
                    queue.lines.push_back(line);
                    None
                }
                Err(error) => Some(error),
            },
        };
        if let Some(error) = refused {
            drop(queue);
            done(Err(error));
            return id;
        }
        let patience = self.shared.patience.answer;
        let within = if request.may_take_long() { patience * 4 } else { patience };
        queue.pending.insert(id, Pending { what: request.name(), deadline: Instant::now() + within, within, done });
        drop(queue);
        self.shared.wake();
        id
    }

    /// Says that an answer is not waited for any more; one that does not come soon is a fault.
    pub fn cancel(&self, id: u64) {
        let mut queue = self.shared.queue();
        let patience = self.shared.patience.cancel;
        let Some(pending) = queue.pending.get_mut(&id) else { return };
        pending.within = patience;
        pending.deadline = pending.deadline.min(Instant::now() + patience);
        queue.lines.push_back(message::cancel_line(id));
        drop(queue);
        self.shared.wake();
    }

    /// Ends it because of what it has done, said behind its name; the error for whoever found out.
    pub fn fail(&self, what: String) -> Error {
        let error = Error::retry(Code::ProtocolViolation, format!("the plug-in {} {what}", self.shared.name));
        let mut queue = self.shared.queue();
        // Nobody asks it anything from here on, however long its end takes.
        queue.ended.get_or_insert_with(|| (what.clone(), Instant::now()));
        queue.fault.get_or_insert(what);
        drop(queue);
        self.shared.wake();
        error
    }

    /// How it has ended, when, and whether it had been of any use.
    pub fn ended(&self) -> Option<(String, Instant, bool)> {
        let queue = self.shared.queue();
        let useful = queue.useful;
        queue.ended.clone().map(|(how, when)| (how, when, useful))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.shared.queue().ending = true;
        self.shared.wake();
    }
}

impl Shared {
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code panics while it holds this lock")
    }

    fn wake(&self) {
        // It fails where it is set to be readable a very large number of times already.
        let _ = rustix::io::write(self.wake.as_fd(), &1u64.to_ne_bytes());
    }

    /// It listens: patience with what was asked already begins now.
    pub fn begin(&self) {
        let now = Instant::now();
        self.queue().pending.values_mut().for_each(|pending| pending.deadline = now + pending.within);
    }

    /// The first deadline; or what it was that has not been answered in time.
    pub fn deadline(&self, now: Instant) -> Result<Option<Instant>, String> {
        let queue = self.queue();
        let Some(first) = queue.pending.values().min_by_key(|pending| pending.deadline) else { return Ok(None) };
        if first.deadline > now {
            return Ok(Some(first.deadline));
        }
        Err(format!("did not answer `{}` within {:?}", first.what, first.within))
    }

    /// Gives an answer to whoever waits for it.
    pub fn answered(&self, answer: Answer) -> Result<(), String> {
        let mut queue = self.queue();
        queue.useful = true;
        let Some(pending) = queue.pending.remove(&answer.id) else {
            return Err(format!("answered {}, which was not asked", answer.id));
        };
        drop(queue);
        (pending.done)(Ok(answer));
        Ok(())
    }

    /// Tells everybody who waits that there will be no answer.
    pub fn over(&self, how: &str) {
        let mut queue = self.queue();
        queue.ended = Some((how.to_owned(), Instant::now()));
        queue.lines.clear();
        let waiting = std::mem::take(&mut queue.pending);
        drop(queue);
        waiting.into_values().for_each(|pending| (pending.done)(Err(self.lost(how))));
    }

    fn lost(&self, how: &str) -> Error {
        let why = format!("the plug-in {} {how}; it is started again for the next try", self.name);
        Error::retry(Code::ConnectionLost, why)
    }
}
