//! A seeded random life of a ledger: clients, the scheduler, executors of which some lag behind, time, crashes, and
//! callers that go away, over each store. After every step the invariants hold, nothing has happened to a transfer that
//! may not happen, and the scheduler's window is what a scan of the store gives.
//!
//! The seed is printed; `TEST_SEED` runs one again.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use serde_json::json;
use staccato_dataplane::attempt::{CheckpointReport, Outcome, StartOver, StopReason};
use staccato_protocols::{Code, Error};
use staccato_scheduler_plugins::Slots;
use tempfile::TempDir;

use super::{
    Fixture, completion,
    fixture::{LEASE, LENGTH, MOMENT, READY},
    invariants, is_refused, report,
};
use crate::{
    ledger::{ExecutorProcess, Held, INDEXES, LedgerError, Prepared, Scope, keys},
    model::{State, TransferId, TransferRecord, transfer::NoteKind},
    scheduler::{Scheduler, SchedulerConfig},
    store::{MemoryStore, SharedStore, SledStore},
};

#[tokio::test]
async fn a_random_life_in_memory_keeps_every_promise() {
    for seed in seeds(40) {
        Life::begin(seed, None).await.live(300).await;
    }
}

#[tokio::test]
async fn a_random_life_on_disk_keeps_every_promise() {
    for seed in seeds(2) {
        Life::begin(seed, Some(tempfile::tempdir().unwrap())).await.live(300).await;
    }
}

fn seeds(count: u64) -> Vec<u64> {
    match env::var("TEST_SEED") {
        Ok(text) => vec![text.parse().expect("TEST_SEED is a number")],
        Err(_) => {
            let first = fastrand::u64(..);
            (0..count).map(|index| first.wrapping_add(index)).collect()
        }
    }
}

const SLOTS: usize = 4;
const OWNERS: [&str; 2] = ["a", "b"];

struct Life {
    random: fastrand::Rng,
    fixture: Fixture,
    /// Where the store lies; none for one in memory.
    folder: Option<TempDir>,
    scheduler: Scheduler,
    window_max: usize,
    executors: Vec<Executor>,
    executors_begun: usize,
    /// Every acknowledged transfer, as it was last seen.
    known: BTreeMap<TransferId, TransferRecord>,
    /// Those that a client deleted, or may have.
    deleted: BTreeSet<TransferId>,
}

/// An executor and the attempts it believes to run. It may be wrong.
struct Executor {
    name: String,
    running: Vec<(TransferId, u64)>,
}

