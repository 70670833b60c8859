//! A simulated source: what each sector of each version of it holds.

use staccato_protocols::{ByteRange, CRC_BLOCK};

use crate::engine::checkpoint::combine_blocks;

/// Sectors in a CRC block.
pub(super) const SECTORS: u64 = 4;
/// Bytes in a sector: the smallest piece that is written or torn.
pub(super) const SECTOR: u64 = CRC_BLOCK / SECTORS;

/// One version of an object.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub version: u32,
    pub length: u64,
    /// Whether about a third of its blocks are zero.
    pub holes: bool,
}

/// What an object's sectors hold.
pub(super) trait Content {
    /// What a sector holds; 0 is a sector of zeros.
    fn sector(&self, at: usize) -> u32;

    /// Whether a block is all zero.
    fn is_hole(&self, block: ByteRange) -> bool {
        sectors(block).all(|at| self.sector(at) == 0)
    }
}

impl Content for Source {
    fn sector(&self, at: usize) -> u32 {
        let block = at as u64 / SECTORS;
        if at as u64 * SECTOR >= self.length || (self.holes && mix(self.version.into(), block).is_multiple_of(3)) {
            return 0;
        }
        mix(self.version.into(), at as u64 + (1 << 32)) as u32 | 1
    }
}

impl Source {
    /// CRC of each block of a range.
    pub fn crcs(&self, range: ByteRange) -> Vec<u32> {
        blocks(range).map(|block| block_crc(block.len(), sectors(block).map(|at| self.sector(at)))).collect()
    }

    /// CRC of a whole range.
    pub fn crc(&self, range: ByteRange) -> u32 {
        combine_blocks(blocks(range).map(|block| block.len()).zip(self.crcs(range)))
    }
}

/// The CRC blocks of a range.
pub(super) fn blocks(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    range.pieces(CRC_BLOCK)
}

/// The sectors of a block.
pub(super) fn sectors(block: ByteRange) -> impl Iterator<Item = usize> {
    (block.start() / SECTOR) as usize..block.end().div_ceil(SECTOR) as usize
}

/// What stands for the CRC-32 of a block of `len` bytes.
pub(super) fn block_crc(len: u64, contents: impl Iterator<Item = u32>) -> u32 {
    let crc = contents.fold(mix(0, len), |crc, content| mix(crc, content.into()));
    (crc >> 32) as u32
}

/// A good mix of two numbers (the finaliser of SplitMix64; Steele, Lea and Flood, 2014).
fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
