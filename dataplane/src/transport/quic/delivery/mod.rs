//! How much may be under way, by what arrives.
//!
//! Controls that take every loss for a full queue (RFC 9002's, RFC 9438's) fall to a tenth of a long path's rate when one
//! packet in a thousand is lost on the way. This one goes by a model of the path, as BBR does (draft-ietf-ccwg-bbr): the
//! most that arrived in a second within the last rounds, times the shortest round trip, is what the path holds. A quarter
//! more is under way, so that there is always something to send when the path has room for more, and more room is found,
//! a quarter in each round. Loss says nothing, unless less is lost when less is sent ([`losses`]).
//!
//! BBR also sets the pace. quinn's is not for a controller to set: it spreads the window over four fifths of a round trip.
//! So there is only the window here, and none of BBR's gains of the pace. quinn's own BBR does as well on long paths, and
//! carries 0.6 of what this one does on short ones with large packets (`bench/README.md`).
//!
//! Pure: time comes from outside. A round ends when something is acknowledged that was sent after the one before had.

mod losses;
mod rate;
#[cfg(test)]
mod simulation;

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};

use self::{
    losses::Losses,
    rate::{Deliveries, Sample},
};
use super::filter::Highest;

/// Under way while nothing is known of a path: 32 packets, as browsers' servers do it. (RFC 9002 says 10, which costs two
/// more round trips.)
const INITIAL_WINDOW: u64 = 32 * 1200;
/// Never less, in packets.
const LEAST_PACKETS: u64 = 4;
/// What is under way, in shares of what the path holds: while it is being found out how much that is; ...
const STARTUP_GAIN: f64 = 2.2;
/// ... ever after; ...
const CRUISE_GAIN: f64 = 1.25;
/// ... where the queue that grows by it loses packets, with nothing for hosts that take their time; ...
const CAUTIOUS_GAIN: f64 = 1.0;
/// ... and while it is found out how short a round trip is.
const SHORT_GAIN: f64 = 0.5;
/// Both hosts take their time: batches, timers, other work of the lane. So much longer than the path needs a round trip
/// takes; without it, windows on fast and short paths are too small to be of use.
const HOSTS_TAKE: Duration = Duration::from_millis(4);
/// The most that arrived in a second is believed for so many rounds.
const BELIEVED_ROUNDS: u64 = 10;
/// A path is full when what arrives has not grown by so much, in so many rounds.
const GROWTH: f64 = 1.25;
const ROUNDS_WITHOUT_GROWTH: u32 = 3;
/// The shortest round trip is believed for so long. Then less is under way for a moment, or a queue of one's own would
/// hide that the path has become shorter, ...
const SHORTEST_FOR: Duration = Duration::from_secs(10);
/// ... so long at least, and a round.
const SHORT_FOR: Duration = Duration::from_millis(50);

/// Makes one for each path.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeliveryConfig;

impl ControllerFactory for DeliveryConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Delivery::new(now, mtu))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Delivery {
    phase: Phase,
    window: u64,
    mtu: u64,
    deliveries: Deliveries,
    in_flight: u64,
    /// The most bytes per second of a round.
    rate: Highest,
    heap: Heap,
    losses: Losses,
    shortest: Option<Duration>,
    shortest_at: Instant,
    round: u64,
    /// What had been delivered when this round began.
    round_began: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The window doubles in each round.
    Startup {
        best: f64,
        rounds_without_growth: u32,
    },
    /// What is under way beyond what the path holds leaves its queue.
    Drain,
    Cruise,
    /// Little is under way; once that is so, until this time and round.
    Short {
        until: Option<(Instant, u64)>,
    },
}

/// Bytes that are acknowledged in one heap, beyond those that the rate lets expect, are room that is needed: or there
/// would be nothing under way while the next heap grows.
#[derive(Clone, Debug)]
struct Heap {
    began: Instant,
    bytes: f64,
    highest: Highest,
}

impl Delivery {
    /// Of a path that was never used.
    pub fn new(now: Instant, mtu: u16) -> Self {
        Self {
            phase: Phase::Startup { best: 0.0, rounds_without_growth: 0 },
            window: INITIAL_WINDOW,
            mtu: mtu.into(),
            deliveries: Deliveries::new(now),
            in_flight: 0,
            rate: Highest::default(),
            heap: Heap { began: now, bytes: 0.0, highest: Highest::default() },
            losses: Losses::default(),
            shortest: None,
            shortest_at: now,
            round: 0,
            round_began: 0,
        }
    }

    fn handle_sent(&mut self, now: Instant, bytes: u64) {
        self.deliveries.handle_sent(now, self.in_flight == 0);
        self.in_flight += bytes;
    }

