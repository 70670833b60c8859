//! A distribution: one object for many hosts. Its *members* are ordinary transfers, one for each host. Pure.
//!
//! [`request`] is what a client may ask for, [`selector`] which hosts are meant, [`rollup`] what the members come to
//! together, [`document`] what clients see; here is the record that the ledger keeps.

pub mod document;
pub mod request;
pub mod rollup;
pub mod selector;

use serde::{Deserialize, Serialize};

pub use document::{DistributionDocument, MemberDocument};
pub use request::{DistributionRequest, Hosts, Target};
pub use rollup::{Figures, HostCounts, Rollup};
pub use selector::{Candidate, Selector};

use super::{Action, State, Timestamp, TransferId, TransferRecord, lifecycle::Answer};

/// Version of [`DistributionRecord`] as it is written now. Raise it when a field changes its meaning.
pub const RECORD_VERSION: u32 = 1;
/// Most members of a distribution.
pub const MEMBERS_MAX: usize = 10_000;

/// Everything the ledger knows of a distribution but its secrets (sealed, under a key of their own) and its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionRecord {
    /// [`RECORD_VERSION`] of whoever wrote it.
    pub version: u32,
    /// Its id. The key that the record is stored under has it.
    #[serde(skip, default = "TransferId::nil")]
    pub id: TransferId,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A member as it is before it has a destination.
    pub pattern: TransferRecord,
    /// The same for all distributions that ask the same source in the same way: what their hosts have of one version of its
    /// object they fetch from one another.
    #[serde(default)]
    pub content: String,
    /// The destination that was asked for, with `{host}` in it; none where destinations were listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// How many times the object may be read from its source.
    pub source_budget: SourceBudget,
    /// More failures than this, and the rest is canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<u64>,
    /// What is not complete by then is canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Whether nobody waits for it.
    #[serde(default)]
    pub preheat: bool,
    /// How fast its hosts may send to one another.
    #[serde(default)]
    pub uploads: UploadLimits,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its last member ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Number of the next key with hosts that are to become members.
    #[serde(default)]
    pub plans: u64,
    /// What its members are still to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Action>,
    /// How often something was asked.
    #[serde(default)]
    pub asks: u64,
    /// Whether hosts that become members now begin paused.
    #[serde(default)]
    pub paused: bool,
    /// Whether it was canceled, or has stopped by itself: hosts that become members now are canceled at once.
    #[serde(default)]
    pub canceled: bool,
    /// Why it has stopped by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stop>,
    /// Keyed digest of the idempotency key it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_digest: Option<String>,
}

/// How many times an object may be read from its source, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceBudget(u32);

impl SourceBudget {
    /// A budget from 1.0 to 1,000; nothing beyond.
    pub fn new(times: f64) -> Option<Self> {
        (1.0..=1000.0).contains(&times).then(|| Self((times * 1e3).round() as u32))
    }

    /// The same in thousandths.
    pub fn milli(self) -> u32 {
        self.0
    }

    /// How many times.
    pub fn times(self) -> f64 {
        f64::from(self.0) / 1e3
    }
}

/// Twice: once, and a reserve for what dies on the way.
impl Default for SourceBudget {
    fn default() -> Self {
        Self(2000)
    }
}

/// How fast the hosts of a distribution may send to one another, in bytes per second; none: as fast as they can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadLimits {
    /// Each host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<u64>,
    /// All hosts of a rack together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<u64>,
}

impl UploadLimits {
    /// For a host, in whose rack so many are, itself included.
    pub fn of_one(self, in_rack: impl FnOnce() -> usize) -> Option<u64> {
        let share = self.rack.map(|rack| (rack / in_rack().max(1) as u64).max(1));
        self.each.into_iter().chain(share).min()
    }
}

/// Why a distribution has stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The stable code.
    pub code: StopCode,
    /// One sentence that says what to do.
    pub message: String,
}

impl Stop {
    /// For an object that is another one by now. A distribution is of one version: whoever begins anew reads another one.
    pub fn object_changed() -> Self {
        let message = "the object has changed at its source while it was distributed; what was not complete was canceled: make \
                       another distribution for those hosts, and keep the object as it is until they have it";
        Self { code: StopCode::ObjectChanged, message: message.to_owned() }
    }
}

