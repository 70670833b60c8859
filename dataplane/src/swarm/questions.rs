//! Questions under way: which of them are slow, and what is usual.

use std::time::Duration;

use super::{Ask, ChunkSet, Holder, Nearness, PeerKey};

/// A question that takes so many times what is usual is slow, and so is a peer whose chunks do.
pub const SLOW: u32 = 3;
/// At the end one that takes so much of it, in percent, is late: there is nothing else to do.
const LATE_PERCENT: u32 = 150;
/// Nothing is slow or late that takes no longer than this: to ask somebody else would save less than it costs.
pub const RECENT: Duration = Duration::from_millis(100);
/// An answer counts so much less than those before it.
const MEMORY: u32 = 8;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Questions {
    /// Few: no more than a window, and as many slow ones. The oldest first.
    under_way: Vec<Question>,
    /// What a chunk from a peer takes, in the same rack and from elsewhere. One that takes long counts little: a host must
    /// not get used to slow peers, but to a slow link of its own.
    usual: [Option<Duration>; 2],
    /// What is slow until then.
    patience: Duration,
    /// All that ever began.
    begun: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub ask: Ask,
    pub nearness: Nearness,
    pub at: Duration,
    /// Its peer told since then that it has the chunk.
    pub told: bool,
}

impl Questions {
    pub fn new(patience: Duration) -> Self {
        Self { under_way: Vec::new(), usual: [None; 2], patience, begun: 0 }
    }

    pub fn begin(&mut self, ask: Ask, nearness: Nearness, at: Duration) {
        self.begun += 1;
        self.under_way.push(Question { ask, nearness, at, told: false });
    }

    /// Takes out a question that brought nothing, if it was there.
    pub fn end(&mut self, ask: Ask) -> Option<Question> {
        let place = self.under_way.iter().position(|question| question.ask == ask)?;
        Some(self.under_way.remove(place))
    }

    /// A peer told that it has these, while it is asked for some of them.
    pub fn told(&mut self, peer: PeerKey, chunks: &ChunkSet) {
        let of_peer = self.under_way.iter_mut().filter(|question| question.ask.from == Holder::Peer(peer));
        of_peer.for_each(|question| question.told |= chunks.contains(question.ask.chunk));
    }

    /// The answer has come; how long it took, if it was a question at all.
    pub fn arrived(&mut self, ask: Ask, now: Duration) -> Option<Duration> {
        let place = self.under_way.iter().position(|question| question.ask == ask)?;
        let question = self.under_way.remove(place);
        let took = now.saturating_sub(question.at).max(Duration::from_micros(1));
        if ask.from != Holder::Source {
            let usual = &mut self.usual[question.nearness as usize];
            let before = usual.unwrap_or(took);
            *usual = Some((before * (MEMORY - 1) + took.min(before * 2)) / MEMORY);
        }
        Some(took)
    }

    /// Takes out a question to a peer for this chunk.
    pub fn take(&mut self, chunk: u32) -> Option<Question> {
        let to_peer = |question: &Question| question.ask.chunk == chunk && question.ask.from != Holder::Source;
        let place = self.under_way.iter().position(to_peer)?;
        Some(self.under_way.remove(place))
    }

    /// Takes out those to a peer.
    pub fn end_all_of(&mut self, peer: PeerKey) -> Vec<Ask> {
        let of_peer = |question: &&Question| question.ask.from == Holder::Peer(peer);
        let asks: Vec<Ask> = self.under_way.iter().filter(of_peer).map(|question| question.ask).collect();
        for ask in &asks {
            self.end(*ask);
        }
        asks
    }

    pub fn contains(&self, chunk: u32) -> bool {
        self.of(chunk).next().is_some()
    }

    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Those for this chunk, the oldest first.
    pub fn of(&self, chunk: u32) -> impl Iterator<Item = &Question> + Clone {
        self.under_way.iter().filter(move |question| question.ask.chunk == chunk)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Question> {
        self.under_way.iter()
    }

    /// What a chunk from such a peer takes, if one has come.
    pub fn usual(&self, nearness: Nearness) -> Option<Duration> {
        self.usual[nearness as usize]
    }

    /// When a question becomes slow.
    pub fn slow_from(&self, question: &Question) -> Duration {
        question.at + self.usual(question.nearness).map_or(self.patience, |usual| (usual * SLOW).max(RECENT))
    }

    /// When a question is late enough to be put to somebody else, too, if there is nothing else to ask.
    pub fn late_from(&self, question: &Question) -> Duration {
        let late = |usual: Duration| (usual * LATE_PERCENT / 100).max(RECENT);
        question.at + self.usual(question.nearness).map_or(self.patience, late)
    }

    /// Those to peers that are slow by now.
    pub fn slow(&self, now: Duration) -> impl Iterator<Item = &Question> {
        let to_peers = self.under_way.iter().filter(|question| question.ask.from != Holder::Source);
        to_peers.filter(move |question| self.slow_from(question) <= now)
    }

    /// When each becomes late, and slow.
    pub fn late_at(&self) -> impl Iterator<Item = Duration> {
        self.under_way.iter().flat_map(|question| [self.late_from(question), self.slow_from(question)])
    }

    pub fn memory_bytes(&self) -> usize {
        self.under_way.capacity() * size_of::<Question>()
    }
}
