//! How fast what was sent arrives (draft-cheng-iccrg-delivery-rate-estimation).
//!
//! A sample spans the time from when a packet was sent until it is acknowledged. What was delivered meanwhile, over the
//! longer of how long that took to be sent and to be acknowledged, is a rate that the path had: acknowledgements that
//! come in heaps make it no higher.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most times of sending that are remembered. With more, samples are rarer, not wrong.
const REMEMBERED_MAX: usize = 2048;
/// What was sent so long ago was lost, or is never acknowledged, as acknowledgements are not.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// Of one batch of acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Bytes per second.
    pub rate: f64,
    /// What had been delivered when the newest packet of the batch was sent.
    pub delivered_before: u64,
    /// There was nothing more to send for a while: the path may have been faster.
    pub app_limited: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Deliveries {
    /// By the time at which it was sent.
    sent: VecDeque<Sent>,
    delivered: u64,
    delivered_at: Instant,
    /// When the newest packet that was acknowledged had been sent.
    acknowledged_sent_at: Instant,
    /// Until so much is delivered, samples tell less than the path can.
    limited_until: u64,
    /// Of the batch that is being heard: bytes, and when its newest packet was sent.
    batch: u64,
    newest: Option<Instant>,
}

/// How things were when something was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    delivered: u64,
    delivered_at: Instant,
    acknowledged_sent_at: Instant,
    app_limited: bool,
}

impl Deliveries {
    /// Nothing was sent yet.
    pub fn new(now: Instant) -> Self {
        Self {
            sent: VecDeque::new(),
            delivered: 0,
            delivered_at: now,
            acknowledged_sent_at: now,
            limited_until: 0,
            batch: 0,
            newest: None,
        }
    }

    /// Bytes that have arrived.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Packets leave. `idle`: nothing else is under way.
    pub fn handle_sent(&mut self, now: Instant, idle: bool) {
        if idle {
            (self.delivered_at, self.acknowledged_sent_at) = (now, now);
        }
        if self.sent.back().is_some_and(|last| last.at >= now) {
            return;
        }
        if self.sent.len() == REMEMBERED_MAX {
            // Not the oldest, unless nothing comes of it: it is the next one that tells something.
            if self.sent.front().is_some_and(|first| now - first.at < REMEMBERED_FOR) {
                return;
            }
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            acknowledged_sent_at: self.acknowledged_sent_at,
            app_limited: self.delivered < self.limited_until,
        });
    }

    /// A packet that was sent then has arrived.
    pub fn handle_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.batch += bytes;
        self.newest = self.newest.max(Some(sent));
    }

    /// A batch of acknowledgements is over: its bytes, and its sample. A time shorter than a round trip can be
    /// (`shortest`) tells nothing.
    pub fn end_batch(&mut self, shortest: Duration) -> (u64, Option<Sample>) {
        let bytes = std::mem::take(&mut self.batch);
        let found = self.newest.take().and_then(|newest| {
            let at = self.sent.binary_search_by(|one| one.at.cmp(&newest)).ok()?;
            Some(self.sent[at])
        });
        let Some(newest) = found else { return (bytes, None) };
        // What was sent before it, and is acknowledged later, counts as delivered, and gives no sample.
        while self.sent.front().is_some_and(|first| first.at <= newest.at) {
            self.sent.pop_front();
        }
        self.acknowledged_sent_at = self.acknowledged_sent_at.max(newest.at);
        let to_send = newest.at.saturating_duration_since(newest.acknowledged_sent_at);
        let to_arrive = self.delivered_at.saturating_duration_since(newest.delivered_at);
        let took = to_send.max(to_arrive);
        if took < shortest || took.is_zero() {
            return (bytes, None);
        }
        let sample = Sample {
            rate: (self.delivered - newest.delivered) as f64 / took.as_secs_f64(),
            delivered_before: newest.delivered,
            app_limited: newest.app_limited,
        };
        (bytes, Some(sample))
    }

    /// There was nothing more to send, with so much under way.
    pub fn note_app_limited(&mut self, in_flight: u64) {
        self.limited_until = self.delivered + in_flight.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_rate_is_what_was_delivered_over_the_longer_of_both_times() {
        let began = Instant::now();
        let mut deliveries = Deliveries::new(began);
        // 10 packets of 1000 bytes, one in each millisecond; 50 ms later all of them are acknowledged in one heap.
        for packet in 0..10 {
            deliveries.handle_sent(began + MS * packet, packet == 0);
        }
        for packet in 0..10 {
            deliveries.handle_acked(began + MS * 59, began + MS * packet, 1000);
        }
        let (bytes, sample) = deliveries.end_batch(50 * MS);
        assert_eq!((bytes, sample.unwrap().delivered_before), (10_000, 0));
        assert!((sample.unwrap().rate - 10_000.0 / 0.059).abs() < 1.0, "{sample:?}");
        // A time in which nothing can have come and gone tells nothing.
        deliveries.handle_sent(began + MS * 60, false);
        deliveries.handle_acked(began + MS * 61, began + MS * 60, 1000);
        assert_eq!(deliveries.end_batch(60 * MS), (1000, None));
        assert_eq!(deliveries.delivered(), 11_000);
    }

    #[test]
    fn memory_is_bounded_and_samples_go_on() {
        let began = Instant::now();
        let mut deliveries = Deliveries::new(began);
        let at = |index: usize| began + MS * index as u32;
        for index in 0..3 * REMEMBERED_MAX {
            deliveries.handle_sent(at(index), false);
        }
        assert_eq!(deliveries.sent.len(), REMEMBERED_MAX);
        // The first ones are those that are heard of first.
        deliveries.handle_acked(at(3 * REMEMBERED_MAX), at(5), 1000);
        assert!(deliveries.end_batch(MS).1.is_some());
        // Who only acknowledges is never acknowledged: what is old makes room.
        for index in 3 * REMEMBERED_MAX..10 * REMEMBERED_MAX {
            deliveries.handle_sent(at(index), false);
        }
        assert_eq!(deliveries.sent.len(), REMEMBERED_MAX);
        assert!(deliveries.sent[0].at > at(4 * REMEMBERED_MAX));
    }
}
