//! `cancel`: stop for ever and remove what is unfinished.

use crate::model::{Action, Answer, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Scope};

impl Ledger {
    /// Cancels a transfer. [`Answer::Underway`] while an executor holds it; `state_conflict` when it has ended
    /// otherwise, or when its commit is prepared: nobody can promise then that the destination stays as it is.
    pub async fn cancel(&self, id: TransferId, scope: &Scope) -> Result<Answer, LedgerError> {
        self.cancel_because(id, scope, "canceled by a client").await
    }

    /// The same; the transfer remembers why.
    pub(crate) async fn cancel_because(&self, id: TransferId, scope: &Scope, why: &str) -> Result<Answer, LedgerError> {
        self.change(id, |change| {
            let answer = change.asked(Action::Cancel, scope)?;
            let before = change.record.state;
            change.apply(Event::CancelAsked)?;
            if change.record.state != before {
                change.record.not_before = None;
                change.note(NoteKind::Canceled, why);
            }
            Ok(answer)
        })
        .await
    }
}
