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
//! - After a failed sync nothing is handed out, synced or checkpointed any more.
//! - [`Action::Finish`] comes when every byte is there, its CRC known, the length set and everything synced.

pub mod checkpoint;
pub mod plan;
pub mod rate;
pub mod retry;
pub mod verify;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use checkpoint::CrcRanges;
use plan::Plan;
use rate::RateLimit;
use retry::{CHUNK_TRIES_MAX, chunk_wait};
use staccato_protocols::{ByteRange, CRC_BLOCK, Code, Disposition, Error};
use verify::Verification;

use crate::attempt::{StopReason, VerifiedRange};

/// At most so many bytes are written before a sync.
pub const SYNC_BYTES_MAX: u64 = 256 << 20;
/// At most so long is anything written before a sync.
pub const SYNC_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// At the end of an attempt, less than this is not worth a checkpoint of its own: the commit follows at once.
const LAST_CHECKPOINT_BYTES_MIN: u64 = 64 << 20;

/// What an engine is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Bytes to move; unknown where the source does not tell.
    pub length: Option<u64>,
    /// Bytes per chunk, a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// Most chunks being fetched, written or read back at once.
    pub window_chunks_max: usize,
    /// Whether the source must be read from the front, one chunk after the other.
    pub sequential: bool,
    /// Whether nothing was ever written to the destination, so that zero blocks may be left out.
    pub fresh: bool,
    /// Bytes per second.
    pub rate_limit: Option<u64>,
    /// What the ledger knows to be durable.
    pub checkpoint: Vec<VerifiedRange>,
    /// CRCs of blocks from the sidecar.
    pub sidecar: BTreeMap<u64, u32>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read this range from the source and write it; answered by [`Engine::handle_chunk`] or
    /// [`Engine::handle_chunk_failed`].
    Fetch {
        /// Which bytes.
        range: ByteRange,
        /// Whether this inode was never written there: zero blocks may be skipped.
        untouched: bool,
    },
    /// Read this range back from the destination; answered by [`Engine::handle_read_back`].
    ReadBack(ByteRange),
    /// Note the CRCs in the sidecar, then sync; answered by [`Engine::handle_synced`].
    Sync {
        /// Index and CRC of each block whose write the sync will make durable.
        blocks: Vec<(u64, u32)>,
    },
    /// Tell the ledger; answered by [`Engine::handle_checkpointed`].
    Checkpoint(Vec<VerifiedRange>),
    /// Give the object this length; answered by [`Engine::handle_length_set`].
    SetLength(u64),
    /// Everything is there and durable.
    Finish {
        /// Length in bytes.
        length: u64,
        /// CRC-32 of all of them.
        crc32: u32,
    },
    /// Nothing is in flight any more, and it ends for this reason.
    End(Ending),
}

/// Why an engine ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped(StopReason),
    /// It cannot go on.
    Failed(Error),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Engine {
    config: EngineConfig,
    plan: Plan,
    verification: Verification,
    rate: Option<RateLimit>,
    length: Option<u64>,

    /// Durable, and compared where it came from an earlier attempt.
    durable: CrcRanges,
    /// Written, not part of a sync yet, with the CRCs of its blocks.
    written: Written,
    /// What the sync in flight will make durable.
    frozen: Option<CrcRanges>,
    length_asked: bool,
    length_set: bool,
    length_synced: bool,

    reported_bytes: u64,
    report_outstanding: bool,
    report_stale: bool,
    ending: Option<Ending>,
    sync_failed: bool,
    over: bool,
    bytes_fetched: u64,
    bytes_refuted: u64,
}

#[derive(Clone, Debug, Default)]
struct Written {
    ranges: CrcRanges,
    blocks: Vec<(u64, u32)>,
    bytes: u64,
    since: Option<Duration>,
}

