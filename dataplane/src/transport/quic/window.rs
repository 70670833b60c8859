//! How much of a connection may be here without its being read, or under way without its being acknowledged: what its path
//! takes, some times over. Pure.
//!
//! What a path takes is bandwidth times delay (RFC 1072): bytes that are read within a round trip. While a sender begins, it
//! doubles that in each round trip, and a round trip passes before more room is known to it: four times as much never holds
//! it up.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use super::filter::Highest;

/// So many times what was read in a round trip.
const TIMES: f64 = 4.0;
/// What was read in so many rounds counts.
const ROUNDS: u64 = 100;
/// A round is a round trip, and so long at least.
const ROUND_MIN: Duration = Duration::from_millis(10);
/// So many times what the congestion control allows: less would decide in its place.
const SENT_TIMES: u64 = 2;

/// See the module.
#[derive(Debug)]
pub struct Windows {
    /// Bytes within a round trip.
    product: Highest,
    round: u64,
    /// When this round began, and what had been read then.
    began: Instant,
    read: u64,
    /// What the congestion control allowed at its beginning.
    allowed: u64,
}

/// Bytes that may be received and not read, and sent and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub receive: u64,
    pub send: u64,
}

impl Windows {
    /// Of a connection that begins.
    pub fn new(now: Instant) -> Self {
        Self { product: Highest::default(), round: 0, began: now, read: 0, allowed: 0 }
    }

    /// Whether a round is over.
    pub fn is_due(&self, round_trip: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= round_trip.max(ROUND_MIN)
    }

    /// A round is over: so much was read until now, and so much does the congestion control allow.
    pub fn handle_round(&mut self, read: u64, allowed: u64, round_trip: Duration, now: Instant) {
        let took = now.saturating_duration_since(self.began).as_secs_f64();
        if took > 0.0 {
            let bytes = (read - self.read) as f64;
            self.product.update(self.round, ROUNDS, bytes * (round_trip.as_secs_f64() / took).min(1.0));
        }
        self.round += 1;
        (self.began, self.read, self.allowed) = (now, read, allowed);
    }

    /// The room that it needs, within these bounds.
    pub fn room(&self, bounds: &RangeInclusive<u64>) -> Room {
        let within = |bytes: u64| bytes.clamp(*bounds.start(), *bounds.end());
        Room {
            receive: within((self.product.get() * TIMES) as u64),
            send: within(self.allowed.saturating_mul(SENT_TIMES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 4 << 20;
    const MOST: u64 = 256 << 20;

    /// A sender that doubles what it sends in each round trip until the path is full, and never has more under way than
    /// there is room for; after how many round trips it is, and the room then.
    fn rounds_until_full(path_bytes: u64, round_trip: Duration) -> (u32, Room) {
        let mut now = Instant::now();
        let mut windows = Windows::new(now);
        let (mut wanted, mut read, mut rounds) = (12_000, 0, 0);
        // What the sender knows is a round trip old.
        let mut known = windows.room(&(LEAST..=MOST)).receive;
        loop {
            let sent = path_bytes.min(wanted).min(known);
            known = windows.room(&(LEAST..=MOST)).receive;
            (now, read, rounds) = (now + round_trip, read + sent, rounds + 1);
            if windows.is_due(round_trip, now) {
                windows.handle_round(read, 2 * sent, round_trip, now);
            }
            if sent == path_bytes || rounds > 100 {
                return (rounds, windows.room(&(LEAST..=MOST)));
            }
            wanted = sent * 2;
        }
    }

    #[test]
    fn a_sender_is_never_held_up_where_memory_allows() {
        for (path_bytes, millis) in [(100_000, 1), (6_000_000, 50), (37_500_000, 300), (60_000_000, 100)] {
            let doublings = (path_bytes as f64 / 12_000.0).log2().ceil() as u32 + 1;
            let (rounds, room) = rounds_until_full(path_bytes, Duration::from_millis(millis));
            assert_eq!(rounds, doublings, "{path_bytes} bytes, {millis} ms");
            assert!(room.receive <= (4 * path_bytes).max(LEAST), "{room:?} for {path_bytes}");
        }
    }

    #[test]
    fn memory_bounds_what_paths_take() {
        let (rounds, room) = rounds_until_full(u64::from(u32::MAX), Duration::from_millis(100));
        assert_eq!((rounds, room), (101, Room { receive: MOST, send: MOST }));
    }

    #[test]
    fn a_connection_that_rests_gives_room_back() {
        let (mut now, round_trip) = (Instant::now(), Duration::from_millis(20));
        let mut windows = Windows::new(now);
        let mut round = |read: u64| {
            now += round_trip;
            windows.handle_round(read, 0, round_trip, now);
            windows.room(&(LEAST..=MOST)).receive
        };
        assert_eq!(round(10 << 20), 40 << 20);
        for _ in 0..ROUNDS {
            assert_eq!(round(10 << 20), 40 << 20, "what it took a moment ago it may take again");
        }
        assert_eq!(round(10 << 20), LEAST);
    }

    #[test]
    fn on_short_paths_the_least_suffices() {
        let mut now = Instant::now();
        let mut windows = Windows::new(now);
        let round_trip = Duration::from_micros(200);
        for round in 1..100 {
            now += ROUND_MIN;
            assert!(windows.is_due(round_trip, now));
            windows.handle_round(round * 12_000_000, 1 << 20, round_trip, now);
        }
        assert_eq!(windows.room(&(LEAST..=MOST)), Room { receive: LEAST, send: LEAST });
    }
}
