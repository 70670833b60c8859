//! `resume`: go on after a pause or a failure.

use crate::model::{Action, Answer, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Scope};

impl Ledger {
    /// Queues a paused or failed transfer again, with its checkpoint and all its `retries`. `destination_busy` when
    /// another transfer writes to its destination by now.
    pub async fn resume(&self, id: TransferId, scope: &Scope) -> Result<Answer, LedgerError> {
        self.change(id, |change| {
            let answer = change.asked(Action::Resume, scope)?;
            change.apply(Event::ResumeAsked)?;
            change.record.failures = 0;
            change.record.error = None;
            change.record.not_before = None;
            change.note(NoteKind::Resumed, "resumed by a client");
            Ok(answer)
        })
        .await
    }
}
