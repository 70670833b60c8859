//! The loop around a scheduling plug-in: it keeps a bounded [`window`] of what waits up to date by the changes of the
//! store, asks the plug-in, and carries its decisions to the ledger. It never scans the queue.
//!
//! Plug-ins are asked on threads where they may take their time, those from [`outside`] above all. Meanwhile changes are
//! taken in; decisions count for what still waits then.

pub mod outside;
pub mod window;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all};
use staccato_scheduler_plugins::{
    Decision, Executor, Link, Plugin, Running, Snapshot, Waiting, contract::WINDOW_DEFAULT,
};
use tokio::time::Instant;

use crate::{
    ledger::{Ledger, LedgerError, keys},
    model::Timestamp,
    store::{Event, Watch},
};
use window::Window;

/// How a scheduler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Most waiting transfers a plug-in sees at once.
    pub window_max: usize,
    /// How long the scheduler sleeps at most: plug-ins may look at the clock.
    pub turn: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { window_max: WINDOW_DEFAULT, turn: Duration::from_secs(1) }
    }
}

/// Most changes that are taken in before the plug-in is asked again.
const CHANGES_PER_TURN: usize = 512;
/// While transfers only come, and none that takes a slot goes, the plug-in is asked again after this many times of what
/// it took to ask it: a flood of submissions costs the scheduler a tenth of a core at most.
const ARRIVALS_PACE: u32 = 9;
/// Active transfers that are read in one go.
const PAGE: usize = 1024;
/// Wait after the store failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Schedules until the store is gone.
pub async fn run(ledger: Ledger, plugin: Arc<dyn Plugin>, config: SchedulerConfig) {
    let mut scheduler = Scheduler::new(ledger, plugin, config);
    loop {
        match scheduler.turn().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "the scheduler could not do its turn; it will try again");
                scheduler.begin_anew();
                tokio::time::sleep(STORE_RETRY).await;
            }
        }
    }
}

/// A plug-in and what it sees.
pub struct Scheduler {
    ledger: Ledger,
    plugin: Arc<dyn Plugin>,
    config: SchedulerConfig,
    watch: Watch,
    /// None until it is read, and after a change may have been missed.
    window: Option<Window>,
    /// Which hosts were there when the window was read ([`Ledger::fleet_version`]).
    fleet_version: u64,
    /// Whether something that took a slot has gone, or may have, since the plug-in was last asked.
    freed: bool,
    /// Whether anything at all has changed since then.
    changed: bool,
    /// How long the plug-in took to decide, with the making of what it sees.
    asking: Duration,
}

impl Scheduler {
    /// A scheduler that has read nothing yet.
    pub fn new(ledger: Ledger, plugin: Arc<dyn Plugin>, config: SchedulerConfig) -> Self {
        let watch = ledger.store().watch(keys::WORK);
        Self {
            ledger,
            plugin,
            config,
            watch,
            window: None,
            fleet_version: 0,
            freed: false,
            changed: false,
            asking: Duration::ZERO,
        }
    }

    /// One turn: read what is missing, let the plug-in decide, then wait for a change. `false` when there will be none.
    pub async fn turn(&mut self) -> Result<bool, LedgerError> {
        self.decide().await?;
        let now = Instant::now();
        let (arrivals_from, mut wake) = (now + self.asking * ARRIVALS_PACE, now + self.config.turn);
        loop {
            // Also while the plug-in was being asked.
            if self.changed {
                wake = wake.min(arrivals_from);
            }
            if self.freed || Instant::now() >= wake {
                return Ok(true);
            }
            match tokio::time::timeout_at(wake, self.watch.next()).await {
                Err(_) => return Ok(true),
                Ok(None) => return Ok(false),
                Ok(Some(event)) => self.take_in(event),
            }
            if !self.catch_up() {
                return Ok(false);
            }
        }
    }

    /// Takes in the changes that are known by now, at most [`CHANGES_PER_TURN`]. `false` when there will be none.
    pub(crate) fn catch_up(&mut self) -> bool {
        for _ in 0..CHANGES_PER_TURN {
            match self.watch.next().now_or_never() {
                Some(Some(event)) => self.take_in(event),
                Some(None) => return false,
                None => break,
            }
        }
        true
    }

