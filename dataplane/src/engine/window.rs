//! How many connections a source that is asked over a network has: pure.
//!
//! Each read is a request on a connection of its own, so the number of reads under way is the number of connections in
//! use. More of them help where a server or a path limits each one (a rate per connection, a congestion window that is
//! small for the distance), and do nothing or harm where the limit is on all of them together. Nobody can know that
//! beforehand, so it is tried:
//!
//! 1. *Start*: the number doubles as long as that brings something.
//! 2. *Trials*: one step down or up, between two measurements of what is. It must keep its promise against both, because
//!    machines and networks are noisy: connections that bring nothing are given back, more are taken only for a gain.
//!    Trials follow one another while they succeed; else they become rare.
//! 3. A *refusal* (429, 5xx, no connection) costs one connection each, and for a while the number stays below what was
//!    refused: twice as long each time.
//!
//! A measurement, or *round*, is made of the reads handed out within it. By Little's law (L = λ W; Little, 1961) the
//! rate is the number of reads under way, times their bytes, over the time they took. Counting completions per second
//! would be wrong by as much as a whole round when reads end together, as they do when each connection has the same
//! limit. A round in which something else (a rate limit, the destination, the end of the object) kept the number down
//! says nothing.

use std::{collections::BTreeMap, time::Duration};

/// Connections at the start.
pub const CONNECTIONS_START: usize = 8;
/// What twice the connections must bring at the start.
const START_GAIN: f64 = 1.02;
/// What more connections must bring in a trial.
const UP_GAIN: f64 = 1.03;
/// What fewer connections must keep in a trial.
const DOWN_KEEP: f64 = 0.98;
/// With this part of the gain there would be without any common limit, fewer connections need not be tried soon.
const STEEP: f64 = 0.6;
/// A round takes at least so long at the start.
const START_ROUND: Duration = Duration::from_millis(250);
/// The same in trials, which look for small differences: the noisier, the longer.
const TRIAL_ROUND_MIN: Duration = Duration::from_secs(1);
const TRIAL_ROUND_MAX: Duration = Duration::from_secs(4);
/// Two measurements of the same number that differ by more are noisy.
const NOISE_MAX: f64 = 0.03;
/// Reads in a round, at least.
const ROUND_READS_MIN: usize = 4;
/// A round counts when the connections were in use for this part of it.
const USED_MIN: f64 = 0.85;
/// From one trial to the next: doubles while they bring nothing.
const PAUSE_MIN: Duration = Duration::from_secs(10);
/// Where the last step up brought what it could: the next one, down, would cost as much.
const PAUSE_STEEP: Duration = Duration::from_secs(40);
const PAUSE_MAX: Duration = Duration::from_secs(80);
/// After a refusal the number stays below it for so long, doubling while refusals go on.
const REFUSED_MIN: Duration = Duration::from_secs(10);
const REFUSED_MAX: Duration = Duration::from_secs(640);

/// How many reads of a source may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// As many as there are chunks in the window: the source is at hand.
    Unlimited,
    /// So many.
    Fixed(usize),
    /// As many as bring something, up to so many.
    Adaptive {
        /// Most of them.
        max: usize,
    },
}

/// Decides how many reads may be under way. Told of each one that begins and ends.
#[derive(Clone, Debug)]
pub struct Window {
    connections: Connections,
    /// Reads that may be under way.
    limit: usize,
    phase: Phase,
    round: Round,
    round_number: u64,
    /// Offset → a read under way.
    under_way: BTreeMap<u64, Begun>,
    refused: Refused,
    pause: Duration,
    trial_round: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Duration,
    /// The round that it is measured in.
    round: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Doubling; with the number and the rate that it must be better than.
    Start { base: Option<(usize, f64)> },
    /// Nothing is tried before a time.
    Hold { until: Duration, next: Direction },
    /// Something else than `from` is tried, which gave `before`.
    Trial { from: usize, before: f64, direction: Direction },
    /// It gave `tried`; what was before is measured again.
    Confirm { to: usize, before: f64, tried: f64, direction: Direction },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A measurement under way.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    begun: Duration,
    /// How long it takes at least.
    time_min: Duration,
    /// So many reads are not counted: they open connections, which takes longer.
    opening: usize,
    handed_out: usize,
    /// Nothing more is counted that is handed out.
    closed: bool,
    done: usize,
    failed: usize,
    bytes: u64,
    /// Sum of the times of those that are done.
    took: Duration,
    /// Reads under way, summed up over time in seconds.
    used: f64,
    used_up_to: Duration,
}

