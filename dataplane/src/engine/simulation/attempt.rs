//! One attempt: the engine in a world that answers when and how it likes.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use staccato_protocols::{ByteRange, Code, Error};

use super::{
    Sabotage,
    checker::{Checker, Truth, Verdict, ensure},
    disk::Disk,
    ledger::{Ledger, Record, Sidecar},
    present::PresentObject,
    scenario::{Trouble, delay},
    source::{Content, Source, blocks},
    trace::Trace,
};
use crate::{
    attempt::StopReason,
    engine::{Action, Ending, Engine, EngineConfig, repair::Reuse},
};

/// Longer than any attempt lasts: each of its chunks rests three times, a minute at most.
const TIME_MAX: Duration = Duration::from_secs(3 * 3600);

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished { kept: bool },
    Ended(Ending),
    PowerCut,
    Killed,
}

/// Everything an attempt lives in.
pub(super) struct Around<'a> {
    pub rng: &'a mut Rng,
    pub trouble: &'a Trouble,
    /// What the world holds now; the attempt opened it as it was then.
    pub source: &'a mut Source,
    pub disk: &'a mut Disk,
    /// What is at the destination, if anything.
    pub present: &'a mut Option<PresentObject>,
    pub ledger: &'a mut Ledger,
    pub sidecar: &'a mut Sidecar,
    pub trace: &'a mut Trace,
    pub sabotage: Option<Sabotage>,
}

/// What comes home, and when.
#[derive(Clone, Debug)]
enum Event {
    Fetched { range: ByteRange, untouched: bool, reuse: Option<Reuse>, fate: Fate },
    Compared { range: ByteRange, fate: Fate },
    ReadBack { range: ByteRange, fails: bool },
    Synced { ok: bool },
    Recorded,
    Checkpointed,
    NameSyncFailed,
    LengthSet { length: u64, ok: bool },
}

/// What was said to [`Action::KeepPresent`].
#[derive(Debug)]
struct PresentStays(#[expect(dead_code, reason = "for the trace")] bool);

#[derive(Clone, Debug)]
enum Fate {
    Arrives,
    Fails(Error),
    /// Writing fails with some of it on the disk.
    Tears,
}

/// What happens once, at a step.
#[derive(Clone, Copy, Debug)]
enum Blow {
    PowerCut,
    Kill,
    Stop(StopReason),
    SourceChanges,
    PresentChanges,
}

/// See the module.
pub(super) struct Attempt<'a> {
    around: Around<'a>,
    opened: Source,
    /// What was at the destination then.
    looked_at: Option<PresentObject>,
    kept: bool,
    engine: Engine,
    checker: Checker,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    numbered: u64,
    blows: Vec<(usize, Blow)>,
    step: usize,
    steps_max: usize,
    /// How often in a row the engine's own time came and there was nothing to do.
    idle_wakes: u32,
}

impl<'a> Attempt<'a> {
    pub fn new(config: EngineConfig, around: Around<'a>) -> Self {
        let engine = Engine::new(config.clone());
        let chunks = around.source.length.div_ceil(config.chunk_bytes) as usize;
        let ranges = config.checkpoint.len();
        let blows = draw_blows(around.rng, around.trouble, 8 + 3 * chunks);
        Self {
            checker: Checker::new(config, &engine, around.present.as_ref(), around.source),
            opened: around.source.clone(),
            looked_at: around.present.clone(),
            kept: false,
            around,
            engine,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            numbered: 0,
            blows,
            step: 0,
            idle_wakes: 0,
            steps_max: 100 + 30 * (chunks + ranges),
        }
    }

    /// Runs it to its end, or to that of its process.
    pub fn run(mut self) -> Result<Outcome, String> {
        let outcome = self.steps();
        self.around.ledger.settle(self.around.rng);
        outcome
    }

    fn steps(&mut self) -> Result<Outcome, String> {
        loop {
            while let Some(action) = self.engine.poll(self.now) {
                self.around.trace.note(self.now, &action);
                self.idle_wakes = 0;
                self.checker.action(&action, &self.engine, truth(&self.around, &self.opened, self.now))?;
                match action {
                    Action::Finish { .. } => return Ok(Outcome::Finished { kept: self.kept }),
                    Action::End(ending) => return Ok(Outcome::Ended(ending)),
                    action => self.begin(action)?,
                }
                if let Some(crash) = self.after_step()? {
                    return Ok(crash);
                }
            }
            self.checker.idle(truth(&self.around, &self.opened, self.now))?;
            self.sleep()?;
            if let Some(crash) = self.after_step()? {
                return Ok(crash);
            }
        }
    }

