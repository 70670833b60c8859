//! What an engine wants done, and how it ends early.

use staccato_protocols::{ByteRange, Code, Disposition, Error};

#[cfg(doc)]
use super::Engine;
use super::{repair::Reuse, stretch::Place};
use crate::attempt::{StopReason, VerifiedRange};

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read this range from the source and write it; answered by [`Engine::handle_chunk`] or
    /// [`Engine::handle_chunk_failed`].
    Fetch {
        /// Which bytes.
        range: ByteRange,
        /// Whether this inode was never written there: zero blocks may be skipped.
        untouched: bool,
        /// Whether blocks that are at the destination need not be read from the source.
        reuse: Option<Reuse>,
        /// Its place in a stretch, whose chunks are read by one lane with one request.
        place: Option<Place>,
    },
    /// Compare this range of the source with what is at the destination, and write nothing; answered by
    /// [`Engine::handle_compared`] or [`Engine::handle_chunk_failed`].
    Compare(ByteRange),
    /// What is at the destination is right as a whole: may it stay? Answered by [`Engine::handle_present`].
    KeepPresent,
    /// Read this range back from the destination; answered by [`Engine::handle_read_back`].
    ReadBack(ByteRange),
    /// Note the CRCs in the sidecar, where there are any, then sync; answered by [`Engine::handle_synced`].
    Sync {
        /// Index and CRC of each block whose write the sync will make durable; none where no checkpoint will follow.
        blocks: Vec<(u64, u32)>,
    },
    /// Tell the ledger; answered by [`Engine::handle_checkpointed`] or [`Engine::handle_checkpoint_failed`].
    Checkpoint(Vec<VerifiedRange>),
    /// Give the object this length; answered by [`Engine::handle_length_set`] or [`Engine::handle_length_failed`].
    SetLength(u64),
    /// Everything is there and durable, or at the destination already, where that stays.
    Finish {
        /// Length in bytes.
        length: u64,
        /// CRC-32 of all of them.
        crc32: u32,
    },
    /// Nothing is in flight any more, and it ends for this reason.
    End(Ending),
}

/// Why an engine ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was told to.
    Stopped(StopReason),
    /// It cannot go on.
    Failed(Error),
}

impl Ending {
    /// Whether another attempt may go on from what is written.
    pub(super) fn keeps_written(&self) -> bool {
        match self {
            Self::Stopped(reason) => reason.keeps_written(),
            Self::Failed(error) => error.disposition != Disposition::SourceChanged && error.code != Code::LeaseLost,
        }
    }
}
