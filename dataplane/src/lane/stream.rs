//! Parts that are written from the front, while they are read.

use std::time::{Duration, Instant};

use futures_util::future::join;
use staccato_protocols::{ByteRange, Chunk, Error, contract::Part};

use super::{message::Fetched, service::Ends};

/// So many pieces of a part are in memory at most: one is read while another is written.
pub(crate) const PIECES_MAX: u64 = 2;

/// A piece that was read.
struct Piece {
    range: ByteRange,
    chunk: Chunk,
    is_hole: bool,
    took: Duration,
}

/// Reads a part piece by piece and writes it; `when_read` is called when all of it is read. What follows it up to
/// `stretch_end` is most likely wanted next.
pub(super) async fn fetch_part(
    ends: &Ends,
    range: ByteRange,
    piece_bytes: u64,
    stretch_end: Option<u64>,
    when_read: impl Fn(),
) -> Result<Fetched, Error> {
    let stretch_end = stretch_end.map_or(range.end(), |end| end.max(range.end()));
    // How long it will be is known where the object's length is.
    let bytes = ends.source.object().size.map(|_| range.len());
    let mut fetched = Fetched::default();
    let mut part: Option<Box<dyn Part>> = None;
    let mut ranges = range.pieces(piece_bytes);
    let mut next = read(ends, ranges.next(), stretch_end).await?;
    fetched.times.read = next.as_ref().map_or(Duration::ZERO, |piece| piece.took);
    while let Some(Piece { range: asked, chunk, is_hole, .. }) = next.take() {
        let len = chunk.len() as u64;
        fetched.len += len;
        fetched.fetched += if is_hole { 0 } else { len };
        fetched.times.memory += chunk.waited();
        let following = if len < asked.len() { None } else { ranges.next() };
        if following.is_none() {
            when_read();
        }
        let clock = Instant::now();
        let lent = ends.show(asked.start(), chunk);
        fetched.crcs.extend(lent.block_crcs());
        let chunk = lent.back().await;
        fetched.times.checksum += clock.elapsed();
        if chunk.is_empty() {
            break;
        }
        let part = match &mut part {
            Some(part) => part,
            none => none.insert(ends.destination.begin_part(range.start(), bytes)?),
        };
        let (written, read) = join(timed(part.write(chunk)), read(ends, following, stretch_end)).await;
        next = read?;
        let written_in = written?;
        fetched.times.write += written_in;
        // What went on meanwhile is the write's.
        fetched.times.read += next.as_ref().map_or(Duration::ZERO, |piece| piece.took.saturating_sub(written_in));
    }
    if let Some(part) = part {
        fetched.times.write += timed(part.finish()).await?;
    }
    Ok(fetched)
}

/// Reads a piece, if there is one to read.
async fn read(ends: &Ends, range: Option<ByteRange>, stretch_end: u64) -> Result<Option<Piece>, Error> {
    let Some(range) = range else { return Ok(None) };
    let clock = Instant::now();
    let is_hole = ends.source.is_hole(ends.in_source(range)?);
    let chunk = if is_hole { Chunk::zero(range.len() as usize) } else { ends.read(range, Some(stretch_end)).await? };
    let took = clock.elapsed().saturating_sub(chunk.waited());
    Ok(Some(Piece { range, chunk, is_hole, took }))
}

/// How long it took.
async fn timed(work: impl Future<Output = Result<(), Error>>) -> Result<Duration, Error> {
    let clock = Instant::now();
    work.await.map(|()| clock.elapsed())
}