    /// Waits for the next event or the engine's own time, whichever comes first.
    fn sleep(&mut self) -> Verdict {
        // Time passes between the last poll and the question.
        let asked_at = self.now + Duration::from_micros(self.around.rng.u64(..300));
        let timer = self.engine.poll_timeout(asked_at).filter(|_| self.around.sabotage != Some(Sabotage::NoTimer));
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        ensure!(timer.is_some() || event.is_some(), "it sleeps for ever");
        if timer.is_none_or(|timer| event.is_some_and(|event| event <= timer)) {
            let ((at, _), event) = self.events.pop_first().expect("there is one");
            self.now = self.now.max(at);
            self.around.trace.note(self.now, &event);
            self.idle_wakes = 0;
            self.end_event(event);
        } else {
            // A time that has passed means at once.
            self.now = timer.unwrap_or_default().max(asked_at);
            self.idle_wakes += 1;
            // A chunk that has rested may find that the rate limit is not ready; nothing else wakes it in vain.
            ensure!(self.idle_wakes <= 2, "it wakes for nothing");
        }
        Ok(())
    }

    fn after_step(&mut self) -> Result<Option<Outcome>, String> {
        self.step += 1;
        ensure!(self.step < self.steps_max, "{} steps, and no end", self.step);
        ensure!(self.now < TIME_MAX, "{:?}, and no end", self.now);
        self.checker.step(&self.engine, truth(&self.around, &self.opened, self.now))?;
        while let Some(at) = self.blows.iter().position(|(step, _)| *step <= self.step) {
            let (_, blow) = self.blows.swap_remove(at);
            self.around.trace.note(self.now, &blow);
            match blow {
                Blow::Stop(reason) => {
                    self.checker.stopped(reason);
                    self.engine.handle_stop(reason);
                }
                Blow::SourceChanges => self.around.source.version += 1,
                Blow::PresentChanges => {
                    if let Some(present) = self.around.present {
                        present.change(self.around.rng);
                    }
                }
                Blow::PowerCut | Blow::Kill => {
                    self.tear_what_is_in_flight();
                    return Ok(Some(if matches!(blow, Blow::Kill) { Outcome::Killed } else { Outcome::PowerCut }));
                }
            }
        }
        Ok(None)
    }

    fn tear_what_is_in_flight(&mut self) {
        for event in self.events.values() {
            if let Event::Fetched { range, untouched, reuse, .. } = event {
                let Around { disk, present, rng, .. } = &mut self.around;
                tear(disk, present.as_ref(), &self.opened, (*range, *untouched, reuse.as_ref()), rng);
            }
        }
    }

    /// An action is handed out; its answer comes some time later.
    fn begin(&mut self, action: Action) -> Verdict {
        let trouble = self.around.trouble;
        let sabotage = self.around.sabotage;
        match action {
            Action::Fetch { range, untouched, reuse, .. } => {
                let fate = self.draw_fate();
                let untouched = untouched || sabotage == Some(Sabotage::HolesAreAlwaysLeftOut);
                self.later(Event::Fetched { range, untouched, reuse, fate });
            }
            Action::Compare(range) => {
                let fate = self.draw_fate();
                self.later(Event::Compared { range, fate });
            }
            Action::KeepPresent => {
                let version = |present: &Option<PresentObject>| present.as_ref().map(|present| present.version);
                let unchanged = version(self.around.present) == version(&self.looked_at);
                let certain = unchanged && !self.happens(trouble.present_in_doubt);
                let stays = certain || sabotage == Some(Sabotage::PresentAlwaysStays);
                self.around.trace.note(self.now, &PresentStays(stays));
                self.kept = stays;
                self.checker.present_stays(stays, truth(&self.around, &self.opened, self.now))?;
                self.engine.handle_present(stays);
            }
            Action::ReadBack(range) => {
                let fails = self.happens(trouble.read_back_fails);
                self.later(Event::ReadBack { range, fails });
            }
            Action::Sync { blocks } => {
                self.around.sidecar.append(&blocks);
                self.around.disk.begin_sync();
                let ok = !self.happens(trouble.sync_fails);
                self.later(Event::Synced { ok });
                if sabotage == Some(Sabotage::SyncIsAnsweredEarly) {
                    self.checker.synced(true);
                    self.engine.handle_synced(Ok(()));
                }
            }
            Action::Checkpoint(ranges) => {
                if self.happens(trouble.name_sync_fails) {
                    self.later(Event::NameSyncFailed);
                    return Ok(());
                }
                let (version, inode) = (self.opened.version, self.around.disk.inode);
                self.around.ledger.send(Record { version, inode, ranges });
                self.later(Event::Recorded);
                if sabotage == Some(Sabotage::CheckpointIsAnsweredEarly) {
                    self.checker.reported(true);
                    self.engine.handle_checkpointed();
                }
            }
            Action::SetLength(length) => {
                let ok = !self.happens(trouble.length_fails);
                self.later(Event::LengthSet { length, ok });
            }
            Action::Finish { .. } | Action::End(_) => unreachable!("the last ones are not carried out here"),
        }
        Ok(())
    }

