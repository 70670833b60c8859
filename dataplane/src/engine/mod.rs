//! Decides, for one attempt, what happens next: pure.
//!
//! The engine sees no clock, file, socket or thread. Events come in through `handle_*`, with `now` as the time since
//! the attempt began; what to do comes out of [`Engine::poll`], which is called until it returns nothing, after every
//! event and when [`Engine::poll_timeout`] has passed. So a simulation can drive it through any order of events.
//!
//! Invariants:
//!
//! - A byte counts as durable only after a sync that *began* after its write had *completed* has succeeded.
//! - A checkpoint holds durable ranges only, and those of an earlier checkpoint that are still being compared.
//! - What an earlier checkpoint promised is not written over before a checkpoint without it is recorded.
//! - After a failed sync nothing is handed out, synced or checkpointed any more; nor after a lost lease or a cancel.
//! - What is written and not durable is bounded: twice [`EngineConfig::sync_bytes_max`], and a chunk.
//! - [`Action::Finish`] comes when every byte is there, its CRC known, the length set and everything synced.
//! - What is at the destination counts as written only where it is a clone's, and right; a whole that is right may stay
//!   ([`Action::KeepPresent`]), and then nothing else of the object counts.
//! - Parts of an upload are durable as soon as a sync says so, and are believed: nobody can read them back. Where bytes
//!   leave in order nothing is durable, and no sync begins, before the last one is written.
//! - [`Action::Finish`] and [`Action::End`] come last, with every action but a checkpoint answered.

pub mod action;
pub mod checkpoint;
mod config;
pub mod front;
pub mod plan;
pub mod rate;
pub mod repair;
pub mod report;
pub mod retry;
pub mod stretch;
pub mod unsynced;
pub mod verify;
pub mod window;

#[cfg(test)]
mod simulation;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

pub use action::{Action, Ending};
use checkpoint::CrcRanges;
pub use config::EngineConfig;
use plan::{Handout, Plan};
use rate::RateLimit;
use repair::Repair;
use report::Report;
use retry::{CHUNK_TRIES_MAX, chunk_wait};
use staccato_protocols::{ByteRange, CRC_BLOCK, Code, Disposition, Error, contract::Writes};
use unsynced::Unsynced;
use verify::Verification;
use window::{Connections, Window};

use crate::attempt::StopReason;

/// After so many written bytes a sync begins, unless an engine is told otherwise.
pub const SYNC_BYTES_MAX: u64 = 256 << 20;
/// At most so long is anything written before a sync.
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// At the end of an attempt, less than this part of [`EngineConfig::sync_bytes_max`] is not worth a checkpoint of its
/// own: the commit follows at once.
const LAST_CHECKPOINT_SHARE: u64 = 4;
/// While a sync is slow, fetching goes on until so many times [`EngineConfig::sync_bytes_max`] are not durable.
const UNSYNCED_SHARES_MAX: u64 = 2;

/// See the module.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    plan: Plan,
    verification: Verification,
    repair: Repair,
    /// Whether the answer to [`Action::KeepPresent`] is outstanding, or was that it stays.
    keeping: Keeping,
    window: Window,
    rate: Option<RateLimit>,
    length: Option<u64>,

    /// Durable, and compared where it came from an earlier attempt.
    durable: CrcRanges,
    unsynced: Unsynced,
    report: Report,
    length_step: LengthStep,
    /// Behind the last byte that was ever there, promised or written.
    reached: u64,

    ending: Option<Ending>,
    /// A sync has failed: what it was to make durable is not known to be, whatever a later one says.
    sync_failed: bool,
    over: bool,
    bytes_fetched: u64,
    bytes_refuted: u64,
}

/// Whether what is at the destination stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    No,
    Asked,
    Yes,
}

/// How far the object's own length has come: the last thing to be set, and synced with the last bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LengthStep {
    Open,
    Asked,
    Set,
    Syncing,
    Synced,
}