/// What the server did not want.
#[derive(Clone, Copy, Debug)]
struct Refused {
    /// The most that it seems to want, until a time.
    most: usize,
    until: Duration,
    pause: Duration,
}

impl Window {
    /// A window at the beginning of its attempt.
    pub fn new(connections: Connections) -> Self {
        let limit = match connections {
            Connections::Unlimited => usize::MAX,
            Connections::Fixed(limit) => limit.max(1),
            Connections::Adaptive { max } => max.clamp(1, CONNECTIONS_START),
        };
        Self {
            connections,
            limit,
            phase: Phase::Start { base: None },
            round: Round { time_min: START_ROUND, ..Round::default() },
            round_number: 0,
            under_way: BTreeMap::new(),
            refused: Refused { most: usize::MAX, until: Duration::ZERO, pause: REFUSED_MIN / 2 },
            pause: PAUSE_MIN / 2,
            trial_round: TRIAL_ROUND_MIN,
        }
    }

    /// Reads that may be under way now.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether one more read may begin.
    pub fn has_room(&self) -> bool {
        self.under_way.len() < self.limit
    }

    /// Whether it wants to be told when a read has ended, though its chunk is not written yet.
    pub fn counts_reads(&self) -> bool {
        self.connections != Connections::Unlimited
    }

    /// The read of what begins at `offset` begins.
    pub fn handle_handed_out(&mut self, offset: u64, now: Duration) {
        if !self.counts_reads() {
            return;
        }
        self.round.pass(self.under_way.len(), now);
        let round = self.round.counts_another(self.limit, now).then_some(self.round_number);
        self.under_way.insert(offset, Begun { at: now, round });
    }

    /// A read has ended with all its bytes. Told again when its chunk is written, it does nothing.
    pub fn handle_read(&mut self, offset: u64, bytes: u64, now: Duration) {
        self.round.pass(self.under_way.len(), now);
        let Some(begun) = self.under_way.remove(&offset) else { return };
        if begun.round == Some(self.round_number) {
            self.round.done += 1;
            self.round.bytes += bytes;
            self.round.took += now.saturating_sub(begun.at);
        }
        self.look_at_round(now);
    }

    /// A read has failed; `refused`: because the server does not want so many of them, as far as one can tell.
    pub fn handle_failed(&mut self, offset: u64, refused: bool, now: Duration) {
        self.round.pass(self.under_way.len(), now);
        // What failed after it had been read says nothing of the source.
        let Some(begun) = self.under_way.remove(&offset) else { return };
        if refused && matches!(self.connections, Connections::Adaptive { .. }) {
            return self.give_way(now);
        }
        if begun.round == Some(self.round_number) {
            self.round.failed += 1;
        }
        self.look_at_round(now);
    }

    fn give_way(&mut self, now: Duration) {
        // Refusals of one time are one: each of them costs a connection, all of them together one waiting time.
        if now >= self.refused.until {
            self.refused.pause = (self.refused.pause * 2).min(REFUSED_MAX);
        }
        let limit = (self.limit - 1).max(1);
        self.refused = Refused { most: limit, until: now + self.refused.pause, ..self.refused };
        self.phase = Phase::Hold { until: self.refused.until, next: Direction::Up };
        self.begin_round(limit, now);
    }

    /// The most connections that make sense now.
    fn most(&self, now: Duration) -> usize {
        let Connections::Adaptive { max } = self.connections else { return self.limit };
        if now < self.refused.until { max.min(self.refused.most) } else { max.max(1) }
    }

    fn begin_round(&mut self, limit: usize, now: Duration) {
        let opening = limit.saturating_sub(self.limit);
        self.limit = limit;
        self.round_number += 1;
        let time_min = match self.phase {
            Phase::Start { .. } => START_ROUND,
            _ => self.trial_round,
        };
        self.round = Round { begun: now, time_min, used_up_to: now, opening, ..Round::default() };
    }

    fn look_at_round(&mut self, now: Duration) {
        if !matches!(self.connections, Connections::Adaptive { .. }) || !self.round.is_over(self.limit, now) {
            return;
        }
        let limit = match self.round.rate(self.limit, now) {
            Some(rate) => self.decide(rate, now),
            None => self.undecided(now),
        };
        self.begin_round(limit, now);
    }

