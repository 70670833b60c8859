//! Sets of ranges with a CRC-32 for each.
//!
//! Invariant: ranges do not overlap and do not touch; what touches is joined, and the CRC of the whole computed from
//! the CRCs of its parts (the `crc32_combine` of zlib, as crc32fast offers it). So a set that grew in order is one
//! range however large the object, and memory is bounded by the window, not by the size.

use std::collections::BTreeMap;

use staccato_protocols::{ByteRange, CRC_BLOCK};

use crate::attempt::VerifiedRange;

/// A set of ranges, each with the CRC-32 of its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrcRanges {
    /// Start → (end, CRC-32).
    ranges: BTreeMap<u64, (u64, u32)>,
}

impl CrcRanges {
    /// Adds a range that overlaps none in the set. Empty ranges are nothing.
    pub fn insert(&mut self, range: ByteRange, crc32: u32) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end, mut crc) = (range.start(), range.end(), crc32);
        if let Some((&before, &(before_end, before_crc))) = self.ranges.range(..start).next_back() {
            assert!(before_end <= start, "range {range} is there already");
            if before_end == start {
                crc = combine(before_crc, crc, end - start);
                start = before;
            }
        }
        if let Some((&after, &(after_end, after_crc))) = self.ranges.range(range.start()..).next() {
            assert!(after >= end, "range {range} is there already");
            if after == end {
                self.ranges.remove(&after);
                crc = combine(crc, after_crc, after_end - after);
                end = after_end;
            }
        }
        self.ranges.insert(start, (end, crc));
    }

    /// Adds every range of `other`.
    pub fn absorb(&mut self, other: Self) {
        for (start, (end, crc)) in other.ranges {
            self.insert(ByteRange::new(start, end).expect("kept in order"), crc);
        }
    }

    /// Sum of the lengths.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|(start, (end, _))| end - start).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Its ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = VerifiedRange> + '_ {
        self.ranges.iter().map(|(&start, &(end, crc32))| VerifiedRange {
            range: ByteRange::new(start, end).expect("kept in order"),
            crc32,
        })
    }

    /// CRC-32 of `0..length` when the set covers exactly that.
    pub fn whole(&self, length: u64) -> Option<u32> {
        if length == 0 {
            return self.ranges.is_empty().then(|| crc32fast::hash(b""));
        }
        let (&start, &(end, crc)) = self.ranges.first_key_value()?;
        (start == 0 && end == length).then_some(crc)
    }
}

/// Whether a checkpoint can be one of an object of `length` bytes (of any length, when unknown): its ranges are in
/// order, apart, and made of whole blocks, but for the object's last one.
pub fn fits(checkpoint: &[VerifiedRange], length: Option<u64>) -> bool {
    let in_order = checkpoint.windows(2).all(|pair| pair[0].range.end() <= pair[1].range.start());
    let whole = |at: u64| at.is_multiple_of(CRC_BLOCK);
    let last = checkpoint.last().map_or(0, |known| known.range.end());
    in_order
        && length.is_none_or(|length| last <= length)
        && checkpoint.iter().all(|VerifiedRange { range, .. }| {
            let is_end = range.end() == length.unwrap_or(last);
            !range.is_empty() && whole(range.start()) && (whole(range.end()) || is_end)
        })
}

/// CRC-32 of two byte strings in a row, from that of the first, that of the second, and the second's length.
pub fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    let mut whole = crc32fast::Hasher::new_with_initial_len(first, 0);
    whole.combine(&crc32fast::Hasher::new_with_initial_len(second, second_len));
    whole.finalize()
}

/// CRC-32 of adjoining blocks from the CRCs of each; `lens` and `crcs` go in step.
pub fn combine_blocks(blocks: impl IntoIterator<Item = (u64, u32)>) -> u32 {
    blocks.into_iter().fold(crc32fast::hash(b""), |whole, (len, crc)| combine(whole, crc, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order_of_pieces_gives_the_crc_of_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 1..400),
            step in 1u64..60,
            seed in any::<u64>(),
        ) {
            let whole = ByteRange::new(0, bytes.len() as u64).unwrap();
            let mut pieces: Vec<_> = whole.pieces(step).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut pieces);
            let mut set = CrcRanges::default();
            let mut total = 0;
            for piece in pieces {
                set.insert(piece, crc32fast::hash(&bytes[piece.start() as usize..piece.end() as usize]));
                total += piece.len();
                prop_assert_eq!(set.bytes(), total);
                for known in set.iter() {
                    let range = known.range.start() as usize..known.range.end() as usize;
                    prop_assert_eq!(known.crc32, crc32fast::hash(&bytes[range]));
                }
            }
            prop_assert_eq!(set.whole(whole.end()), Some(crc32fast::hash(&bytes)));
            prop_assert_eq!(set.iter().count(), 1);
        }
    }

    #[test]
    fn nothing_is_the_whole_of_nothing() {
        assert_eq!(CrcRanges::default().whole(0), Some(0));
        assert_eq!(CrcRanges::default().whole(1), None);
    }

    #[test]
    fn a_checkpoint_fits_when_only_the_objects_end_lies_within_a_block() {
        let known = |start, end| VerifiedRange { range: ByteRange::new(start, end).unwrap(), crc32: 0 };
        let block = CRC_BLOCK;
        for (ranges, length, expected) in [
            (vec![], Some(0), true),
            (vec![known(0, block), known(2 * block, 3 * block)], Some(3 * block), true),
            (vec![known(0, block + 5)], Some(block + 5), true),
            (vec![known(0, block + 5)], None, true),
            (vec![known(0, block + 5)], Some(2 * block), false),
            (vec![known(0, block + 5), known(2 * block, 3 * block)], None, false),
            (vec![known(5, block)], Some(block), false),
            (vec![known(0, 2 * block)], Some(block), false),
            (vec![known(0, 2 * block), known(block, 3 * block)], None, false),
            (vec![known(block, block)], None, false),
        ] {
            assert_eq!(fits(&ranges, length), expected, "{ranges:?} in {length:?}");
        }
    }
}
