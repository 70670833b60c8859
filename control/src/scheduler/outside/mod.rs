//! A scheduler plug-in from outside: an executable that is shown snapshots and answers with decisions, a line of JSON
//! each (`scheduler-plugins/PROTOCOL.md`).
//!
//! [`Outside`] is a [`Plugin`] like others, which takes its time ([`Options::answer_max`] at most). A plug-in that breaks
//! a rule once, is late, or ends is killed with its children and started again, a little later each time;
//! as long as it is away, [`Slots`] decides, and every reason says so. Whoever asks is never kept waiting for a start.

mod fault;
mod launch;
mod process;
mod protocol;

#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use staccato_scheduler_plugins::{Decision, Plugin, Slots, Snapshot};

use fault::Fault;
pub use launch::Launch;
use process::{Group, Process};

/// How a plug-in from outside is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is started.
    pub launch: Launch,
    /// Slots of an executor that does not say how many it has.
    pub slots: usize,
    /// How long an answer may take.
    pub answer_max: Duration,
    /// How long the first line may take.
    pub hello_max: Duration,
    /// First and longest wait before it is started again. The wait doubles as long as it dies young.
    pub restart_wait: (Duration, Duration),
}

impl Options {
    /// An executable with the usual patience.
    pub fn of(launch: Launch, slots: usize, answer_max: Duration) -> Self {
        let restart_wait = (Duration::from_millis(100), Duration::from_secs(30));
        Self { launch, slots, answer_max, hello_max: Duration::from_secs(10), restart_wait }
    }

    /// The wait before a start, when so many have died young one after the other.
    fn wait_after(&self, died_young: u32) -> Duration {
        let (first, longest) = self.restart_wait;
        first.saturating_mul(1 << died_young.saturating_sub(1).min(16)).min(longest)
    }
}

/// Why a plug-in cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler {} cannot be used: {why}", .program.display())]
pub struct StartError {
    program: PathBuf,
    why: String,
}

/// One that lived for so long has not died young.
const HEALTHY: Duration = Duration::from_secs(60);

const POISON: &str = "no code panics while it holds this lock";

/// A plug-in from outside, and who cares for it. Dropped, it ends.
pub struct Outside {
    name: String,
    shared: Arc<Shared>,
    /// None once it has ended.
    keeper: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    options: Options,
    instead: Slots,
    /// None while it is away. Locked while it is asked.
    process: Mutex<Option<Process>>,
    standing: Mutex<Standing>,
    changed: Condvar,
    faults: AtomicU64,
}

/// How it is about the plug-in. Never locked for longer than a moment.
#[derive(Default)]
struct Standing {
    up: bool,
    /// Whether it is not wanted any more.
    ending: bool,
    /// What there is to kill.
    group: Option<Arc<Group>>,
}

impl Outside {
    /// Starts a plug-in, and waits until it has said its name.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let program = options.launch.program.clone();
        let refused = |why| StartError { program: program.clone(), why };
        let shared = Arc::new(Shared {
            instead: Slots::new(options.slots),
            options,
            process: Mutex::new(None),
            standing: Mutex::default(),
            changed: Condvar::new(),
            faults: AtomicU64::new(0),
        });
        let (told, heard) = mpsc::sync_channel(1);
        let keeper = shared.clone();
        // Plug-ins end with the thread that has started them: this one lives as long as they shall.
        let keep = move || keeper.keep(&told);
        let started = thread::Builder::new().name("scheduler".into()).spawn(keep);
        let keeper = started.map_err(|error| refused(error.to_string()))?;
        let name = heard.recv().expect("it says how it went").map_err(refused)?;
        tracing::info!(plugin = name, "the scheduler plug-in decides");
        Ok(Self { name, shared, keeper: Mutex::new(Some(keeper)) })
    }

    /// Whether it decides now, and not `slots` in its place.
    pub fn is_up(&self) -> bool {
        self.shared.standing().up
    }

    /// How often it has broken a rule, was late or ended since the service started.
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }

    /// Ends it: lets it know, and kills it soon; at once if it is being asked. Waits for that.
    pub fn end(&self) {
        let group = {
            let mut standing = self.shared.standing();
            standing.ending = true;
            standing.group.take()
        };
        let is_idle = self.shared.process.try_lock().is_ok_and(|place| place.is_some());
        if !is_idle {
            group.iter().for_each(|group| group.kill());
        }
        self.shared.changed.notify_all();
        if let Some(keeper) = self.keeper.lock().expect(POISON).take() {
            keeper.join().expect("it does not panic");
        }
    }

    /// What `slots` decides in its place.
    fn instead(&self, snapshot: &Snapshot) -> Vec<Decision> {
        let mut decisions = self.shared.instead.decide(snapshot);
        decisions.iter_mut().for_each(|decision| {
            decision.reason = format!("{} (by slots: {} is away)", decision.reason, self.name);
        });
        decisions
    }
}