    fn handle_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.deliveries.handle_acked(now, sent, bytes);
        let took = now.saturating_duration_since(sent);
        if self.shortest.is_none_or(|shortest| took <= shortest) {
            (self.shortest, self.shortest_at) = (Some(took), now);
        }
    }

    /// A batch of acknowledgements was heard; so much is under way still.
    fn handle_acks_end(&mut self, now: Instant, in_flight: u64, app_limited: bool) {
        self.in_flight = in_flight;
        let (acked, sample) = self.deliveries.end_batch(self.shortest.unwrap_or_default());
        if app_limited {
            self.deliveries.note_app_limited(in_flight);
        }
        if let Some(sample) = sample {
            let round_ended = sample.delivered_before >= self.round_began;
            self.round += u64::from(round_ended);
            // Who had nothing to say learns what the path can do at least.
            if !sample.app_limited || sample.rate > self.rate.get() {
                self.rate.update(self.round, BELIEVED_ROUNDS, sample.rate);
            }
            if round_ended {
                self.end_round(&sample);
            }
        }
        self.heap.note(now, acked, self.rate.get(), self.round);
        self.change_phase(now, in_flight);
        self.size_window(acked);
    }

    fn end_round(&mut self, sample: &Sample) {
        let delivered = self.deliveries.delivered() - self.round_began;
        self.round_began += delivered;
        // Before and after, something else than loss decides how much is under way.
        if self.phase == Phase::Cruise {
            self.losses.end_round(self.round, delivered);
        } else {
            self.losses.forget_round();
        }
        if let Phase::Startup { best, rounds_without_growth } = &mut self.phase
            && !sample.app_limited
        {
            if self.rate.get() >= *best * GROWTH {
                (*best, *rounds_without_growth) = (self.rate.get(), 0);
            } else {
                *rounds_without_growth += 1;
            }
        }
    }

    fn change_phase(&mut self, now: Instant, in_flight: u64) {
        match self.phase {
            Phase::Startup { rounds_without_growth, .. } if rounds_without_growth >= ROUNDS_WITHOUT_GROWTH => {
                self.phase = Phase::Drain;
            }
            Phase::Drain if in_flight <= self.target(1.0) => self.phase = Phase::Cruise,
            Phase::Cruise if now.saturating_duration_since(self.shortest_at) > SHORTEST_FOR => {
                self.window = self.target(SHORT_GAIN);
                self.shortest = None;
                self.phase = Phase::Short { until: None };
            }
            Phase::Short { until: None } if in_flight <= self.window => {
                // What is acknowledged until then has not waited in a queue of this sender's for long.
                self.shortest = None;
                self.phase = Phase::Short { until: Some((now + SHORT_FOR, self.round + 1)) };
            }
            Phase::Short { until: Some((time, round)) }
                if now >= time && self.round > round && self.shortest.is_some() =>
            {
                self.shortest_at = now;
                self.phase = Phase::Cruise;
            }
            _ => {}
        }
    }

    /// So many times what the path holds, and what comes in heaps.
    fn target(&self, gain: f64) -> u64 {
        self.target_of(gain, HOSTS_TAKE)
    }

    fn target_of(&self, gain: f64, hosts_take: Duration) -> u64 {
        let holds =
            |hosts_take: Duration| self.rate.get() * (self.shortest.unwrap_or_default() + hosts_take).as_secs_f64();
        // A heap that is as large as all that is under way would let it grow without end.
        (holds(hosts_take) * gain + self.heap.highest.get().min(holds(HOSTS_TAKE))) as u64
    }

    fn size_window(&mut self, acked: u64) {
        let cruise = if self.losses.ask_for_less() {
            self.target_of(CAUTIOUS_GAIN, Duration::ZERO)
        } else {
            self.target(CRUISE_GAIN)
        };
        let window = match self.phase {
            // What is known of the path yet is that it holds as much at least.
            Phase::Startup { .. } => self.window.max(self.target(STARTUP_GAIN).min(self.window + acked)),
            Phase::Drain => self.target(1.0),
            Phase::Cruise => ((cruise as f64 * self.losses.share()) as u64).min(self.window + acked),
            Phase::Short { .. } => self.window,
        };
        self.window = window.max(LEAST_PACKETS * self.mtu);
    }

    /// Bytes were lost, or none, and marked (RFC 3168). `all`: everything that was sent for a long time.
    fn handle_lost(&mut self, bytes: u64, all: bool) {
        self.losses.handle_lost(bytes);
        if bytes == 0 {
            self.losses.handle_mark(self.round);
        }
        if all {
            // As if nothing were known; what arrives then makes the window grow again.
            self.window = LEAST_PACKETS * self.mtu;
        }
    }
}

impl Heap {
    fn note(&mut self, now: Instant, acked: u64, rate: f64, round: u64) {
        let expected = rate * now.saturating_duration_since(self.began).as_secs_f64();
        if self.bytes <= expected {
            (self.began, self.bytes) = (now, 0.0);
        }
        self.bytes += acked as f64;
        let expected = rate * now.saturating_duration_since(self.began).as_secs_f64();
        self.highest.update(round, BELIEVED_ROUNDS, self.bytes - expected);
    }
}

impl Controller for Delivery {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.handle_sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.handle_acked(now, sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _largest_packet_num_acked: Option<u64>) {
        self.handle_acks_end(now, in_flight, app_limited);
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.handle_lost(lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.window = self.window.max(LEAST_PACKETS * self.mtu);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
