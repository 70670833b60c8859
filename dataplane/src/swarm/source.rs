//! What a member reads of the source, and when it reads what is another seed's.

use std::time::Duration;

use super::{Allotment, ChunkSet, Failure, PeerKey, mix};

/// After a failure the source is left alone for so long, doubling from one to the next.
const FAILED_MIN: Duration = Duration::from_millis(250);
const FAILED_MAX: Duration = Duration::from_secs(10);
/// A seed that reads what is another one's asks for so many times as many chunks at a time: the others are done, or dead.
const ALONE_ASKS: usize = 4;
/// One that misses more of its own when this one has all is not just a little later.
const LATER_CHUNKS: usize = 3;
/// For the last ones of another seed this one waits as long as so many of its own took.
const LATE: u32 = 2;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// What may still be read.
    allotment: Allotment,
    /// The one whose chunks are the reserve is not among the living.
    alone: bool,
    /// It was among them: before, it may only be about to begin.
    met: bool,
    /// Questions under way.
    pub asks: usize,
    took: Option<Duration>,
    /// The last time that a chunk of the seed's own was asked for, or came.
    own_at: Duration,
    rests_until: Duration,
    failures: u32,
}

impl Source {
    pub fn new(allotment: Allotment) -> Self {
        let zero = Duration::ZERO;
        Self { allotment, alone: false, met: false, asks: 0, took: None, own_at: zero, rests_until: zero, failures: 0 }
    }

    pub fn allotment(&self) -> &Allotment {
        &self.allotment
    }

    pub fn allotted(&mut self, allotment: Allotment, now: Duration) {
        if allotment.reserve_of != self.allotment.reserve_of {
            (self.alone, self.met) = (false, false);
        }
        self.allotment = allotment;
        self.own_at = now;
    }

    pub fn handle_met(&mut self, peer: PeerKey) {
        self.alone &= self.allotment.reserve_of != Some(peer);
        self.met |= self.allotment.reserve_of == Some(peer);
    }

    pub fn handle_gone(&mut self, peer: PeerKey) {
        self.alone |= self.allotment.reserve_of == Some(peer);
    }

    pub fn asked(&mut self, chunk: u32, now: Duration) {
        self.asks += 1;
        self.note_own(chunk, now);
    }

    /// An answer has come.
    pub fn arrived(&mut self, chunk: u32, took: Duration, now: Duration) {
        self.took = Some(self.took.map_or(took, |before| (before * 3 + took) / 4));
        self.note_own(chunk, now);
        self.failures = 0;
    }

    fn note_own(&mut self, chunk: u32, now: Duration) {
        if self.allotment.primary.contains(chunk) {
            self.own_at = now;
        }
    }

    /// A chunk is here: it is not read again, whatever becomes of it. Its right to be read goes back to who gave it.
    pub fn need_not_read(&mut self, chunk: u32) {
        self.allotment.primary.remove(chunk);
        self.allotment.reserve.remove(chunk);
    }

    pub fn failed(&mut self, failure: Failure, now: Duration) {
        let backoff = (FAILED_MIN * (1 << self.failures.min(10))).min(FAILED_MAX);
        self.failures += 1;
        self.rests_until = now + if let Failure::Busy { after } = failure { after.max(FAILED_MIN) } else { backoff };
    }

    /// What to read next of what is `wanted`, a bitmap, if anything now. A reserve is read from its far end, where its own
    /// seed comes last, should it only be late.
    pub fn next(
        &self,
        wanted: impl Fn(usize) -> u64,
        asks_max: usize,
        patience: Duration,
        now: Duration,
    ) -> Option<u32> {
        if self.rests_until > now || self.asks >= asks_max * ALONE_ASKS {
            return None;
        }
        let order = |chunk: &u32| mix(0, u64::from(*chunk));
        match among(&self.allotment.primary, &wanted).min_by_key(order) {
            Some(own) => (self.asks < asks_max).then_some(own),
            None => {
                let missing = || among(&self.allotment.reserve, &wanted);
                let late = (self.met && missing().nth(LATER_CHUNKS).is_some()) || self.reserve_at(patience) <= now;
                if late { missing().max_by_key(order) } else { None }
            }
        }
    }

    /// When the source may be asked again, or for more, where anything is left to ask for.
    pub fn next_at(&self, patience: Duration) -> impl Iterator<Item = Duration> {
        let reserve_at = (!self.allotment.reserve.is_empty()).then(|| self.reserve_at(patience));
        let left = reserve_at.is_some() || !self.allotment.primary.is_empty();
        left.then_some(self.rests_until).into_iter().chain(reserve_at)
    }

    /// When the reserve may be read, once nothing is left of the seed's own.
    fn reserve_at(&self, patience: Duration) -> Duration {
        let late = self.took.filter(|_| self.met).map_or(patience, |took| took * LATE);
        if self.alone { Duration::ZERO } else { self.own_at + late }
    }

    pub fn memory_bytes(&self) -> usize {
        self.allotment.primary.memory_bytes() + self.allotment.reserve.memory_bytes()
    }
}

fn among(set: &ChunkSet, wanted: impl Fn(usize) -> u64) -> impl Iterator<Item = u32> {
    let words = set.words().iter().enumerate();
    words.flat_map(move |(index, word)| {
        let those = if *word == 0 { 0 } else { word & wanted(index) };
        super::chunk_set::bits(those).map(move |bit| index as u32 * u64::BITS + bit)
    })
}
