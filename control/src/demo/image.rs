//! The image: data and holes in turn, or data only.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// Bytes of each stretch of data.
const STRETCH: u64 = 16 << 20;

/// What comes after each stretch of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// A hole that is as long.
    Holes,
    /// More data.
    Nothing,
}

/// Makes a file of stretches of data, and holes between them if so; returns how much of it is data.
pub(super) fn make(path: &Path, bytes: u64, between: Between) -> io::Result<u64> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut at, mut data, mut state) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    while at < bytes {
        let end = (at + STRETCH).min(bytes);
        while at < end {
            let piece = (buffer.len() as u64).min(end - at) as usize;
            fill(&mut buffer[..piece], &mut state);
            file.write_all_at(&buffer[..piece], at)?;
            at += piece as u64;
            data += piece as u64;
        }
        at += if between == Between::Holes { STRETCH } else { 0 };
    }
    file.sync_all()?;
    Ok(data)
}

/// Bytes that do not compress: xorshift64 (Marsaglia 2003).
fn fill(buffer: &mut [u8], state: &mut u64) {
    for word in buffer.chunks_mut(8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
}

/// Compares two files byte by byte.
pub(super) fn compare(left: &Path, right: &Path) -> Result<(), String> {
    let open = |path: &Path| File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()));
    let (mut first, mut second) = (open(left)?, open(right)?);
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let found = first.read(&mut one).map_err(|error| error.to_string())?;
        if found == 0 {
            let rest = second.read(&mut other).map_err(|error| error.to_string())?;
            return if rest == 0 { Ok(()) } else { Err(format!("{} is longer than it should be", right.display())) };
        }
        second
            .read_exact(&mut other[..found])
            .map_err(|error| format!("{} ends too early: {error}", right.display()))?;
        if one[..found] != other[..found] {
            return Err(format!("{} differs within {found} bytes from offset {at}", right.display()));
        }
        at += found;
    }
}

/// Bytes a file takes on its disk.
pub(super) fn stored_bytes(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_image_is_holes_and_differences_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("a"), folder.path().join("b"));
        let bytes = 3 * STRETCH + 5;
        assert_eq!(make(&one, bytes, Between::Holes).unwrap(), 2 * STRETCH);
        assert!(stored_bytes(&one).unwrap() < bytes);
        make(&other, bytes, Between::Holes).unwrap();
        compare(&one, &other).unwrap();
        File::options().write(true).open(&other).unwrap().write_all_at(b"x", bytes - 1).unwrap();
        assert!(compare(&one, &other).unwrap_err().contains("differs"));
        assert_eq!(make(&other, bytes, Between::Nothing).unwrap(), bytes);
        assert!(stored_bytes(&other).unwrap() >= bytes);
    }
}
