//! What an engine is made for.

use std::{collections::BTreeMap, time::Duration};

use staccato_protocols::{
    CRC_BLOCK,
    contract::{Present, Writes},
};

#[cfg(doc)]
use super::SYNC_BYTES_MAX;
use super::{checkpoint, window::Connections};
use crate::attempt::VerifiedRange;

/// What an engine is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Bytes to move; unknown where the source does not tell.
    pub length: Option<u64>,
    /// Bytes per chunk, a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// Most chunks being fetched, written or read back at once.
    pub window_chunks_max: usize,
    /// How many of them may be read from the source at once.
    pub connections: Connections,
    /// What a request costs the server of a source that is asked over a network, beside the bytes: where it is dear,
    /// several chunks come with each.
    pub request_cost: Duration,
    /// Whether the source must be read from the front, one chunk after the other.
    pub sequential: bool,
    /// Whether somebody else chooses what is fetched next ([`Engine::fetch`](super::Engine::fetch)).
    pub chosen: bool,
    /// How the destination takes what is written. A chunk is a part where it takes parts, and the checkpoint is of
    /// whole parts that are still there.
    pub writes: Writes,
    /// Whether nothing was ever written to the destination, so that zero blocks may be left out.
    pub fresh: bool,
    /// Whether the ledger still promises what is not there any more (another source, another inode). It is told so
    /// first, and nothing is fetched before that is recorded: a later attempt would take for durable what it finds in a
    /// cache.
    pub started_over: bool,
    /// Bytes per second.
    pub rate_limit: Option<u64>,
    /// After so many written bytes a sync begins; [`SYNC_BYTES_MAX`] but in tests.
    pub sync_bytes_max: u64,
    /// What the ledger knows to be durable; it [fits](checkpoint::fits) the length.
    pub checkpoint: Vec<VerifiedRange>,
    /// CRCs of blocks from the sidecar.
    pub sidecar: BTreeMap<u64, u32>,
    /// What is at the destination, where blocks of it that are right shall not be fetched.
    pub present: Option<Present>,
}

impl EngineConfig {
    /// Panics where it makes no sense: whoever makes an engine has seen to it.
    pub(super) fn check(&self) {
        assert!(self.chunk_bytes > 0 && self.chunk_bytes.is_multiple_of(CRC_BLOCK), "a chunk is made of CRC blocks");
        assert!(self.window_chunks_max > 0, "a window of no chunks moves nothing");
        assert!(self.sync_bytes_max > 0, "syncs that are always due move nothing");
        assert!(checkpoint::fits(&self.checkpoint, self.length), "a checkpoint lies within its object");
        assert!(!self.fresh || self.checkpoint.is_empty(), "what was never written promises nothing");
        let in_place = self.present.is_some_and(|present| present.in_place);
        assert!(!in_place || (!self.fresh && self.checkpoint.is_empty()), "a clone is written, and promises nothing");
        assert!(self.present.is_none() || !self.sequential, "a stream is not compared");
        assert!(self.present.is_none() || self.writes == Writes::Anywhere, "only files are repaired");
        assert!(self.checkpoint.is_empty() || self.writes != Writes::InOrder, "what leaves in order does not last");
        if let Writes::Parts { bytes, .. } = self.writes {
            assert_eq!(self.chunk_bytes, bytes, "a chunk is a part");
        }
        let is_plain = self.length.is_some() && !self.sequential && self.writes == Writes::Anywhere;
        assert!(!self.chosen || (is_plain && self.present.is_none()), "what is chosen is a file's, of a known length");
        assert!(!self.started_over || self.checkpoint.is_empty(), "starting over goes on from nothing");
    }
}
