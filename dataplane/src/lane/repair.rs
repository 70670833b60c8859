//! Chunks whose blocks may be at the destination already.
//!
//! The source's CRCs come first, then what is at the destination: one buffer at a time, for whoever holds one while it
//! waits for another may wait for ever.
//!
//! Blocks that are written are written sparsely, wherever they come from. What a clone has and is right is not touched:
//! zeros that were stored stay stored.

use std::time::Instant;

use staccato_protocols::{ByteRange, CRC_BLOCK, Chunk, Code, Error};

use super::{
    message::{Compared, Fetched},
    service::{Ends, pieces_by, write_sparsely},
};
use crate::{attempt::stages::ChunkTimes, engine::repair::Reuse};

/// Compares a range of the source with what is at the destination.
pub(super) async fn compare(ends: &Ends, range: ByteRange) -> Result<Compared, Error> {
    let looked = look(ends, range, None).await?;
    let same = looked.found.as_ref() == Some(&looked.wanted);
    Ok(Compared { crcs: same.then_some(looked.wanted), times: looked.times })
}

/// Makes a range of the destination what the source has there: from what is at the destination where that is right, and by
/// fetching what is not.
pub(super) async fn fetch(ends: &Ends, range: ByteRange, untouched: bool, reuse: Reuse) -> Result<Fetched, Error> {
    let cut = |start, end| ByteRange::new(start, end).expect("what is reused lies within the chunk");
    let (known, behind) = (cut(range.start(), reuse.end), cut(reuse.end, range.end()));
    if let Some(checksums) = &ends.checksums {
        checksums.rewrite(range);
    }
    let looked = look(ends, known, reuse.wanted).await?;
    let mut whole = Fetched { times: looked.times, ..Fetched::default() };
    let at = |block: ByteRange| ((block.start() - known.start()) / CRC_BLOCK) as usize;
    let is_right =
        |block: ByteRange| looked.found.as_ref().is_some_and(|found| found[at(block)] == looked.wanted[at(block)]);
    let pieces = pieces_by(known, |piece| piece.pieces(CRC_BLOCK).all(is_right));
    let any_right = pieces.iter().any(|(_, right)| *right);

    let mut untouched_now = untouched;
    if let (Some(chunk), Some(found)) = (looked.chunk, &looked.found)
        && any_right
        && !reuse.in_place
    {
        // In one piece: blocks between those that are right are written over.
        let began = Instant::now();
        write_sparsely(&*ends.destination, known.start(), chunk, found, untouched).await?;
        whole.times.write += began.elapsed();
        untouched_now = false;
    }
    for (piece, right) in pieces {
        if right {
            whole.len += piece.len();
            whole.crcs.extend(piece.pieces(CRC_BLOCK).map(|block| looked.wanted[at(block)]));
        } else {
            whole.append(ends.fetch(piece, None, untouched_now, || ()).await?);
        }
    }
    if !behind.is_empty() {
        whole.append(ends.fetch(behind, None, untouched, || ()).await?);
    }
    Ok(whole)
}

impl Fetched {
    /// Adds what follows it in the object.
    fn append(&mut self, next: Self) {
        self.len += next.len;
        self.fetched += next.fetched;
        self.crcs.extend(next.crcs);
        self.times += next.times;
    }
}

/// What there is on both sides.
struct Looked {
    /// CRC-32 of each of the source's blocks.
    wanted: Vec<u32>,
    /// CRC-32 of each block at the destination; none where it cannot be read.
    found: Option<Vec<u32>>,
    chunk: Option<Chunk>,
    times: ChunkTimes,
}

/// Looks at both sides; the source is not asked for CRCs that are `known`.
async fn look(ends: &Ends, range: ByteRange, known: Option<Vec<u32>>) -> Result<Looked, Error> {
    let sums = ends.source.sums().ok_or_else(|| Error::fatal(Code::Internal, "the source tells no CRCs"))?;
    let mut times = ChunkTimes::default();
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    let wanted = match known {
        Some(known) => known,
        None => sums.crcs(ends.in_source(range)?, &ends.pool).await?,
    };
    times.read = lap();
    if wanted.len() != range.pieces(CRC_BLOCK).count() {
        return Err(Error::retry(
            Code::ProtocolViolation,
            format!("the source told {} CRCs for {range}", wanted.len()),
        ));
    }
    let chunk = match ends.destination.read_present(range, &ends.pool).await {
        Ok(chunk) => Some(chunk),
        Err(error) => {
            tracing::debug!(%error, %range, "what is at the destination cannot be read: fetching it");
            None
        }
    };
    times.memory = chunk.as_ref().map(Chunk::waited).unwrap_or_default();
    times.read_back = lap().saturating_sub(times.memory);
    let found = chunk.as_ref().map(Chunk::block_crcs);
    times.checksum = lap();
    Ok(Looked { wanted, found, chunk, times })
}
