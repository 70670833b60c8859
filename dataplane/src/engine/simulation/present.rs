//! What is at the destination before a repair: some blocks as the source has them, others not. Nobody in the simulation
//! may write to it but the world.

use fastrand::Rng;
use staccato_protocols::{ByteRange, CRC_BLOCK};

use super::source::{Content, SECTOR, SECTORS, Source, block_crc, blocks, sectors};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct PresentObject {
    cells: Vec<u32>,
    pub length: u64,
    /// Counts its changes.
    pub version: u32,
}

/// How it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct PresentScenario {
    /// Its length; the source's when none.
    pub length: Option<u64>,
    /// How likely a block is the source's.
    pub same: f64,
    /// Whether it can be cloned.
    pub clones: bool,
}

impl PresentObject {
    pub fn draw(rng: &mut Rng, scenario: PresentScenario, source: &Source) -> Self {
        let length = scenario.length.unwrap_or(source.length);
        let mut cells = Vec::new();
        for block in 0..length.div_ceil(CRC_BLOCK) {
            let same = rng.f64() < scenario.same;
            let zero = rng.u8(..4) == 0;
            for at in block * SECTORS..(block + 1) * SECTORS {
                let other = if zero { 0 } else { rng.u32(1..) };
                cells.push(if same { source.sector(at as usize) } else { other });
            }
        }
        Self { cells, length, version: 0 }
    }

    /// Somebody writes to it.
    pub fn change(&mut self, rng: &mut Rng) {
        self.version += 1;
        let there = self.length.div_ceil(SECTOR) as usize;
        if there > 0 {
            self.cells[rng.usize(..there)] = rng.u32(..);
        }
    }

    /// CRC of each block of a range that lies within it.
    pub fn crcs(&self, range: ByteRange) -> Vec<u32> {
        blocks(range).map(|block| block_crc(block.len(), sectors(block).map(|at| self.sector(at)))).collect()
    }

    /// Whether it is the source's object.
    pub fn is(&self, source: &Source) -> bool {
        let whole = ByteRange::new(0, source.length).expect("0 is the smallest start");
        self.length == source.length && self.crcs(whole) == source.crcs(whole)
    }

    /// Bytes of a block of the source that have to be fetched.
    pub fn bytes_to_fetch(&self, block: ByteRange, source: &Source) -> u64 {
        let right = block.end() <= self.length && self.crcs(block) == source.crcs(block);
        if right || source.is_hole(block) { 0 } else { block.len() }
    }
}

impl Content for PresentObject {
    fn sector(&self, at: usize) -> u32 {
        self.cells.get(at).copied().unwrap_or_default()
    }
}
