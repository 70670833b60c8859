//! Memory that is used again and again: what leaves waits in it until it is acknowledged, what comes until it is read.
//!
//! Allocators give blocks of this size back to the kernel soon, and get them again page by page; that costs as much as
//! encrypting what is in them.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};

/// Bytes of a piece that leaves. Each is freed by itself when it is acknowledged.
pub const PIECE_BYTES: usize = 64 << 10;
/// Most pieces, and blocks, that are kept for later.
const KEPT_MAX: usize = 256;
/// How many blocks are looked at for one that nobody holds any more: those that were given out first.
const TRIES: usize = 4;

/// Pieces for what leaves. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pieces {
    /// A copy of at most [`PIECE_BYTES`]; its memory comes back by itself.
    pub fn copy(&self, bytes: &[u8]) -> Bytes {
        debug_assert!(bytes.len() <= PIECE_BYTES);
        let mut piece = self.kept(Vec::pop).unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES));
        piece.clear();
        piece.extend_from_slice(bytes);
        Bytes::from_owner(Piece { bytes: piece, home: self.clone() })
    }

    /// Keeps but a few.
    pub fn shrink(&self) {
        self.kept(|kept| kept.truncate(TRIES));
    }

    fn kept<T>(&self, what: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Piece {
    bytes: Vec<u8>,
    home: Pieces,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.home.kept(|kept| {
            if kept.len() < KEPT_MAX {
                kept.push(bytes);
            }
        });
    }
}

/// Blocks for what comes. The rest of each is held: when all that was cut from it is gone, the whole of it is there again.
pub struct Blocks {
    block_bytes: usize,
    rests: VecDeque<BytesMut>,
}

impl Blocks {
    pub fn new(block_bytes: usize) -> Self {
        Self { block_bytes, rests: VecDeque::new() }
    }

    /// A copy of at most the bytes of a block.
    pub fn copy(&mut self, bytes: &[u8]) -> BytesMut {
        let mut block = self.take();
        block.extend_from_slice(bytes);
        let copy = block.split();
        if self.rests.len() < KEPT_MAX {
            self.rests.push_back(block);
        }
        copy
    }

    fn take(&mut self) -> BytesMut {
        for _ in 0..TRIES.min(self.rests.len()) {
            let mut block = self.rests.pop_front().expect("it was counted");
            if block.try_reclaim(self.block_bytes) {
                return block;
            }
            self.rests.push_back(block);
        }
        BytesMut::with_capacity(self.block_bytes)
    }

    /// Keeps but a few.
    pub fn shrink(&mut self) {
        self.rests.truncate(TRIES);
        self.rests.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        let pieces = Pieces::default();
        let (one, two) = (pieces.copy(b"one"), pieces.copy(b"two"));
        assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
        let at = one.as_ptr();
        drop(one.clone());
        assert_eq!(pieces.kept(|kept| kept.len()), 0);
        drop(one);
        assert_eq!(pieces.copy(b"three").as_ptr(), at);

        let mut blocks = Blocks::new(1 << 10);
        let mut first = blocks.copy(&[1; 600]);
        let at = first.as_ptr();
        let half = first.split_to(300).freeze();
        drop(first);
        let second = blocks.copy(&[2; 1 << 10]);
        assert_ne!(second.as_ptr(), at, "half of it is held still");
        drop(half);
        assert_eq!(blocks.copy(&[3; 1 << 10]).as_ptr(), at);
    }
}
