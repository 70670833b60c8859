//! How long others are waited for.

use std::time::Duration;

use glommio::GlommioError;

/// The slowest that something may move: so long in any case, and its bytes at such a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// However few bytes there are.
    pub grace: Duration,
    /// And so many of them a second.
    pub bytes_per_s: u64,
}

/// What is slower holds memory for nothing: whoever takes, or gives, a byte every few seconds does not stand still.
pub const SLOWEST: Pace = Pace { grace: Duration::from_secs(60), bytes_per_s: 32 << 10 };

impl Pace {
    /// How long so many bytes may take.
    pub fn time_for(self, bytes: u64) -> Duration {
        self.grace + Duration::from_millis(bytes.saturating_mul(1000) / self.bytes_per_s)
    }
}

/// What comes of something, on a glommio lane, if it comes in time.
pub async fn within<T>(limit: Duration, coming: impl Future<Output = T>) -> Option<T> {
    glommio::timer::timeout(limit, async { Ok::<_, GlommioError<()>>(coming.await) }).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_takes_no_longer_than_the_slowest_rate_allows() {
        assert_eq!(SLOWEST.time_for(0), Duration::from_secs(60));
        assert_eq!(SLOWEST.time_for(2 << 20), Duration::from_secs(60 + 64));
        assert!(SLOWEST.time_for(u64::MAX) > Duration::from_secs(1 << 30));
    }
}
