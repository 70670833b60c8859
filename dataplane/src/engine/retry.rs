//! When to try a chunk again.

use std::time::Duration;

/// How often a chunk is tried within an attempt.
pub const CHUNK_TRIES_MAX: u32 = 3;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a chunk that has failed `failures` times rests: doubling from 200 ms, at most 10 s; a wait the server asked
/// for counts when it is longer, up to a minute (a server that wants more gets a new attempt instead).
pub fn chunk_wait(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(WAIT_MAX);
    doubled.max(asked.unwrap_or_default().min(Duration::from_secs(60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_are_bounded() {
        assert_eq!(chunk_wait(1, None), FIRST_WAIT);
        assert_eq!(chunk_wait(2, None), FIRST_WAIT * 2);
        assert_eq!(chunk_wait(u32::MAX, None), WAIT_MAX);
        assert_eq!(chunk_wait(1, Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(chunk_wait(1, Some(Duration::from_secs(9999))), Duration::from_secs(60));
    }
}
