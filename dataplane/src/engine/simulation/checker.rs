//! What must hold at every step of every attempt, whatever the days are like. It knows the truth (the source's bytes,
//! and which of them survive a crash at this very moment); the engine knows only what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use staccato_protocols::{ByteRange, CRC_BLOCK, Disposition, Error};

use crate::engine::window::Connections;

use super::{
    disk::Disk,
    ledger::Ledger,
    present::PresentObject,
    source::{Source, blocks},
};
use crate::{
    attempt::{StopReason, VerifiedRange},
    engine::{
        Action, Ending, Engine, EngineConfig, SYNC_INTERVAL_MAX, checkpoint::fits, repair::Reuse,
        retry::CHUNK_TRIES_MAX,
    },
};

/// Nothing, or what does not hold.
pub(super) type Verdict = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
pub(super) use ensure;

/// The truth at one moment.
#[derive(Clone, Copy)]
pub(super) struct Truth<'a> {
    pub disk: &'a Disk,
    /// The version this attempt opened.
    pub source: &'a Source,
    pub ledger: &'a Ledger,
    pub present: Option<&'a PresentObject>,
    pub now: Duration,
}

/// Watches one attempt.
pub(super) struct Checker {
    config: EngineConfig,
    fetching: BTreeMap<u64, ByteRange>,
    reading: BTreeSet<u64>,
    /// Start of each block that was written.
    written: BTreeSet<u64>,
    /// Start of each block that was read back.
    read: BTreeSet<u64>,
    /// Blocks that were read back and are not what was promised.
    suspects: BTreeSet<u64>,
    /// Blocks written since the last sync began, and since when there are any.
    unsynced: Vec<(u64, u32)>,
    unsynced_since: Option<Duration>,
    failures: BTreeMap<u64, u32>,
    resting: BTreeSet<u64>,
    syncing: bool,
    setting_length: bool,
    length_is_set: bool,
    reporting: bool,
    sync_failed: bool,
    stops: Vec<StopReason>,
    /// Something happened after which the attempt cannot go on.
    doomed: bool,
    /// What is written is of no use: the source changed before anything else ended the attempt.
    worthless: bool,
    /// Bytes handed out to be fetched, but for those that needed no reading.
    bytes_asked: u64,
    bytes_durable: u64,
    bytes_refuted: u64,
    /// Whether everything at the destination that was looked at was right.
    comparing: bool,
    kept: bool,
    /// Whether anything failed.
    failed: bool,
    /// The present object's version when it was looked at.
    present_version: u32,
    /// What has to be fetched of what no checkpoint promises, while the present object does not change.
    bytes_to_fetch: u64,
}

impl Checker {
    pub fn new(config: EngineConfig, engine: &Engine, present: Option<&PresentObject>, source: &Source) -> Self {
        let whole = ByteRange::new(0, source.length).expect("0 is the smallest start");
        let usable = present.filter(|_| config.present.is_some());
        let fetched = |block: ByteRange| usable.map_or(block.len(), |present| present.bytes_to_fetch(block, source));
        let promised = |block: ByteRange| config.checkpoint.iter().any(|known| known.range.overlaps(block));
        let bytes_to_fetch = blocks(whole).filter(|block| !promised(*block)).map(fetched).sum();
        let comparing = config.present.is_some_and(|present| present.length == source.length);
        Self {
            comparing: comparing && config.checkpoint.is_empty(),
            kept: false,
            failed: false,
            present_version: present.map_or(0, |present| present.version),
            bytes_to_fetch,
            config,
            fetching: BTreeMap::new(),
            reading: BTreeSet::new(),
            written: BTreeSet::new(),
            read: BTreeSet::new(),
            suspects: BTreeSet::new(),
            unsynced: Vec::new(),
            unsynced_since: None,
            failures: BTreeMap::new(),
            resting: BTreeSet::new(),
            syncing: false,
            setting_length: false,
            length_is_set: false,
            reporting: false,
            sync_failed: false,
            stops: Vec::new(),
            doomed: false,
            worthless: false,
            bytes_asked: 0,
            bytes_durable: engine.bytes_durable(),
            bytes_refuted: 0,
        }
    }

