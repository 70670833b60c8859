//! The states of a transfer: one table of (state, event) → state, and one of (state, action) → answer.
//!
//! Nothing else decides where a transfer may go. A pair that is not in the table cannot happen or is refused; the tests
//! walk over every pair of both.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a transfer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum State {
    /// Waits to be scheduled, for the first time or again.
    #[serde(rename = "STATE_NEW")]
    New,
    /// Scheduled: the next executor with a free place takes it.
    #[serde(rename = "STATE_READY")]
    Ready,
    /// An executor holds a lease on it.
    #[serde(rename = "STATE_RUNNING")]
    Running,
    /// Waits for a client to resume it.
    #[serde(rename = "STATE_PAUSED")]
    Paused,
    /// Canceled, but an executor still holds its lease.
    #[serde(rename = "STATE_CANCELING")]
    Canceling,
    /// Canceled. Final.
    #[serde(rename = "STATE_CANCELED")]
    Canceled,
    /// Failed for good, but an executor still holds its lease.
    #[serde(rename = "STATE_ERRORING")]
    Erroring,
    /// Failed for good; a client may resume it.
    #[serde(rename = "STATE_ERROR")]
    Error,
    /// The object is at its destination. Final.
    #[serde(rename = "STATE_COMPLETE")]
    Complete,
}

/// What happens to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The scheduler chose it.
    Scheduled,
    /// No executor took it in time.
    Unclaimed,
    /// An executor took it.
    Claimed,
    /// A client canceled it.
    CancelAsked,
    /// A client paused it.
    PauseAsked,
    /// A client resumed it.
    ResumeAsked,
    /// What its executor reported contradicts the request: the attempt has to stop.
    Contradicted,
    /// Its attempt ended without a result: told to stop, lost, or failed with a further try left.
    Yielded,
    /// The same, after a client had asked for a pause.
    YieldedToPause,
    /// Its attempt failed and no further one is due.
    Failed,
    /// Its object is at the destination.
    Committed,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop for ever and remove what is unfinished.
    Cancel,
    /// Stop until resumed, keep what is durable.
    Pause,
    /// Go on.
    Resume,
    /// Forget the transfer.
    Delete,
}

/// How an action is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done: 204.
    Done,
    /// Asked of the executor, done once it has released the transfer: 202.
    Underway,
    /// Not in this state: 409.
    Conflict,
}

/// The table of states. Nothing where the event cannot happen in that state.
pub const fn next(state: State, event: Event) -> Option<State> {
    use Event as E;
    use State as S;
    Some(match (state, event) {
        (S::New, E::Scheduled) => S::Ready,
        (S::Ready, E::Unclaimed) => S::New,
        (S::Ready, E::Claimed) => S::Running,
        (S::New | S::Ready | S::Paused | S::Canceled, E::CancelAsked) => S::Canceled,
        (S::New | S::Ready | S::Paused, E::PauseAsked) => S::Paused,
        (S::Paused | S::Error, E::ResumeAsked) => S::New,

        (S::Running | S::Canceling, E::CancelAsked) => S::Canceling,
        (S::Running, E::PauseAsked) => S::Running,
        (S::Running, E::Contradicted) => S::Erroring,
        (S::Running, E::Yielded) => S::New,
        (S::Running, E::YieldedToPause) => S::Paused,
        (S::Running, E::Failed) => S::Error,
        (S::Running, E::Committed) => S::Complete,

        (S::Canceling, E::Yielded | E::YieldedToPause | E::Failed) => S::Canceled,
        (S::Erroring, E::Yielded | E::YieldedToPause | E::Failed) => S::Error,
        _ => return None,
    })
}

/// The table of actions. `prepared`: a commit is recorded and may have been done, so that nobody can promise any more
/// that the destination stays as it is.
pub const fn answer(state: State, action: Action, prepared: bool) -> Answer {
    use Action as A;
    use State as S;
    match (action, state) {
        (A::Cancel, S::New | S::Ready | S::Paused | S::Running) if prepared => Answer::Conflict,
        (A::Cancel, S::New | S::Ready | S::Paused | S::Canceling | S::Canceled) => Answer::Done,
        (A::Cancel, S::Running) => Answer::Underway,
        (A::Cancel, S::Erroring | S::Error | S::Complete) => Answer::Conflict,

        (A::Pause, S::New | S::Ready | S::Paused) => Answer::Done,
        (A::Pause, S::Running) => Answer::Underway,
        (A::Pause, S::Canceling | S::Canceled | S::Erroring | S::Error | S::Complete) => Answer::Conflict,

        (A::Resume, S::Paused | S::Error) => Answer::Done,
        (A::Resume, _) => Answer::Conflict,

        (A::Delete, S::Running | S::Erroring) => Answer::Underway,
        (A::Delete, _) => Answer::Done,
    }
}

