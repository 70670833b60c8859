use crc32fast::Hasher;

use crate::CRC_BLOCK;

/// CRC-32 of each block of a chunk, computed piece by piece while it is being filled: bytes that were just copied are
/// in the processor's cache, those of a whole chunk are not any more.
#[derive(Debug, Default)]
pub struct BlockCrcs {
    whole: Vec<u32>,
    partial: Hasher,
    partial_bytes: usize,
}

impl BlockCrcs {
    /// The next bytes of the chunk.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = CRC_BLOCK as usize - self.partial_bytes;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.partial.update(now);
            self.partial_bytes += now.len();
            if self.partial_bytes == CRC_BLOCK as usize {
                self.whole.push(std::mem::take(&mut self.partial).finalize());
                self.partial_bytes = 0;
            }
            bytes = later;
        }
    }

    /// Those of every block so far, the last of which may be short.
    pub fn blocks(&self) -> Vec<u32> {
        let last = (self.partial_bytes > 0).then(|| self.partial.clone().finalize());
        self.whole.iter().copied().chain(last).collect()
    }

    /// Those of every block, the last of which may be short.
    pub(super) fn finish(mut self) -> (Vec<u32>, usize) {
        let bytes = self.whole.len() * CRC_BLOCK as usize + self.partial_bytes;
        if self.partial_bytes > 0 {
            self.whole.push(self.partial.finalize());
        }
        (self.whole, bytes)
    }
}
