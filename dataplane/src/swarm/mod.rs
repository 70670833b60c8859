//! Decides, for one host of a distribution, which chunk to ask of whom next: pure.
//!
//! A swarm sees no clock, socket, file or thread. Events come in through `handle_*`, with `now` as the time since any fixed
//! moment; questions come out of [`Swarm::poll`], which is called until it returns nothing, after every event and when
//! [`Swarm::poll_timeout`] has passed. What is random comes from [`SwarmConfig::seed`] alone. The network's bench and a
//! simulation drive this very code.
//!
//! - *Rarest first*: of what others have and this host misses, the chunk that the fewest of its peers have; among equally
//!   rare ones each host has an order of its own. Peers in the same rack are asked first.
//! - *First copies*: a seed reads chunks of its own ([`Allotment`]) that nobody it knows has, beside what it asks of peers. What
//!   is another seed's, it reads only where that one is gone or late.
//! - *Slow peers*: a question that takes three times what is usual keeps no place in the window, and its
//!   peer is asked only for what no other has, one chunk at a time.
//! - *Endgame*: when nothing else can be asked, a question that is late is put to a second holder, too, and to a third one
//!   when both are slow, for two may have died. The slower answers are dropped.
//!
//! Invariants:
//!
//! - A chunk is asked of at most three peers at a time: of a second one while the first is late or known as slow, of a third
//!   one while both are slow.
//! - The source is asked for chunks of the allotment only, and for none again that has come, from whomever.
//! - A peer that sent wrong bytes, or said too often that it has what it has not, is not asked again.
//! - The time that `poll_timeout` tells has not passed yet, and questions are bounded: nobody polls in vain for ever.

mod choice;
mod chunk_set;
mod peers;
mod questions;
mod reach;
pub mod seeds;
mod source;
pub mod uploads;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use chunk_set::ChunkSet;
use peers::Peers;
use questions::{Question, Questions};
use reach::Reach;
use source::Source;
pub use uploads::{Answer, Uploads};

/// Another host of the distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// Who has a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// The object's source.
    Source,
    /// Another host.
    Peer(PeerKey),
}

/// Where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nearness {
    /// In the rack of this host: what comes from there crosses nothing that others share.
    SameRack,
    /// Anywhere else.
    Elsewhere,
}

/// A question: this chunk, of this holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// Which chunk.
    pub chunk: u32,
    /// Of whom.
    pub from: Holder,
}

/// Why a question brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// All slots are taken there, for about so long.
    Busy {
        /// What it said.
        after: Duration,
    },
    /// It has not got the chunk, though it said so.
    Absent,
    /// There is no way to it any more. Its other questions are taken back, too.
    Gone,
    /// It sent bytes that are not those of the chunk. It counts as gone, and for good.
    Wrong,
    /// Anything else: it may be asked again.
    Retry,
}

/// What a member may read of the source. No chunk is in two of its sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// It reads these, where nobody it knows has them.
    pub own: ChunkSet,
    /// It reads these, too, where the one that reads them is gone or late.
    pub reserves: Vec<Reserve>,
}

/// What a seed reads in place of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// The other one.
    pub of: PeerKey,
    /// Some of what is its own.
    pub chunks: ChunkSet,
}

impl Allotment {
    /// Of a member that is no seed.
    pub fn none(chunks: u32) -> Self {
        Self { own: ChunkSet::empty(chunks), reserves: Vec::new() }
    }

    /// Whether it is of this chunk.
    pub fn contains(&self, chunk: u32) -> bool {
        self.own.contains(chunk) || self.reserves.iter().any(|reserve| reserve.chunks.contains(chunk))
    }

    /// What is in this set is not to be read.
    pub fn subtract(&mut self, chunks: &ChunkSet) {
        self.own.subtract(chunks);
        self.reserves.iter_mut().for_each(|reserve| reserve.chunks.subtract(chunks));
    }
}

