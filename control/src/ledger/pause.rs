//! `pause`: stop until resumed, keep what is durable.

use crate::model::{Action, Answer, State, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Scope};

impl Ledger {
    /// Pauses a transfer. [`Answer::Underway`] while an executor holds it; it may still complete before it stops.
    pub async fn pause(&self, id: TransferId, scope: &Scope) -> Result<Answer, LedgerError> {
        self.change(id, |change| {
            let answer = change.asked(Action::Pause, scope)?;
            let (before, asked_before) = (change.record.state, change.record.pause_asked);
            change.apply(Event::PauseAsked)?;
            change.record.not_before = None;
            change.record.pause_asked = change.record.state == State::Running;
            if change.record.state != before || change.record.pause_asked != asked_before {
                change.note(NoteKind::Paused, "paused by a client");
            }
            Ok(answer)
        })
        .await
    }
}
