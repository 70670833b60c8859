//! Zero blocks: they take no space at a destination, and do not travel.

use std::ops::Range;

use staccato_protocols::{CRC_BLOCK, Chunk, chunk::zero_crc};

/// Runs of whole zero blocks, as offsets within the chunk. The CRC decides first, so that other blocks are not looked
/// at twice.
pub fn zero_runs(chunk: &Chunk, crcs: &[u32]) -> Vec<Range<usize>> {
    let Some(bytes) = chunk.bytes() else { return std::iter::once(0..chunk.len()).collect() };
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, (block, crc)) in bytes.chunks(CRC_BLOCK as usize).zip(crcs).enumerate() {
        if *crc != zero_crc(block.len() as u64) || !block.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * CRC_BLOCK as usize;
        let end = start + block.len();
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_zero_blocks_are_left_out() {
        use futures_util::FutureExt;
        let pool = staccato_protocols::BufferPool::heap(8 << 20);
        let len = 3 * CRC_BLOCK as usize + 100;
        let mut chunk = pool.take(len).now_or_never().unwrap();
        let bytes = chunk.buffer_mut().unwrap();
        bytes.fill(0);
        bytes[CRC_BLOCK as usize + 7] = 1;
        let runs = zero_runs(&chunk, &chunk.block_crcs());
        assert_eq!(runs, [0..CRC_BLOCK as usize, 2 * CRC_BLOCK as usize..len]);
    }
}
