//! Joins a swarm to the lanes of one attempt: carries its questions to other executors and to the source, and their answers
//! back.
//!
//! What to ask of whom is the [`Swarm`]'s decision, what is durable the [`Engine`]'s. A chunk that several are asked for is
//! under way once for the engine; the later answers are dropped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use staccato_protocols::{ByteRange, Code, Disposition, Error, Interrupt};

use super::message::{From, PeerEvent};
use crate::{
    attempt::swarm::{SwarmPeer, SwarmSpec},
    engine::{Action, Engine},
    swarm::{Ask, ChunkSet, Failure, Holder, Nearness, PeerKey, Swarm, SwarmConfig, seeds::Share},
    transport::offer::Offer,
};

/// The pause before a peer is tried again that could not be reached, doubling from one time to the next.
const REOPEN_MIN: Duration = Duration::from_millis(500);
const REOPEN_MAX: Duration = Duration::from_secs(15);

/// After so long without a question under way, what was lost here is given up: the next attempt may read it.
const STUCK: Duration = Duration::from_secs(20);

/// What the coordinator shall do.
pub(crate) enum Step {
    /// Have this read, and written; of the source where `from` is none.
    Fetch { range: ByteRange, untouched: bool, from: Option<From> },
    /// Open the copy of this peer.
    Open(SwarmPeer),
    /// Nothing comes of this attempt.
    Fail(Error),
    /// It is of this object: watch it.
    Watch(PeerKey),
    /// It is not wanted any more.
    Close(PeerKey),
}

/// See the module.
pub(crate) struct Feed {
    swarm: Swarm,
    own: Arc<Offer>,
    chunk_bytes: u64,
    length: u64,
    peers: BTreeMap<PeerKey, Peer>,
    /// By where a chunk begins: who is asked for it, and how to drop that.
    asks: HashMap<u64, Vec<Asked>>,
    steps: VecDeque<Step>,
    /// This member's share of the source, as it was told last.
    share: Share,
    bytes_from_peers: u64,
    /// Since when no question is under way.
    idle_since: Option<Duration>,
}

struct Asked {
    ask: Ask,
    /// What was handed out by the engine; the same for all that are asked for it.
    range: ByteRange,
    interrupt: Interrupt,
}

struct Peer {
    at: SwarmPeer,
    state: PeerState,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    Opening,
    Watched,
    /// Not to be reached before this time.
    Resting(Duration),
    /// It sent what is not the source's.
    Shunned,
}

impl Feed {
    /// What an attempt fetches of others and of its share of the source. `have`: what it does not need to; `promised`: what the
    /// ledger believes that it has, and counts on not being read.
    pub fn new(spec: &SwarmSpec, own: Arc<Offer>, length: u64, have: &[ByteRange], promised: &[ByteRange]) -> Self {
        let chunk_bytes = spec.chunk_bytes;
        let chunks = chunks_of(length, chunk_bytes);
        let in_chunks = |ranges: &[ByteRange]| {
            let mut set = ChunkSet::empty(chunks);
            for range in ranges {
                let end = if range.end() >= length { chunks } else { (range.end() / chunk_bytes) as u32 };
                let start = range.start().div_ceil(chunk_bytes).min(chunks.into()) as u32;
                set.insert_range(start.min(end)..end);
            }
            set
        };
        let here = in_chunks(have);
        let mut swarm = Swarm::new(SwarmConfig::new(chunks, spec.member), here, spec.share.allotment(chunks));
        swarm.handle_spent(&in_chunks(promised));
        Self {
            swarm,
            own,
            chunk_bytes,
            length,
            peers: BTreeMap::new(),
            asks: HashMap::new(),
            steps: VecDeque::new(),
            share: spec.share.clone(),
            bytes_from_peers: 0,
            idle_since: None,
        }
    }

    /// The copy that this attempt fills.
    pub fn own(&self) -> &Arc<Offer> {
        &self.own
    }

