//! One direction of a path: packets go in, and come out at their times. Pure.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use super::Conditions;

/// Most bytes on their way at a time, whatever the rate: more are dropped.
pub const HELD_BYTES_MAX: u64 = 256 << 20;
/// A packet that is held back comes up to twice the jitter late, and up to this much where that is longer.
pub const LATE_MIN: Duration = Duration::from_millis(1);

/// Invariants: what is held never exceeds [`HELD_BYTES_MAX`]; without reordering, what comes out is in the order in which
/// it went in; every packet that went in is counted exactly once, as delivered, lost, dropped or still held.
///
/// A packet first waits for its turn at the bounded rate (a tail-drop queue), then is lost or not, then travels. Times are
/// those of any clock that does not go back. Call [`OneWay::handle_packet`] for each that comes, [`OneWay::poll_packet`] until
/// it gives nothing more, then wait until [`OneWay::poll_timeout`].
pub struct OneWay<P> {
    conditions: Conditions,
    random: fastrand::Rng,
    /// When the last packet that was let in has left the queue.
    free_at: Duration,
    /// When the last packet that keeps the order arrives.
    last_arrival: Duration,
    held: BinaryHeap<Reverse<Held<P>>>,
    sequence: u64,
    counts: Counts,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in.
    pub came: u64,
    /// Came out, duplicates included.
    pub delivered: u64,
    /// Made by duplication.
    pub duplicated: u64,
    /// Lost on the way, as the conditions ask.
    pub lost: u64,
    /// Found no room in the queue.
    pub dropped: u64,
    /// On their way.
    pub held: u64,
    /// Bytes of those.
    pub held_bytes: u64,
}

struct Held<P> {
    due: Duration,
    sequence: u64,
    bytes: u64,
    packet: P,
}

impl<P: Clone> OneWay<P> {
    /// A path like this. The same seed and the same packets at the same times give the same.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: fastrand::Rng::with_seed(seed),
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            held: BinaryHeap::new(),
            sequence: 0,
            counts: Counts::default(),
        }
    }

    /// A packet of so many bytes is sent. Given back when it does not arrive.
    pub fn handle_packet(&mut self, now: Duration, bytes: u64, packet: P) -> Option<P> {
        self.counts.came += 1;
        let Some(left) = self.leave(now, bytes) else {
            self.counts.dropped += 1;
            return Some(packet);
        };
        if self.happens(self.conditions.loss) {
            self.counts.lost += 1;
            return Some(packet);
        }
        if self.happens(self.conditions.duplication) {
            let twin = packet.clone();
            if self.hold(left, bytes, twin).is_none() {
                self.counts.duplicated += 1;
            }
        }
        let refused = self.hold(left, bytes, packet);
        self.counts.dropped += u64::from(refused.is_some());
        refused
    }

    /// The next packet that has arrived by now.
    pub fn poll_packet(&mut self, now: Duration) -> Option<P> {
        if self.poll_timeout()? > now {
            return None;
        }
        let Reverse(Held { bytes, packet, .. }) = self.held.pop()?;
        self.counts.delivered += 1;
        self.counts.held -= 1;
        self.counts.held_bytes -= bytes;
        Some(packet)
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// What became of packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When a packet that comes now has passed the bounded rate; never, where the queue has no room.
    fn leave(&mut self, now: Duration, bytes: u64) -> Option<Duration> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let begins = self.free_at.max(now);
        let waiting = (begins - now).as_secs_f64() * rate as f64 / 8.0;
        if waiting as u64 + bytes > self.conditions.queue_bytes().max(bytes) {
            return None;
        }
        self.free_at = begins + Duration::from_nanos((u128::from(bytes) * 8_000_000_000 / u128::from(rate)) as u64);
        Some(self.free_at)
    }

    fn hold(&mut self, left: Duration, bytes: u64, packet: P) -> Option<P> {
        if self.counts.held_bytes + bytes > HELD_BYTES_MAX {
            return Some(packet);
        }
        let mut due = left + self.conditions.delay + self.conditions.jitter.mul_f64(self.random.f64());
        if self.happens(self.conditions.reordering) {
            due += (self.conditions.jitter * 2).max(LATE_MIN).mul_f64(self.random.f64());
        } else {
            due = due.max(self.last_arrival);
            self.last_arrival = due;
        }
        self.sequence += 1;
        self.counts.held += 1;
        self.counts.held_bytes += bytes;
        self.held.push(Reverse(Held { due, sequence: self.sequence, bytes, packet }));
        None
    }

    /// Draws nothing where it never happens.
    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.random.f64() < share
    }
}

impl<P> Held<P> {
    fn key(&self) -> (Duration, u64) {
        (self.due, self.sequence)
    }
}

impl<P> PartialEq for Held<P> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<P> Eq for Held<P> {}

impl<P> PartialOrd for Held<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> Ord for Held<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}