impl Plugin for Outside {
    fn name(&self) -> &str {
        &self.name
    }

    fn decide(&self, snapshot: &Snapshot) -> Vec<Decision> {
        let mut place = self.shared.process.lock().expect(POISON);
        let Some(process) = place.as_mut() else { return self.instead(snapshot) };
        // Where nothing waits nothing can be started; that it has ended is noticed all the same.
        let answer = match snapshot.waiting.is_empty() {
            true => process.check().map(|()| Vec::new()),
            false => self.shared.ask(process, snapshot),
        };
        answer.unwrap_or_else(|fault| {
            // Dropped, and so killed, before it is started again.
            *place = None;
            drop(place);
            self.shared.lost(&self.name, &fault);
            self.instead(snapshot)
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().expect(POISON)
    }

    fn ask(&self, process: &mut Process, snapshot: &Snapshot) -> Result<Vec<Decision>, Fault> {
        let number = process.next_number();
        let line = protocol::line_of(number, snapshot, self.options.slots);
        let answer = process.exchange(&line, self.options.answer_max)?;
        protocol::decisions_in(&answer, number, snapshot).map_err(Fault::Garbage)
    }

    fn lost(&self, name: &str, fault: &Fault) {
        let ending = {
            let mut standing = self.standing();
            (standing.up, standing.group) = (false, None);
            standing.ending
        };
        if ending {
            return;
        }
        self.faults.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("the scheduler plug-in {name} {fault}; slots decides until it is back");
        self.changed.notify_all();
    }

    /// Keeps a plug-in running until none is wanted; `told` hears how the first start went.
    fn keep(&self, told: &mpsc::SyncSender<Result<String, String>>) {
        let first = self.bring_up();
        let failed = first.is_err();
        // Whoever started it waits for this.
        let _ = told.send(first);
        if failed {
            return;
        }
        self.keep_up();
        if let Some(process) = self.process.lock().expect(POISON).take() {
            process.dismiss();
        }
    }

    /// Starts it again and again, until none is wanted.
    fn keep_up(&self) {
        let mut died_young = 0u32;
        let mut up_since = Instant::now();
        while self.wait_for_fault() {
            died_young = if up_since.elapsed() < HEALTHY { died_young.saturating_add(1) } else { 1 };
            while self.pause(died_young) {
                match self.bring_up() {
                    Ok(name) => {
                        tracing::info!(plugin = name, "the scheduler plug-in decides again");
                        up_since = Instant::now();
                        break;
                    }
                    Err(why) => {
                        died_young = died_young.saturating_add(1);
                        tracing::warn!("the scheduler plug-in cannot be started again: {why}");
                    }
                }
            }
        }
    }

    /// Starts a plug-in and waits for its name; or why there is none.
    fn bring_up(&self) -> Result<String, String> {
        let launch = &self.options.launch;
        let mut process = Process::start(launch).map_err(|error| launch.why_not(&error))?;
        {
            let mut standing = self.standing();
            if standing.ending {
                return Err("it is not wanted any more".into());
            }
            standing.group = Some(process.group());
        }
        let name = process.hello(self.options.hello_max).map_err(|fault| format!("it {fault}"))?;
        *self.process.lock().expect(POISON) = Some(process);
        self.standing().up = true;
        Ok(name)
    }

    /// `true` when a plug-in has to be started again, `false` when none is wanted any more.
    fn wait_for_fault(&self) -> bool {
        let idle = |standing: &mut Standing| standing.up && !standing.ending;
        let standing = self.changed.wait_while(self.standing(), idle).expect(POISON);
        !standing.ending
    }

    /// Waits before another start; `false` when none is wanted any more.
    fn pause(&self, died_young: u32) -> bool {
        let wait = self.options.wait_after(died_young);
        let wanted = |standing: &mut Standing| !standing.ending;
        let (standing, _) = self.changed.wait_timeout_while(self.standing(), wait, wanted).expect(POISON);
        !standing.ending
    }
}