    /// What follows from a round: the new number.
    fn decide(&mut self, rate: f64, now: Duration) -> usize {
        let (limit, most) = (self.limit, self.most(now));
        match self.phase {
            Phase::Start { base } => {
                let gain = base.map(|(number, before)| (rate / before, limit as f64 / number as f64, number));
                match gain {
                    Some((gain, _, number)) if gain < START_GAIN => {
                        self.phase = Phase::Hold { until: now, next: Direction::Down };
                        number
                    }
                    _ if limit < most => {
                        self.phase = Phase::Start { base: Some((limit, rate)) };
                        (limit * 2).min(most)
                    }
                    _ => {
                        let steep = gain.is_some_and(|(gain, ideal, _)| gain - 1.0 >= STEEP * (ideal - 1.0));
                        let until = if steep { now + PAUSE_STEEP } else { now };
                        self.phase = Phase::Hold { until, next: Direction::Down };
                        limit
                    }
                }
            }
            Phase::Hold { until, .. } if now < until => limit,
            Phase::Hold { next, .. } => {
                let to = match next {
                    Direction::Up => (limit + limit.div_ceil(2)).min(most),
                    Direction::Down => limit.div_ceil(2),
                };
                if to == limit {
                    return self.hold(next.other(), now);
                }
                self.phase = Phase::Trial { from: limit, before: rate, direction: next };
                to
            }
            Phase::Trial { from, before, direction } => {
                self.phase = Phase::Confirm { to: limit, before, tried: rate, direction };
                from
            }
            Phase::Confirm { to, before, tried, direction } => {
                let share = match direction {
                    Direction::Up => UP_GAIN,
                    Direction::Down => DOWN_KEEP,
                };
                let noisy = (before - rate).abs() > NOISE_MAX * before.max(rate);
                let length = if noisy { self.trial_round * 2 } else { self.trial_round / 2 };
                self.trial_round = length.clamp(TRIAL_ROUND_MIN, TRIAL_ROUND_MAX);
                if tried < before.max(rate) * share {
                    return self.hold(direction.other(), now);
                }
                self.pause = PAUSE_MIN / 2;
                self.phase = Phase::Hold { until: now, next: direction };
                to
            }
        }
    }

    /// What follows from a round that says nothing.
    fn undecided(&mut self, now: Duration) -> usize {
        match self.phase {
            Phase::Start { .. } | Phase::Hold { .. } => self.limit,
            Phase::Trial { from, direction, .. } => {
                self.hold(direction, now);
                from
            }
            Phase::Confirm { direction, .. } => self.hold(direction, now),
        }
    }

    /// Nothing is tried for a while.
    fn hold(&mut self, next: Direction, now: Duration) -> usize {
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.phase = Phase::Hold { until: now + self.pause, next };
        self.limit
    }
}

impl Direction {
    fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

impl Round {
    /// Time passed with so many reads under way.
    fn pass(&mut self, under_way: usize, now: Duration) {
        self.used += under_way as f64 * now.saturating_sub(self.used_up_to).as_secs_f64();
        self.used_up_to = self.used_up_to.max(now);
    }

    /// Whether a read that is handed out now is counted.
    fn counts_another(&mut self, limit: usize, now: Duration) -> bool {
        if self.opening > 0 {
            self.opening -= 1;
            return false;
        }
        self.closed |= self.has_enough(limit, now);
        self.handed_out += usize::from(!self.closed);
        !self.closed
    }

    fn has_enough(&self, limit: usize, now: Duration) -> bool {
        self.handed_out >= limit.max(ROUND_READS_MIN) && now.saturating_sub(self.begun) >= self.time_min
    }

    /// Whether it has begun enough reads, and all of them have ended: the slow ones too, which come last.
    fn is_over(&self, limit: usize, now: Duration) -> bool {
        self.has_enough(limit, now) && self.done + self.failed == self.handed_out
    }

    /// Bytes per second with `limit` reads under way; nothing where there were fewer.
    fn rate(&self, limit: usize, now: Duration) -> Option<f64> {
        let elapsed = now.saturating_sub(self.begun).as_secs_f64();
        let used = self.used >= USED_MIN * limit as f64 * elapsed;
        let rate = limit as f64 * self.bytes as f64 / self.took.as_secs_f64();
        (used && self.failed == 0 && rate.is_finite()).then_some(rate)
    }
}

#[cfg(test)]
mod tests;