    /// Bytes that came from other executors.
    pub fn bytes_from_peers(&self) -> u64 {
        self.bytes_from_peers
    }

    /// Who there is, and what may be read of the source, from now on.
    pub fn handle_spec(&mut self, spec: &SwarmSpec, now: Duration) {
        self.own.believe(spec.may_vouch.iter().map(|key| key.0));
        self.own.limit_uploads(spec.upload_limit);
        // What was read of it is not read again: only another share is news.
        if self.share != spec.share {
            self.share = spec.share.clone();
            self.swarm.handle_allotted(spec.share.allotment(chunks_of(self.length, self.chunk_bytes)), now);
        }
        let named: BTreeSet<PeerKey> = spec.peers.iter().map(|peer| PeerKey(peer.member)).collect();
        let unnamed: Vec<_> = self.peers.keys().filter(|key| !named.contains(key)).copied().collect();
        for peer in unnamed {
            // One that is read from stays: it is as good as any other.
            if self.peers[&peer].state != PeerState::Watched {
                self.peers.remove(&peer);
            }
        }
        for at in &spec.peers {
            let key = PeerKey(at.member);
            match self.peers.get_mut(&key) {
                Some(peer) if peer.at == *at => {}
                Some(peer) => {
                    peer.at = at.clone();
                    if let PeerState::Resting(until) = &mut peer.state {
                        *until = now;
                    }
                }
                None => {
                    let peer = Peer { at: at.clone(), state: PeerState::Resting(now), failures: 0 };
                    self.peers.insert(key, peer);
                }
            }
        }
    }

