//! Numbers of bytes as people write them.

/// A number of bytes, or one with a suffix: `K`, `M`, `G`, `T` and their long forms `KiB`, `MiB`, `GiB`, `TiB` all count in
/// powers of 1,024. `KB` and the like, which mean 1,000 to some and 1,024 to others, are refused.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix {
        "" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    parse_number(number)?.checked_mul(1 << shift)
}

/// Digits only: `parse` would accept a sign.
pub(crate) fn parse_number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}