impl State {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::Ready,
        Self::Running,
        Self::Paused,
        Self::Canceling,
        Self::Canceled,
        Self::Erroring,
        Self::Error,
        Self::Complete,
    ];

    /// Its name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "STATE_NEW",
            Self::Ready => "STATE_READY",
            Self::Running => "STATE_RUNNING",
            Self::Paused => "STATE_PAUSED",
            Self::Canceling => "STATE_CANCELING",
            Self::Canceled => "STATE_CANCELED",
            Self::Erroring => "STATE_ERRORING",
            Self::Error => "STATE_ERROR",
            Self::Complete => "STATE_COMPLETE",
        }
    }

    /// Whether no event leads away from it. Secrets are dropped here. `STATE_ERROR` is not final: it can be resumed.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Canceled | Self::Complete)
    }

    /// Whether the transfer has ended, for a client that waits: final, or failed and nobody resumed it yet.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Canceled | Self::Complete | Self::Error)
    }

    /// Whether an executor holds a lease on it.
    pub const fn is_leased(self) -> bool {
        matches!(self, Self::Running | Self::Canceling | Self::Erroring)
    }

    /// Whether it takes one of the scheduler's slots.
    pub const fn takes_slot(self) -> bool {
        matches!(self, Self::Ready) || self.is_leased()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("{text:?} is no state; known are {}", known.join(", "))
        })
    }
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Cancel, Self::Pause, Self::Resume, Self::Delete];

    /// Its name in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Delete => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 11] = [
        Event::Scheduled,
        Event::Unclaimed,
        Event::Claimed,
        Event::CancelAsked,
        Event::PauseAsked,
        Event::ResumeAsked,
        Event::Contradicted,
        Event::Yielded,
        Event::YieldedToPause,
        Event::Failed,
        Event::Committed,
    ];

    /// The whole table once more, written the other way round: one row for each state, one column for each of `EVENTS`.
    #[test]
    fn every_state_meets_every_event() {
        let table = [
            "STATE_NEW       READY .   .       CANCELED  PAUSED  .   .        .        .        .        .",
            "STATE_READY     .     NEW RUNNING CANCELED  PAUSED  .   .        .        .        .        .",
            "STATE_RUNNING   .     .   .       CANCELING RUNNING .   ERRORING NEW      PAUSED   ERROR    COMPLETE",
            "STATE_PAUSED    .     .   .       CANCELED  PAUSED  NEW .        .        .        .        .",
            "STATE_CANCELING .     .   .       CANCELING .       .   .        CANCELED CANCELED CANCELED .",
            "STATE_CANCELED  .     .   .       CANCELED  .       .   .        .        .        .        .",
            "STATE_ERRORING  .     .   .       .         .       .   .        ERROR    ERROR    ERROR    .",
            "STATE_ERROR     .     .   .       .         .       NEW .        .        .        .        .",
            "STATE_COMPLETE  .     .   .       .         .       .   .        .        .        .        .",
        ];
        assert_eq!(table.len(), State::ALL.len());
        for row in table {
            let mut cells = row.split_whitespace();
            let state: State = cells.next().unwrap().parse().unwrap();
            for event in EVENTS {
                let expected = match cells.next().unwrap() {
                    "." => None,
                    name => Some(format!("STATE_{name}").parse().unwrap()),
                };
                assert_eq!(next(state, event), expected, "{state} {event:?}");
            }
        }
    }

    /// DESIGN §6, cell by cell: 204, 202 or 409; behind the slash, the answer once a commit is prepared.
    #[test]
    fn every_action_is_answered_in_every_state() {
        let table = [
            "STATE_NEW       204/409 204 409 204",
            "STATE_READY     204/409 204 409 204",
            "STATE_PAUSED    204/409 204 204 204",
            "STATE_RUNNING   202/409 202 409 202",
            "STATE_CANCELING 204 409 409 204",
            "STATE_CANCELED  204 409 409 204",
            "STATE_ERRORING  409 409 409 202",
            "STATE_ERROR     409 409 204 204",
            "STATE_COMPLETE  409 409 409 204",
        ];
        assert_eq!(table.len(), State::ALL.len());
        for row in table {
            let mut cells = row.split_whitespace();
            let state: State = cells.next().unwrap().parse().unwrap();
            for action in Action::ALL {
                let (plain, prepared) = {
                    let cell = cells.next().unwrap();
                    cell.split_once('/').unwrap_or((cell, cell))
                };
                for (status, flag) in [(plain, false), (prepared, true)] {
                    let expected = match status {
                        "204" => Answer::Done,
                        "202" => Answer::Underway,
                        _ => Answer::Conflict,
                    };
                    assert_eq!(answer(state, action, flag), expected, "{state} {action:?} prepared={flag}");
                }
            }
        }
    }

    #[test]
    fn nothing_leads_out_of_a_final_state() {
        for state in State::ALL {
            let leads_away = EVENTS.iter().any(|event| next(state, *event).is_some_and(|to| to != state));
            assert_eq!(!leads_away, state.is_final(), "{state}");
        }
    }
}