impl Engine {
    /// An engine at the beginning of its attempt.
    pub fn new(config: EngineConfig) -> Self {
        config.check();
        let reached = config.checkpoint.last().map_or(0, |known| known.range.end());
        // Only the end of an object lies within a block: an earlier attempt has found it.
        let length = config.length.or((!reached.is_multiple_of(CRC_BLOCK)).then_some(reached));
        let whole = ByteRange::new(0, length.unwrap_or(u64::MAX)).expect("0 is the smallest start");
        // All that was promised is refuted: like every refuted range, it is missing once the ledger knows.
        let refuted = config.started_over.then_some(whole);
        let have = config.checkpoint.iter().map(|known| known.range).chain(refuted);
        let (mut believed, mut doubted) = (CrcRanges::default(), &config.checkpoint[..]);
        if config.writes != Writes::Anywhere {
            doubted.iter().for_each(|known| believed.insert(known.range, known.crc32));
            doubted = &[];
        }
        let mut plan = Plan::new(length, config.chunk_bytes, have);
        if !config.sequential && config.writes != Writes::InOrder && config.present.is_none() {
            let connections = match config.connections {
                Connections::Unlimited => None,
                // Who wants so many shall have them.
                Connections::Fixed(connections) => Some(connections.max(1) as u64),
                Connections::Adaptive { .. } => Some(1),
            };
            if let (Some(connections), Some(length)) = (connections, length) {
                plan = plan.in_stretches(config.request_cost, length / connections);
            }
        }
        let mut engine = Self {
            plan,
            verification: Verification::new(doubted, config.chunk_bytes),
            repair: Repair::new(config.present, length, config.checkpoint.is_empty()),
            keeping: Keeping::No,
            window: Window::new(config.connections),
            rate: config.rate_limit.map(|rate| RateLimit::new(rate, Duration::ZERO)),
            length,
            durable: believed,
            unsynced: Unsynced::default(),
            report: Report::new(0),
            length_step: LengthStep::Open,
            reached,
            ending: None,
            sync_failed: false,
            over: false,
            bytes_fetched: 0,
            bytes_refuted: 0,
            config,
        };
        engine.report = Report::new(engine.bytes_durable());
        if let Some(refuted) = refuted {
            engine.report.refute(refuted);
        }
        engine
    }

    /// A range is read from the source, and not written yet. Only told where [`Engine::counts_reads`].
    pub fn handle_read(&mut self, range: ByteRange, now: Duration) {
        self.plan.read(range, now);
        self.window.handle_read(range.start(), range.len(), now);
    }

    /// A fetched range is written: `len` bytes of it were there (fewer only at the end of an object of unknown length),
    /// `fetched` of them were really read, and its blocks have these CRCs.
    pub fn handle_chunk(&mut self, range: ByteRange, len: u64, fetched: u64, crcs: &[u32], now: Duration) {
        assert!(len <= range.len() && (len == range.len() || self.length.is_none()), "only an unknown end comes early");
        self.plan.read(range, now);
        self.plan.done(range);
        // A chunk that is compared keeps a connection busy for what is found there, too.
        let moved = if self.repair.reuse(range).is_some() { len } else { fetched };
        self.window.handle_read(range.start(), moved, now);
        self.bytes_fetched += fetched;
        if let Some(rate) = &mut self.rate {
            rate.give_back(range.len() - fetched);
        }
        let there = ByteRange::at(range.start(), len).expect("no longer than what was asked for");
        if len < range.len() {
            if there.end() < self.reached {
                return self.fail(Error::source_changed(format!(
                    "the source ended at {} where an earlier read went up to {}",
                    there.end(),
                    self.reached
                )));
            }
            self.length = Some(there.end());
            self.plan.end_at(there.end());
        }
        self.reached = self.reached.max(there.end());
        self.unsynced.note(there, crcs, now);
    }