impl Life {
    async fn begin(seed: u64, folder: Option<TempDir>) -> Self {
        println!("TEST_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let store = folder.as_ref().map_or_else(|| Arc::new(MemoryStore::new(INDEXES)) as SharedStore, on_disk);
        let fixture = Fixture::over(store).await;
        let window_max = random.usize(1..8);
        let scheduler = schedule(&fixture, window_max);
        let (executors, known, deleted) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        let mut life =
            Self { random, fixture, folder, scheduler, window_max, executors, executors_begun: 0, known, deleted };
        for _ in 0..3 {
            life.new_executor().await;
        }
        life
    }

    async fn live(mut self, steps: usize) {
        for _ in 0..steps {
            self.fixture.environment.advance(MOMENT);
            match self.random.u8(..100) {
                0..16 => self.create().await,
                16..30 => self.act().await,
                30..46 => self.schedule().await,
                46..60 => self.claim().await,
                60..82 => self.report().await,
                82..86 => self.heartbeat().await,
                86..92 => self.pass().await,
                92..94 => self.sweep().await,
                94..96 => self.give_up_half_way().await,
                96..98 => self.lose_executor().await,
                _ => self.crash().await,
            }
            self.look().await;
        }
        let ended = self.known.values().filter(|record| record.state.is_ended()).count();
        assert!(ended + self.deleted.len() > 0, "nothing ever came to an end");
    }

    async fn create(&mut self) {
        // Few names, so that they collide.
        let name = format!("{}{}", self.random.u8(..12), if self.random.u8(..4) == 0 { "?sig=1" } else { "" });
        let secret = if self.random.bool() { json!({"token": "t"}) } else { json!({}) };
        let more = json!({"source_options": secret, "retries": self.random.u8(..3), "priority": self.random.u8(..=9)});
        let request = self.fixture.request(&name, more);
        let owner = OWNERS[self.random.usize(..2)];
        let key = format!("{}", self.random.u8(..20));
        let key = self.random.bool().then_some(key.as_str());
        if let Ok(created) = self.fixture.ledger.create(&request, owner, key).await {
            let id = created.document.id.parse().unwrap();
            assert_eq!(created.replayed, self.known.contains_key(&id));
            let record = self.fixture.record(id).await;
            self.known.insert(id, record);
        }
    }

    async fn act(&mut self) {
        let Some(id) = self.any() else { return };
        let owner = self.known[&id].owner.clone();
        let scope = if self.random.bool() { Scope::All } else { Scope::Owner(owner) };
        let ledger = &self.fixture.ledger;
        let _ = match self.random.u8(..8) {
            0 | 1 => ledger.cancel(id, &scope).await,
            2 | 3 => ledger.pause(id, &scope).await,
            4..7 => ledger.resume(id, &scope).await,
            _ => {
                self.deleted.insert(id);
                ledger.delete(id, &scope).await
            }
        };
    }

    async fn schedule(&mut self) {
        // It may decide on what it knew a while ago.
        if self.random.bool() {
            self.scheduler.catch_up();
        }
        self.scheduler.decide().await.unwrap();
    }

    async fn claim(&mut self) {
        let at = self.random.usize(..self.executors.len());
        let executor = &mut self.executors[at];
        let attempts_max = self.random.usize(1..4);
        let claimed = self.fixture.ledger.claim(&executor.name, attempts_max).await.unwrap();
        assert!(claimed.len() <= attempts_max);
        for spec in claimed {
            let id: TransferId = spec.transfer.parse().unwrap();
            assert!(spec.epoch > self.known[&id].epoch, "epochs only grow");
            executor.running.push((id, spec.epoch));
        }
    }

    /// An executor says something of an attempt that it runs, or that it never heard of.
    async fn report(&mut self) {
        let at = self.random.usize(..self.executors.len());
        let name = self.executors[at].name.clone();
        let running = self.executors[at].running.len();
        let own = running > 0 && self.random.u8(..10) > 0;
        let place = if own { Some(self.random.usize(..running)) } else { None };
        let (id, epoch) = match place {
            Some(place) => self.executors[at].running[place],
            None => match self.any() {
                Some(id) => (id, self.random.u64(..4)),
                None => return,
            },
        };
        let before = invariants::everything(self.fixture.store.as_ref()).await;
        let record = self.fixture.ledger.load(id).await.unwrap().map(|(record, _)| record);
        let holds = record.as_ref().is_some_and(|record| {
            record.epoch == epoch && record.state.is_leased() && record.executor.as_ref() == Some(&name)
        });
        let complete = record.is_some_and(|record| record.state == State::Complete && record.epoch == epoch);
        let (said, over) = self.say(&name, id, epoch).await;
        if !holds && !complete {
            assert!(is_refused(&said), "{name} is stale for {id} with epoch {epoch}");
        }
        if is_refused(&said) {
            assert_eq!(invariants::everything(self.fixture.store.as_ref()).await, before, "a refusal has no effect");
        }
        // Some do not notice that they were refused.
        if let Some(place) = place
            && (over || is_refused(&said))
            && self.random.u8(..3) > 0
        {
            self.executors[at].running.swap_remove(place);
        }
    }

    /// What came of it, and whether the attempt is over.
    async fn say(&mut self, name: &str, id: TransferId, epoch: u64) -> (Result<(), LedgerError>, bool) {
        let ledger = &self.fixture.ledger;
        let outcome = match self.random.u8(..17) {
            0..6 => {
                let started_over = (self.random.u8(..6) == 0).then_some(StartOver::PartialGone);
                let report = CheckpointReport { started_over, ..report(self.random.u64(..=8) * LENGTH / 8) };
                return (ledger.checkpoint(name, id, epoch, &report).await, false);
            }
            6 => {
                let wrong = CheckpointReport { bytes_total: Some(1), ..report(LENGTH) };
                return (ledger.checkpoint(name, id, epoch, &wrong).await, false);
            }
            7..9 => {
                let answer = ledger.prepare(name, id, epoch, &completion()).await;
                let before = self.known.get(&id).filter(|record| record.delete_asked);
                let allowed_before = before.is_some_and(|record| record.prepared.is_some_and(|own| own.epoch == epoch));
                let goes_on = answer == Ok(Prepared::Allowed) && before.is_some() && !allowed_before;
                assert!(!goes_on, "{id} was deleted, and is committed all the same");
                return (answer.map(drop), false);
            }
            9..12 => return (ledger.committed(name, id, epoch, &completion()).await, true),
            12 => Outcome::Failed { error: Error::retry(Code::ConnectionLost, "broken") },
            13 => Outcome::Failed { error: Error::source_changed("another version") },
            14 => Outcome::Failed { error: Error::fatal(Code::DestinationExists, "it is there") },
            15 => Outcome::CommitUnknown { error: Error::retry(Code::SyncFailed, "its folder is not synced") },
            _ => {
                let reasons = [StopReason::Cancel, StopReason::Pause, StopReason::LeaseLost, StopReason::Shutdown];
                Outcome::Stopped { reason: reasons[self.random.usize(..4)] }
            }
        };
        (ledger.release(name, id, epoch, &outcome).await, true)
    }

    async fn heartbeat(&mut self) {
        let at = self.random.usize(..self.executors.len());
        let Executor { name, running } = &mut self.executors[at];
        let held: Vec<_> = running
            .iter()
            .map(|(transfer, epoch)| Held { transfer: *transfer, epoch: *epoch, stopping: None, distribution: None })
            .collect();
        for directive in self.fixture.ledger.heartbeat(name, &held) {
            let holder = self.known.get(&directive.transfer);
            let holds = holder.is_some_and(|record| {
                record.state.is_leased() && record.epoch == directive.epoch && record.executor.as_ref() == Some(name)
            });
            assert_eq!(directive.stop == StopReason::LeaseLost, !holds, "{directive:?}");
            if !holds {
                running.retain(|(id, epoch)| (*id, *epoch) != (directive.transfer, directive.epoch));
            }
        }
    }

    async fn pass(&mut self) {
        let spans = [MOMENT, Duration::from_secs(1), LEASE, READY];
        self.fixture.pass(spans[self.random.usize(..4)]).await;
    }

    async fn sweep(&mut self) {
        for sweep in self.fixture.ledger.claim_sweeps("sweeper").await.unwrap() {
            self.fixture.ledger.sweep_done(sweep.transfer, self.random.bool()).await.unwrap();
        }
    }

    /// Whoever asked goes away: the command happens or not.
    async fn give_up_half_way(&mut self) {
        let Some(id) = self.any() else { return };
        let ledger = &self.fixture.ledger;
        let _ = match self.random.u8(..3) {
            0 => ledger.cancel(id, &Scope::All).now_or_never(),
            1 => ledger.pause(id, &Scope::All).now_or_never(),
            _ => {
                self.deleted.insert(id);
                ledger.delete(id, &Scope::All).now_or_never()
            }
        };
        // Waits for its turn behind that command, and does nothing.
        let _ = ledger.cancel(id, &Scope::Owner("nobody".into())).await;
    }

    async fn lose_executor(&mut self) {
        let at = self.random.usize(..self.executors.len());
        let Executor { name, running } = self.executors.swap_remove(at);
        self.fixture.environment.kill(&name);
        self.fixture.ledger.tick().await.unwrap();
        for record in invariants::check(&self.fixture.ledger).await.values() {
            assert_ne!(record.executor.as_ref(), Some(&name), "what it held is free");
        }
        // What is left of it in some buffer arrives now.
        for (id, epoch) in running {
            let complete = self.known.get(&id).is_some_and(|record| record.state == State::Complete);
            let (said, _) = self.say(&name, id, epoch).await;
            assert!(is_refused(&said) || complete, "{name} is dead");
        }
        assert_eq!(self.fixture.ledger.claim(&name, 1).await, Ok(Vec::new()));
        self.new_executor().await;
    }

    async fn new_executor(&mut self) {
        self.executors_begun += 1;
        let name = format!("executor-{}", self.executors_begun);
        let process = ExecutorProcess { instance: name.clone(), pid: 1, start_ticks: 1, boot_id: String::new() };
        self.fixture.ledger.register_executor(&process).await.unwrap();
        self.executors.push(Executor { name, running: Vec::new() });
    }

    async fn crash(&mut self) {
        match &self.folder {
            None => self.fixture.reopen().await,
            Some(folder) => {
                // The scheduler holds on to the store.
                let idle = Fixture::new().await;
                self.scheduler = schedule(&idle, 1);
                self.fixture.reopen_over(|| on_disk(folder)).await;
            }
        }
        self.scheduler = schedule(&self.fixture, self.window_max);
    }

    /// Compares everything with what was there before.
    async fn look(&mut self) {
        let now = invariants::check(&self.fixture.ledger).await;
        for (id, before) in &self.known {
            match now.get(id) {
                Some(after) => may_follow(before, after),
                None => assert!(self.deleted.contains(id), "{id} was acknowledged, and is gone"),
            }
        }
        let taken = now.values().filter(|record| record.state.takes_slot()).count();
        assert!(taken <= SLOTS, "{taken} of {SLOTS} slots");
        self.known = now;
        self.window_is_what_a_scan_gives().await;
    }

    async fn window_is_what_a_scan_gives(&mut self) {
        let (queue, active) = (self.scan(keys::QUEUE).await, self.scan(keys::ACTIVE).await);
        // Watchers hear of a commit after whoever made it.
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            self.scheduler.catch_up();
            let window = self.scheduler.view().await.unwrap();
            assert!(window.len() <= self.window_max, "bounded");
            let waiting: Vec<_> = window.waiting().map(|(id, _)| id).collect();
            let enough = waiting.len() > self.window_max / 2 || waiting.len() == queue.len();
            let taken: Vec<_> = window.active().map(|(id, _)| id).collect();
            let first = &queue[..waiting.len().min(queue.len())];
            if enough && waiting == first && taken == active && (window.has_more() || waiting.len() == queue.len()) {
                return;
            }
            assert!(Instant::now() < patience, "{waiting:?} of {queue:?}, {taken:?} of {active:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn scan(&self, prefix: &[u8]) -> Vec<TransferId> {
        let found = self.fixture.store.range(prefix, &keys::end_of(prefix), usize::MAX, false).await.unwrap();
        found.iter().map(|(key, _)| keys::trailing_id(key).unwrap()).collect()
    }

    fn any(&mut self) -> Option<TransferId> {
        let at = self.random.usize(..self.known.len().max(1));
        self.known.keys().nth(at).copied()
    }
}

fn on_disk(folder: &TempDir) -> SharedStore {
    Arc::new(SledStore::open(folder.path(), INDEXES).unwrap())
}

fn schedule(fixture: &Fixture, window_max: usize) -> Scheduler {
    let config = SchedulerConfig { window_max, ..SchedulerConfig::default() };
    Scheduler::new(fixture.ledger.clone(), Arc::new(Slots::new(SLOTS)), config)
}

/// What may become of a transfer from one look to the next.
fn may_follow(before: &TransferRecord, after: &TransferRecord) {
    assert!(after.epoch >= before.epoch, "epochs only grow: {before:?} {after:?}");
    assert_eq!((&after.owner, after.created_at), (&before.owner, before.created_at));
    if before.state.is_final() {
        let end = |record: &TransferRecord| (record.state, record.progress, record.crc32, record.finished_at);
        assert_eq!(end(after), end(before), "a final state stays");
    }
    if after.progress < before.progress {
        let why = after.events.iter().any(|note| {
            matches!(note.kind, NoteKind::StartedOver | NoteKind::VerificationFailed) && !before.events.contains(note)
        });
        assert!(why, "progress fell and nothing says why: {before:?} {after:?}");
    }
    assert!(after.bytes_fetched() >= before.bytes_fetched(), "{before:?} {after:?}");
}
