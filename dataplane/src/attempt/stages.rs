//! Where the time of an attempt went.

use std::{ops::AddAssign, time::Duration};

use serde::{Deserialize, Serialize};

/// Microseconds that an attempt spent in each stage.
///
/// Chunks are in many stages at a time: `queue`, `memory`, `read`, `checksum`, `write`, `read_back`, `idle` and
/// `sync_wait` are sums over them, and may be above the wall time. What limits an attempt is where its chunks spend most
/// of theirs: in `read` the source, in `write` the destination, in `checksum` the checksum of the whole (one core's work),
/// in `sync_wait` the destination's way to make things durable, in `memory` the executor's memory, in `queue` its cores;
/// much `idle` means that fewer chunks were under way than could have been (a rate limit, a small object). The others are
/// wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageTimes {
    /// Opening both ends, and taking over what earlier attempts left.
    pub open_us: u64,
    /// Places in the window that no chunk had.
    pub idle_us: u64,
    /// Places that no chunk had because a sync was under way: behind the last chunk, or where no more may be written
    /// before what is written is durable.
    pub sync_wait_us: u64,
    /// Chunks waited for their lane's turn, or for the coordinator's.
    pub queue_us: u64,
    /// Chunks waited for memory.
    pub memory_us: u64,
    /// Chunks were read from the source.
    pub read_us: u64,
    /// CRCs of chunks were computed, and chunks waited for their turn in the checksum of the whole.
    pub checksum_us: u64,
    /// Chunks were written.
    pub write_us: u64,
    /// Chunks of an earlier attempt, or of an object to repair, were read back and compared.
    pub read_back_us: u64,
    /// Writes were made durable; chunks move on meanwhile.
    pub sync_us: u64,
    /// After the last chunk: what the checksum of the whole object still lacked, and whether the source is unchanged.
    pub verify_us: u64,
    /// Waited for the ledger's permission to commit.
    pub ledger_us: u64,
    /// The object was given its name, durably.
    pub commit_us: u64,
}

impl StageTimes {
    /// Whether no stage has any time.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    /// Every stage by its name, in the order of the pipeline.
    pub fn named(&self) -> [(&'static str, u64); 13] {
        [
            ("open", self.open_us),
            ("idle", self.idle_us),
            ("sync_wait", self.sync_wait_us),
            ("queue", self.queue_us),
            ("memory", self.memory_us),
            ("read", self.read_us),
            ("checksum", self.checksum_us),
            ("write", self.write_us),
            ("read_back", self.read_back_us),
            ("sync", self.sync_us),
            ("verify", self.verify_us),
            ("ledger", self.ledger_us),
            ("commit", self.commit_us),
        ]
    }
}

/// What one chunk (or several, added up) spent in the stages of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChunkTimes {
    pub queue: Duration,
    pub memory: Duration,
    pub read: Duration,
    pub checksum: Duration,
    pub write: Duration,
    pub read_back: Duration,
}

impl AddAssign for ChunkTimes {
    fn add_assign(&mut self, more: Self) {
        self.queue += more.queue;
        self.memory += more.memory;
        self.read += more.read;
        self.checksum += more.checksum;
        self.write += more.write;
        self.read_back += more.read_back;
    }
}

impl StageTimes {
    pub(crate) fn add_chunk(&mut self, chunk: &ChunkTimes) {
        self.queue_us += micros(chunk.queue);
        self.memory_us += micros(chunk.memory);
        self.read_us += micros(chunk.read);
        self.checksum_us += micros(chunk.checksum);
        self.write_us += micros(chunk.write);
        self.read_back_us += micros(chunk.read_back);
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
