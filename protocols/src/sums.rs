//! CRCs of a source's blocks, found by reading them where they lie.

use crate::{BufferPool, ByteRange, CRC_BLOCK, Chunk, Code, Error, Source};

/// Read at once, however much is asked for.
const READ_BLOCKS: u64 = 4;

/// What [`Sums::crcs`](crate::contract::Sums::crcs) promises, by reading: for sources whose bytes are at hand. Holes are
/// not read.
pub async fn by_reading(source: &dyn Source, range: ByteRange, pool: &BufferPool) -> Result<Vec<u32>, Error> {
    let mut crcs = Vec::new();
    for piece in pieces(range, READ_BLOCKS * CRC_BLOCK) {
        let chunk =
            if source.is_hole(piece) { Chunk::zero(piece.len() as usize) } else { source.read(piece, pool).await? };
        if (chunk.len() as u64) < piece.len() {
            return Err(Error::retry(Code::ReadFailed, format!("{piece} is not there to its end")));
        }
        crcs.extend(chunk.block_crcs());
    }
    Ok(crcs)
}

/// A range in pieces of `step` bytes, counted from its start.
pub fn pieces(range: ByteRange, step: u64) -> impl Iterator<Item = ByteRange> {
    assert!(step > 0, "a step of 0 bytes never ends");
    let mut at = range.start();
    std::iter::from_fn(move || {
        let piece = ByteRange::new(at, range.end().min(at.saturating_add(step)))?;
        at = piece.end();
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_from_the_start_of_their_range() {
        let range = |start, end| ByteRange::new(start, end).unwrap();
        assert_eq!(pieces(range(3, 24), 10).collect::<Vec<_>>(), [range(3, 13), range(13, 23), range(23, 24)]);
        assert_eq!(pieces(range(3, 3), 10).count(), 0);
        assert_eq!(pieces(range(u64::MAX - 1, u64::MAX), 10).count(), 1);
    }
}
