//! Destinations that take parts, or one stream: whatever fails and in whatever order answers come.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::*;

const LIVES: u64 = 400;
const LENGTH_BLOCKS_MAX: u64 = 24;

/// The life of one upload: attempts, until one finishes.
struct Upload {
    rng: Rng,
    length: u64,
    chunk_bytes: u64,
    writes: Writes,
    /// Starts of the parts that the storage has answered for.
    there: BTreeSet<u64>,
    /// What the ledger knows.
    recorded: Vec<VerifiedRange>,
    /// What the last attempt has finished.
    finished: Option<u32>,
}

impl Upload {
    fn new(seed: u64, in_order: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let chunk_bytes = rng.u64(1..=4) * BLOCK;
        let length = rng.u64(..LENGTH_BLOCKS_MAX) * BLOCK + rng.u64(..2);
        let writes = if in_order { Writes::InOrder } else { Writes::Parts { bytes: chunk_bytes, streamed: false } };
        Self { rng, length, chunk_bytes, writes, there: BTreeSet::new(), recorded: Vec::new(), finished: None }
    }

    fn crcs(range: ByteRange) -> Vec<u32> {
        range.pieces(BLOCK).map(|block| (block.start() / BLOCK) as u32 + 1).collect()
    }

    /// One attempt; with `bad`, everything can fail, and it may be killed.
    fn attempt(&mut self, bad: bool) {
        let mut engine = Engine::new(EngineConfig {
            length: Some(self.length),
            chunk_bytes: self.chunk_bytes,
            window_chunks_max: self.rng.usize(1..=5),
            writes: self.writes,
            fresh: self.recorded.is_empty(),
            started_over: self.recorded.is_empty(),
            checkpoint: self.recorded.clone(),
            ..config(0)
        });
        let (mut now, mut written, mut reading) = (T0, 0, Vec::new());
        let (mut syncing, mut reporting) = (false, None);
        for _ in 0..100_000 {
            while let Some(action) = engine.poll(now) {
                match action {
                    Action::Fetch { range, .. } => {
                        let promised = |known: &VerifiedRange| {
                            known.range.start() <= range.start() && range.start() < known.range.end()
                        };
                        assert!(!self.recorded.iter().any(promised), "{range} is sent again");
                        assert!(self.writes != Writes::InOrder || range.start() >= written, "{range} was written");
                        reading.push(range);
                    }
                    Action::Sync { .. } => syncing = true,
                    Action::SetLength(length) => {
                        assert_eq!(length, self.length);
                        engine.handle_length_set();
                    }
                    Action::Checkpoint(ranges) => {
                        for part in ranges.iter().flat_map(|known| known.range.pieces(self.chunk_bytes)) {
                            assert!(self.there.contains(&part.start()), "{part} is promised and was not answered for");
                        }
                        assert!(self.writes != Writes::InOrder || ranges.is_empty(), "nothing lasts");
                        reporting = Some(ranges);
                    }
                    Action::Finish { crc32, .. } => {
                        self.finished = Some(crc32);
                        return;
                    }
                    Action::End(_) => return,
                    other => panic!("{other:?} is not for uploads"),
                }
            }
            if bad && self.rng.u8(..60) == 0 {
                return; // Killed.
            }
            if syncing && self.rng.bool() {
                assert!(self.writes != Writes::InOrder || written == self.length, "a stream is not synced on its way");
                syncing = false;
                engine.handle_synced(Ok(()));
            } else if reporting.is_some() && self.rng.bool() {
                self.recorded = reporting.take().expect("it was looked at");
                engine.handle_checkpointed();
            } else if !reading.is_empty() {
                let range: ByteRange = reading.swap_remove(self.rng.usize(..reading.len()));
                let fails = bad && self.rng.u8(..6) == 0;
                if fails {
                    engine.handle_chunk_failed(range, Error::retry(Code::ReadFailed, "no"), now);
                } else if self.writes == Writes::InOrder && range.start() != written {
                    reading.push(range); // It waits for its turn.
                    if engine.is_ending() {
                        let range = reading.pop().expect("it was just put there");
                        engine.handle_chunk_failed(range, Error::canceled(), now);
                    }
                } else if self.writes == Writes::InOrder && bad && self.rng.u8(..20) == 0 {
                    engine.handle_stream_broken(range, Error::retry(Code::ConnectionLost, "broken"));
                } else {
                    written = range.end();
                    self.there.insert(range.start());
                    engine.handle_chunk(range, range.len(), range.len(), &Self::crcs(range), now);
                }
            }
            now = engine.poll_timeout(now).map_or(now, |at| at.max(now)) + Duration::from_millis(self.rng.u64(..20));
        }
        panic!("an attempt ends");
    }

    fn live(mut self) {
        let bad_attempts = self.rng.usize(..5);
        for number in 0..=bad_attempts {
            self.attempt(number < bad_attempts);
            if self.finished.is_some() {
                break;
            }
            if self.writes == Writes::InOrder {
                self.there.clear();
            }
        }
        let whole = ByteRange::new(0, self.length).unwrap();
        let mut all = checkpoint::CrcRanges::default();
        whole.pieces(BLOCK).zip(Self::crcs(whole)).for_each(|(block, crc)| all.insert(block, crc));
        assert_eq!(self.finished, all.whole(self.length), "a good day comes");
        let parts: BTreeSet<u64> = whole.pieces(self.chunk_bytes).map(|part| part.start()).collect();
        assert_eq!(self.there, parts, "all of it was sent");
    }
}

#[test]
fn parts_are_promised_once_they_are_answered_for_and_then_never_sent_again() {
    (0..LIVES).for_each(|seed| Upload::new(seed, false).live());
}

#[test]
fn one_stream_gets_every_chunk_once_and_promises_nothing() {
    (0..LIVES).for_each(|seed| Upload::new(seed, true).live());
}
