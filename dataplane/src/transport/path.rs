//! What the path of a link is like: how long a round trip takes on it, and how much of what is sent does not arrive. Pure:
//! time is an argument, a duration on any clock that does not go back.

use std::time::Duration;

/// The shortest round trip is that of this time and of the one before: routes change.
const PERIOD: Duration = Duration::from_secs(300);
/// Of fewer packets no share is told.
const PACKETS_MIN: u64 = 1_000;
/// Of more packets, what came first counts half: losses of yesterday are forgotten.
const PACKETS_MAX: u64 = 1 << 20;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// The shortest round trip of the period before this one, and of this one.
    shortest: [Option<Duration>; 2],
    /// When this one began.
    since: Duration,
    /// Packets that were sent, and how many of them were lost.
    packets: u64,
    lost: u64,
}

impl Path {
    /// A connection has had a round trip as short as this.
    pub fn handle_round_trip(&mut self, round_trip: Duration, now: Duration) {
        if now.saturating_sub(self.since) >= PERIOD {
            self.shortest = [self.shortest[1], None];
            self.since = now;
        }
        let shortest = &mut self.shortest[1];
        *shortest = Some(shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    /// So many more packets were sent, and so many of them, or of those before, were lost.
    pub fn handle_sent(&mut self, packets: u64, lost: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.lost = self.lost.saturating_add(lost).min(self.packets);
        while self.packets > PACKETS_MAX {
            self.packets /= 2;
            self.lost /= 2;
        }
    }

    /// The shortest round trip of late: what the path takes when nothing waits in its queues.
    pub fn delay(&self) -> Option<Duration> {
        self.shortest.into_iter().flatten().min()
    }

    /// The share of packets that were lost, of late; none before enough were sent.
    pub fn loss(&self) -> Option<f64> {
        (self.packets >= PACKETS_MIN).then(|| self.lost as f64 / self.packets as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_is_the_shortest_round_trip_of_late() {
        let mut path = Path::default();
        assert_eq!(path.delay(), None);
        let at = |seconds: u64| Duration::from_secs(1_000 + seconds);
        let millis = Duration::from_millis;
        for (now, round_trip, delay) in
            [(0, 50, 50), (1, 80, 50), (299, 49, 49), (300, 90, 49), (599, 95, 49), (600, 99, 90)]
        {
            path.handle_round_trip(millis(round_trip), at(now));
            assert_eq!(path.delay(), Some(millis(delay)), "at {now} s");
        }
    }

    #[test]
    fn the_loss_is_that_of_enough_packets_of_late() {
        let mut path = Path::default();
        path.handle_sent(999, 10);
        assert_eq!(path.loss(), None);
        path.handle_sent(1, 0);
        assert_eq!(path.loss(), Some(0.01));
        // A path that has become good is good again, and one that lies is not believed beyond sense.
        for _ in 0..30 {
            path.handle_sent(1_000_000, 0);
        }
        assert!(path.loss().unwrap() < 1e-6, "{path:?}");
        path.handle_sent(u64::MAX, u64::MAX);
        assert_eq!(path.loss(), Some(1.0));
    }
}
