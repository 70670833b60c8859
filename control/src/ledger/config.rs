//! Durations the ledger lives by, and where it gets time and randomness from.

use std::time::{Duration, Instant, SystemTime};

use crate::{
    credentials::ConfiguredCredentials,
    model::{HostName, Timestamp},
};

use super::ExecutorProcess;

/// Durations the ledger lives by, and what it knows of its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// How long a lease runs from the receipt of what renewed it.
    pub lease: Duration,
    /// How often executors renew their leases, at most; the longest wait of a heartbeat's answer.
    pub heartbeat: Duration,
    /// How long a transfer stays ready before it is queued again.
    pub ready_timeout: Duration,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// What the service's own host is called.
    pub own_host: HostName,
    /// Whether an executor runs there.
    pub own_executor: bool,
    /// Whether executors of other hosts can come in.
    pub takes_hosts_in: bool,
    /// How long executors go on while the service is not reached, and tickets last.
    pub outage_max: Duration,
    /// Credentials that the operator keeps outside of the store.
    pub credentials: ConfiguredCredentials,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            heartbeat: Duration::from_secs(5),
            ready_timeout: Duration::from_secs(30),
            backoff: Backoff { first: Duration::from_secs(1), max: Duration::from_secs(300) },
            own_host: HostName::of_machine(""),
            own_executor: true,
            takes_hosts_in: true,
            outage_max: Duration::from_secs(30 * 60),
            credentials: ConfiguredCredentials::default(),
        }
    }
}

/// Waits between attempts: the ceiling doubles from `first` to `max`; the wait is drawn between half the ceiling and
/// the ceiling ("equal jitter"), so that failures that began together do not stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Ceiling after the first failure.
    pub first: Duration,
    /// Largest ceiling.
    pub max: Duration,
}

impl Backoff {
    /// The wait after failure number `failures` (from 1).
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.max);
        let half = ceiling / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_millis(random % spread)
    }
}

/// Time and randomness, so that tests can bring their own.
pub trait Environment: Send + Sync + 'static {
    /// The wall clock: for what is shown and for waits that outlive the process.
    fn now(&self) -> Timestamp;

    /// A clock that never goes back, for leases.
    fn monotonic(&self) -> Duration;

    /// A random number.
    fn random(&self) -> u64;

    /// Whether an executor's process still runs.
    fn is_alive(&self, process: &ExecutorProcess) -> bool;
}

/// The system's clocks and random numbers.
#[derive(Clone, Debug)]
pub struct SystemEnvironment {
    start: Instant,
}

impl Default for SystemEnvironment {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
            .expect("the kernel's random numbers are always there after boot");
        u64::from_ne_bytes(bytes)
    }

    fn is_alive(&self, process: &ExecutorProcess) -> bool {
        process.is_alive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_differ() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
        for (failures, ceiling) in [(0, 1), (1, 1), (2, 2), (3, 4), (7, 60), (10_000, 60)] {
            let ceiling = Duration::from_secs(ceiling);
            for random in [0, 1, 12_345, u64::MAX] {
                let wait = backoff.wait(failures, random);
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{failures} {random}: {wait:?}");
            }
        }
        assert_ne!(backoff.wait(5, 1), backoff.wait(5, 77));
    }
}
