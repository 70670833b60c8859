//! What is written and not durable yet.
//!
//! Invariant: a sync makes durable what was written *before it began*. That set is frozen when the sync is handed out;
//! what is written meanwhile waits for the next one. At most one sync is in flight.

use std::time::Duration;

use staccato_protocols::{ByteRange, CRC_BLOCK};

use super::{SYNC_INTERVAL_MAX, checkpoint::CrcRanges};

/// Completed writes on their way to being durable.
#[derive(Clone, Debug, Default)]
pub struct Unsynced {
    /// Not part of a sync yet.
    written: CrcRanges,
    /// The blocks of `written`, as the sidecar wants them.
    blocks: Vec<(u64, u32)>,
    /// When the first of `written` was.
    since: Option<Duration>,
    /// What the sync in flight will make durable.
    frozen: Option<CrcRanges>,
}

impl Unsynced {
    /// `there` is written; its blocks have these CRCs, one for each.
    pub fn note(&mut self, there: ByteRange, crcs: &[u32], now: Duration) {
        assert_eq!(there.pieces(CRC_BLOCK).count(), crcs.len(), "one CRC for each block");
        for (block, crc) in there.pieces(CRC_BLOCK).zip(crcs) {
            self.written.insert(block, *crc);
            self.blocks.push((block.start() / CRC_BLOCK, *crc));
            self.since.get_or_insert(now);
        }
    }

    /// Begins a sync: freezes what is written, and tells its blocks.
    pub fn freeze(&mut self) -> Vec<(u64, u32)> {
        assert!(self.frozen.is_none(), "one sync at a time");
        self.frozen = Some(std::mem::take(&mut self.written));
        self.since = None;
        std::mem::take(&mut self.blocks)
    }

    /// Ends a sync: what was frozen when it began.
    pub fn thaw(&mut self) -> CrcRanges {
        self.frozen.take().expect("a sync was in flight")
    }

    /// Whether a sync is in flight.
    pub fn is_syncing(&self) -> bool {
        self.frozen.is_some()
    }

    /// Whether something waits for the next sync.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Bytes written and not durable.
    pub fn bytes(&self) -> u64 {
        self.written.bytes() + self.frozen.as_ref().map_or(0, CrcRanges::bytes)
    }

    /// When the next sync should begin: when the oldest write is [`SYNC_INTERVAL_MAX`] old, or at once when `bytes_max`
    /// are waiting. Nothing while one is in flight or nothing waits.
    pub fn due_at(&self, bytes_max: u64) -> Option<Duration> {
        let since = self.since.filter(|_| self.frozen.is_none())?;
        Some(if self.written.bytes() >= bytes_max { since } else { since + SYNC_INTERVAL_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = CRC_BLOCK;

    fn block(index: u64) -> ByteRange {
        ByteRange::at(index * BLOCK, BLOCK).unwrap()
    }

    #[test]
    fn a_sync_is_about_what_was_written_before_it_began() {
        let mut unsynced = Unsynced::default();
        unsynced.note(block(0), &[7], Duration::ZERO);
        assert_eq!(unsynced.freeze(), [(0, 7)]);
        unsynced.note(block(1), &[8], Duration::ZERO);
        assert_eq!(unsynced.bytes(), 2 * BLOCK);
        let durable: Vec<_> = unsynced.thaw().iter().map(|known| known.range).collect();
        assert_eq!(durable, [block(0)]);
        assert!(unsynced.is_waiting());
    }

    #[test]
    fn a_sync_is_due_when_the_oldest_write_is_old_or_much_waits() {
        let (mut unsynced, second) = (Unsynced::default(), Duration::from_secs(1));
        assert_eq!(unsynced.due_at(BLOCK), None, "nothing is written");
        unsynced.note(block(0), &[7], second);
        unsynced.note(ByteRange::at(BLOCK, 0).unwrap(), &[], 2 * second);
        assert_eq!(unsynced.due_at(2 * BLOCK), Some(second + SYNC_INTERVAL_MAX));
        assert_eq!(unsynced.due_at(BLOCK), Some(second));
        unsynced.freeze();
        unsynced.note(block(1), &[8], second);
        assert_eq!(unsynced.due_at(BLOCK), None, "one is in flight");
    }
}