    /// A range was compared with what is at the destination. The CRCs are those of its blocks, all of which are right;
    /// none where one is not.
    pub fn handle_compared(&mut self, range: ByteRange, crcs: Option<&[u32]>, now: Duration) {
        self.plan.done(range);
        self.window.handle_read(range.start(), range.len(), now);
        let Some(crcs) = crcs else {
            self.plan.lost(range);
            return self.stop_comparing();
        };
        if self.repair.is_in_place() {
            self.reached = self.reached.max(range.end());
            self.unsynced.note(range, crcs, now);
        } else if !self.repair.is_comparing() {
            self.plan.lost(range);
        }
        self.repair.note_same(range, crcs);
    }

    /// Whether what is at the destination stays as it is. Where it does not, the object must be completed.
    pub fn handle_present(&mut self, stays: bool) {
        assert_eq!(self.keeping, Keeping::Asked, "only what was asked for is answered");
        self.keeping = if stays { Keeping::Yes } else { Keeping::No };
        if !stays {
            self.stop_comparing();
        }
    }

    fn stop_comparing(&mut self) {
        for right in self.repair.differs() {
            self.plan.lost(right);
        }
    }

    /// A fetched range could not be read or written.
    pub fn handle_chunk_failed(&mut self, range: ByteRange, error: Error, now: Duration) {
        self.window.handle_failed(range.start(), is_refusal(&error), now);
        let Disposition::Retry { after } = error.disposition else {
            self.plan.failed(range);
            return self.fail(error);
        };
        let failures = self.plan.failed(range);
        if failures >= CHUNK_TRIES_MAX {
            return self.fail(error);
        }
        self.plan.rest(range, now + chunk_wait(failures, after));
    }

    /// A range was read, but the stream it was to be written to is broken: the attempt is over.
    pub fn handle_stream_broken(&mut self, range: ByteRange, error: Error) {
        self.plan.failed(range);
        self.fail(error);
    }

    /// A range that somebody else [chose](Engine::fetch) did not come from there: it is as if it had not been chosen.
    pub fn handle_given_back(&mut self, range: ByteRange, now: Duration) {
        self.plan.give_back(range);
        self.window.handle_failed(range.start(), false, now);
        if let Some(rate) = &mut self.rate {
            rate.give_back(range.len());
        }
    }

    /// A range of an earlier attempt was read back; `None` when that failed.
    pub fn handle_read_back(&mut self, range: ByteRange, crcs: Option<&[u32]>) {
        let Some(verdict) = self.verification.handle(range, crcs, &self.config.sidecar) else { return };
        self.durable.absorb(verdict.right);
        for wrong in verdict.wrong {
            self.bytes_refuted += wrong.len();
            self.report.refute(wrong);
        }
    }

    /// The sync is done, or has failed.
    pub fn handle_synced(&mut self, result: Result<(), Error>) {
        let frozen = self.unsynced.thaw();
        match result {
            Ok(()) => {
                self.durable.absorb(frozen);
                if self.length_step == LengthStep::Syncing {
                    self.length_step = LengthStep::Synced;
                }
            }
            Err(error) => {
                self.sync_failed = true;
                self.fail(error);
            }
        }
    }

    /// The ledger has recorded the checkpoint: what it promises no more may be written over, and is missing. Returns that.
    pub fn handle_checkpointed(&mut self) -> Vec<ByteRange> {
        let refuted = self.report.recorded();
        refuted.iter().for_each(|refuted| self.plan.lost(*refuted));
        refuted
    }

    /// The checkpoint never left: the name of what it promises could not be made durable. Like every failed sync, this
    /// one is not tried again.
    pub fn handle_checkpoint_failed(&mut self, error: Error) {
        self.sync_failed = true;
        self.fail(error);
    }

    /// The object has its final length.
    pub fn handle_length_set(&mut self) {
        assert_eq!(self.length_step, LengthStep::Asked, "only what was asked for is answered");
        self.length_step = LengthStep::Set;
    }

