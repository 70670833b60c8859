//! When to try a chunk again.

use std::time::Duration;

/// How often a chunk is tried within an attempt.
pub const CHUNK_TRIES_MAX: u32 = 3;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A server that wants a longer wait gets a new attempt instead.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(60);

/// How long a chunk that has failed `failures` times rests: doubling from 200 ms, at most 10 s; a wait the server asked
/// for counts when it is longer, up to a minute.
pub fn chunk_wait(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(WAIT_MAX);
    doubled.max(asked.unwrap_or_default().min(ASKED_WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_grows_with_failures_respects_what_was_asked_and_ends(
            failures in any::<u32>(),
            asked in prop::option::of(any::<u32>()),
        ) {
            let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
            let wait = chunk_wait(failures, asked);
            prop_assert!((FIRST_WAIT..=ASKED_WAIT_MAX).contains(&wait));
            prop_assert!(wait >= chunk_wait(failures.saturating_sub(1), asked));
            prop_assert!(wait >= asked.unwrap_or_default().min(ASKED_WAIT_MAX));
        }
    }

    #[test]
    fn waits_double_and_are_bounded() {
        assert_eq!(chunk_wait(1, None), FIRST_WAIT);
        assert_eq!(chunk_wait(2, None), FIRST_WAIT * 2);
        assert_eq!(chunk_wait(u32::MAX, None), WAIT_MAX);
        assert_eq!(chunk_wait(1, Some(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(chunk_wait(1, Some(Duration::from_secs(9999))), Duration::from_secs(60));
    }
}
