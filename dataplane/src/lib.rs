//! Moves bytes: a pure [`engine`] that decides, io_uring [`lane`]s that do, and [`attempt`]s that join the two for one
//! try at one transfer. A pure [`swarm`] says whom to ask for what, where many hosts want one object.

#![warn(missing_docs)]

pub mod attempt;
pub mod copies;
pub mod engine;
pub mod lane;
pub mod swarm;
pub mod transport;
pub mod yardstick;
mod zeros;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attempt::{
    AttemptHandle, AttemptSpec, LaneChoice, Reporter,
    run::{Bench, run},
};
use lane::{Lanes, message::Input, preflight};
use staccato_protocols::{
    CRC_BLOCK, Error, Registry, Runtime,
    spool::{Spool, SpoolConfig},
};
use transport::{
    offer::CopyName,
    peers::{Addresses, LinkReport, PeersConfig, Refusals, Served},
};

/// At most so much of a lane's memory is registered with its ring: enough to keep a disk busy, and not pinned for
/// nothing on a lane that idles.
const REGISTERED_BYTES_MAX: u64 = 64 << 20;
/// A quarter of a lane's memory is for other executors.
const SERVING_SHARE: u64 = 4;
/// So many chunks of a lane an attempt may always have: fewer do not keep a disk busy.
const SHARE_CHUNKS_MIN: u64 = 4;

/// What a process gives its dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Most bytes of memory for buffers, over all lanes.
    pub memory_bytes: u64,
    /// Number of lanes of each kind; each is pinned to a core of its own while there are enough.
    pub lanes: usize,
    /// Which kind of lane moves files to files.
    pub lane_choice: LaneChoice,
    /// Bytes per chunk unless a transfer says otherwise: a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// Most attempts at a time: each has its share of the memory, so that none waits for another one's slow source.
    pub attempts_max: usize,
    /// Where objects are kept on their way, whose destination takes one stream only, or whose source cannot seek; none
    /// moves them without.
    pub spool: Option<SpoolConfig>,
    /// Whether there are other executors, whose objects are read and who read this one's: on glommio lanes, beside those
    /// of the other kind.
    pub among_others: bool,
}

impl DataplaneConfig {
    /// Whether there are lanes of both kinds: beside those that were chosen, glommio's for other executors, and
    /// tokio-uring's for modules that work on these only.
    fn has_both_kinds(&self) -> bool {
        self.among_others || self.lane_choice == LaneChoice::Glommio
    }

    /// What one lane may use of the memory; where there are both kinds of lanes, each kind gets half.
    pub(crate) fn lane_memory_bytes(&self) -> u64 {
        let kinds = if self.has_both_kinds() { 2 } else { 1 };
        self.memory_bytes / kinds / self.lanes.max(1) as u64
    }

    /// What of a lane's memory is kept for other executors that read.
    pub(crate) fn serving_bytes(&self) -> u64 {
        if self.among_others { self.lane_memory_bytes() / SERVING_SHARE } else { 0 }
    }

    /// How much of its memory a lane registers with its ring.
    pub(crate) fn registered_bytes(&self) -> u64 {
        (self.lane_memory_bytes() / 2).min(REGISTERED_BYTES_MAX)
    }

    /// Most rings that lanes will have: one on each tokio-uring lane, three on each glommio lane.
    pub(crate) fn rings(&self) -> usize {
        self.lanes.max(1) * if self.has_both_kinds() { 4 } else { 1 }
    }

    /// What one attempt may use of a lane's memory. With many attempts that is more than there is for each: then they
    /// wait for one another, but one that runs alone is not slow.
    pub(crate) fn share_bytes(&self) -> u64 {
        let lane = self.lane_memory_bytes() - self.serving_bytes();
        let part = lane / self.attempts_max.max(1) as u64;
        part.max(lane.min(SHARE_CHUNKS_MIN * self.chunk_bytes)).max(CRC_BLOCK)
    }

    /// Bytes per chunk of a transfer that asks for `asked`. Chunks larger than the usual ones fit no registered buffer,
    /// and have half of the memory only ([`BufferPool`](staccato_protocols::BufferPool)).
    pub(crate) fn chunk_bytes_of(&self, asked: Option<u64>) -> u64 {
        let usual = self.chunk_bytes.min(self.share_bytes());
        let most = usual.max(self.share_bytes() / 2);
        asked.unwrap_or(usual).min(most) / CRC_BLOCK * CRC_BLOCK
    }
}

/// The lanes of one process. Cheap to clone; lanes end when the last clone is gone.
#[derive(Clone)]
pub struct Dataplane {
    inner: Arc<Inner>,
}

struct Inner {
    config: DataplaneConfig,
    registry: Registry,
    /// Ends before the lanes do.
    peers: Option<Served>,
    spool: Option<Spool>,
    lanes: Lanes,
    attempts: AtomicU64,
}

