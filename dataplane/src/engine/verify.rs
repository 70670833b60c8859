//! Comparing what a checkpoint promises with what the destination holds.
//!
//! The ledger knows one CRC for each range, the sidecar one for each block. When the sidecar's CRCs combine to the
//! ledger's, it is right about every block, and only blocks that differ from it are fetched again; where it is missing
//! or damaged, a range is right or wrong as a whole.

use std::collections::{BTreeMap, VecDeque};

use staccato_protocols::{ByteRange, CRC_BLOCK};

use super::checkpoint::{CrcRanges, combine_blocks};
use crate::attempt::VerifiedRange;

/// The verification of one checkpoint.
#[derive(Clone, Debug)]
pub struct Verification {
    ranges: Vec<Open>,
    waiting: VecDeque<ByteRange>,
    in_flight: usize,
}

/// A range that is not decided yet.
#[derive(Clone, Debug)]
struct Open {
    promised: VerifiedRange,
    /// CRC of each block as read back; none where reading failed.
    found: Vec<Option<u32>>,
    undecided_blocks: usize,
    decided: bool,
}

/// What became known about a range of the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Blocks that are there.
    pub right: CrcRanges,
    /// Blocks that must be fetched again, joined to ranges.
    pub wrong: Vec<ByteRange>,
}

impl Verification {
    /// Verifies `checkpoint`, reading it back in pieces of at most `chunk_bytes`.
    pub fn new(checkpoint: &[VerifiedRange], chunk_bytes: u64) -> Self {
        let ranges: Vec<Open> = checkpoint
            .iter()
            .map(|&promised| {
                let blocks = promised.range.pieces(CRC_BLOCK).count();
                Open { promised, found: vec![None; blocks], undecided_blocks: blocks, decided: blocks == 0 }
            })
            .collect();
        let waiting = checkpoint.iter().flat_map(|promised| promised.range.pieces(chunk_bytes)).collect();
        Self { ranges, waiting, in_flight: 0 }
    }

    /// The next range to read back.
    pub fn hand_out(&mut self) -> Option<ByteRange> {
        let range = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(range)
    }

    /// Number of ranges being read back.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether everything is decided.
    pub fn is_done(&self) -> bool {
        self.ranges.iter().all(|open| open.decided)
    }

    /// The ranges that are not decided yet, as the checkpoint promised them.
    pub fn undecided(&self) -> impl Iterator<Item = VerifiedRange> + '_ {
        self.ranges.iter().filter(|open| !open.decided).map(|open| open.promised)
    }

    /// A range was read back (`None`: reading failed). `sidecar` tells the CRC of a block, where it knows one. Returns
    /// a verdict when this decides a range of the checkpoint.
    pub fn handle(&mut self, range: ByteRange, crcs: Option<&[u32]>, sidecar: &BTreeMap<u64, u32>) -> Option<Verdict> {
        self.in_flight -= 1;
        let open = self.ranges.iter_mut().find(|open| open.promised.range.contains(range))?;
        let first = ((range.start() - open.promised.range.start()) / CRC_BLOCK) as usize;
        let blocks = range.pieces(CRC_BLOCK).count();
        for at in 0..blocks {
            open.found[first + at] = crcs.and_then(|crcs| crcs.get(at).copied());
        }
        open.undecided_blocks -= blocks;
        if open.undecided_blocks > 0 {
            return None;
        }
        open.decided = true;
        let verdict = open.judge(sidecar);
        open.found = Vec::new();
        Some(verdict)
    }
}

