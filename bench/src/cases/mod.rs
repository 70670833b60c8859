//! What is measured: each function makes a [`Case`](crate::contest::Case) with its contestants.

pub mod distribute;
pub mod file;
pub mod footprint;
pub mod http;
pub mod link;
pub mod machine;
pub mod overhead;
pub mod plug_in;
pub mod service;
pub mod small;
pub mod sparse;
pub mod storage;
pub mod sweep;

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A folder of this run's own on the disk that is measured; it goes when this is dropped.
pub struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    /// Makes it within `parent`.
    pub fn new(parent: &Path) -> io::Result<Self> {
        let parent = std::fs::canonicalize(parent)?;
        let folder = tempfile::Builder::new().prefix("staccato-bench-").tempdir_in(parent)?;
        Ok(Self { folder })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a durable file of bytes that do not compress.
    pub fn fill(&self, name: &str, bytes: u64) -> io::Result<PathBuf> {
        let path = self.path(name);
        let mut file = File::create(&path)?;
        let mut random = fastrand::Rng::with_seed(1);
        let mut buffer = vec![0; 1 << 20];
        let mut left = bytes;
        while left > 0 {
            let piece = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            random.fill(&mut buffer[..piece]);
            file.write_all(&buffer[..piece])?;
            left -= piece as u64;
        }
        file.sync_all()?;
        Ok(path)
    }
}