    /// The object cannot be given its final length.
    pub fn handle_length_failed(&mut self, error: Error) {
        assert_eq!(self.length_step, LengthStep::Asked, "only what was asked for is answered");
        self.length_step = LengthStep::Open;
        self.fail(error);
    }

    /// Stop: what is in flight comes home; what is written is made durable first where the transfer may go on from it.
    /// A reason that keeps nothing overrides a failure, and [every weaker reason](StopReason::overrides).
    pub fn handle_stop(&mut self, reason: StopReason) {
        let heard = match &self.ending {
            None => true,
            Some(Ending::Stopped(earlier)) => reason.overrides(*earlier),
            Some(Ending::Failed(_)) => !reason.keeps_written(),
        };
        if heard {
            self.ending = Some(Ending::Stopped(reason));
        }
    }

    /// The attempt cannot go on. The first cause counts.
    fn fail(&mut self, error: Error) {
        self.ending.get_or_insert(Ending::Failed(error));
    }

    /// What to do next, if anything.
    pub fn poll(&mut self, now: Duration) -> Option<Action> {
        if self.over {
            return None;
        }
        if self.ending.is_some() {
            return self.poll_ending();
        }
        self.poll_checkpoint()
            .or_else(|| self.poll_sync(now))
            .or_else(|| self.poll_read_back())
            .or_else(|| self.poll_fetch(now))
            .or_else(|| self.poll_finish())
    }

    /// When to poll again although nothing has happened; never, while only answers can change anything. A time that has
    /// passed means at once.
    pub fn poll_timeout(&mut self, now: Duration) -> Option<Duration> {
        if self.over || self.ending.is_some() {
            return None;
        }
        self.sync_at().into_iter().chain(self.fetch_at(now)).min()
    }

    /// From when on something may be [chosen](Engine::fetch), as far as only time has to pass.
    pub fn room_at(&mut self, now: Duration) -> Option<Duration> {
        if self.over || self.ending.is_some() || !self.window_has_room() || !self.unsynced_has_room() {
            return None;
        }
        let allowed = self.rate.as_mut().map_or(Ok(()), |rate| rate.ready(now));
        Some(allowed.err().unwrap_or(now))
    }

    /// Fetches what is missing of a range that somebody else has chosen, or the first part of it.
    pub fn fetch(&mut self, chosen: ByteRange, now: Duration) -> Option<Action> {
        assert!(self.config.chosen && self.room_at(now).is_some_and(|at| at <= now), "there is room for it");
        let handout = self.plan.take(chosen)?;
        Some(self.hand_out(handout, now))
    }

    /// Whether something of a range is not written yet.
    pub fn lacks(&self, range: ByteRange) -> bool {
        self.plan.lacks(range)
    }

    /// Ends the attempt: what is missing will not come.
    pub fn give_up(&mut self, error: Error) {
        self.fail(error);
    }

    /// Bytes that survive a power cut, those of the checkpoint included while they are not refuted.
    pub fn bytes_durable(&self) -> u64 {
        self.durable.bytes() + self.verification.undecided().map(|known| known.range.len()).sum::<u64>()
    }

