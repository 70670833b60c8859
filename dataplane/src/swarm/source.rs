//! What a member reads of the source, and when it reads what is another seed's.

use std::time::Duration;

use super::{Allotment, ChunkSet, Failure, PeerKey, Reserve, mix};

/// After a failure the source is left alone for so long, doubling from one to the next.
const FAILED_MIN: Duration = Duration::from_millis(250);
const FAILED_MAX: Duration = Duration::from_secs(10);
/// A seed that reads what is another one's asks for so many times as many chunks at a time, where that one is dead or was
/// never heard of. One that lives reads its own meanwhile: what both ask for crosses twice, the more so the longer it takes.
const ALONE_ASKS: usize = 4;
/// One of whose part more than a third is missing, and more than one chunk, when this one has all of its own, so many at
/// least, is not just a little later.
const OWN_CHUNKS: u32 = 8;
/// For the last ones of another seed this one waits as long as one of its own took.
const LATE_MIN: Duration = Duration::from_millis(250);
/// As long as nothing is heard of anybody, so many times as long as what counts as slow: others begin, or are looked for.
const ALONE: u32 = 5;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// What may still be read as the member's own.
    own: ChunkSet,
    /// How many of its own there were at first.
    own_all: u32,
    /// What may still be read in place of others.
    reserves: Vec<OfOther>,
    /// What was here once: it is not read, whatever becomes of it and whatever is allotted. Its right to be read went back
    /// to who gave it.
    done: ChunkSet,
    /// Others have told what they have. Before, they may be about to begin.
    heard: bool,
    /// Questions under way.
    pub asks: usize,
    took: Option<Duration>,
    /// The last time that a chunk of the seed's own was asked for, or came.
    own_at: Duration,
    rests_until: Duration,
    failures: u32,
}

/// See [`Reserve`].
#[derive(Clone, Debug)]
struct OfOther {
    reserve: Reserve,
    /// How many chunks there were at first.
    all: usize,
    seen: Seen,
}

/// What is known of another seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It has told of nothing that it has: it may be about to begin, or not be among those whom this one knows.
    NotYet,
    /// It tells what it has.
    There,
    /// It is not among the living.
    Gone,
}

impl Source {
    /// For a member that has these chunks.
    pub fn new(have: &ChunkSet) -> Self {
        let (own, done, zero) = (ChunkSet::empty(have.chunks()), have.clone(), Duration::ZERO);
        Self {
            own,
            own_all: 0,
            reserves: Vec::new(),
            done,
            heard: false,
            asks: 0,
            took: None,
            own_at: zero,
            rests_until: zero,
            failures: 0,
        }
    }

    pub fn allotted(&mut self, mut allotment: Allotment, tells: impl Fn(PeerKey) -> bool, now: Duration) {
        allotment.subtract(&self.done);
        let before = std::mem::take(&mut self.reserves);
        let with_state = |reserve: Reserve| match before.iter().find(|other| other.reserve.of == reserve.of) {
            Some(known) => OfOther { reserve, ..known.clone() },
            None => {
                let (all, seen) = (reserve.chunks.len(), if tells(reserve.of) { Seen::There } else { Seen::NotYet });
                OfOther { reserve, all: all as usize, seen }
            }
        };
        self.reserves = allotment.reserves.into_iter().map(with_state).collect();
        self.own_all = self.own_all.max(allotment.own.len());
        self.own = allotment.own;
        self.own_at = now;
    }

    /// What was here once.
    pub fn done(&self) -> &ChunkSet {
        &self.done
    }

    pub fn spent(&mut self, chunks: &ChunkSet) {
        self.done.add(chunks);
        self.own.subtract(chunks);
        self.reserves.iter_mut().for_each(|other| other.reserve.chunks.subtract(chunks));
    }

    /// Whether this chunk may be read still.
    pub fn may_read(&self, chunk: u32) -> bool {
        self.own.contains(chunk) || self.reserves.iter().any(|other| other.reserve.chunks.contains(chunk))
    }

    /// Takes out what may be read.
    pub fn subtract_from(&self, wanted: &mut ChunkSet) {
        wanted.subtract(&self.own);
        self.reserves.iter().for_each(|other| wanted.subtract(&other.reserve.chunks));
    }

    /// Somebody has something.
    pub fn handle_have(&mut self, peer: PeerKey) {
        self.heard = true;
        self.see(peer, Seen::There);
    }

    pub fn handle_met(&mut self, peer: PeerKey) {
        self.see(peer, Seen::NotYet);
    }

    pub fn handle_gone(&mut self, peer: PeerKey) {
        self.see(peer, Seen::Gone);
    }

    fn see(&mut self, peer: PeerKey, seen: Seen) {
        self.reserves.iter_mut().filter(|other| other.reserve.of == peer).for_each(|other| other.seen = seen);
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
        if self.own.contains(chunk) {
            self.own_at = now;
        }
    }

    /// A chunk is here.
    pub fn need_not_read(&mut self, chunk: u32) {
        self.done.insert(chunk);
        self.own.remove(chunk);
        for other in &mut self.reserves {
            other.reserve.chunks.remove(chunk);
        }
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
        if let Some(own) = among(&self.own, &wanted).min_by_key(order) {
            return (self.asks < asks_max).then_some(own);
        }
        let is_busy = self.asks >= asks_max;
        let late = |other: &&OfOther| {
            let missing = || among(&other.reserve.chunks, &wanted);
            let much_later = || missing().nth((other.all / 3).max(1)).is_some();
            let tells = other.seen == Seen::There;
            let is_late =
                || self.reserve_at(other, patience) <= now || (tells && self.own_all >= OWN_CHUNKS && much_later());
            !(tells && is_busy) && is_late()
        };
        let late = self.reserves.iter().filter(late);
        late.flat_map(|other| among(&other.reserve.chunks, &wanted)).max_by_key(order)
    }

    /// When the source may be asked again, or for more, where anything is left to ask for.
    pub fn next_at(&self, patience: Duration) -> impl Iterator<Item = Duration> {
        let left = self.reserves.iter().filter(|other| !other.reserve.chunks.is_empty());
        let reserve_at = left.map(|other| self.reserve_at(other, patience)).min();
        let any = reserve_at.is_some() || !self.own.is_empty();
        any.then_some(self.rests_until).into_iter().chain(reserve_at)
    }

    /// When another one's may be read, once nothing is left of the seed's own.
    fn reserve_at(&self, other: &OfOther, patience: Duration) -> Duration {
        let late = match (other.seen, self.took) {
            (Seen::Gone, _) => return Duration::ZERO,
            _ if !self.heard => patience * ALONE,
            (Seen::There, Some(took)) => took.max(LATE_MIN),
            _ => patience,
        };
        self.own_at + late
    }

    pub fn memory_bytes(&self) -> usize {
        let reserves: usize = self.reserves.iter().map(|other| other.reserve.chunks.memory_bytes()).sum();
        self.own.memory_bytes() + self.done.memory_bytes() + reserves
    }
}

fn among(set: &ChunkSet, wanted: impl Fn(usize) -> u64) -> impl Iterator<Item = u32> {
    let words = set.words().iter().enumerate();
    words.flat_map(move |(index, word)| {
        let those = if *word == 0 { 0 } else { word & wanted(index) };
        super::chunk_set::bits(those).map(move |bit| index as u32 * u64::BITS + bit)
    })
}
