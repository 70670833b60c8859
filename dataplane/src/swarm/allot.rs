//! How the reads of a source are split among the members that may read it: the control plane's side.
//!
//! Chunk i is a primary chunk of seed i mod S, so that each seed has some of every part of the object, and a reserve chunk of
//! the next seed. A right to read is a promise that cannot be taken back: who has it may be using it. So rights count against
//! the budget from when they are given until their chunk is with the seed that has them, and for good where it was read.
//!
//! Invariant: what was read, what may still be read and what is left add up to the budget.

use std::collections::BTreeMap;

use super::{Allotment, ChunkSet, PeerKey};

/// What is known of a seed that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It has said so, and told all that it read: what it may read no more is given to others.
    Left,
    /// It has not been heard of. It may go on reading: all that it may read counts as read.
    Silent,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Allotments {
    chunks: u32,
    seeds: BTreeMap<PeerKey, Allotment>,
    /// Reads that are neither done nor promised.
    reads_left: u64,
    reads_done: u64,
}

impl Allotments {
    /// For an object of so many chunks, each of which must be read once: `reads_max` reads, at least as many.
    pub fn new(chunks: u32, reads_max: u64, seeds: &[PeerKey]) -> Self {
        assert!(reads_max >= chunks.into(), "{reads_max} reads do not fetch {chunks} chunks");
        let mut allotments = Self { chunks, seeds: BTreeMap::new(), reads_left: reads_max, reads_done: 0 };
        let Some(count) = u32::try_from(seeds.len()).ok().filter(|count| *count > 0) else { return allotments };
        for (index, key) in seeds.iter().enumerate() {
            let mut allotment = Allotment::none(chunks);
            for chunk in (index as u32..chunks).step_by(count as usize) {
                allotment.primary.insert(chunk);
            }
            allotments.reads_left -= u64::from(allotment.primary.len());
            let earlier = allotments.seeds.insert(*key, allotment);
            assert!(earlier.is_none(), "each seed is one");
        }
        if count > 1 {
            for (index, key) in seeds.iter().enumerate() {
                allotments.give_reserve(*key, seeds[(index + 1) % seeds.len()], &ChunkSet::empty(chunks));
            }
        }
        allotments
    }

    /// What a seed may read from now on.
    pub fn of(&self, seed: PeerKey) -> Option<&Allotment> {
        self.seeds.get(&seed)
    }

    /// Reads of a chunk that are neither done nor promised.
    pub fn reads_left(&self) -> u64 {
        self.reads_left
    }

    /// Reads that are done, or counted as done.
    pub fn reads_done(&self) -> u64 {
        self.reads_done
    }

    /// A seed has these chunks now, and has read those from the source. What it has it need not read any more.
    pub fn handle_progress(&mut self, seed: PeerKey, has: &ChunkSet, read: &ChunkSet) {
        let Some(allotment) = self.seeds.get_mut(&seed) else { return };
        for rights in [&mut allotment.primary, &mut allotment.reserve] {
            let mut used = rights.clone();
            used.keep(read);
            self.reads_done += u64::from(used.len());
            rights.subtract(read);
            let mut spared = rights.clone();
            spared.keep(has);
            self.reads_left += u64::from(spared.len());
            rights.subtract(has);
        }
    }

    /// One more member may read the source. It gets what nobody has and nobody may read, if there is such.
    pub fn handle_joined(&mut self, seed: PeerKey, held: &ChunkSet) {
        self.seeds.entry(seed).or_insert_with(|| Allotment::none(self.chunks));
        self.spread(held);
    }

    /// A seed is lost. `held` is what the members have that are left: of the rest, what nobody may read any more as its own
    /// goes to those who have it in reserve, and what is in no reserve to those with the fewest, while any reads are left.
    pub fn handle_lost(&mut self, seed: PeerKey, lost: Lost, held: &ChunkSet) {
        let Some(Allotment { primary, reserve, .. }) = self.seeds.remove(&seed) else { return };
        let rights = u64::from(primary.len() + reserve.len());
        match lost {
            Lost::Left => self.reads_left += rights,
            Lost::Silent => self.reads_done += rights,
        }
        self.spread(held);
    }

