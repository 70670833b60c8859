//! Whether what is lost is lost to a queue that this sender fills.
//!
//! Found by trying: where much is lost, less is put under way for some rounds. If less is lost then, it stays so for a
//! long while; if as much is lost as before, the path loses things by itself, and it would be no use.

/// From so much of two rounds in a row on, it is tried.
const NOTABLE: f64 = 0.03;
/// For so many rounds.
const TRIED_ROUNDS: u64 = 8;
/// A share that falls below this much of what it was has fallen.
const FALLEN: f64 = 0.5;
/// So many rounds later it may all be different.
const BELIEVED_ROUNDS: u64 = 128;

/// From so much of a round on it is nobody's noise: several senders overrun a queue, and none finds out by trying alone.
/// All of them send less and less then, as long as it is so, and slowly more when it is over.
const OVERRUN: f64 = 0.1;
const LESS: f64 = 0.85;
const LEAST: f64 = 0.5;
const MORE: f64 = 0.02;

/// See the module.
#[derive(Clone, Debug)]
pub struct Losses {
    lost: u64,
    state: State,
    share: f64,
}

impl Default for Losses {
    fn default() -> Self {
        Self { lost: 0, state: State::Unknown, share: 1.0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unknown,
    /// Much was lost in one round.
    Noted,
    /// Less is under way, until this round; of what was sent in the rounds before, so much had been lost.
    Tried {
        until: u64,
        before: f64,
        lost: u64,
        delivered: u64,
    },
    /// It is this sender's queue.
    Own {
        until: u64,
    },
    /// It is not.
    Foreign {
        until: u64,
    },
}

impl Losses {
    /// So many bytes were lost.
    pub fn handle_lost(&mut self, bytes: u64) {
        self.lost += bytes;
    }

    /// The path says itself that a queue grows.
    pub fn handle_mark(&mut self, round: u64) {
        self.state = State::Own { until: round + TRIED_ROUNDS };
    }

    /// A round is over that says nothing.
    pub fn forget_round(&mut self) {
        self.lost = 0;
    }

    /// A round is over, in which so much was delivered.
    pub fn end_round(&mut self, round: u64, delivered: u64) {
        let lost = std::mem::take(&mut self.lost);
        let share = |lost: u64, delivered: u64| lost as f64 / (lost + delivered).max(1) as f64;
        self.share = if share(lost, delivered) > OVERRUN {
            (self.share * LESS).max(LEAST)
        } else {
            (self.share + MORE).min(1.0)
        };
        self.state = match self.state {
            State::Unknown if share(lost, delivered) > NOTABLE => State::Noted,
            State::Noted if share(lost, delivered) > NOTABLE => {
                State::Tried { until: round + TRIED_ROUNDS, before: share(lost, delivered), lost: 0, delivered: 0 }
            }
            State::Tried { until, before, lost: sum, delivered: all } if round < until => {
                // What was under way when less was asked for is lost, or not, in the first of them.
                let first = until - round == TRIED_ROUNDS - 1;
                let (sum, all) = if first { (0, 0) } else { (sum + lost, all + delivered) };
                State::Tried { until, before, lost: sum, delivered: all }
            }
            State::Tried { before, lost, delivered, .. } => {
                let until = round + BELIEVED_ROUNDS;
                if share(lost, delivered) < before * FALLEN { State::Own { until } } else { State::Foreign { until } }
            }
            State::Noted => State::Unknown,
            State::Own { until } | State::Foreign { until } if round >= until => State::Unknown,
            state => state,
        };
    }

    /// Which share of what would be under way should be.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Whether no more should be under way than the path holds.
    pub fn ask_for_less(&self) -> bool {
        matches!(self.state, State::Tried { .. } | State::Own { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds in which this much of 1000 is lost; how often less is asked for.
    fn live(losses: &mut Losses, rounds: std::ops::Range<u64>, lost: impl Fn(bool) -> u64) -> u64 {
        let mut asked = 0;
        for round in rounds {
            asked += u64::from(losses.ask_for_less());
            let lost = lost(losses.ask_for_less());
            losses.handle_lost(lost);
            losses.end_round(round, 1000 - lost);
        }
        asked
    }

    #[test]
    fn what_the_path_loses_by_itself_is_borne() {
        let mut losses = Losses::default();
        assert_eq!(live(&mut losses, 0..500, |_| 20), 0, "little");
        let asked = live(&mut losses, 500..600, |_| 80);
        assert!((1..=TRIED_ROUNDS + 1).contains(&asked), "{asked}");
    }

    #[test]
    fn what_is_overrun_has_less_and_slowly_more() {
        let mut losses = Losses::default();
        live(&mut losses, 0..100, |_| 300);
        assert_eq!(losses.share(), LEAST);
        live(&mut losses, 100..110, |_| 20);
        assert!((0.6..0.8).contains(&losses.share()));
        live(&mut losses, 110..200, |_| 20);
        assert_eq!(losses.share(), 1.0);
    }

    #[test]
    fn a_queue_of_its_own_is_left_alone() {
        let mut losses = Losses::default();
        let asked = live(&mut losses, 0..200, |less| if less { 1 } else { 90 });
        assert!(asked > 190, "{asked}");
        losses.handle_mark(200);
        assert!(losses.ask_for_less());
    }
}