/// What a swarm is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmConfig {
    /// How many chunks the object has.
    pub chunks: u32,
    /// Where everything random comes from: another one for each host.
    pub seed: u64,
    /// Questions to peers under way, of which none is slow. More of them make each chunk come later, and it can only be
    /// passed on as a whole: as many as keep the link busy are best. Slow ones come on top, up to as many again.
    pub asks_max: usize,
    /// Questions to one peer under way.
    pub asks_per_peer_max: usize,
    /// Questions to the source under way, beside those to peers.
    pub source_asks_max: usize,
    /// Until it is known what is usual: after so long a question counts as slow, and a seed that has read what is its own
    /// reads what is another one's.
    pub patience: Duration,
    /// Peers that are remembered; those met beyond are not.
    pub peers_max: usize,
}

impl SwarmConfig {
    /// What suits most hosts and networks.
    pub fn new(chunks: u32, seed: u64) -> Self {
        Self {
            chunks,
            seed,
            asks_max: 6,
            asks_per_peer_max: 4,
            source_asks_max: 1,
            patience: Duration::from_secs(2),
            peers_max: 64,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Swarm {
    config: SwarmConfig,
    /// Written and checked.
    have: ChunkSet,
    /// Neither here nor asked for.
    open: ChunkSet,
    peers: Peers,
    source: Source,
    questions: Questions,
    reach: Reach,
}

impl Swarm {
    /// A member that has some chunks already.
    pub fn new(config: SwarmConfig, have: ChunkSet, allotment: Allotment) -> Self {
        assert_eq!(have.chunks(), config.chunks, "what is here is of this object");
        let mut open = ChunkSet::full(config.chunks);
        open.subtract(&have);
        let mut swarm = Self {
            source: Source::new(&have),
            have,
            open,
            peers: Peers::new(config.chunks, config.peers_max.min(u8::MAX.into())),
            questions: Questions::new(config.patience),
            reach: Reach::new(config.asks_max),
            config,
        };
        swarm.handle_allotted(allotment, Duration::ZERO);
        swarm
    }

    /// A peer can be asked. One that is met again has nothing until it says so: it may have been started anew.
    pub fn handle_met(&mut self, peer: PeerKey, nearness: Nearness, _now: Duration) {
        self.take_back(peer);
        self.peers.met(peer, nearness);
        self.source.handle_met(peer);
    }

    /// A peer is not there any more.
    pub fn handle_gone(&mut self, peer: PeerKey, _now: Duration) {
        self.take_back(peer);
        self.peers.gone(peer);
        self.source.handle_gone(peer);
    }

    /// A peer has these chunks, too.
    pub fn handle_have(&mut self, peer: PeerKey, chunks: &ChunkSet, now: Duration) {
        self.peers.have(peer, chunks, now);
        self.questions.told(peer, chunks);
        if !chunks.is_empty() {
            self.source.handle_have(peer);
        }
    }

    /// A chunk is here, written and checked. If it was asked of other peers, too, those questions are to be dropped. One to
    /// the source is not: what was begun there is read, and counts.
    pub fn handle_arrived(&mut self, ask: Ask, now: Duration) -> Vec<Ask> {
        if let Some(took) = self.questions.arrived(ask, now) {
            self.ended(ask);
            match ask.from {
                Holder::Source => self.source.arrived(ask.chunk, took, now),
                Holder::Peer(peer) => {
                    let [near, far] =
                        [Nearness::SameRack, Nearness::Elsewhere].map(|nearness| self.questions.usual(nearness));
                    if self.peers.arrived(peer, took, [near, far], now) == Some(Nearness::Elsewhere) {
                        self.reach.arrived(near, far, self.config.asks_max);
                    }
                }
            }
        }
        self.source.need_not_read(ask.chunk);
        self.have.insert(ask.chunk);
        self.open.remove(ask.chunk);
        let mut dropped = Vec::new();
        while let Some(Question { ask, at, .. }) = self.questions.take(ask.chunk) {
            self.ended(ask);
            if let Holder::Peer(peer) = ask.from {
                self.peers.outrun(peer, now.saturating_sub(at));
            }
            dropped.push(ask);
        }
        dropped
    }

    /// A question brought nothing.
    pub fn handle_failed(&mut self, ask: Ask, failure: Failure, now: Duration) {
        let question = self.questions.end(ask);
        if question.is_some() {
            self.ended(ask);
            self.reopen(ask.chunk);
        }
        let Holder::Peer(peer) = ask.from else { return self.source.failed(failure, now) };
        match failure {
            Failure::Busy { after } => self.peers.busy(peer, after, self.config.seed, now),
            Failure::Retry => self.peers.failed(peer, self.config.seed, now),
            // The news that it has got it since has overtaken the answer.
            Failure::Absent if question.is_some_and(|question| question.told) => {
                self.peers.failed(peer, self.config.seed, now);
            }
            Failure::Absent if self.peers.lacks(peer, ask.chunk) => {}
            Failure::Gone => self.handle_gone(peer, now),
            Failure::Absent | Failure::Wrong => {
                self.handle_gone(peer, now);
                self.peers.distrust(peer);
            }
        }
    }

    /// A chunk that was here is not, or not as it should be.
    pub fn handle_lost(&mut self, chunk: u32) {
        self.have.remove(chunk);
        self.reopen(chunk);
    }

    /// What may be read of the source from now on. What has come since that was written is not.
    pub fn handle_allotted(&mut self, allotment: Allotment, now: Duration) {
        let tells = |peer| self.peers.get(peer).is_some_and(|peer| !peer.have.is_empty());
        self.source.allotted(allotment, tells, now);
    }

    /// These were here once, and need not be any more: they are not read of the source all the same.
    pub fn handle_spent(&mut self, chunks: &ChunkSet) {
        self.source.spent(chunks);
    }

    /// Whether something is missing that nobody is known to have, and that this member has had: it may not read it again, and
    /// may be the only one that could.
    pub fn has_lost(&self) -> bool {
        let mut lost = self.open.clone();
        lost.keep(self.source.done());
        lost.subtract(self.peers.held());
        !lost.is_empty()
    }

    /// What to ask next, if anything.
    pub fn poll(&mut self, now: Duration) -> Option<Ask> {
        let ask = self.choose(now)?;
        self.open.remove(ask.chunk);
        let nearness = match ask.from {
            Holder::Source => {
                self.source.asked(ask.chunk, now);
                Nearness::Elsewhere
            }
            Holder::Peer(peer) => self.peers.asked(peer),
        };
        self.questions.begin(ask, nearness, now);
        Some(ask)
    }

    /// When to poll again although nothing has happened; never, while only events can change anything.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        if self.is_complete() {
            return None;
        }
        let source = self.source.next_at(self.config.patience);
        let times = self.questions.late_at().chain(self.peers.rested_at()).chain(source);
        times.filter(|time| *time > now).min()
    }

    /// What is here: to be shown to others.
    pub fn have(&self) -> &ChunkSet {
        &self.have
    }

    /// Whether everything is.
    pub fn is_complete(&self) -> bool {
        self.have.is_full()
    }

    /// What is missing, nobody is known to have, and this member may not read: more of the source's budget would help.
    pub fn wants_source_budget(&self) -> ChunkSet {
        let mut wanted = self.open.clone();
        wanted.subtract(self.peers.held());
        self.source.subtract_from(&mut wanted);
        wanted
    }

    /// Whether this chunk may be read of the source still.
    pub fn may_read(&self, chunk: u32) -> bool {
        self.source.may_read(chunk)
    }

    /// Whether a peer is asked no more, because of what it sent or said.
    pub fn is_distrusted(&self, peer: PeerKey) -> bool {
        self.peers.is_distrusted(peer)
    }

    /// Questions under way.
    pub fn asks(&self) -> usize {
        self.questions.len()
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        let sets = self.have.memory_bytes() + self.open.memory_bytes();
        size_of::<Self>()
            + sets
            + self.peers.memory_bytes()
            + self.source.memory_bytes()
            + self.questions.memory_bytes()
    }

    /// The questions to a peer are none any more.
    fn take_back(&mut self, peer: PeerKey) {
        for ask in self.questions.end_all_of(peer) {
            self.ended(ask);
            self.reopen(ask.chunk);
        }
    }

    fn ended(&mut self, ask: Ask) {
        match ask.from {
            Holder::Source => self.source.asks -= 1,
            Holder::Peer(peer) => self.peers.answered(peer),
        }
    }

    fn reopen(&mut self, chunk: u32) {
        if !self.have.contains(chunk) && !self.questions.contains(chunk) {
            self.open.insert(chunk);
        }
    }
}

/// A number that looks random, and is the same for the same two: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
pub fn mix(one: u64, other: u64) -> u64 {
    let mut bits = one.wrapping_add(other.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