    fn draw_fate(&mut self) -> Fate {
        let trouble = self.around.trouble;
        if self.happens(trouble.fetch_is_fatal) {
            return Fate::Fails(Error::fatal(Code::PermissionDenied, "403"));
        }
        if self.happens(trouble.write_tears) {
            return Fate::Tears;
        }
        if !self.happens(trouble.fetch_fails) {
            return Fate::Arrives;
        }
        let error = Error::retry(Code::ReadFailed, "EIO");
        Fate::Fails(if self.around.rng.bool() {
            error.after(Duration::from_millis(self.around.rng.u64(..90_000)))
        } else {
            error
        })
    }

    /// An answer comes home.
    fn end_event(&mut self, event: Event) {
        let sabotage = self.around.sabotage;
        match event {
            Event::Fetched { range, untouched, reuse, fate } => self.end_fetch(range, untouched, reuse, fate),
            Event::Compared { range, fate } => self.end_compare(range, fate),
            Event::ReadBack { range, fails } => {
                let (found, right) = (self.around.disk.read(range), self.opened.crcs(range));
                let found = if sabotage == Some(Sabotage::ReadBackLies) { right.clone() } else { found };
                let found = (!fails).then_some(&found[..]);
                self.checker.was_read_back(range, found, &right);
                self.engine.handle_read_back(range, found);
            }
            Event::Synced { ok } => {
                if ok {
                    let forgets = sabotage == Some(Sabotage::DiskForgetsWhatWasSynced);
                    self.around.disk.end_sync(forgets.then_some(&mut *self.around.rng));
                } else {
                    self.around.disk.fail_sync(self.around.rng);
                }
                if sabotage != Some(Sabotage::SyncIsAnsweredEarly) {
                    self.checker.synced(ok);
                    self.engine.handle_synced(if ok { Ok(()) } else { Err(Error::retry(Code::SyncFailed, "EIO")) });
                }
            }
            Event::Recorded => {
                self.around.ledger.record();
                if sabotage != Some(Sabotage::CheckpointIsAnsweredEarly) {
                    self.later(Event::Checkpointed);
                }
            }
            Event::Checkpointed => {
                self.checker.reported(true);
                self.engine.handle_checkpointed();
            }
            Event::NameSyncFailed => {
                self.checker.reported(false);
                self.engine.handle_checkpoint_failed(Error::retry(Code::WriteFailed, "EIO"));
            }
            Event::LengthSet { length, ok } => {
                self.checker.length_set(ok);
                if !ok {
                    return self.engine.handle_length_failed(Error::retry(Code::NoSpace, "ENOSPC"));
                }
                if sabotage != Some(Sabotage::LengthIsNotSet) {
                    self.around.disk.set_length(length);
                }
                self.engine.handle_length_set();
            }
        }
    }

    fn end_compare(&mut self, range: ByteRange, fate: Fate) {
        let changed = self.around.source.version != self.opened.version;
        let error = match fate {
            _ if changed => Error::source_changed("it has another tag"),
            Fate::Fails(error) => error,
            Fate::Tears => Error::retry(Code::ReadFailed, "EIO"),
            Fate::Arrives => {
                let wanted = self.opened.crcs(range);
                let lies = self.around.sabotage == Some(Sabotage::CompareLies);
                let same = lies || blocks(range).zip(&wanted).all(|(block, crc)| self.there(block) == Some(*crc));
                self.checker.compared(range, same.then_some(&wanted[..]), self.now);
                return self.engine.handle_compared(range, same.then_some(&wanted[..]), self.now);
            }
        };
        self.checker.fetch_failed(range, &error);
        self.engine.handle_chunk_failed(range, error, self.now);
    }

    /// CRC of a block as it is at the destination, or in the clone of it.
    fn there(&self, block: ByteRange) -> Option<u32> {
        let present = self.around.present.as_ref()?;
        if self.checker.is_in_place() {
            return Some(self.around.disk.read(block)[0]);
        }
        (block.end() <= present.length).then(|| present.crcs(block)[0])
    }

    fn end_fetch(&mut self, range: ByteRange, untouched: bool, reuse: Option<Reuse>, fate: Fate) {
        let changed = self.around.source.version != self.opened.version;
        let error = match fate {
            _ if changed => Error::source_changed("it has another tag"),
            Fate::Fails(error) => error,
            Fate::Tears => {
                let Around { disk, present, rng, .. } = &mut self.around;
                tear(disk, present.as_ref(), &self.opened, (range, untouched, reuse.as_ref()), rng);
                Error::retry(Code::NoSpace, "ENOSPC")
            }
            Fate::Arrives => match reuse {
                Some(reuse) => return self.arrive_partly(range, untouched, reuse),
                None => return self.arrive(range, untouched),
            },
        };
        self.checker.fetch_failed(range, &error);
        self.engine.handle_chunk_failed(range, error, self.now);
    }