    /// Lets the plug-in decide on what is known, and carries its decisions to the ledger.
    pub async fn decide(&mut self) -> Result<(), LedgerError> {
        (self.freed, self.changed) = (false, false);
        let fleet_version = self.ledger.fleet_version();
        if std::mem::replace(&mut self.fleet_version, fleet_version) != fleet_version {
            self.begin_anew();
        }
        self.read().await?;
        let asked = Instant::now();
        let now_ms = Timestamp::from_system(std::time::SystemTime::now()).as_millis();
        let executors = self.ledger.hosts_up().into_iter().map(|(name, slots)| Executor { name, slots });
        let window = self.window.as_ref().expect("read above");
        let decisions = self.ask(snapshot(window, &self.ledger, executors.collect(), now_ms)).await;
        self.asking = asked.elapsed();
        // A change may have been missed while it was asked.
        self.read().await?;
        let window = self.window.as_mut().expect("read above");
        // What does not wait any more has been changed by somebody who was faster.
        let waiting = decisions.into_iter().filter_map(|one| Some((window.waiting_id(one.id)?, one.reason)));
        // Together, so that they share a group of commits; each makes its own mark on the window, whatever comes of
        // others.
        let ledger = &self.ledger;
        let marking = waiting.map(async |(id, reason)| (id, ledger.mark_ready(id, &reason).await));
        let marked = join_all(marking.collect::<Vec<_>>()).await;
        let mut failure = None;
        for (id, ready) in marked {
            match ready {
                Ok(true) => window.started(id),
                Ok(false) => window.vanished(id),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Asks the plug-in, and takes in what changes meanwhile.
    async fn ask(&mut self, snapshot: Snapshot) -> Vec<Decision> {
        let plugin = self.plugin.clone();
        let mut asked = tokio::task::spawn_blocking(move || plugin.decide(&snapshot));
        let mut watched = true;
        loop {
            tokio::select! {
                answer = &mut asked => return answer.expect("a plug-in does not panic"),
                event = self.watch.next(), if watched => match event {
                    Some(event) => self.take_in(event),
                    // The next turn will say so.
                    None => watched = false,
                },
            }
        }
    }

    /// What is known, with its end read where that has become short.
    #[cfg(test)]
    pub(crate) async fn view(&mut self) -> Result<&Window, LedgerError> {
        self.read().await?;
        Ok(self.window.as_ref().expect("read above"))
    }

    /// Forgets everything, and watches anew: the old watch may still bring changes from before what is read next.
    fn begin_anew(&mut self) {
        self.watch = self.ledger.store().watch(keys::WORK);
        self.window = None;
    }

    fn take_in(&mut self, event: Event) {
        self.changed = true;
        match event {
            Event::Lagged => {
                self.window = None;
                self.freed = true;
            }
            Event::Changed { key, record } => {
                self.freed |= record.is_none() && key.starts_with(keys::ACTIVE);
                if let Some(window) = &mut self.window {
                    window.take_in(&key, record.map(|record| record.value).as_deref());
                }
            }
        }
    }

    /// Reads the window if there is none, and its end if that has become short. Changes that happen meanwhile are in
    /// the watch, and are taken in afterwards.
    async fn read(&mut self) -> Result<(), LedgerError> {
        let store = self.ledger.store().clone();
        if self.window.is_none() {
            let others = self.ledger.hosts_up().into_iter().map(|(host, _)| host).filter(|host| !host.is_empty());
            let mut window = Window::new(self.config.window_max, others.collect());
            let mut start = keys::ACTIVE.to_vec();
            loop {
                let page = store.range(&start, &keys::end_of(keys::ACTIVE), PAGE, false).await?;
                for (key, record) in &page {
                    window.take_in(key, Some(&record.value));
                }
                let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { break };
                start.clone_from(last);
                start.push(0);
            }
            self.window = Some(window);
        }
        let window = self.window.as_mut().expect("made above");
        while let Some((start, limit)) = window.wants() {
            let page = store.range(&start, &keys::end_of(keys::QUEUE), limit, false).await?;
            let reached_end = page.len() < limit;
            window.refill(page.into_iter().map(|(key, record)| (key, record.value)), reached_end);
        }
        Ok(())
    }
}

fn snapshot(window: &Window, ledger: &Ledger, executors: Vec<Executor>, now_ms: u64) -> Snapshot {
    let link =
        |entry: &window::Entry| Link { source: entry.source_host.clone(), destination: entry.destination_host.clone() };
    let at = |entry: &window::Entry| (!entry.runs_anywhere).then(|| entry.runs_at.clone());
    Snapshot {
        now_ms,
        waiting: window
            .waiting()
            .map(|(id, entry)| Waiting {
                id: id.as_uuid(),
                priority: entry.priority,
                owner: entry.owner.clone(),
                submitted_ms: entry.created_at.as_millis(),
                link: link(entry),
                at: at(entry),
            })
            .collect(),
        more_waiting: window.has_more(),
        running: window
            .active()
            // Nobody runs what cannot be read, and nothing of what it says would end.
            .filter(|(id, _)| !ledger.is_set_aside(*id))
            .map(|(id, entry)| Running {
                id: id.as_uuid(),
                priority: entry.priority,
                owner: entry.owner.clone(),
                link: link(entry),
                at: at(entry),
            })
            .collect(),
        executors,
    }
}