    /// Before an action is carried out.
    pub fn action(&mut self, action: &Action, engine: &Engine, truth: Truth<'_>) -> Verdict {
        let nothing_kept = self.stops.iter().any(|reason| !reason.keeps_written());
        if !matches!(action, Action::End(_)) {
            ensure!(!nothing_kept, "it goes on after a cancel or a lost lease");
            ensure!(!self.worthless, "it goes on with an object that is no more");
        }
        if !matches!(action, Action::End(_) | Action::Sync { .. } | Action::Checkpoint(_)) {
            ensure!(self.stops.is_empty() && !self.doomed, "it goes on although it has to end");
        }
        match action {
            Action::Fetch { range, untouched, reuse, .. } => {
                self.fetch(*range, *untouched, reuse.as_ref(), engine, truth)
            }
            Action::Compare(range) => self.compare(*range, truth),
            Action::KeepPresent => self.keep_present(),
            Action::ReadBack(range) => self.read_back(*range),
            Action::Sync { blocks } => self.sync(blocks),
            Action::Checkpoint(ranges) => self.checkpoint(ranges, engine, truth),
            Action::SetLength(length) => self.set_length(*length, truth),
            Action::Finish { length, crc32 } => self.finish(*length, *crc32, engine, truth),
            Action::End(ending) => self.end(ending, engine, truth),
        }
    }

    /// After an action or an event.
    pub fn step(&mut self, engine: &Engine, truth: Truth<'_>) -> Verdict {
        for promised in truth.ledger.promises(truth.disk) {
            for block in blocks(promised) {
                let survives = truth.disk.keeps_or_is_excused(block, truth.source);
                ensure!(survives, "a crash now could lose {block}, which the ledger promises");
            }
        }
        let (durable, refuted) = (engine.bytes_durable(), engine.bytes_refuted());
        let refuted_now = refuted - self.bytes_refuted;
        ensure!(durable + refuted_now >= self.bytes_durable, "durable bytes fell without being refuted");
        (self.bytes_durable, self.bytes_refuted) = (durable, refuted);
        let unsynced = engine.bytes_written() - durable;
        let bound = 2 * self.config.sync_bytes_max + self.config.chunk_bytes;
        ensure!(unsynced < bound, "{unsynced} bytes are not durable, at most {bound} may be");
        Ok(())
    }

