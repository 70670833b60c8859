//! How what is at a destination already spares fetching.
//!
//! There are two ways, and a repair may go both, one after the other:
//!
//! 1. *Comparing*: as long as every block that was looked at is the source's, nothing is written. One that is right as a
//!    whole stays where it is: no bytes move, none are written, and no room for a second object is needed. Only done where
//!    the lengths are equal and nothing of the object is there yet.
//! 2. *Reusing*, from the first difference on: blocks that are right are written from what is there, and the others
//!    fetched. Of a clone (`in_place`) they need not even be written; else what was only compared before is read here
//!    once more and written. The source is not asked for it again. So the right object, which is what a repair finds most
//!    often, costs one reading at both ends.
//!
//! What is at the destination may change at any time: it is believed only after the block that is written, or that the
//! clone holds, was compared.

use std::collections::BTreeMap;

use staccato_protocols::{ByteRange, CRC_BLOCK, contract::Present};

use super::checkpoint::{CrcRanges, combine_blocks};

/// The repair of one attempt. Its memory is that of the sidecar: some bytes for each block that was only compared.
#[derive(Clone, Debug)]
pub struct Repair {
    present: Option<Present>,
    /// What was compared and is right; none once something is not.
    same: Option<CrcRanges>,
    /// The source's CRCs of blocks that were only compared, by the block's index: it need not be asked again.
    wanted: BTreeMap<u64, u32>,
}

/// How a chunk may use what is at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Blocks that lie before this offset may be there.
    pub end: u64,
    /// Whether blocks that are right are written already.
    pub in_place: bool,
    /// The source's CRC-32 of each block before `end`, where they are known.
    pub wanted: Option<Vec<u32>>,
}

impl Repair {
    /// Repairs `present`, where there is one, to an object of `length` bytes. `anew`: nothing of it is there yet.
    pub fn new(present: Option<Present>, length: Option<u64>, anew: bool) -> Self {
        let compares = anew && present.is_some_and(|present| Some(present.length) == length);
        Self { present, same: compares.then(CrcRanges::default), wanted: BTreeMap::new() }
    }

    /// Whether everything that was looked at is right, so that nothing must be written.
    pub fn is_comparing(&self) -> bool {
        self.same.is_some()
    }

    /// Whether blocks that are right are written already.
    pub fn is_in_place(&self) -> bool {
        self.present.is_some_and(|present| present.in_place)
    }

    /// How a range may use what is there, if at all.
    pub fn reuse(&self, range: ByteRange) -> Option<Reuse> {
        let present = self.present?;
        // Of its last block, the part that the source has too cannot be told from the CRC of more.
        let blocks_end = present.length / CRC_BLOCK * CRC_BLOCK;
        let end = if present.length >= range.end() { range.end() } else { blocks_end.min(range.end()) };
        let known = ByteRange::new(range.start(), end).filter(|known| !known.is_empty())?;
        let wanted = known.pieces(CRC_BLOCK).map(|block| self.wanted.get(&(block.start() / CRC_BLOCK)).copied());
        Some(Reuse { end, in_place: present.in_place, wanted: wanted.collect() })
    }

    /// A range is right; its blocks have these CRCs.
    pub fn note_same(&mut self, range: ByteRange, crcs: &[u32]) {
        let blocks = || range.pieces(CRC_BLOCK).zip(crcs.iter().copied());
        if !self.is_in_place() {
            self.wanted.extend(blocks().map(|(block, crc)| (block.start() / CRC_BLOCK, crc)));
        }
        if let Some(same) = &mut self.same {
            same.insert(range, combine_blocks(blocks().map(|(block, crc)| (block.len(), crc))));
        }
    }

    /// Something is not right, or may not be: comparing is over. Returns what was right, and has to be written now unless
    /// it is in place.
    pub fn differs(&mut self) -> Vec<ByteRange> {
        let same = self.same.take().unwrap_or_default();
        if self.is_in_place() { Vec::new() } else { same.iter().map(|known| known.range).collect() }
    }

    /// CRC-32 of `0..length`, when all of it was compared and is right.
    pub fn whole(&self, length: u64) -> Option<u32> {
        self.same.as_ref()?.whole(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = CRC_BLOCK;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    #[test]
    fn only_whole_blocks_or_a_common_end_are_reused() {
        let reuse = |present, start, end| {
            let present = Some(Present { length: present, in_place: false });
            Repair::new(present, None, true).reuse(range(start, end)).map(|reuse| reuse.end)
        };
        assert_eq!(reuse(3 * BLOCK, 0, 2 * BLOCK), Some(2 * BLOCK));
        assert_eq!(reuse(3 * BLOCK, 2 * BLOCK, 4 * BLOCK), Some(3 * BLOCK));
        assert_eq!(reuse(3 * BLOCK, 3 * BLOCK, 4 * BLOCK), None);
        // Its last block is shorter than the source's, as long, and longer.
        assert_eq!(reuse(2 * BLOCK + 5, BLOCK, 2 * BLOCK + 6), Some(2 * BLOCK));
        assert_eq!(reuse(2 * BLOCK + 5, 2 * BLOCK, 2 * BLOCK + 6), None);
        assert_eq!(reuse(2 * BLOCK + 5, BLOCK, 2 * BLOCK + 5), Some(2 * BLOCK + 5));
        assert_eq!(reuse(2 * BLOCK + 5, 2 * BLOCK, 2 * BLOCK + 4), Some(2 * BLOCK + 4));
        assert_eq!(Repair::new(None, None, true).reuse(range(0, BLOCK)), None);
    }

    #[test]
    fn nothing_is_compared_where_it_cannot_stay() {
        let present = Some(Present { length: 5, in_place: false });
        assert!(Repair::new(present, Some(5), true).is_comparing());
        assert!(!Repair::new(present, Some(6), true).is_comparing());
        assert!(!Repair::new(present, None, true).is_comparing());
        assert!(!Repair::new(present, Some(5), false).is_comparing());
        assert!(!Repair::new(None, Some(5), true).is_comparing());
    }

    #[test]
    fn what_was_only_compared_is_given_back_with_the_first_difference() {
        for in_place in [false, true] {
            let length = 3 * BLOCK + 5;
            let mut repair = Repair::new(Some(Present { length, in_place }), Some(length), true);
            repair.note_same(range(0, BLOCK), &[1]);
            repair.note_same(range(2 * BLOCK, length), &[3, 4]);
            assert_eq!(repair.whole(length), None);
            let given_back = repair.differs();
            let expected = [range(0, BLOCK), range(2 * BLOCK, length)];
            assert_eq!(given_back, if in_place { &[][..] } else { &expected });
            assert!(!repair.is_comparing() && repair.differs().is_empty());
            let wanted = |start, end| repair.reuse(range(start, end)).expect("it is there").wanted;
            assert_eq!(wanted(2 * BLOCK, length), (!in_place).then(|| vec![3, 4]), "the source is not asked again");
            assert_eq!(wanted(0, 2 * BLOCK), None, "it is, where not all is known");
        }
    }
}
