//! A set of chunks of one object: a bitmap, with ranges in and out.

use std::ops::Range;

const WORD: u32 = u64::BITS;

/// Which of an object's chunks. It takes a bit for each, whatever is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet {
    chunks: u32,
    len: u32,
    /// Bits behind the last chunk are never set.
    words: Vec<u64>,
}

impl ChunkSet {
    /// None of `chunks`.
    pub fn empty(chunks: u32) -> Self {
        Self { chunks, len: 0, words: vec![0; chunks.div_ceil(WORD) as usize] }
    }

    /// All of `chunks`.
    pub fn full(chunks: u32) -> Self {
        let mut set = Self::empty(chunks);
        set.insert_range(0..chunks);
        set
    }

    /// Those of `chunks` that lie in any of these ranges; none where a range is not within them: it came from elsewhere.
    pub fn from_ranges(chunks: u32, ranges: impl IntoIterator<Item = Range<u32>>) -> Option<Self> {
        let mut set = Self::empty(chunks);
        for range in ranges {
            if range.start > range.end || range.end > chunks {
                return None;
            }
            set.insert_range(range);
        }
        Some(set)
    }

    /// How many chunks the object has.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// How many of them are in the set.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all are.
    pub fn is_full(&self) -> bool {
        self.len == self.chunks
    }

    /// Whether this one is. No chunk behind the last one is.
    pub fn contains(&self, chunk: u32) -> bool {
        self.words.get((chunk / WORD) as usize).is_some_and(|word| word >> (chunk % WORD) & 1 == 1)
    }

    /// Adds a chunk; whether it was missing.
    pub fn insert(&mut self, chunk: u32) -> bool {
        assert!(chunk < self.chunks, "chunk {chunk} of {}", self.chunks);
        let word = &mut self.words[(chunk / WORD) as usize];
        let added = *word >> (chunk % WORD) & 1 == 0;
        *word |= 1 << (chunk % WORD);
        self.len += u32::from(added);
        added
    }

    /// Takes a chunk out; whether it was there.
    pub fn remove(&mut self, chunk: u32) -> bool {
        let there = self.contains(chunk);
        if there {
            self.words[(chunk / WORD) as usize] &= !(1 << (chunk % WORD));
            self.len -= 1;
        }
        there
    }

    /// Adds all of a range.
    pub fn insert_range(&mut self, range: Range<u32>) {
        assert!(range.end <= self.chunks, "chunks up to {} of {}", range.end, self.chunks);
        if range.is_empty() {
            return;
        }
        let (first, last) = (range.start / WORD, (range.end - 1) / WORD);
        for index in first..=last {
            let mut mask = u64::MAX;
            if index == first {
                mask &= u64::MAX << (range.start % WORD);
            }
            if index == last {
                mask &= u64::MAX >> (WORD - 1 - (range.end - 1) % WORD);
            }
            let word = &mut self.words[index as usize];
            self.len += (mask & !*word).count_ones();
            *word |= mask;
        }
    }

    /// Adds what is in another set of the same object.
    pub fn add(&mut self, other: &Self) {
        self.merge(other, |one, other| one | other);
    }

    /// Takes out what is in another set of the same object.
    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, |one, other| one & !other);
    }

    /// Keeps what is in another set of the same object, too.
    pub fn keep(&mut self, other: &Self) {
        self.merge(other, |one, other| one & other);
    }

    fn merge(&mut self, other: &Self, join: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.chunks, other.chunks, "sets of one object");
        self.len = 0;
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word = join(*word, *other);
            self.len += word.count_ones();
        }
    }

    /// The chunks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| bits(*word).map(move |bit| index as u32 * WORD + bit))
    }

    /// The chunks as ranges, ascending, with a gap between any two.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut chunks = self.iter().peekable();
        std::iter::from_fn(move || {
            let start = chunks.next()?;
            let mut end = start + 1;
            while chunks.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(start..end)
        })
    }

    /// The bitmap, 64 chunks a word, the first chunk lowest.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&self.words[..])
    }
}

/// The bits of a word that are set, ascending.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(bit)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn chunks_max() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(1), Just(63), Just(64), Just(65), 0u32..300]
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            chunks in chunks_max(),
            steps in prop::collection::vec((any::<bool>(), any::<u32>(), any::<u32>()), 0..60),
        ) {
            let (mut set, mut model) = (ChunkSet::empty(chunks), BTreeSet::new());
            for (adds, one, other) in steps {
                let (one, other) = (one % (chunks + 1), other % (chunks + 1));
                if adds {
                    let range = one.min(other)..one.max(other);
                    set.insert_range(range.clone());
                    model.extend(range);
                } else {
                    prop_assert_eq!(set.remove(one), model.remove(&one));
                    if other < chunks {
                        prop_assert_eq!(set.insert(other), model.insert(other));
                    }
                }
                prop_assert_eq!(set.len() as usize, model.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert_eq!(set.is_full(), model.len() == chunks as usize);
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert!((0..chunks + 70).all(|chunk| set.contains(chunk) == model.contains(&chunk)));
            let ranges: Vec<_> = set.ranges().collect();
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(ChunkSet::from_ranges(chunks, ranges), Some(set));
        }

        #[test]
        fn sets_are_joined_chunk_by_chunk(one in any::<u128>(), other in any::<u128>()) {
            let set = |bits: u128| {
                let mut set = ChunkSet::empty(128);
                for chunk in (0..128).filter(|chunk| bits >> chunk & 1 == 1) {
                    set.insert(chunk);
                }
                set
            };
            let joined = |join: fn(&mut ChunkSet, &ChunkSet)| {
                let mut first = set(one);
                join(&mut first, &set(other));
                first
            };
            prop_assert_eq!(joined(ChunkSet::add), set(one | other));
            prop_assert_eq!(joined(ChunkSet::subtract), set(one & !other));
            prop_assert_eq!(joined(ChunkSet::keep), set(one & other));
        }
    }

    #[test]
    fn what_is_not_of_the_object_is_refused() {
        let reversed = Range { start: 3, end: 2 };
        assert_eq!(ChunkSet::from_ranges(10, std::iter::once(0..11)), None);
        assert_eq!(ChunkSet::from_ranges(10, [0..2, reversed]), None);
        assert_eq!(ChunkSet::from_ranges(10, std::iter::once(u32::MAX..u32::MAX)), None);
        assert!(ChunkSet::from_ranges(10, [0..10, 3..5]).unwrap().is_full());
    }
}
