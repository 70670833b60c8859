//! Half-open ranges of bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of an object; `start <= end` always holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64)", into = "(u64, u64)")]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// `start..end`, or nothing when the end lies before the start.
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start <= end { Some(Self { start, end }) } else { None }
    }

    /// `len` bytes from `start`, or nothing when the end would overflow.
    pub const fn at(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Offset of the first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Offset behind the last byte.
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Length in bytes.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range holds no byte.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether every byte of `other` is in this range.
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the two share a byte.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The same range, `by` bytes further on; nothing when it would overflow.
    pub const fn shifted(self, by: u64) -> Option<Self> {
        match (self.start.checked_add(by), self.end.checked_add(by)) {
            (Some(start), Some(end)) => Some(Self { start, end }),
            _ => None,
        }
    }

    /// Pieces that end at multiples of `step` (counted from offset 0), in order.
    pub fn pieces(self, step: u64) -> impl Iterator<Item = Self> {
        assert!(step > 0, "a step of 0 bytes never ends");
        let mut at = self.start;
        std::iter::from_fn(move || {
            if at >= self.end {
                return None;
            }
            let end = (at / step + 1).saturating_mul(step).min(self.end);
            let piece = Self { start: at, end };
            at = end;
            Some(piece)
        })
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl TryFrom<(u64, u64)> for ByteRange {
    type Error = &'static str;
    fn try_from((start, end): (u64, u64)) -> Result<Self, Self::Error> {
        Self::new(start, end).ok_or("a range must not end before it starts")
    }
}

impl From<ByteRange> for (u64, u64) {
    fn from(range: ByteRange) -> Self {
        (range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_tile_the_range_and_end_on_steps(start in 0u64..10_000, len in 0u64..10_000, step in 1u64..3_000) {
            let range = ByteRange::at(start, len).unwrap();
            let pieces: Vec<_> = range.pieces(step).collect();
            let mut at = start;
            for (i, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(piece.start(), at);
                prop_assert!(!piece.is_empty() && piece.len() <= step);
                prop_assert!(piece.end() % step == 0 || i + 1 == pieces.len());
                at = piece.end();
            }
            prop_assert_eq!(at, range.end());
        }
    }

    #[test]
    fn a_range_that_ends_before_it_starts_cannot_be_made() {
        assert_eq!(ByteRange::new(2, 1), None);
        assert_eq!(ByteRange::at(u64::MAX, 1), None);
        assert!(ByteRange::try_from((2, 1)).is_err());
    }
}