    fn arrive(&mut self, range: ByteRange, untouched: bool) {
        // A source that tells no length is asked for more than it has.
        let end = range.end().min(self.opened.length).max(range.start());
        let there = ByteRange::new(range.start(), end).expect("not before its start");
        let loses = self.around.sabotage == Some(Sabotage::WritesAreLost) && self.around.rng.u8(..8) == 0;
        self.around.disk.write(there, &self.opened, untouched, loses.then_some(&mut *self.around.rng));
        let crcs = self.opened.crcs(there);
        let holes: u64 = blocks(there).filter(|block| self.opened.is_hole(*block)).map(ByteRange::len).sum();
        self.checker.fetched(there, &crcs, there.len() - holes, self.now);
        if self.engine.counts_reads() && self.numbered.is_multiple_of(2) {
            self.engine.handle_read(range, self.now);
        }
        self.engine.handle_chunk(range, there.len(), there.len() - holes, &crcs, self.now);
    }

    /// Blocks that are at the destination are not fetched, as a lane does it.
    fn arrive_partly(&mut self, range: ByteRange, untouched: bool, reuse: Reuse) {
        let known = ByteRange::new(range.start(), reuse.end).expect("what is reused lies within");
        let is_right =
            |block: ByteRange| known.contains(block) && self.there(block) == Some(self.opened.crcs(block)[0]);
        let (right, wrong): (Vec<_>, Vec<_>) = blocks(range).partition(|block| is_right(*block));
        let disk = &mut self.around.disk;
        let mut untouched_now = untouched;
        if let Some(present) = self.around.present.as_ref().filter(|_| !reuse.in_place && !right.is_empty()) {
            disk.write(known, present, untouched, None);
            untouched_now = false;
        }
        for block in &wrong {
            disk.write(*block, &self.opened, untouched_now || (untouched && !known.contains(*block)), None);
        }
        let crcs = self.opened.crcs(range);
        let fetched: u64 = wrong.iter().filter(|block| !self.opened.is_hole(**block)).map(|block| block.len()).sum();
        self.checker.fetched(range, &crcs, fetched, self.now);
        self.engine.handle_chunk(range, range.len(), fetched, &crcs, self.now);
    }

    fn later(&mut self, event: Event) {
        let at = self.now + delay(self.around.rng, self.around.trouble.answer_is_slow);
        self.numbered += 1;
        self.events.insert((at, self.numbered), event);
    }

    fn happens(&mut self, likely: f64) -> bool {
        self.around.rng.f64() < likely
    }
}

/// Some of a chunk gets to the disk: of what is reused, and of what is fetched.
fn tear(
    disk: &mut Disk,
    present: Option<&PresentObject>,
    source: &Source,
    (range, untouched, reuse): (ByteRange, bool, Option<&Reuse>),
    rng: &mut Rng,
) {
    if let (Some(present), Some(reuse)) = (present, reuse.filter(|reuse| !reuse.in_place)) {
        let known = ByteRange::new(range.start(), reuse.end).expect("what is reused lies within");
        disk.write(known, present, untouched, Some(rng));
    }
    disk.write(range, source, untouched, Some(rng));
}

fn truth<'a>(around: &'a Around<'_>, source: &'a Source, now: Duration) -> Truth<'a> {
    Truth { disk: around.disk, source, ledger: around.ledger, present: around.present.as_ref(), now }
}

fn draw_blows(rng: &mut Rng, trouble: &Trouble, steps: usize) -> Vec<(usize, Blow)> {
    let mut blows = Vec::new();
    if rng.f64() < trouble.crash {
        blows.push((rng.usize(..steps), if rng.bool() { Blow::PowerCut } else { Blow::Kill }));
    }
    const REASONS: [StopReason; 4] =
        [StopReason::Pause, StopReason::Shutdown, StopReason::LeaseLost, StopReason::Cancel];
    while rng.f64() < trouble.stop {
        blows.push((rng.usize(..steps), Blow::Stop(REASONS[rng.usize(..REASONS.len())])));
    }
    if rng.f64() < trouble.source_changes {
        blows.push((rng.usize(..steps), Blow::SourceChanges));
    }
    if rng.f64() < trouble.present_changes {
        blows.push((rng.usize(..steps), Blow::PresentChanges));
    }
    blows.extend(trouble.crash_at_step.map(|step| (step, Blow::PowerCut)));
    blows
}
