//! The peers that a host knows: what they have, how they answer, and how rare each chunk is among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    ChunkSet, Nearness, PeerKey, mix,
    questions::{RECENT, SLOW},
};

/// A peer that lacks what it said it has is believed so many times in a row: it may have lost something.
const ABSENT_MAX: u32 = 2;
/// Waiting times after failures, doubling from one to the next.
const FAILED_MIN: Duration = Duration::from_millis(100);
/// Nobody is left alone for longer.
const REST_MAX: Duration = Duration::from_secs(5);
/// Peers that are remembered because they are asked no more.
const DISTRUSTED_MAX: usize = 4_096;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    known: BTreeMap<PeerKey, Peer>,
    peers_max: usize,
    distrusted: BTreeSet<PeerKey>,
    /// For each chunk, how many of those that are known have it.
    holders: Vec<u8>,
    /// Chunks that any of them has.
    held: ChunkSet,
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub nearness: Nearness,
    pub have: ChunkSet,
    /// Questions to it under way.
    pub asks: usize,
    /// How many of them it may have: more where it is as fast as others.
    pub asks_max: usize,
    /// What a chunk from it takes.
    pub took: Option<Duration>,
    /// When it last said anything.
    pub heard_at: Duration,
    rests_until: Duration,
    /// Times in a row that it was busy, or failed.
    refusals: u32,
    absent: u32,
}

impl Peers {
    pub fn new(chunks: u32, peers_max: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            peers_max,
            distrusted: BTreeSet::new(),
            holders: vec![0; chunks as usize],
            held: ChunkSet::empty(chunks),
        }
    }

    pub fn met(&mut self, key: PeerKey, nearness: Nearness) {
        let absent = self.known.get(&key).map_or(0, |peer| peer.absent);
        self.gone(key);
        if self.known.len() < self.peers_max && !self.distrusted.contains(&key) {
            self.known.insert(key, Peer::new(nearness, self.held.chunks(), absent));
        }
    }

    pub fn gone(&mut self, key: PeerKey) {
        let Some(peer) = self.known.remove(&key) else { return };
        for chunk in peer.have.iter() {
            self.count_out(chunk);
        }
    }

    pub fn distrust(&mut self, key: PeerKey) {
        if self.distrusted.len() < DISTRUSTED_MAX {
            self.distrusted.insert(key);
        }
    }

    pub fn is_distrusted(&self, key: PeerKey) -> bool {
        self.distrusted.contains(&key)
    }

    pub fn have(&mut self, key: PeerKey, chunks: &ChunkSet, now: Duration) {
        let Some(peer) = self.known.get_mut(&key) else { return };
        peer.heard_at = now;
        let mut new = chunks.clone();
        new.subtract(&peer.have);
        peer.have.add(&new);
        for chunk in new.iter() {
            self.holders[chunk as usize] += 1;
        }
        self.held.add(&new);
    }

    /// A peer said that it has a chunk, and has not; whether it is still believed.
    pub fn lacks(&mut self, key: PeerKey, chunk: u32) -> bool {
        let Some(peer) = self.known.get_mut(&key) else { return true };
        peer.absent += 1;
        let believed = peer.absent <= ABSENT_MAX;
        if peer.have.remove(chunk) {
            self.count_out(chunk);
        }
        believed
    }

    fn count_out(&mut self, chunk: u32) {
        let holders = &mut self.holders[chunk as usize];
        *holders -= 1;
        if *holders == 0 {
            self.held.remove(chunk);
        }
    }

    pub fn asked(&mut self, key: PeerKey) -> Nearness {
        let peer = self.known.get_mut(&key).expect("only those that are known are asked");
        peer.asks += 1;
        peer.nearness
    }

    pub fn answered(&mut self, key: PeerKey) {
        if let Some(peer) = self.known.get_mut(&key) {
            peer.asks = peer.asks.saturating_sub(1);
        }
    }

    /// A chunk has come; where from, where the peer is still known. `usual`: what it takes there.
    pub fn arrived(
        &mut self,
        key: PeerKey,
        took: Duration,
        usual: [Option<Duration>; 2],
        now: Duration,
    ) -> Option<Nearness> {
        let peer = self.known.get_mut(&key)?;
        peer.heard_at = now;
        peer.took = Some(peer.took.map_or(took, |before| (before * 3 + took) / 4));
        (peer.refusals, peer.absent) = (0, 0);
        if usual[peer.nearness as usize].is_some_and(|usual| took <= usual) {
            peer.asks_max += 1;
        }
        Some(peer.nearness)
    }

    /// Another one was faster: this one takes as long as it was waited for, at least.
    pub fn outrun(&mut self, key: PeerKey, waited: Duration) {
        if let Some(peer) = self.known.get_mut(&key) {
            peer.took = peer.took.max(Some(waited));
        }
    }

    pub fn busy(&mut self, key: PeerKey, after: Duration, seed: u64, now: Duration) {
        let Some(peer) = self.known.get_mut(&key) else { return };
        peer.asks_max = 1;
        // It knows when it will have room: whoever came back later than that would only be served later.
        peer.rest(after.max(Duration::from_millis(1)), mix(seed, key.0), now);
    }

    pub fn failed(&mut self, key: PeerKey, seed: u64, now: Duration) {
        let Some(peer) = self.known.get_mut(&key) else { return };
        peer.asks_max = 1;
        let rest = FAILED_MIN * (1 << peer.refusals.min(10));
        peer.rest(rest, mix(seed, key.0), now);
    }

    pub fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.known.iter().map(|(key, peer)| (*key, peer))
    }

    pub fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.known.get(&key)
    }

    /// How many are known to have a chunk.
    pub fn holders(&self, chunk: u32) -> u8 {
        self.holders[chunk as usize]
    }

    /// What any of them has.
    pub fn held(&self) -> &ChunkSet {
        &self.held
    }

    /// When each may be asked again.
    pub fn rested_at(&self) -> impl Iterator<Item = Duration> {
        self.known.values().map(|peer| peer.rests_until)
    }

    pub fn memory_bytes(&self) -> usize {
        let of_peers = self.known.values().map(|peer| size_of::<(PeerKey, Peer)>() + peer.have.memory_bytes());
        let distrusted = self.distrusted.len() * size_of::<PeerKey>();
        of_peers.sum::<usize>() + distrusted + self.holders.len() + self.held.memory_bytes()
    }
}

impl Peer {
    fn new(nearness: Nearness, chunks: u32, absent: u32) -> Self {
        Self {
            nearness,
            have: ChunkSet::empty(chunks),
            asks: 0,
            asks_max: 1,
            took: None,
            heard_at: Duration::ZERO,
            rests_until: Duration::ZERO,
            refusals: 0,
            absent,
        }
    }

    /// For so long, up to a quarter more: those who were turned away together shall not come back together.
    fn rest(&mut self, rest: Duration, salt: u64, now: Duration) {
        self.refusals += 1;
        let share = (mix(salt, u64::from(self.refusals) ^ now.as_nanos() as u64) % 256) as u32;
        let rest = rest.min(REST_MAX);
        self.rests_until = now + rest + rest * share / 1_024;
    }

    /// Whether it may be asked now.
    pub fn has_room(&self, asks_max: usize, now: Duration) -> bool {
        self.asks < self.asks_max.min(asks_max) && self.rests_until <= now
    }

    /// Whether its chunks take longer than those of others.
    pub fn is_slow(&self, usual: Option<Duration>) -> bool {
        usual.zip(self.took).is_some_and(|(usual, took)| took >= (usual * SLOW).max(RECENT))
    }
}