    /// Sees to it that every chunk that nobody has can be read by somebody, and by a second one if the first is lost.
    pub fn spread(&mut self, held: &ChunkSet) {
        let mut orphans = ChunkSet::full(self.chunks);
        orphans.subtract(held);
        for allotment in self.seeds.values() {
            orphans.subtract(&allotment.primary);
        }
        for allotment in self.seeds.values_mut() {
            let mut inherited = allotment.reserve.clone();
            inherited.keep(&orphans);
            allotment.reserve.subtract(&inherited);
            allotment.primary.add(&inherited);
            orphans.subtract(&inherited);
        }
        for chunk in orphans.iter() {
            let Some(allotment) = self.seeds.values_mut().min_by_key(|allotment| allotment.primary.len()) else {
                return;
            };
            if self.reads_left == 0 {
                return;
            }
            self.reads_left -= 1;
            allotment.primary.insert(chunk);
        }
        let seeds: Vec<PeerKey> = self.seeds.keys().copied().collect();
        for (index, seed) in seeds.iter().enumerate() {
            let keeps = |other: &&PeerKey| self.seeds[other].reserve_of == Some(*seed);
            // The next one that keeps nothing for others, if nobody keeps anything for this one.
            let after = seeds[index + 1..].iter().chain(&seeds[..index]);
            let free = after.filter(|other| self.seeds[other].reserve.is_empty()).copied().next();
            if let Some(keeper) = seeds.iter().find(keeps).copied().or(free) {
                self.give_reserve(*seed, keeper, held);
            }
        }
    }