    /// When the engine has nothing to do at this time.
    pub fn idle(&self, truth: Truth<'_>) -> Verdict {
        let busy = !self.fetching.is_empty() && !self.syncing && self.stops.is_empty() && !self.doomed;
        if let Some(since) = self.unsynced_since.filter(|_| busy) {
            ensure!(truth.now <= since + SYNC_INTERVAL_MAX, "what was written at {since:?} still waits for a sync");
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.fetching.len() + self.reading.len()
    }

    fn compare(&mut self, range: ByteRange, truth: Truth<'_>) -> Verdict {
        ensure!(self.comparing, "{range} is compared although something differs");
        ensure!(!range.is_empty() && range.len() <= self.config.chunk_bytes, "{range} is no chunk");
        ensure!(range.start().is_multiple_of(CRC_BLOCK), "{range} does not begin with a block");
        ensure!(range.end() <= truth.source.length, "{range} lies behind the end");
        ensure!(self.in_flight() < self.config.window_chunks_max, "the window is full");
        if let Connections::Fixed(max) | Connections::Adaptive { max } = self.config.connections {
            ensure!(self.fetching.len() < max, "more than {max} connections");
        }
        ensure!(!self.fetching.values().any(|other| other.overlaps(range)), "{range} is on its way already");
        let failures = self.failures.get(&range.start()).copied().unwrap_or_default();
        ensure!(failures < CHUNK_TRIES_MAX, "{range} has failed {failures} times");
        self.resting.remove(&range.start());
        self.fetching.insert(range.start(), range);
        Ok(())
    }

    fn keep_present(&self) -> Verdict {
        ensure!(self.comparing, "what differs shall stay");
        self.nothing_in_flight()
    }

    fn fetch(
        &mut self,
        range: ByteRange,
        untouched: bool,
        reuse: Option<&Reuse>,
        engine: &Engine,
        truth: Truth<'_>,
    ) -> Verdict {
        ensure!(!self.comparing, "{range} is fetched although nothing differs");
        let reusable = |block: ByteRange| self.config.present.is_some_and(|present| block.end() <= present.length);
        let reused = |block: ByteRange| reuse.is_some_and(|reuse| block.end() <= reuse.end);
        ensure!(blocks(range).all(|block| reused(block) == reusable(block)), "{reuse:?} of {range}");
        if let Some(Reuse { end, wanted: Some(wanted), .. }) = reuse {
            let known = ByteRange::new(range.start(), *end).expect("what is reused lies within");
            ensure!(*wanted == truth.source.crcs(known), "the source has other CRCs at {known}");
        }
        ensure!(reuse.is_none_or(|reuse| reuse.in_place == self.is_in_place()), "{reuse:?} is not where it is");
        ensure!(!range.is_empty() && range.len() <= self.config.chunk_bytes, "{range} is no chunk");
        ensure!(range.start().is_multiple_of(CRC_BLOCK), "{range} does not begin with a block");
        ensure!(engine.length().is_none_or(|length| range.end() <= length), "{range} lies behind the end");
        ensure!(self.in_flight() < self.config.window_chunks_max, "the window is full");
        if let Connections::Fixed(max) | Connections::Adaptive { max } = self.config.connections {
            ensure!(self.fetching.len() < max, "more than {max} connections");
        }
        ensure!(!self.fetching.values().any(|other| other.overlaps(range)), "{range} is on its way already");
        if self.config.sequential || engine.length().is_none() {
            ensure!(self.fetching.is_empty(), "a stream has one reader");
            let first = self.resting.first();
            ensure!(first.is_none_or(|first| *first == range.start()), "a stream waits for what failed");
        }
        if let Some(rate) = self.config.rate_limit {
            let allowed = (rate as f64 * (truth.now.as_secs_f64() + 0.25)) as u64 + 1;
            ensure!(self.bytes_asked <= allowed, "{} bytes are asked for, of {allowed}", self.bytes_asked);
        }
        let promised = truth.ledger.promises(truth.disk).find(|promised| promised.overlaps(range));
        ensure!(promised.is_none(), "{range} is written over while {promised:?} is promised");
        ensure!(!truth.ledger.promises_elsewhere(truth.disk), "{range} is written while another inode is promised");
        ensure!(!untouched || !truth.disk.is_touched(range), "{range} was written before");
        for block in blocks(range) {
            ensure!(!self.written.contains(&block.start()), "{block} was fetched before");
            if let Some(known) = self.promised_at_first(block) {
                ensure!(self.is_decided(known), "{block} was promised, and is fetched before it is compared");
                // Where the sidecar knows every block of a range, only the wrong ones are fetched again.
                let crcs = truth.source.crcs(known.range);
                let noted = |block: ByteRange| self.config.sidecar.get(&(block.start() / CRC_BLOCK)).copied();
                let sidecar_is_right = blocks(known.range).map(noted).eq(crcs.into_iter().map(Some));
                let why = blocks(if sidecar_is_right { block } else { known.range })
                    .any(|block| self.suspects.contains(&block.start()));
                ensure!(why, "{block} was promised, and is fetched although it is right");
            }
        }
        let failures = self.failures.get(&range.start()).copied().unwrap_or_default();
        ensure!(failures < CHUNK_TRIES_MAX, "{range} has failed {failures} times");
        self.bytes_asked += range.len();
        self.resting.remove(&range.start());
        self.fetching.insert(range.start(), range);
        Ok(())
    }

    fn read_back(&mut self, range: ByteRange) -> Verdict {
        ensure!(self.in_flight() < self.config.window_chunks_max, "the window is full");
        for block in blocks(range) {
            ensure!(self.promised_at_first(block).is_some(), "{block} was never promised");
            ensure!(!self.read.contains(&block.start()), "{block} was read back before");
        }
        ensure!(self.reading.insert(range.start()), "{range} is being read already");
        Ok(())
    }

    fn sync(&mut self, noted: &[(u64, u32)]) -> Verdict {
        ensure!(!self.syncing, "one sync at a time");
        ensure!(!self.setting_length, "one sync does for the last bytes and the length");
        ensure!(!self.sync_failed, "a failed sync is tried again");
        // Nothing is compared with what is committed: the last sync need not note.
        let needless = noted.is_empty() && self.length_is_set;
        ensure!(needless || noted == self.unsynced, "the sidecar misses a block, or has one too many");
        self.unsynced.clear();
        self.unsynced_since = None;
        self.syncing = true;
        Ok(())
    }

    fn checkpoint(&mut self, ranges: &[VerifiedRange], engine: &Engine, truth: Truth<'_>) -> Verdict {
        ensure!(!self.reporting, "one report at a time");
        ensure!(!self.sync_failed, "it reports after a failed sync");
        ensure!(fits(ranges, engine.length()), "no such object: {ranges:?}");
        for known in ranges {
            ensure!(known.crc32 == truth.source.crc(known.range), "{} has another CRC", known.range);
            for block in blocks(known.range) {
                // What an earlier attempt left may have been damaged since, as long as nobody has compared it.
                let survives = if self.written.contains(&block.start()) || self.is_compared(block) {
                    truth.disk.keeps(block, truth.source)
                } else {
                    truth.disk.keeps_or_is_excused(block, truth.source)
                };
                ensure!(survives, "{block} is promised and not durable");
            }
        }
        let bytes: u64 = ranges.iter().map(|known| known.range.len()).sum();
        ensure!(bytes == engine.bytes_durable(), "{bytes} bytes are promised, {} durable", engine.bytes_durable());
        self.reporting = true;
        Ok(())
    }

    fn set_length(&mut self, length: u64, truth: Truth<'_>) -> Verdict {
        ensure!(length == truth.source.length, "the object has {} bytes, not {length}", truth.source.length);
        ensure!(self.in_flight() == 0 && !self.syncing && !self.setting_length, "something is in flight");
        self.setting_length = true;
        Ok(())
    }

    fn finish(&mut self, length: u64, crc32: u32, engine: &Engine, truth: Truth<'_>) -> Verdict {
        self.nothing_in_flight()?;
        if self.kept {
            let whole = ByteRange::new(0, length).expect("0 is the smallest start");
            ensure!(crc32 == truth.source.crc(whole), "the CRC is not the object's");
            ensure!(engine.bytes_fetched() == 0, "{} bytes are fetched for nothing", engine.bytes_fetched());
            return Ok(());
        }
        ensure!(!self.reporting && self.unsynced.is_empty(), "something is not durable, or not told");
        let whole = ByteRange::new(0, length).expect("0 is the smallest start");
        ensure!(truth.disk.is_whole(truth.source), "what is on the disk is not the source's object");
        ensure!(crc32 == truth.source.crc(whole), "the CRC is not the object's");
        let promised: u64 = self.config.checkpoint.iter().map(|known| known.range.len()).sum();
        let missing = length - promised + engine.bytes_refuted();
        ensure!(engine.bytes_fetched() <= missing, "{} bytes are fetched for {missing}", engine.bytes_fetched());
        if self.config.present.is_some() && truth.present.is_some_and(|there| there.version == self.present_version) {
            let (fetched, differing) = (engine.bytes_fetched(), self.bytes_to_fetch + engine.bytes_refuted());
            let nothing_failed = !self.failed && self.config.checkpoint.is_empty();
            let right = if nothing_failed { fetched == differing } else { fetched <= differing };
            ensure!(right, "{fetched} bytes are fetched where {differing} differ");
        }
        Ok(())
    }

    fn end(&mut self, ending: &Ending, engine: &Engine, truth: Truth<'_>) -> Verdict {
        self.nothing_in_flight()?;
        let keeps = match ending {
            Ending::Stopped(reason) => {
                ensure!(self.stops.contains(reason), "nobody asked to stop for {reason:?}");
                ensure!(!self.stops.iter().any(|other| other.overrides(*reason)), "it was told to stop for more");
                reason.keeps_written()
            }
            Ending::Failed(error) => {
                ensure!(self.doomed, "it gave up without need: {error}");
                ensure!(self.stops.iter().all(|reason| reason.keeps_written()), "it was told to leave");
                error.disposition != Disposition::SourceChanged
            }
        };
        if keeps && !self.sync_failed {
            let (durable, written) = (engine.bytes_durable(), engine.bytes_written());
            ensure!(durable == written, "{durable} of {written} bytes are durable");
            let recorded = &truth.ledger.recorded;
            let known = if recorded.inode == truth.disk.inode { recorded.bytes() } else { 0 };
            ensure!(known == durable, "the ledger knows {known} of {durable} bytes");
        }
        Ok(())
    }

    fn nothing_in_flight(&self) -> Verdict {
        ensure!(self.in_flight() == 0 && !self.syncing && !self.setting_length, "something is in flight");
        Ok(())
    }

    /// The range of the attempt's first checkpoint that a block belongs to.
    fn promised_at_first(&self, block: ByteRange) -> Option<VerifiedRange> {
        self.config.checkpoint.iter().find(|known| known.range.overlaps(block)).copied()
    }

    fn is_compared(&self, block: ByteRange) -> bool {
        self.promised_at_first(block).is_some_and(|known| self.is_decided(known))
    }

    fn is_decided(&self, known: VerifiedRange) -> bool {
        blocks(known.range).all(|block| self.read.contains(&block.start()))
    }

    /// A fetch has come home: what was there, its CRCs, and how many bytes had to be read for it.
    pub fn fetched(&mut self, there: ByteRange, crcs: &[u32], bytes_read: u64, now: Duration) {
        let asked = self.fetching.remove(&there.start()).expect("only what is on its way comes home");
        self.bytes_asked -= asked.len() - bytes_read;
        for (block, crc) in blocks(there).zip(crcs) {
            self.written.insert(block.start());
            self.unsynced.push((block.start() / CRC_BLOCK, *crc));
            self.unsynced_since.get_or_insert(now);
        }
    }

    /// A compare has come home: the CRCs when all is right.
    pub fn compared(&mut self, range: ByteRange, same: Option<&[u32]>, now: Duration) {
        self.fetching.remove(&range.start()).expect("only what is on its way comes home");
        self.comparing &= same.is_some();
        // Should it be fetched, then that is something else.
        self.failures.remove(&range.start());
        if let Some(crcs) = same.filter(|_| self.is_in_place()) {
            for (block, crc) in blocks(range).zip(crcs) {
                self.written.insert(block.start());
                self.unsynced.push((block.start() / CRC_BLOCK, *crc));
                self.unsynced_since.get_or_insert(now);
            }
        }
    }

    pub fn present_stays(&mut self, stays: bool, truth: Truth<'_>) -> Verdict {
        let right = truth.present.is_some_and(|present| present.is(truth.source));
        ensure!(right || !stays, "what stays at the destination is not the source's object");
        self.kept = stays;
        self.comparing &= stays;
        Ok(())
    }

    /// Whether the disk is a clone of what is at the destination.
    pub fn is_in_place(&self) -> bool {
        self.config.present.is_some_and(|present| present.in_place)
    }

    /// A fetch has failed.
    pub fn fetch_failed(&mut self, range: ByteRange, error: &Error) {
        self.fetching.remove(&range.start());
        self.resting.insert(range.start());
        let changed = error.disposition == Disposition::SourceChanged;
        self.worthless |= changed && !self.doomed && self.stops.is_empty();
        let failures = self.failures.entry(range.start()).or_default();
        *failures += 1;
        self.failed = true;
        self.doomed |= *failures >= CHUNK_TRIES_MAX || !matches!(error.disposition, Disposition::Retry { .. });
    }

    /// A range was read back: which CRCs were found, and what the source has.
    pub fn was_read_back(&mut self, range: ByteRange, found: Option<&[u32]>, truth: &[u32]) {
        self.reading.remove(&range.start());
        for (at, block) in blocks(range).enumerate() {
            self.read.insert(block.start());
            if found.is_none_or(|found| found[at] != truth[at]) {
                self.suspects.insert(block.start());
            }
        }
    }

    pub fn synced(&mut self, ok: bool) {
        self.syncing = false;
        self.sync_failed |= !ok;
        self.doomed |= !ok;
    }

    /// The checkpoint is recorded, or could not be sent because its name could not be synced.
    pub fn reported(&mut self, ok: bool) {
        self.reporting = false;
        self.sync_failed |= !ok;
        self.doomed |= !ok;
    }

    pub fn length_set(&mut self, ok: bool) {
        self.setting_length = false;
        self.length_is_set = ok;
        self.doomed |= !ok;
    }

    pub fn stopped(&mut self, reason: StopReason) {
        self.stops.push(reason);
    }
}
