//! What the processor does with bytes: the yardsticks of whatever copies or checks them.

use std::{fmt, hint::black_box, io, time::Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Bytes of a block that stays in the cache: that of a CRC.
const BLOCK: usize = 1 << 20;
/// Bytes of what does not fit a cache.
const STREAM: usize = 256 << 20;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Copies a block that stays in the cache.
    CopyCached,
    /// Copies what comes from memory.
    CopyStreamed,
    /// CRC-32 of a block that stays in the cache.
    CrcCached,
    /// CRC-32 of what comes from memory, block by block.
    CrcStreamed,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no variant is skipped").get_name())
    }
}

/// How much of it.
#[derive(Clone, Debug, Args)]
pub struct Compute {
    /// What to do
    what: What,
    /// Bytes to do it to
    bytes: u64,
}

/// How long the work itself took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeTold {
    /// Wall time, without the making of what is worked on.
    pub seconds: f64,
}

impl Compute {
    /// Does it.
    pub fn run(&self) -> io::Result<ComputeTold> {
        let size = match self.what {
            What::CopyCached | What::CrcCached => BLOCK,
            What::CopyStreamed | What::CrcStreamed => STREAM,
        };
        let mut source = vec![0; size];
        fastrand::Rng::with_seed(1).fill(&mut source);
        let mut target = vec![0; size];
        let began = Instant::now();
        let mut left = usize::try_from(self.bytes).map_err(io::Error::other)?;
        while left > 0 {
            let piece = left.min(size);
            match self.what {
                What::CopyCached | What::CopyStreamed => target[..piece].copy_from_slice(black_box(&source[..piece])),
                What::CrcCached | What::CrcStreamed => {
                    for block in source[..piece].chunks(BLOCK) {
                        black_box(crc32fast::hash(block));
                    }
                }
            }
            black_box(&target);
            left -= piece;
        }
        Ok(ComputeTold { seconds: began.elapsed().as_secs_f64() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_yardstick_takes_its_time() {
        for what in What::value_variants() {
            let told = Compute { what: *what, bytes: 3 << 20 }.run().unwrap();
            assert!(told.seconds > 0.0, "{what}");
        }
    }
}