    /// A peer was asked to open its copy before there was a feed.
    pub fn handle_opening(&mut self, peer: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.state = PeerState::Opening;
        }
    }

    /// What became known of a peer.
    pub fn handle_peer(&mut self, key: PeerKey, event: PeerEvent, now: Duration) {
        let Some(peer) = self.peers.get_mut(&key) else {
            if let PeerEvent::Opened(Ok(_)) = event {
                self.steps.push_back(Step::Close(key));
            }
            return;
        };
        match event {
            PeerEvent::Opened(Ok(object)) if object == *self.own.object() => {
                peer.state = PeerState::Watched;
                peer.failures = 0;
                let nearness = if peer.at.near { Nearness::SameRack } else { Nearness::Elsewhere };
                self.swarm.handle_met(key, nearness, now);
                self.steps.push_back(Step::Watch(key));
            }
            PeerEvent::Opened(opened) => {
                let host = &peer.at.host;
                match &opened {
                    Ok(_) => tracing::warn!(host, "another executor has a copy of another version"),
                    Err(error) => tracing::debug!(host, %error, "another executor's copy is not to be had yet"),
                }
                if opened.is_ok() {
                    self.steps.push_back(Step::Close(key));
                }
                peer.rest(now);
            }
            PeerEvent::Has(ranges) => {
                let chunks = self.swarm.have().chunks();
                let mut has = ChunkSet::empty(chunks);
                for range in ranges {
                    let start = range.start().div_ceil(self.chunk_bytes).min(chunks.into()) as u32;
                    let end = if range.end() >= self.length { chunks } else { (range.end() / self.chunk_bytes) as u32 };
                    has.insert_range(start.min(end)..end);
                }
                self.swarm.handle_have(key, &has, now);
            }
            PeerEvent::Gone(error) => {
                tracing::debug!(host = peer.at.host, %error, "another executor's copy is not to be had any more");
                if self.swarm.is_distrusted(key) {
                    peer.state = PeerState::Shunned;
                } else {
                    peer.rest(now);
                }
                self.drop_asks_of(key);
                self.swarm.handle_gone(key, now);
            }
        }
    }

    /// What is under way is not waited for: the swarm asks somebody else.
    fn drop_asks_of(&mut self, peer: PeerKey) {
        for asked in self.asks.values().flatten().filter(|asked| asked.ask.from == Holder::Peer(peer)) {
            asked.interrupt.raise();
        }
    }

    /// What to do next, if anything.
    pub fn poll(&mut self, engine: &mut Engine, now: Duration) -> Option<Step> {
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
        }
        let due = |peer: &&mut Peer| matches!(peer.state, PeerState::Resting(until) if until <= now);
        if let Some(peer) = self.peers.values_mut().find(due) {
            peer.state = PeerState::Opening;
            return Some(Step::Open(peer.at.clone()));
        }
        while engine.room_at(now).is_some_and(|at| at <= now)
            && let Some(ask) = self.swarm.poll(now)
        {
            if let Some(step) = self.ask(ask, engine, now) {
                return Some(step);
            }
        }
        self.is_stuck(now).then(|| {
            let why = "nobody has what was lost here, and this attempt may not read it again: the next one may";
            Step::Fail(Error::retry(Code::Stalled, why))
        })
    }

    fn is_stuck(&mut self, now: Duration) -> bool {
        if !self.asks.is_empty() || self.swarm.is_complete() {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        now >= since + STUCK && self.swarm.has_lost()
    }

    fn ask(&mut self, ask: Ask, engine: &mut Engine, now: Duration) -> Option<Step> {
        let chunk = self.chunk(ask.chunk);
        let interrupt = Interrupt::default();
        let from = match ask.from {
            Holder::Source => None,
            Holder::Peer(peer) => Some(From { peer, interrupt: interrupt.clone() }),
        };
        let under_way = self.asks.entry(chunk.start()).or_default();
        if let Some(first) = under_way.first() {
            let range = first.range;
            under_way.push(Asked { ask, range, interrupt });
            return Some(Step::Fetch { range, untouched: false, from });
        }
        let Some(Action::Fetch { range, untouched, .. }) = engine.fetch(chunk, now) else {
            // It is here, or being compared.
            self.asks.remove(&chunk.start());
            self.swarm.handle_arrived(ask, now);
            return None;
        };
        under_way.push(Asked { ask, range, interrupt });
        Some(Step::Fetch { range, untouched, from })
    }

    /// When to poll again although nothing has happened.
    pub fn poll_timeout(&self, engine: &mut Engine, now: Duration) -> Option<Duration> {
        let resting = self.peers.values().filter_map(|peer| match peer.state {
            PeerState::Resting(until) => Some(until),
            _ => None,
        });
        let room = engine.room_at(now).filter(|at| *at > now);
        let stuck = self.idle_since.map(|since| since + STUCK).filter(|at| *at > now);
        resting.chain(self.swarm.poll_timeout(now)).chain(room).chain(stuck).min()
    }

    /// A range has come, or not; what the engine shall hear of it, if anything.
    pub fn handle_fetched<T>(
        &mut self,
        range: ByteRange,
        from: Option<PeerKey>,
        result: Result<(T, u64), Error>,
        engine: &mut Engine,
        now: Duration,
    ) -> Option<Result<T, Error>> {
        let chunk = self.chunk_at(range.start());
        let holder = from.map_or(Holder::Source, Holder::Peer);
        let under_way = self.asks.get_mut(&chunk.start())?;
        let place = under_way.iter().position(|asked| asked.ask.from == holder)?;
        let Asked { ask, interrupt, .. } = under_way.swap_remove(place);
        let is_last = under_way.is_empty();
        if is_last {
            self.asks.remove(&chunk.start());
        }
        match result {
            Ok((fetched, bytes)) => {
                if from.is_some() {
                    self.bytes_from_peers += bytes;
                }
                if !engine.lacks(range) {
                    // Another one was faster. It was read all the same, and counts.
                    engine.note_fetched(bytes);
                    return None;
                }
                Some(Ok(fetched))
            }
            Err(error) => {
                // What was dropped is nobody's failure.
                if !interrupt.is_raised() {
                    self.note_failure(ask, &error, now);
                }
                if is_last && engine.lacks(range) { Some(Err(error)) } else { None }
            }
        }
    }

    /// A range is written: its chunk is here, and others may have it, unless more of it is missing.
    pub fn handle_written(&mut self, range: ByteRange, from: Option<PeerKey>, engine: &Engine, now: Duration) {
        let chunk = self.chunk_at(range.start());
        let number = (chunk.start() / self.chunk_bytes) as u32;
        let ask = Ask { chunk: number, from: from.map_or(Holder::Source, Holder::Peer) };
        if engine.lacks(chunk) {
            return self.swarm.handle_failed(ask, Failure::Retry, now);
        }
        self.own.hold(chunk);
        for dropped in self.swarm.handle_arrived(ask, now) {
            let same = |asked: &&Asked| asked.ask == dropped;
            if let Some(asked) = self.asks.get(&chunk.start()).and_then(|asks| asks.iter().find(same)) {
                asked.interrupt.raise();
            }
        }
    }

    /// What was promised is not there: it is fetched again.
    pub fn handle_lost(&mut self, range: ByteRange) {
        let first = (range.start() / self.chunk_bytes) as u32;
        let end = range.end().div_ceil(self.chunk_bytes) as u32;
        (first..end).for_each(|chunk| self.swarm.handle_lost(chunk));
    }

    /// Nothing more is asked; what is under way is dropped.
    pub fn give_up(&self) {
        self.asks.values().flatten().for_each(|asked| asked.interrupt.raise());
    }

    /// Whether an answer is still to come.
    pub fn is_asking(&self) -> bool {
        !self.asks.is_empty()
    }

    fn note_failure(&mut self, ask: Ask, error: &Error, now: Duration) {
        let failure = match (&error.disposition, error.code) {
            (Disposition::Retry { after: Some(after) }, _) => Failure::Busy { after: *after },
            (_, Code::ChecksumMismatch | Code::ProtocolViolation) => Failure::Wrong,
            (_, Code::SourceMissing) => Failure::Absent,
            (_, Code::ConnectionLost | Code::ConnectFailed | Code::Stalled) => Failure::Gone,
            _ => Failure::Retry,
        };
        match ask.from {
            Holder::Peer(peer) if failure == Failure::Wrong => {
                let host = self.peers.get(&peer).map_or("", |peer| peer.at.host.as_str());
                tracing::warn!(host, %error, "another executor's copy is wrong: it is not asked again");
                self.steps.push_back(Step::Close(peer));
            }
            // Nothing is asked there until it was opened again.
            Holder::Peer(peer) if failure == Failure::Gone => self.steps.push_back(Step::Close(peer)),
            Holder::Source => tracing::info!(%error, "the source did not give a chunk; it is asked again later"),
            Holder::Peer(_) => {}
        }
        let failure = if ask.from == Holder::Source { Failure::Retry } else { failure };
        self.swarm.handle_failed(ask, failure, now);
    }

    fn chunk(&self, number: u32) -> ByteRange {
        self.chunk_at(u64::from(number) * self.chunk_bytes)
    }

    fn chunk_at(&self, offset: u64) -> ByteRange {
        let start = offset / self.chunk_bytes * self.chunk_bytes;
        ByteRange::new(start, (start + self.chunk_bytes).min(self.length)).expect("chunks lie within the object")
    }
}

impl Peer {
    fn rest(&mut self, now: Duration) {
        let pause = (REOPEN_MIN * (1 << self.failures.min(8))).min(REOPEN_MAX);
        self.failures += 1;
        self.state = PeerState::Resting(now + pause);
    }
}

/// How many chunks an object has.
pub(crate) fn chunks_of(length: u64, chunk_bytes: u64) -> u32 {
    u32::try_from(length.div_ceil(chunk_bytes)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