impl Open {
    fn judge(&self, sidecar: &BTreeMap<u64, u32>) -> Verdict {
        let blocks: Vec<ByteRange> = self.promised.range.pieces(CRC_BLOCK).collect();
        let combine_all = |crcs: Vec<u32>| combine_blocks(blocks.iter().map(|block| block.len()).zip(crcs));
        let found: Option<Vec<u32>> = self.found.iter().copied().collect();
        let mut verdict = Verdict::default();
        if found.is_some_and(|crcs| combine_all(crcs) == self.promised.crc32) {
            verdict.right.insert(self.promised.range, self.promised.crc32);
            return verdict;
        }
        let noted: Option<Vec<u32>> =
            blocks.iter().map(|block| sidecar.get(&(block.start() / CRC_BLOCK)).copied()).collect();
        let Some(noted) = noted.filter(|noted| combine_all(noted.clone()) == self.promised.crc32) else {
            verdict.wrong.push(self.promised.range);
            return verdict;
        };
        for ((block, found), noted) in blocks.iter().zip(&self.found).zip(noted) {
            if *found == Some(noted) {
                verdict.right.insert(*block, noted);
            } else {
                match verdict.wrong.last_mut() {
                    Some(last) if last.end() == block.start() => {
                        *last = ByteRange::new(last.start(), block.end()).expect("blocks come in order");
                    }
                    _ => verdict.wrong.push(*block),
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = CRC_BLOCK;

    fn promised(crcs: &[u32]) -> VerifiedRange {
        let crc32 = combine_blocks(crcs.iter().map(|crc| (BLOCK, *crc)));
        VerifiedRange { range: ByteRange::new(0, crcs.len() as u64 * BLOCK).unwrap(), crc32 }
    }

    fn sidecar(crcs: &[u32]) -> BTreeMap<u64, u32> {
        (0..).zip(crcs.iter().copied()).collect()
    }

    fn verify(promise: VerifiedRange, found: &[u32], sidecar: &BTreeMap<u64, u32>) -> Verdict {
        let mut verification = Verification::new(&[promise], 2 * BLOCK);
        let mut verdict = None;
        while let Some(range) = verification.hand_out() {
            let blocks = (range.start() / BLOCK) as usize..range.end().div_ceil(BLOCK) as usize;
            assert_eq!(verdict, None);
            verdict = verification.handle(range, Some(&found[blocks]), sidecar);
        }
        assert!(verification.is_done());
        verdict.unwrap()
    }

    proptest! {
        /// Blocks are right (0), different (1) or unreadable (2); the sidecar is right, absent, or wrong about a block.
        #[test]
        fn no_wrong_block_passes_and_a_right_sidecar_spares_the_others(
            states in prop::collection::vec(0u8..3, 1..24),
            chunk_blocks in 1u64..6,
            sidecar_kind in 0u8..3,
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let truth: Vec<u32> = states.iter().map(|_| rng.u32(..)).collect();
            let whole = promised(&truth);
            let mut noted = if sidecar_kind == 0 { BTreeMap::new() } else { sidecar(&truth) };
            if sidecar_kind == 2 {
                *noted.get_mut(&rng.u64(..truth.len() as u64)).unwrap() ^= 1;
            }
            let mut verification = Verification::new(&[whole], chunk_blocks * BLOCK);
            let mut ranges: Vec<_> = std::iter::from_fn(|| verification.hand_out()).collect();
            rng.shuffle(&mut ranges);
            let mut verdict = None;
            for range in ranges {
                prop_assert!(verdict.is_none() && verification.undecided().eq([whole]));
                let blocks = (range.start() / BLOCK) as usize..(range.end() / BLOCK) as usize;
                let readable = states[blocks.clone()].iter().all(|state| *state != 2);
                let found: Vec<u32> = blocks.map(|block| truth[block] ^ u32::from(states[block] == 1)).collect();
                verdict = verification.handle(range, readable.then_some(&found[..]), &noted);
            }
            prop_assert!(verification.is_done() && verification.undecided().next().is_none());
            let verdict = verdict.expect("all of it was read");
            let wrong_bytes: u64 = verdict.wrong.iter().map(|range| range.len()).sum();
            prop_assert_eq!(verdict.right.bytes() + wrong_bytes, whole.range.len());
            for (block, state) in (0..).zip(&states) {
                let range = ByteRange::at(block * BLOCK, BLOCK).unwrap();
                let passes = verdict.right.iter().any(|known| known.range.contains(range));
                let unread = range_read_in_one(range, chunk_blocks, whole.range).pieces(BLOCK);
                let unreadable = unread.into_iter().any(|other| states[(other.start() / BLOCK) as usize] == 2);
                prop_assert!(!(passes && (*state != 0 || unreadable)), "block {} passes", block);
                prop_assert!(sidecar_kind != 1 || passes || *state != 0 || unreadable, "block {} is spared", block);
            }
            let all_right = states.iter().all(|state| *state == 0);
            prop_assert_eq!(verdict.wrong.is_empty(), all_right);
        }
    }

    /// The range that a block is read back with: when that fails, nothing is known about any of its blocks.
    fn range_read_in_one(block: ByteRange, chunk_blocks: u64, whole: ByteRange) -> ByteRange {
        whole.pieces(chunk_blocks * BLOCK).find(|piece| piece.contains(block)).unwrap()
    }

    #[test]
    fn a_right_range_needs_no_sidecar() {
        let verdict = verify(promised(&[1, 2, 3]), &[1, 2, 3], &BTreeMap::new());
        assert_eq!((verdict.right.bytes(), verdict.wrong.len()), (3 * BLOCK, 0));
    }

    #[test]
    fn with_a_sidecar_only_the_wrong_block_is_lost() {
        let verdict = verify(promised(&[1, 2, 3]), &[1, 9, 3], &sidecar(&[1, 2, 3]));
        assert_eq!(verdict.wrong, [ByteRange::new(BLOCK, 2 * BLOCK).unwrap()]);
        assert_eq!(verdict.right.bytes(), 2 * BLOCK);
    }

    #[test]
    fn without_one_or_with_a_wrong_one_the_whole_range_is() {
        for sidecar in [BTreeMap::new(), sidecar(&[1, 9, 3]), sidecar(&[1, 2])] {
            let verdict = verify(promised(&[1, 2, 3]), &[1, 9, 3], &sidecar);
            assert_eq!(verdict.wrong, [ByteRange::new(0, 3 * BLOCK).unwrap()]);
            assert!(verdict.right.is_empty());
        }
    }
}
