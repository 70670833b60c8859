//! Sizes in bytes, written with K, M, G or T.

/// Parses a number of bytes: digits, then nothing or one of K, M, G, T (powers of 1,024; `KiB`, `MiB` and so on mean
/// the same).
pub fn parse_size(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is no size; write bytes, or a number with K, M, G or T, for instance 256M");
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is larger than any file can be"))
}

/// Writes a number of bytes so that [`parse_size`] reads it back, with the largest unit that leaves a whole number.
pub fn display_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_alike() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("4M", 4 << 20),
            ("4 MiB", 4 << 20),
            ("1g", 1 << 30),
            ("2T", 2 << 40),
            ("3kib", 3 << 10),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_size(&display_size(bytes)), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "-1", "1.5G", "4MB", "1 2", "99999999999999999999", "20000000T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
