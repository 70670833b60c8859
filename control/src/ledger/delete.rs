//! `delete`: forget a transfer.

use crate::model::{Action, Answer, State, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Scope};

impl Ledger {
    /// Forgets a transfer; what it left unfinished beside its destination is swept, a committed destination is not
    /// touched. One that runs is canceled first and forgotten once released ([`Answer::Underway`]), or once its commit
    /// is done if that was prepared.
    pub async fn delete(&self, id: TransferId, scope: &Scope) -> Result<Answer, LedgerError> {
        self.change(id, |change| {
            let answer = change.asked(Action::Delete, scope)?;
            match change.record.state {
                State::Running => {
                    if change.record.prepared.is_none() {
                        change.apply(Event::CancelAsked)?;
                        change.note(NoteKind::Canceled, "deleted by a client");
                    }
                    change.record.delete_asked = true;
                }
                State::Erroring => change.record.delete_asked = true,
                State::Canceling => {
                    // Its attempt is stopping, and what it sends from now on is refused: nobody will see it end.
                    change.record.stray_attempts = true;
                    change.forget = true;
                }
                _ => change.forget = true,
            }
            Ok(answer)
        })
        .await
    }
}