    /// Gives `keeper` what is `seed`'s own as its reserve, but for what somebody has, while reads are left.
    fn give_reserve(&mut self, seed: PeerKey, keeper: PeerKey, held: &ChunkSet) {
        let mut own = self.seeds[&seed].primary.clone();
        own.subtract(held);
        let allotment = self.seeds.get_mut(&keeper).expect("a keeper is a seed");
        allotment.reserve_of = Some(seed);
        for chunk in own.iter().filter(|chunk| !allotment.primary.contains(*chunk)) {
            if self.reads_left == 0 {
                return;
            }
            self.reads_left -= u64::from(allotment.reserve.insert(chunk));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKS: u32 = 70;

    fn keys(count: u64) -> Vec<PeerKey> {
        (0..count).map(PeerKey).collect()
    }

    fn none() -> ChunkSet {
        ChunkSet::empty(CHUNKS)
    }

    #[test]
    fn every_chunk_is_one_seeds_own_and_the_next_ones_reserve() {
        for count in 1..9 {
            let allotments = Allotments::new(CHUNKS, 2 * u64::from(CHUNKS), &keys(count));
            let (mut own, mut reserve) = (none(), none());
            for (seed, key) in keys(count).into_iter().enumerate() {
                let allotment = allotments.of(key).unwrap();
                assert!(
                    allotment.primary.iter().all(|chunk| chunk as usize % count as usize == seed && own.insert(chunk))
                );
                assert!(allotment.reserve.iter().all(|chunk| reserve.insert(chunk)));
                if count > 1 {
                    let before = PeerKey((seed as u64 + count - 1) % count);
                    assert_eq!(allotment.reserve_of, Some(before));
                    assert_eq!(allotment.reserve, allotments.of(before).unwrap().primary);
                }
            }
            assert!(own.is_full() && (reserve.is_full() || count == 1));
            assert_eq!(allotments.reads_left(), if count == 1 { 70 } else { 0 });
        }
    }

    #[test]
    fn a_small_budget_leaves_some_without_reserve() {
        let allotments = Allotments::new(CHUNKS, 90, &keys(4));
        let reserve: u32 = keys(4).into_iter().map(|key| allotments.of(key).unwrap().reserve.len()).sum();
        assert_eq!((reserve, allotments.reads_left()), (20, 0));
    }

    #[test]
    fn what_a_lost_seed_had_for_its_own_is_its_keepers_own() {
        let mut allotments = Allotments::new(CHUNKS, 2 * u64::from(CHUNKS), &keys(3));
        let lost = allotments.of(PeerKey(1)).unwrap().primary.clone();
        // Seed 2 has half of the object by now, from others: so much may be promised anew.
        let has = ChunkSet::from_ranges(CHUNKS, std::iter::once(0..35)).unwrap();
        allotments.handle_progress(PeerKey(2), &has, &none());
        let left = allotments.reads_left();
        assert!((20..35).contains(&left), "{left}");
        allotments.handle_lost(PeerKey(1), Lost::Silent, &has);
        let heir = &allotments.of(PeerKey(2)).unwrap().primary;
        assert!(lost.iter().all(|chunk| has.contains(chunk) || heir.contains(chunk)));
        // And there is somebody who would do it for the heir.
        let keeper = allotments.of(PeerKey(0)).unwrap();
        assert_eq!(keeper.reserve_of, Some(PeerKey(2)));
        assert!(lost.iter().any(|chunk| keeper.reserve.contains(chunk)));
    }

    #[test]
    fn what_one_that_left_did_not_read_may_be_read_by_others() {
        let mut allotments = Allotments::new(CHUNKS, CHUNKS.into(), &keys(2));
        allotments.handle_lost(PeerKey(0), Lost::Left, &none());
        assert!(allotments.of(PeerKey(1)).unwrap().primary.is_full());
        assert_eq!((allotments.reads_left(), allotments.of(PeerKey(0))), (0, None));
        // But what may have been read by one of whom nothing is heard is not read again.
        let mut allotments = Allotments::new(CHUNKS, CHUNKS.into(), &keys(2));
        allotments.handle_lost(PeerKey(0), Lost::Silent, &none());
        assert_eq!((allotments.reads_left(), allotments.of(PeerKey(1)).unwrap().primary.len()), (0, 35));
    }

    proptest! {
        /// Seeds read what they were once told that they may, heard of or not, and never the same twice.
        #[test]
        fn the_budget_holds_whatever_happens(
            seeds in 1u64..7,
            extra in 0u64..150,
            steps in prop::collection::vec((0u8..6, 0u64..9, any::<u64>()), 0..120),
        ) {
            let budget = u64::from(CHUNKS) + extra;
            let mut allotments = Allotments::new(CHUNKS, budget, &keys(seeds));
            // What each may read as far as it knows, what it read and not told yet, and what it has.
            let mut told: BTreeMap<PeerKey, (ChunkSet, ChunkSet, ChunkSet)> = BTreeMap::new();
            let mut reads = 0;
            for (what, who, random) in steps {
                let key = PeerKey(who);
                let mut held = none();
                told.values().for_each(|(_, _, has)| held.add(has));
                let chunk = random as u32 % CHUNKS;
                let (may, read, has) = told.entry(key).or_insert_with(|| (none(), none(), none()));
                match what {
                    0 | 1 => {
                        if let Some(allotment) = allotments.of(key) {
                            *may = allotment.primary.clone();
                            may.add(&allotment.reserve);
                            may.subtract(has);
                        }
                        if let Some(chunk) = may.iter().max_by_key(|other| other.wrapping_sub(chunk)) {
                            (reads, _) = (reads + 1, (may.remove(chunk), read.insert(chunk), has.insert(chunk)));
                        }
                    }
                    2 => {
                        may.remove(chunk);
                        has.insert(chunk);
                    }
                    3 => allotments.handle_progress(key, has, read),
                    4 => {
                        let lost = if random % 3 > 0 { Lost::Silent } else {
                            allotments.handle_progress(key, has, read);
                            *may = none();
                            Lost::Left
                        };
                        allotments.handle_lost(key, lost, &held);
                    }
                    _ if allotments.of(key).is_none() => {
                        // A new life of it, which has what it had, and knows of no rights.
                        (*may, *read) = (none(), none());
                        allotments.handle_joined(key, &held);
                    }
                    _ => allotments.spread(&held),
                }
                let promised: u64 = allotments.seeds.values().map(|one| u64::from(one.primary.len() + one.reserve.len())).sum();
                prop_assert_eq!(allotments.reads_done() + promised + allotments.reads_left(), budget);
                prop_assert!(reads <= budget, "{} of {}", reads, budget);
                for allotment in allotments.seeds.values() {
                    prop_assert!(allotment.primary.iter().all(|chunk| !allotment.reserve.contains(chunk)));
                }
            }
        }
    }
}
