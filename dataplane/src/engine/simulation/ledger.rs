//! What outlives an attempt beside the disk's blocks: the ledger, and the sidecar that nobody syncs.

use std::collections::BTreeMap;

use fastrand::Rng;
use staccato_protocols::{ByteRange, CRC_BLOCK};

use super::disk::Disk;
use crate::attempt::VerifiedRange;

/// The checkpoint that is recorded, and the one on its way.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub recorded: Record,
    sent: Option<Record>,
}

/// A checkpoint, and what it is about.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub version: u32,
    pub inode: u32,
    pub ranges: Vec<VerifiedRange>,
}

impl Record {
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|known| known.range.len()).sum()
    }
}

impl Ledger {
    pub fn send(&mut self, record: Record) {
        self.sent = Some(record);
    }

    pub fn record(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.recorded = sent;
        }
    }

    /// The sender is gone: what it sent last was recorded, or never will be.
    pub fn settle(&mut self, rng: &mut Rng) {
        if rng.bool() {
            self.record();
        }
        self.sent = None;
    }

    /// Whether it promises, or may by now, what is not on `disk` at all.
    pub fn promises_elsewhere(&self, disk: &Disk) -> bool {
        let elsewhere = |record: &Record| record.inode != disk.inode && !record.ranges.is_empty();
        elsewhere(&self.recorded) || self.sent.as_ref().is_some_and(elsewhere)
    }

    /// Every range of `disk` that the ledger promises, or may by now.
    pub fn promises(&self, disk: &Disk) -> impl Iterator<Item = ByteRange> {
        [Some(&self.recorded), self.sent.as_ref()]
            .into_iter()
            .flatten()
            .filter(|record| record.inode == disk.inode)
            .flat_map(|record| record.ranges.iter().map(|known| known.range))
    }
}

/// Block CRCs as they were appended.
#[derive(Clone, Debug, Default)]
pub(super) struct Sidecar {
    records: Vec<(u64, u32)>,
}

impl Sidecar {
    pub fn append(&mut self, blocks: &[(u64, u32)]) {
        self.records.extend_from_slice(blocks);
    }

    /// A later record of a block wins.
    pub fn load(&self) -> BTreeMap<u64, u32> {
        self.records.iter().copied().collect()
    }

    /// It was never synced: its tail is gone, and some records before are damaged.
    pub fn cut_power(&mut self, rng: &mut Rng) {
        self.records.truncate(rng.usize(..=self.records.len()));
        if rng.bool() {
            self.records.retain(|_| rng.u8(..10) > 0);
        }
    }

    /// It is about other bytes: some blocks have any CRC, some that of what the disk has now, right or wrong.
    pub fn go_stale(&mut self, rng: &mut Rng, disk: &Disk) {
        for (block, crc) in &mut self.records {
            let range = ByteRange::at(*block * CRC_BLOCK, CRC_BLOCK).expect("blocks lie within the object");
            match rng.u8(..4) {
                0 => *crc = rng.u32(..),
                1 | 2 => *crc = disk.read(range)[0],
                _ => (),
            }
        }
    }
}
