//! The arithmetic of parts: how an object is cut that is written as an upload of parts. Pure.

use crate::{ByteRange, CRC_BLOCK, Code, Error, size::parse_size, web::settings::invalid};

/// Most parts of an upload.
pub(crate) const PARTS_MAX: u64 = 10_000;
/// Longest part: mostly it is a chunk, and has to fit into memory.
pub(crate) const PART_BYTES_MAX: u64 = 1 << 30;
/// Length of parts unless told.
pub(crate) const PART_BYTES_DEFAULT: u64 = 8 << 20;
/// The same where it is not known how long the object is: 156 GiB are possible.
const PART_BYTES_OF_UNKNOWN_LENGTH: u64 = 16 << 20;

/// Length of the parts of an object: the same for every attempt.
pub(crate) fn part_bytes(length: Option<u64>, asked: Option<u64>) -> Result<u64, Error> {
    let Some(length) = length else { return Ok(asked.unwrap_or(PART_BYTES_OF_UNKNOWN_LENGTH)) };
    let mut bytes = asked.unwrap_or(PART_BYTES_DEFAULT);
    while length.div_ceil(bytes) > PARTS_MAX {
        bytes *= 2;
    }
    if bytes > PART_BYTES_MAX {
        return Err(Error::fatal(Code::WriteFailed, format!("{length} bytes do not fit into one object in parts")));
    }
    Ok(bytes)
}

/// The option `part_size`: whole blocks, from `least` bytes up.
pub(crate) fn parse_part_size(text: &str, least: u64) -> Result<u64, Error> {
    parse_size(text).filter(|bytes| (least..=PART_BYTES_MAX).contains(bytes) && bytes % CRC_BLOCK == 0).ok_or_else(
        || {
            let (least, default) = (least >> 20, PART_BYTES_DEFAULT >> 20);
            invalid(format!(
                "part_size: {text:?} is not {least} MiB to 1 GiB in whole MiB; write for instance {default}M"
            ))
        },
    )
}

/// How an object is cut into parts, the first of which has number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Length of each part but the last.
    pub bytes: u64,
    /// Length of the object, where it is known.
    pub length: Option<u64>,
}

impl Cut {
    /// Number of the part that begins at `offset` and is `len` bytes long.
    pub fn number(self, offset: u64, len: u64) -> Result<u32, Error> {
        let wrong = |why: String| Error::fatal(Code::Internal, format!("a chunk at {offset} of {len} bytes {why}"));
        if !offset.is_multiple_of(self.bytes) || len == 0 || len > self.bytes {
            return Err(wrong(format!("is no part; parts have {} bytes", self.bytes)));
        }
        if let Some(length) = self.length
            && offset.saturating_add(len) != length.min(offset.saturating_add(self.bytes))
        {
            return Err(wrong(format!("is no part of an object of {length} bytes in parts of {}", self.bytes)));
        }
        match offset / self.bytes {
            index if index < PARTS_MAX => Ok(index as u32 + 1),
            _ => Err(Error::fatal(
                Code::WriteFailed,
                format!("the object has more than {PARTS_MAX} parts of {} bytes; raise part_size", self.bytes),
            )),
        }
    }

    /// The bytes of a part; none where the object has no such part.
    pub fn range(self, number: u32) -> Option<ByteRange> {
        let start = u64::from(number).checked_sub(1)?.checked_mul(self.bytes)?;
        let end = start.checked_add(self.bytes)?.min(self.length.unwrap_or(u64::MAX));
        ByteRange::new(start, end).filter(|range| !range.is_empty())
    }

    /// How many parts an object of this length has.
    pub fn count(self, length: u64) -> u64 {
        length.div_ceil(self.bytes)
    }

    /// Whether a part of this number can have this length.
    pub fn fits(self, number: u32, len: u64) -> bool {
        match (self.range(number), self.length) {
            (Some(range), Some(_)) => len == range.len(),
            (Some(range), None) => len <= range.len(),
            (None, _) => false,
        }
    }

    /// What of `promised` lies in parts that are there, whole; what adjoins is one range. `len` says how long a part is
    /// that is there.
    pub fn kept(self, promised: &[ByteRange], len: impl Fn(u32) -> Option<u64>) -> Vec<ByteRange> {
        let mut kept: Vec<ByteRange> = Vec::new();
        for piece in promised.iter().flat_map(|range| range.pieces(self.bytes)) {
            let number = u32::try_from(piece.start() / self.bytes + 1).unwrap_or(u32::MAX);
            let there = len(number).zip(self.range(number)).and_then(|(len, range)| {
                let there = ByteRange::at(range.start(), len)?;
                (there == range || self.length.is_none()).then_some(there)
            });
            if !there.is_some_and(|there| there.contains(piece)) {
                continue;
            }
            match kept.last_mut() {
                Some(last) if last.end() == piece.start() => {
                    *last = ByteRange::new(last.start(), piece.end()).expect("it goes on behind");
                }
                _ => kept.push(piece),
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn kept(cut: Cut, promised: &[ByteRange], there: &[(u32, u64)]) -> Vec<ByteRange> {
        let there: BTreeMap<_, _> = there.iter().copied().collect();
        cut.kept(promised, |number| there.get(&number).copied())
    }

    #[test]
    fn the_length_of_parts_depends_on_the_object_and_the_option_only() {
        assert_eq!(part_bytes(Some(0), None), Ok(8 * MIB));
        assert_eq!(part_bytes(Some(80_000 * MIB), None), Ok(8 * MIB));
        assert_eq!(part_bytes(Some(80_000 * MIB + 1), None), Ok(16 * MIB));
        assert_eq!(part_bytes(Some(100_000 * MIB), Some(5 * MIB)), Ok(10 * MIB));
        assert_eq!(part_bytes(None, None), Ok(16 * MIB));
        assert_eq!(part_bytes(None, Some(5 * MIB)), Ok(5 * MIB));
        assert!(part_bytes(Some(u64::MAX), None).is_err());
    }

    #[test]
    fn chunks_that_are_no_parts_are_refused() {
        let cut = Cut { bytes: 10, length: Some(25) };
        assert_eq!((cut.number(0, 10), cut.number(10, 10), cut.number(20, 5)), (Ok(1), Ok(2), Ok(3)));
        for (offset, len) in [(0, 9), (5, 10), (20, 10), (20, 4), (30, 5), (0, 0), (0, 11), (10, u64::MAX)] {
            assert_eq!(cut.number(offset, len).unwrap_err().code, Code::Internal, "{offset} {len}");
        }
        let endless = Cut { bytes: 10, length: None };
        assert_eq!(endless.number(10 * (PARTS_MAX - 1), 3), Ok(10_000));
        assert_eq!(endless.number(10 * PARTS_MAX, 3).unwrap_err().code, Code::WriteFailed);
    }

    #[test]
    fn only_whole_parts_that_are_there_are_kept() {
        let cut = Cut { bytes: 10, length: Some(35) };
        let there = [(1, 10), (2, 10), (4, 5)];
        assert!(there.iter().all(|&(number, len)| cut.fits(number, len)));
        assert_eq!(kept(cut, &[range(0, 35)], &there), [range(0, 20), range(30, 35)]);
        assert_eq!(kept(cut, &[range(10, 30)], &there), [range(10, 20)]);
        assert_eq!(kept(cut, &[], &there), []);
        for (number, len) in [(1, 9), (4, 10), (5, 1), (0, 10)] {
            assert!(!cut.fits(number, len), "{number} {len}");
            assert_eq!(kept(cut, &[range(0, 35)], &[(number, len)]), []);
        }
    }
}