impl Dataplane {
    /// Checks that the kernel offers what lanes need, and starts them.
    pub fn start(config: DataplaneConfig, registry: Registry) -> Result<Self, Error> {
        Self::start_with(DataplaneConfig { among_others: false, ..config }, registry, None)
    }

    /// The same, as one executor among others: it reads their objects, and shows its own to those that have tickets.
    pub fn start_among(config: DataplaneConfig, registry: Registry, peers: PeersConfig) -> Result<Self, Error> {
        Self::start_with(DataplaneConfig { among_others: true, ..config }, registry, Some(peers))
    }

    fn start_with(config: DataplaneConfig, registry: Registry, peers: Option<PeersConfig>) -> Result<Self, Error> {
        preflight::check_io_uring(&config)?;
        preflight::warn_about_memlock(config.registered_bytes() * config.lanes.max(1) as u64);
        let lanes = Lanes::new(config.clone());
        lanes.of(match config.lane_choice {
            LaneChoice::Glommio => Runtime::Glommio,
            LaneChoice::Auto | LaneChoice::TokioUring => Runtime::TokioUring,
        })?;
        let peers = match peers {
            Some(peers) => Some(Served::start(peers, registry.clone(), lanes.of(Runtime::Glommio)?)?),
            None => None,
        };
        let spool = config.spool.clone().map(Spool::new);
        Ok(Self { inner: Arc::new(Inner { config, registry, peers, spool, lanes, attempts: AtomicU64::new(0) }) })
    }

    /// Where other executors may connect, when they may.
    pub fn addresses(&self) -> Option<Addresses> {
        self.inner.peers.as_ref()?.addresses().cloned()
    }

    /// What is known of the links to other hosts.
    pub fn links(&self) -> Vec<LinkReport> {
        self.inner.peers.as_ref().map(|served| served.peers().links()).unwrap_or_default()
    }

    /// The copies that this executor offers to others.
    pub fn offers(&self) -> Vec<CopyName> {
        self.inner.peers.as_ref().map(|served| served.peers().offers().list()).unwrap_or_default()
    }

    /// Offers nothing of a copy any more, whose key this is.
    pub fn withdraw(&self, key: &str) {
        self.inner.peers.iter().for_each(|served| served.peers().forget(key));
    }

    /// Which readers were turned away.
    pub fn refusals(&self) -> Refusals {
        self.inner.peers.as_ref().map(|served| served.peers().refusals()).unwrap_or_default()
    }

    /// Begins an attempt on a thread of its own. `reporter` is made from the handle, so that it can answer.
    pub fn attempt(
        &self,
        spec: AttemptSpec,
        reporter: impl FnOnce(AttemptHandle) -> Box<dyn Reporter>,
    ) -> AttemptHandle {
        let (replies, inbox) = flume::unbounded();
        let notices = replies.clone();
        let handle = AttemptHandle::new(move |notice| drop(notices.send(Input::Notice(notice))));
        let mut reporter = reporter(handle.clone());
        let inner = self.inner.clone();
        let key = inner.attempts.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            let peers = inner.peers.as_ref().map(|served| &**served.peers());
            let (config, registry, lanes) = (&inner.config, &inner.registry, &inner.lanes);
            let spool = inner.spool.as_ref();
            let bench = Bench { key, config, registry, lanes, peers, spool, inbox: &inbox, replies };
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&bench, &spec, reporter.as_mut())));
            // A broken invariant: what this process believes cannot be trusted, and another one goes on from the
            // ledger.
            let Ok(outcome) = outcome else { std::process::abort() };
            reporter.finished(outcome);
        };
        std::thread::Builder::new()
            .name(format!("attempt-{key}"))
            .spawn(work)
            .expect("a process that cannot start a thread cannot go on");
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_has_its_share_of_a_lane_and_large_chunks_half_of_it() {
        const MIB: u64 = 1 << 20;
        let config = |memory_bytes, attempts_max| DataplaneConfig {
            memory_bytes,
            lanes: 2,
            lane_choice: LaneChoice::Auto,
            chunk_bytes: 4 * MIB,
            attempts_max,
            spool: None,
            among_others: false,
        };
        let usual = config(256 * MIB, 4);
        assert_eq!((usual.share_bytes(), usual.chunk_bytes_of(None)), (32 * MIB, 4 * MIB));
        assert_eq!(usual.chunk_bytes_of(Some(64 * MIB)), 16 * MIB);
        assert_eq!(usual.chunk_bytes_of(Some(MIB)), MIB);
        // Four of the usual chunks, however many attempts there may be.
        let crowded = config(64 * MIB, 1000);
        assert_eq!((crowded.share_bytes(), crowded.chunk_bytes_of(None)), (16 * MIB, 4 * MIB));
        assert_eq!(crowded.chunk_bytes_of(Some(64 * MIB)), 8 * MIB);
        // Whole blocks, at least one, and no more than a lane has.
        assert_eq!(config(7 * MIB, 3).chunk_bytes_of(None), 3 * MIB);
        assert_eq!(config(MIB, 3).chunk_bytes_of(None), MIB);
    }
}
