//! The rate limit: a token bucket that may go into debt by one chunk.

use std::time::Duration;

/// Bytes per second on average; bursts of at most a quarter of a second's worth, and none at the beginning: attempts
/// that begin again and again (after kills) must not add up to more than the limit.
#[derive(Clone, Debug)]
pub struct RateLimit {
    bytes_per_second: f64,
    burst_bytes: f64,
    tokens: f64,
    refilled: Duration,
}

impl RateLimit {
    /// A limit of `bytes_per_second`, at least 1, counted from `now`.
    pub fn new(bytes_per_second: u64, now: Duration) -> Self {
        let rate = bytes_per_second.max(1) as f64;
        Self { bytes_per_second: rate, burst_bytes: rate / 4.0, tokens: 0.0, refilled: now }
    }

    /// Whether something may be handed out now; else the time when it may.
    pub fn ready(&mut self, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        if self.tokens >= 0.0 {
            return Ok(());
        }
        // Rounded up, so that the wait is over when it is said to be.
        Err(now + Duration::from_secs_f64(-self.tokens / self.bytes_per_second) + Duration::from_micros(100))
    }

    /// Takes `bytes`, going into debt where the bucket holds less.
    pub fn charge(&mut self, bytes: u64) {
        self.tokens -= bytes as f64;
    }

    /// Gives back what was taken and not used (holes).
    pub fn give_back(&mut self, bytes: u64) {
        self.tokens = (self.tokens + bytes as f64).min(self.burst_bytes);
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.refilled).as_secs_f64();
        self.refilled = self.refilled.max(now);
        self.tokens = (self.tokens + passed * self.bytes_per_second).min(self.burst_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_pattern_of_waiting_and_taking_beats_the_limit(
            rate in 1u64..1_000_000,
            chunks in prop::collection::vec((1u64..2_000_000, 0u64..5_000), 1..60),
        ) {
            let mut limit = RateLimit::new(rate, Duration::ZERO);
            let (mut now, mut taken) = (Duration::ZERO, 0);
            for (bytes, idle_millis) in chunks {
                now += Duration::from_millis(idle_millis);
                if let Err(until) = limit.ready(now) {
                    prop_assert!(until > now);
                    now = until;
                    prop_assert_eq!(limit.ready(now), Ok(()), "the wait is over when it is said to be");
                }
                limit.charge(bytes);
                taken += bytes;
                // A quarter of a second's worth at once, and the chunk that goes into debt.
                let most = rate as f64 * (now.as_secs_f64() + 0.25) + bytes as f64 + 1.0;
                prop_assert!(taken as f64 <= most, "{} of {} bytes by {:?}", taken, most, now);
            }
        }
    }

    #[test]
    fn the_average_holds_for_chunks_larger_than_the_burst() {
        let mut limit = RateLimit::new(1000, Duration::ZERO);
        let (mut now, mut taken) = (Duration::ZERO, 0);
        while now < Duration::from_secs(100) {
            match limit.ready(now) {
                Ok(()) => {
                    limit.charge(4000);
                    taken += 4000;
                }
                Err(until) => {
                    assert!(until > now);
                    now = until;
                }
            }
        }
        assert!((100_000..=105_000).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut limit = RateLimit::new(1000, Duration::ZERO);
        limit.ready(Duration::ZERO).unwrap();
        limit.charge(10_000);
        assert!(limit.ready(Duration::ZERO).is_err());
        limit.give_back(10_000);
        assert!(limit.ready(Duration::ZERO).is_ok());
    }
}
