//! How an attempt moves its bytes: in which chunks, on how many lanes, over how many connections.

use std::time::Duration;

use staccato_protocols::{Access, Code, Error, Object, contract::Writes};

use super::{Attempt, WantedPart, is_local};
use crate::{
    engine::{stretch, window::Connections},
    lane::{follow::Manner, stream::PIECES_MAX},
};

/// Chunks in flight on one lane: what keeps a disk at its speed (measured: 8 to 32 chunks of 4 MiB do not differ).
pub(crate) const WINDOW_CHUNKS_PER_LANE: usize = 8;
/// The same for sources that are asked over a network, where many connections may be what makes them fast, and each
/// needs a chunk. Mostly the attempt's share of memory allows fewer.
const WINDOW_CONNECTIONS_PER_LANE_MAX: usize = 32;
/// So many chunks are worth one more lane.
const CHUNKS_PER_LANE_MIN: u64 = 8;

/// How an attempt moves its bytes.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub writes: Writes,
    pub chunk_bytes: u64,
    /// What is read and written at once: a chunk, or a piece of one that is streamed.
    pub piece_bytes: u64,
    pub lanes: usize,
    /// What a request costs the source's server.
    pub request_cost: Duration,
    /// Whether checksums are computed on the way.
    pub hashed: bool,
}

impl Shape {
    /// So much of a chunk is in memory at most, while it moves.
    fn resident_bytes(self) -> u64 {
        self.chunk_bytes.min(PIECES_MAX * self.piece_bytes)
    }
}

impl Attempt<'_> {
    /// How the attempt moves its bytes, given how the destination takes them.
    pub(super) fn shape(
        &self,
        writes: Writes,
        object: &Object,
        part: &WantedPart,
        request_cost: Duration,
        hashed: bool,
    ) -> Result<Shape, Error> {
        let (chunk_bytes, piece_bytes) = match writes {
            Writes::Anywhere | Writes::InOrder => (self.chunk_bytes, self.chunk_bytes),
            Writes::Parts { bytes, streamed: true } => (bytes, bytes.min(self.chunk_bytes)),
            Writes::Parts { bytes, streamed: false } => {
                let share = self.bench.config.share_bytes();
                if bytes > share {
                    return Err(Error::fatal(
                        Code::InvalidOption,
                        format!(
                            "an object of this length is sent in parts of {} MiB, and a transfer has {} MiB of memory on \
                             each lane; raise --memory, or lower --slots",
                            bytes >> 20,
                            share >> 20,
                        ),
                    ));
                }
                (bytes, bytes)
            }
        };
        let lanes = if writes == Writes::InOrder {
            1
        } else {
            self.lanes_for(part.length, object.access, chunk_bytes, request_cost)
        };
        Ok(Shape { writes, chunk_bytes, piece_bytes, lanes, request_cost, hashed })
    }

    /// How checksums are computed of what moves so.
    pub(super) fn manner(&self, shape: Shape) -> Manner {
        Manner {
            writes: shape.writes,
            piece_bytes: shape.piece_bytes,
            hold_bytes: self.window_chunks(shape) as u64 * shape.resident_bytes(),
            source_shift: self.spec.part.start,
            // What is read again of a source that is asked over a network would take its connections.
            along: shape.writes == Writes::Anywhere || self.source_is_local(),
        }
    }

    /// As many chunks as keep the lanes busy and the attempt's share of their memory allows.
    pub(super) fn window_chunks(&self, shape: Shape) -> usize {
        let wanted = if self.source_is_local() { WINDOW_CHUNKS_PER_LANE } else { WINDOW_CONNECTIONS_PER_LANE_MAX };
        // While chunks wait to be hashed there must be memory to read back what comes before them.
        let reading = if shape.hashed && shape.writes != Writes::InOrder { shape.piece_bytes } else { 0 };
        let fitting = self.bench.config.share_bytes().saturating_sub(reading) / shape.resident_bytes();
        let fitting = fitting.max(1) as usize;
        let most = self.spec.window.map_or(usize::MAX, |window| (window / shape.resident_bytes()).max(1) as usize);
        (shape.lanes * wanted.min(fitting)).min(most)
    }

    /// Each read of a source that is asked over a network is a connection.
    pub(super) fn connections(&self, shape: Shape) -> Connections {
        match self.spec.connections {
            _ if self.source_is_local() || self.member.is_some() => Connections::Unlimited,
            // Whoever reads from another executor has connections of its own count, and asks ahead on each.
            _ if self.spec.owner.is_some() => Connections::Adaptive { max: self.window_chunks(shape) },
            Some(connections) => {
                let window_chunks = self.window_chunks(shape);
                if connections as usize > window_chunks {
                    let transfer = &self.spec.transfer;
                    tracing::info!(transfer, window_chunks, "fewer connections than asked for: memory is shared");
                }
                Connections::Fixed(connections as usize)
            }
            None => Connections::Adaptive { max: self.window_chunks(shape) },
        }
    }

    /// How many lanes may read the source.
    fn source_lanes(&self) -> usize {
        if self.peer_lanes.start > 0 { self.peer_lanes.start } else { self.lanes.len() }
    }

    pub(super) fn source_is_local(&self) -> bool {
        is_local(self.source)
    }

    fn lanes_for(&self, length: Option<u64>, access: Access, chunk_bytes: u64, request_cost: Duration) -> usize {
        if access == Access::Sequential {
            return 1;
        }
        let chunks = length.map_or(1, |length| length.div_ceil(chunk_bytes));
        let lanes = (chunks / CHUNKS_PER_LANE_MIN).clamp(1, self.source_lanes() as u64) as usize;
        // Lanes share no connections.
        match self.spec.connections {
            Some(connections) if !self.source_is_local() => lanes.min(connections as usize).max(1),
            // Nor do they share what one request brings; and each asks the server once more.
            None if !self.source_is_local() => {
                let stretches = length.map_or(1, |length| stretch::count(length, request_cost));
                lanes.min(usize::try_from(stretches).unwrap_or(usize::MAX)).max(1)
            }
            _ => lanes,
        }
    }
}