impl Engine {
    /// An engine at the beginning of its attempt.
    pub fn new(config: EngineConfig) -> Self {
        assert!(
            config.chunk_bytes > 0 && config.chunk_bytes.is_multiple_of(CRC_BLOCK),
            "a chunk is made of CRC blocks"
        );
        assert!(config.window_chunks_max > 0, "a window of no chunks moves nothing");
        let plan = Plan::new(config.length, config.chunk_bytes, config.checkpoint.iter().map(|known| known.range));
        let mut engine = Self {
            verification: Verification::new(&config.checkpoint, config.chunk_bytes),
            rate: config.rate_limit.map(|rate| RateLimit::new(rate, Duration::ZERO)),
            length: config.length,
            plan,
            durable: CrcRanges::default(),
            written: Written::default(),
            frozen: None,
            length_asked: false,
            length_set: false,
            length_synced: false,
            reported_bytes: 0,
            report_outstanding: false,
            report_stale: false,
            ending: None,
            sync_failed: false,
            over: false,
            bytes_fetched: 0,
            bytes_refuted: 0,
            config,
        };
        engine.reported_bytes = engine.bytes_durable();
        engine
    }

    /// A fetched range is written: `len` bytes of it were there (fewer only at the end of an object of unknown length),
    /// `fetched` of them were really read, and its blocks have these CRCs.
    pub fn handle_chunk(&mut self, range: ByteRange, len: u64, fetched: u64, crcs: &[u32], now: Duration) {
        assert!(len <= range.len() && (len == range.len() || self.length.is_none()), "only an unknown end comes early");
        self.plan.done(range);
        self.bytes_fetched += fetched;
        if let Some(rate) = &mut self.rate {
            rate.give_back(range.len() - fetched);
        }
        let there = ByteRange::at(range.start(), len).expect("no longer than what was asked for");
        if len < range.len() {
            self.length = Some(there.end());
            self.plan.end_at(there.end());
        }
        let mut count = 0;
        for (block, crc) in there.pieces(CRC_BLOCK).zip(crcs) {
            self.written.ranges.insert(block, *crc);
            self.written.blocks.push((block.start() / CRC_BLOCK, *crc));
            count += 1;
        }
        assert_eq!(count, crcs.len(), "one CRC for each block");
        self.written.bytes += len;
        self.written.since.get_or_insert(now);
    }

