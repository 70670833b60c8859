//! The service's clock, as an executor knows it: its own may be wrong by years.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use staccato_dataplane::transport::serve::ControlTime;

use super::relay::boottime;

/// Never told.
const UNKNOWN: i64 = i64::MIN;

/// See the module. Clones are one and the same.
#[derive(Clone)]
pub struct ControlClock {
    /// What is to be added to CLOCK_BOOTTIME, in milliseconds.
    ahead_ms: Arc<AtomicI64>,
}

impl Default for ControlClock {
    fn default() -> Self {
        Self { ahead_ms: Arc::new(AtomicI64::new(UNKNOWN)) }
    }
}

impl ControlClock {
    /// The service has told its time, just now.
    pub fn set(&self, control_time_ms: u64) {
        let ahead = i64::try_from(control_time_ms).unwrap_or(i64::MAX).saturating_sub(millis(boottime()));
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }

    /// Whether the service has ever told its time.
    pub fn is_known(&self) -> bool {
        self.ahead_ms.load(Ordering::Relaxed) != UNKNOWN
    }

    /// Milliseconds since 1970; on this host's own clock before the service has told its time.
    pub fn now_ms(&self) -> u64 {
        match self.ahead_ms.load(Ordering::Relaxed) {
            UNKNOWN => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
            }
            ahead => u64::try_from(millis(boottime()).saturating_add(ahead)).unwrap_or(0),
        }
    }

    /// The same for the dataplane.
    pub fn control_time(&self) -> ControlTime {
        let clock = self.clone();
        Box::new(move || clock.now_ms())
    }
}

impl TimeProvider for ControlClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.now_ms())))
    }
}

impl fmt::Debug for ControlClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlClock").field("now_ms", &self.now_ms()).finish()
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_service_told_and_goes_on() {
        let clock = ControlClock::default();
        assert!(!clock.is_known() && clock.now_ms() > 1_700_000_000_000);
        let told = clock.clone();
        told.set(5_000);
        assert!(clock.is_known() && (5_000..60_000).contains(&clock.now_ms()));
        let before = clock.now_ms();
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now_ms() > before);
    }
}