/// Codes of [`Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopCode {
    /// More members than `max_failures` have failed.
    TooManyFailures,
    /// The `deadline` passed.
    DeadlinePassed,
    /// The `deadline` passed, and the source had been read as often as it may be.
    SourceBudgetExhausted,
    /// A member has met another version of the object than the one that is distributed.
    ObjectChanged,
}

impl StopCode {
    /// Every code.
    pub const ALL: [Self; 4] =
        [Self::TooManyFailures, Self::DeadlinePassed, Self::SourceBudgetExhausted, Self::ObjectChanged];

    /// Its stable spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooManyFailures => "too_many_failures",
            Self::DeadlinePassed => "deadline_passed",
            Self::SourceBudgetExhausted => "source_budget_exhausted",
            Self::ObjectChanged => "object_changed",
        }
    }
}

impl DistributionRecord {
    /// Remembers what its members are to be told.
    pub fn ask(&mut self, action: Action) {
        self.asked = Some(action);
        self.asks += 1;
    }

    /// Stops by itself: what is not complete is to be canceled. What was canceled already stays as it is.
    pub fn stop(&mut self, stop: Stop) {
        if !self.canceled {
            (self.stopped, self.canceled) = (Some(stop), true);
            self.ask(Action::Cancel);
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> &str {
        &self.pattern.owner
    }

    /// Where it stands, by what its members come to and how many hosts are still to become members.
    pub fn state(&self, rollup: &Rollup, pending: u64) -> State {
        let unended = rollup.unended() + pending;
        if unended == 0 {
            return if self.stopped.is_some() || rollup.failed() > 0 {
                State::Error
            } else if self.canceled || (rollup.total() > 0 && rollup.of(State::Canceled) == rollup.total()) {
                State::Canceled
            } else {
                State::Complete
            };
        }
        // Of a distribution that was canceled, a client may have resumed a member since.
        let none_goes_on = self.canceled && rollup.of(State::Canceling) + pending == unended;
        if none_goes_on || matches!(self.asked, Some(Action::Cancel | Action::Delete)) {
            State::Canceling
        } else if rollup.of(State::Paused) == unended {
            State::Paused
        } else if rollup.of(State::New) + pending == rollup.total() + pending {
            State::New
        } else {
            State::Running
        }
    }

    /// The answer to a client's action in this state. What is taken is done to one member after the other.
    pub fn answer(&self, action: Action, state: State, rollup: &Rollup) -> Answer {
        let gone_on_with = rollup.of(State::Paused) + rollup.of(State::Error) > 0 || self.paused;
        match action {
            Action::Delete => Answer::Underway,
            _ if self.asked == Some(Action::Delete) => Answer::Conflict,
            Action::Cancel if state == State::Canceled => Answer::Done,
            Action::Cancel if !state.is_ended() => Answer::Underway,
            Action::Pause if !state.is_ended() && state != State::Canceling => Answer::Underway,
            Action::Resume if state != State::Canceling && gone_on_with => Answer::Underway,
            Action::Cancel | Action::Pause | Action::Resume => Answer::Conflict,
        }
    }

    /// Why it has to stop by itself now, if it has to. `exhausted`: whether nobody may read what is missing.
    pub fn must_stop(&self, rollup: &Rollup, pending: u64, exhausted: bool, now: Timestamp) -> Option<Stop> {
        if self.canceled || rollup.unended() + pending == 0 {
            return None;
        }
        if let Some(max) = self.max_failures.filter(|max| rollup.failed() > *max) {
            let message = format!(
                "{} hosts have failed, and at most {max} may (max_failures); the rest was canceled: see why they failed, and \
                 resume it",
                rollup.failed()
            );
            return Some(Stop { code: StopCode::TooManyFailures, message });
        }
        let deadline = self.deadline.filter(|deadline| *deadline <= now)?;
        if exhausted {
            let times = self.source_budget.times();
            let message = format!(
                "hosts that are gone have read what others miss, and the source may be read {times} times (source_budget): by \
                 its deadline ({deadline}) they had not come back; make another distribution for those that are left, with a \
                 larger budget"
            );
            return Some(Stop { code: StopCode::SourceBudgetExhausted, message });
        }
        let message = format!(
            "its deadline ({deadline}) passed before all hosts had the object; the rest was canceled: make another \
             distribution for those"
        );
        Some(Stop { code: StopCode::DeadlinePassed, message })
    }
}

/// What a host is called.
pub(crate) fn named(host: &str, own_host: &str) -> String {
    if host.is_empty() { own_host } else { host }.to_owned()
}

#[cfg(test)]
mod tests;