    /// A fetched range could not be read or written.
    pub fn handle_chunk_failed(&mut self, range: ByteRange, error: Error, now: Duration) {
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

    /// A range of an earlier attempt was read back; `None` when that failed.
    pub fn handle_read_back(&mut self, range: ByteRange, crcs: Option<&[u32]>) {
        let Some(verdict) = self.verification.handle(range, crcs, &self.config.sidecar) else { return };
        self.durable.absorb(verdict.right);
        for wrong in verdict.wrong {
            self.bytes_refuted += wrong.len();
            self.report_stale = true;
            self.plan.lost(wrong);
        }
    }

    /// The sync is done, or has failed.
    pub fn handle_synced(&mut self, result: Result<(), Error>) {
        let frozen = self.frozen.take().expect("a sync was in flight");
        match result {
            Ok(()) => {
                self.durable.absorb(frozen);
                self.length_synced |= self.length_set;
            }
            Err(error) => {
                self.sync_failed = true;
                self.fail(error);
            }
        }
    }

    /// The ledger has recorded the checkpoint.
    pub fn handle_checkpointed(&mut self) {
        self.report_outstanding = false;
    }

    /// The object has its final length.
    pub fn handle_length_set(&mut self) {
        self.length_set = true;
    }

    /// Stop: what is in flight comes home; what is written is made durable first where the transfer may go on from it.
    pub fn handle_stop(&mut self, reason: StopReason) {
        // A lost lease overrides a pause; nothing overrides a failed sync.
        match (&self.ending, reason) {
            (None, _) | (Some(Ending::Stopped(_)), StopReason::LeaseLost | StopReason::Cancel) => {
                self.ending = Some(Ending::Stopped(reason));
            }
            _ => (),
        }
    }

    /// The attempt cannot go on. The first cause counts.
    pub fn fail(&mut self, error: Error) {
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

    /// When to poll again although nothing has happened.
    pub fn poll_timeout(&mut self, now: Duration) -> Option<Duration> {
        if self.over || self.ending.is_some() {
            return None;
        }
        let sync = match (&self.frozen, self.written.since) {
            (None, Some(since)) => Some(since + SYNC_INTERVAL_MAX),
            _ => None,
        };
        let fetch = if !self.window_has_room() {
            None
        } else if self.plan.has_work(now) {
            self.rate.as_mut().and_then(|rate| rate.ready(now).err())
        } else {
            self.plan.next_rested()
        };
        sync.into_iter().chain(fetch).min()
    }

    /// Bytes that survive a power cut, those of the checkpoint included while they are not refuted.
    pub fn bytes_durable(&self) -> u64 {
        self.durable.bytes() + self.verification.undecided().map(|known| known.range.len()).sum::<u64>()
    }

    /// Bytes written, durable or not.
    pub fn bytes_written(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, CrcRanges::bytes);
        self.bytes_durable() + frozen + self.written.bytes
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

    fn in_flight(&self) -> usize {
        self.plan.in_flight() + self.verification.in_flight()
    }

    fn window_has_room(&self) -> bool {
        // One after the other: the source is a stream, and a stream has one reader.
        let fetches_max = if self.config.sequential { 1 } else { self.config.window_chunks_max };
        self.in_flight() < self.config.window_chunks_max && self.plan.in_flight() < fetches_max
    }

    fn poll_checkpoint(&mut self) -> Option<Action> {
        let bytes = self.bytes_durable();
        if self.report_outstanding || !(self.report_stale || bytes > self.reported_bytes) {
            return None;
        }
        // The commit follows at once: no checkpoint of its own for what little came last.
        let almost_done = self.plan.is_complete() && self.verification.is_done();
        if almost_done && self.ending.is_none() && bytes < self.reported_bytes + LAST_CHECKPOINT_BYTES_MIN {
            return None;
        }
        self.report_outstanding = true;
        self.report_stale = false;
        self.reported_bytes = bytes;
        let mut known = self.durable.clone();
        for undecided in self.verification.undecided() {
            known.insert(undecided.range, undecided.crc32);
        }
        Some(Action::Checkpoint(known.iter().collect()))
    }

    fn poll_sync(&mut self, now: Duration) -> Option<Action> {
        let since = self.written.since?;
        let due = self.written.bytes >= SYNC_BYTES_MAX || now >= since + SYNC_INTERVAL_MAX;
        // The last bytes wait for the length, so that one sync does for both.
        let last = self.plan.is_complete() && self.verification.is_done();
        if due && !last { self.sync() } else { None }
    }

    fn sync(&mut self) -> Option<Action> {
        if self.frozen.is_some() {
            return None;
        }
        let written = std::mem::take(&mut self.written);
        self.frozen = Some(written.ranges);
        Some(Action::Sync { blocks: written.blocks })
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
        self.verification.next().map(Action::ReadBack)
    }

    fn poll_fetch(&mut self, now: Duration) -> Option<Action> {
        if !self.window_has_room() || !self.plan.has_work(now) {
            return None;
        }
        if let Some(rate) = &mut self.rate {
            rate.ready(now).ok()?;
        }
        let handout = self.plan.next(now)?;
        if let Some(rate) = &mut self.rate {
            rate.charge(handout.range.len());
        }
        Some(Action::Fetch { range: handout.range, untouched: self.config.fresh && handout.first_time })
    }

    fn poll_finish(&mut self) -> Option<Action> {
        if !self.plan.is_complete() || !self.verification.is_done() || self.in_flight() > 0 || self.frozen.is_some() {
            return None;
        }
        let length = self.length.expect("a complete plan has an end");
        if !self.length_asked {
            self.length_asked = true;
            return Some(Action::SetLength(length));
        }
        if !self.length_set {
            return None;
        }
        if !self.length_synced {
            return self.sync();
        }
        if self.report_outstanding {
            return None;
        }
        self.over = true;
        let crc32 = self.durable.whole(length).expect("every byte is durable");
        Some(Action::Finish { length, crc32 })
    }

    fn poll_ending(&mut self) -> Option<Action> {
        if self.in_flight() > 0 || self.frozen.is_some() {
            return None;
        }
        let ending = self.ending.clone()?;
        let worth_keeping = match &ending {
            Ending::Stopped(StopReason::Pause | StopReason::Shutdown) => true,
            Ending::Stopped(StopReason::Cancel | StopReason::LeaseLost) => false,
            Ending::Failed(error) => {
                !self.sync_failed && error.disposition != Disposition::SourceChanged && error.code != Code::LeaseLost
            }
        };
        if worth_keeping {
            if self.written.since.is_some() {
                return self.sync();
            }
            if let Some(checkpoint) = self.poll_checkpoint() {
                return Some(checkpoint);
            }
            if self.report_outstanding {
                return None;
            }
        }
        self.over = true;
        Some(Action::End(ending))
    }
}
