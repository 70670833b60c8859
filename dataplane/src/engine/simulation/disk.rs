//! One inode of a simulated disk: a page cache above what survives a power cut.
//!
//! Bytes are stood for by one number for each sector, a quarter of a CRC block; 0 is a sector of zeros. A sync makes
//! durable what was dirty when it began. A power cut keeps any subset of what was dirty. A failed sync does what Linux
//! does: any subset of the dirty sectors is durable, and all of them count as clean from then on, so that a later sync
//! that succeeds says nothing about them.

use fastrand::Rng;
use staccato_protocols::{ByteRange, CRC_BLOCK};

use super::{
    present::PresentObject,
    source::{Content, SECTOR, SECTORS, Source, block_crc, blocks, sectors},
};

/// See the module.
pub(super) struct Disk {
    cells: Vec<Cell>,
    length: u64,
    length_durable: u64,
    /// What the sync in flight will make durable: cells with their content, and the length.
    syncing: Option<(Vec<(usize, u32)>, u64)>,
    /// Tells inodes apart.
    pub inode: u32,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    cached: u32,
    durable: u32,
    dirty: bool,
    /// Ever written.
    touched: bool,
    /// The world damaged it: no promise about it need hold until it is written again.
    excused: bool,
}

impl Disk {
    pub fn new(inode: u32, bytes_max: u64) -> Self {
        let cells = vec![Cell::default(); bytes_max.div_ceil(SECTOR) as usize];
        Self { cells, length: 0, length_durable: 0, syncing: None, inode }
    }

    /// A new inode that shares what `present` holds, which is durable with the next sync.
    pub fn clone_of(inode: u32, bytes_max: u64, present: &PresentObject) -> Self {
        let mut disk = Self::new(inode, bytes_max);
        for (at, cell) in disk.cells.iter_mut().enumerate().take(present.length.div_ceil(SECTOR) as usize) {
            *cell = Cell { cached: present.sector(at), dirty: true, touched: true, ..Cell::default() };
        }
        disk.length = present.length;
        disk
    }

    /// Writes what `source` has there. `untouched` blocks of zeros are left out, as a lane does. `torn`: only some of
    /// the sectors get there.
    pub fn write(&mut self, range: ByteRange, source: &impl Content, untouched: bool, mut torn: Option<&mut Rng>) {
        for block in blocks(range) {
            if untouched && source.is_hole(block) {
                continue;
            }
            for at in sectors(block) {
                if torn.as_mut().is_some_and(|rng| rng.bool()) {
                    continue;
                }
                let cached = source.sector(at);
                self.cells[at] = Cell { cached, dirty: true, touched: true, excused: false, ..self.cells[at] };
                // O_DIRECT pads to the sector; setting the length cuts that off.
                self.length = self.length.max((at as u64 + 1) * SECTOR);
            }
        }
    }

    /// Whether anything was ever written there.
    pub fn is_touched(&self, range: ByteRange) -> bool {
        cells(range).any(|at| self.cells[at].touched)
    }

    /// CRC of each block, as a read gives them; behind the end there are zeros.
    pub fn read(&self, range: ByteRange) -> Vec<u32> {
        let read = |block: ByteRange| block_crc(block.len(), sectors(block).map(|at| self.cells[at].cached));
        blocks(range).map(read).collect()
    }

    pub fn set_length(&mut self, length: u64) {
        self.length = length;
        for cell in self.cells.iter_mut().skip(length.div_ceil(SECTOR) as usize) {
            (cell.cached, cell.dirty) = (0, true);
        }
    }

    pub fn begin_sync(&mut self) {
        let dirty = self.cells.iter().enumerate().filter(|(_, cell)| cell.dirty).map(|(at, cell)| (at, cell.cached));
        self.syncing = Some((dirty.collect(), self.length));
    }

    /// Ends the sync; `forgets`: it lies about some of it.
    pub fn end_sync(&mut self, mut forgets: Option<&mut Rng>) {
        let (cells, length) = self.syncing.take().expect("a sync was in flight");
        for (at, content) in cells {
            let cell = &mut self.cells[at];
            if !forgets.as_mut().is_some_and(|rng| rng.bool()) {
                cell.durable = content;
            }
            cell.dirty &= cell.cached != content;
        }
        self.length_durable = length;
    }

    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.syncing = None;
        for cell in self.cells.iter_mut().filter(|cell| cell.dirty) {
            if rng.bool() {
                cell.durable = cell.cached;
            }
            cell.dirty = false;
        }
    }

    /// The cache is gone, and any subset of what was dirty is durable.
    pub fn cut_power(&mut self, rng: &mut Rng) {
        self.syncing = None;
        let kept = [0.0, 0.5, 1.0][rng.usize(..3)];
        if rng.f64() < kept {
            self.length_durable = self.length;
        }
        self.length = self.length_durable;
        for (at, cell) in self.cells.iter_mut().enumerate() {
            if cell.dirty && rng.f64() < kept {
                cell.durable = cell.cached;
            }
            if at as u64 * SECTOR >= self.length {
                cell.durable = 0;
            }
            (cell.cached, cell.dirty) = (cell.durable, false);
        }
    }

    /// The process is gone, and its cache stays.
    pub fn kill_process(&mut self) {
        self.syncing = None;
    }

    /// A durable sector changes although nobody wrote it.
    pub fn rot(&mut self, rng: &mut Rng) {
        let there = (self.length_durable / SECTOR) as usize;
        if there > 0 {
            let (at, rotten) = (rng.usize(..there), rng.u32(1..));
            self.cells[at] = Cell { cached: rotten, durable: rotten, dirty: false, touched: true, excused: true };
        }
    }

    /// The ledger's promises were made about another inode: none that this one does not keep need hold.
    pub fn excuse_what_is_not_there(&mut self, source: &Source) {
        for at in 0..self.cells.len() {
            self.cells[at].excused |= !self.cells[at].keeps(source.sector(at));
        }
    }

    /// Whether every way to crash leaves these bytes as the source has them.
    pub fn keeps(&self, range: ByteRange, source: &Source) -> bool {
        cells(range).all(|at| self.cells[at].keeps(source.sector(at)))
    }

    /// The same, but for what the world damaged.
    pub fn keeps_or_is_excused(&self, range: ByteRange, source: &Source) -> bool {
        cells(range).all(|at| self.cells[at].excused || self.cells[at].keeps(source.sector(at)))
    }

    /// Whether it is the source's object, durably and to the byte.
    pub fn is_whole(&self, source: &Source) -> bool {
        let whole = ByteRange::new(0, source.length).expect("0 is the smallest start");
        self.length == source.length && self.length_durable == source.length && self.keeps(whole, source)
    }
}

impl Cell {
    fn keeps(&self, content: u32) -> bool {
        self.durable == content && (!self.dirty || self.cached == content)
    }
}

fn cells(range: ByteRange) -> impl Iterator<Item = usize> {
    blocks(range).flat_map(sectors)
}

const _: () = assert!(SECTOR * SECTORS == CRC_BLOCK, "sectors make up a block");