    /// Bytes written, durable or not.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_durable() + self.unsynced.bytes()
    }

    /// Whether the attempt only waits for what is in flight.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// What is missing can be had from nobody.
    pub fn handle_starved(&mut self, error: Error) {
        self.fail(error);
    }

    /// Bytes were read that somebody else had read before.
    pub fn note_fetched(&mut self, bytes: u64) {
        self.bytes_fetched += bytes;
    }

    /// Bytes read from the source.
    pub fn bytes_fetched(&self) -> u64 {
        self.bytes_fetched
    }

    /// Bytes of the checkpoint that were not what it promised.
    pub fn bytes_refuted(&self) -> u64 {
        self.bytes_refuted
    }

    /// Length of the object, once known.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether it is to be told when a range is read, besides when it is written.
    pub fn counts_reads(&self) -> bool {
        self.window.counts_reads()
    }

    /// Chunks that are under way at a time when nothing holds them up; where connections are few, more can be while
    /// they are written.
    pub fn window_chunks(&self) -> usize {
        self.fetches_max().min(self.window.limit())
    }

    /// Whether nothing can be fetched before the sync under way has ended.
    pub fn waits_for_sync(&self) -> bool {
        self.unsynced.is_syncing() && (self.plan.is_complete() || !self.unsynced_has_room())
    }

    fn fetches_max(&self) -> usize {
        if self.is_in_order() { 1 } else { self.config.window_chunks_max }
    }

    fn in_flight(&self) -> usize {
        self.plan.in_flight() + self.verification.in_flight()
    }

    /// Whether every action but a checkpoint is answered.
    fn is_idle(&self) -> bool {
        self.in_flight() == 0
            && !self.unsynced.is_syncing()
            && self.length_step != LengthStep::Asked
            && self.keeping != Keeping::Asked
    }

    /// Whether every byte is written, and compared where it was promised; not all need be durable.
    fn is_everything_there(&self) -> bool {
        self.plan.is_complete() && self.verification.is_done() && !self.report.holds_back()
    }

    /// Whether chunks are fetched one after the other: a stream has one reader, and an end that nobody has told is
    /// found by walking up to it.
    fn is_in_order(&self) -> bool {
        self.config.sequential || self.length.is_none()
    }

    fn window_has_room(&self) -> bool {
        self.in_flight() < self.config.window_chunks_max && self.plan.in_flight() < self.fetches_max()
    }

    fn unsynced_has_room(&self) -> bool {
        // Nothing waits in a cache for its sync where bytes have left for another machine.
        self.config.writes != Writes::Anywhere
            || self.unsynced.bytes() + self.plan.bytes_in_flight() < self.config.sync_bytes_max * UNSYNCED_SHARES_MAX
    }

    /// When the next sync begins, as far as only time has to pass.
    fn sync_at(&self) -> Option<Duration> {
        // The last bytes wait for the length, so that one sync does for both.
        let last = self.is_everything_there();
        let bytes_max = match self.config.writes {
            Writes::Anywhere => self.config.sync_bytes_max,
            // Each part may be the last one that this attempt sends.
            Writes::Parts { .. } => 1,
            Writes::InOrder => return None,
        };
        self.unsynced.due_at(bytes_max).filter(|_| !last)
    }

    /// When the next range is fetched, as far as only time has to pass.
    fn fetch_at(&mut self, now: Duration) -> Option<Duration> {
        if self.config.chosen || !self.window_has_room() || !self.window.has_room() || !self.unsynced_has_room() {
            return None;
        }
        let ready = self.plan.ready_at(self.is_in_order() || self.config.writes == Writes::InOrder)?;
        if ready > now {
            return Some(ready);
        }
        let allowed = self.rate.as_mut().map_or(Ok(()), |rate| rate.ready(now));
        Some(allowed.err().unwrap_or(now))
    }

    fn poll_checkpoint(&mut self) -> Option<Action> {
        let bytes = self.bytes_durable();
        if !self.report.is_due(bytes) {
            return None;
        }
        if self.commits_without_checkpoint(bytes) {
            return None;
        }
        self.report.send(bytes);
        let mut known = self.durable.clone();
        for undecided in self.verification.undecided() {
            known.insert(undecided.range, undecided.crc32);
        }
        Some(Action::Checkpoint(known.iter().collect()))
    }

    /// Whether the commit follows at once when so many bytes are durable: no checkpoint of its own for what little came
    /// last.
    fn commits_without_checkpoint(&self, bytes: u64) -> bool {
        let little = self.config.writes == Writes::InOrder
            || bytes < self.report.bytes() + self.config.sync_bytes_max / LAST_CHECKPOINT_SHARE;
        self.ending.is_none() && self.is_everything_there() && little
    }

    fn poll_sync(&mut self, now: Duration) -> Option<Action> {
        (self.sync_at()? <= now).then(|| self.sync())
    }

    fn sync(&mut self) -> Action {
        let last = self.commits_without_checkpoint(self.bytes_durable() + self.unsynced.bytes());
        let blocks = self.unsynced.freeze();
        // Without a checkpoint nobody ever compares: a small object takes no sidecar.
        Action::Sync { blocks: if last { Vec::new() } else { blocks } }
    }

    fn poll_read_back(&mut self) -> Option<Action> {
        // Comparing takes at most half the window while something is missing: both go on side by side.
        let share = if self.plan.is_complete() {
            self.config.window_chunks_max
        } else {
            self.config.window_chunks_max.div_ceil(2)
        };
        if self.verification.in_flight() >= share || self.in_flight() >= self.config.window_chunks_max {
            return None;
        }
        self.verification.hand_out().map(Action::ReadBack)
    }

    fn poll_fetch(&mut self, now: Duration) -> Option<Action> {
        if self.fetch_at(now)? > now {
            return None;
        }
        let handout = self.plan.next(now)?;
        Some(self.hand_out(handout, now))
    }

    fn hand_out(&mut self, Handout { range, first_time, place }: Handout, now: Duration) -> Action {
        self.window.handle_handed_out(range.start(), now);
        if self.repair.is_comparing() {
            return Action::Compare(range);
        }
        if let Some(rate) = &mut self.rate {
            rate.charge(range.len());
        }
        let (untouched, reuse) = (self.config.fresh && first_time, self.repair.reuse(range));
        Action::Fetch { range, untouched, reuse, place }
    }

    fn poll_finish(&mut self) -> Option<Action> {
        if !self.is_everything_there() || !self.is_idle() {
            return None;
        }
        let length = self.length.expect("a complete plan has an end");
        if self.repair.is_comparing() {
            return self.poll_keep(length);
        }
        match self.length_step {
            LengthStep::Open => {
                self.length_step = LengthStep::Asked;
                Some(Action::SetLength(length))
            }
            LengthStep::Set => {
                self.length_step = LengthStep::Syncing;
                Some(self.sync())
            }
            LengthStep::Synced if !self.report.is_outstanding() => {
                self.over = true;
                let crc32 = self.durable.whole(length).expect("every byte is durable");
                Some(Action::Finish { length, crc32 })
            }
            _ => None,
        }
    }

    /// Everything was compared, and nothing is written that matters.
    fn poll_keep(&mut self, length: u64) -> Option<Action> {
        if self.report.is_outstanding() {
            return None;
        }
        if self.keeping == Keeping::No {
            self.keeping = Keeping::Asked;
            return Some(Action::KeepPresent);
        }
        self.over = true;
        let crc32 = self.repair.whole(length).expect("every byte is compared");
        Some(Action::Finish { length, crc32 })
    }

    fn poll_ending(&mut self) -> Option<Action> {
        if !self.is_idle() {
            return None;
        }
        let ending = self.ending.clone()?;
        if ending.keeps_written() && !self.sync_failed {
            if self.unsynced.is_waiting() && self.config.writes != Writes::InOrder {
                return Some(self.sync());
            }
            if let Some(checkpoint) = self.poll_checkpoint() {
                return Some(checkpoint);
            }
            if self.report.is_outstanding() {
                return None;
            }
        }
        self.over = true;
        Some(Action::End(ending))
    }
}

/// Whether a server seems to have more to do than it likes: fewer requests at a time may be answered.
fn is_refusal(error: &Error) -> bool {
    matches!(error.disposition, Disposition::Retry { .. })
        && matches!(error.code, Code::HttpStatus | Code::ConnectFailed)
}
