//! `delete`: forget a transfer.

use crate::model::{Action, Answer, State, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Scope, change::Change};

impl Ledger {
    /// Forgets a transfer; what it left unfinished beside its destination is swept, a committed destination is not
    /// touched. One that runs is canceled first and forgotten once released ([`Answer::Underway`]), or once its commit
    /// is done if that was prepared. Where an earlier attempt had prepared it and was lost, it is canceled as soon as
    /// the running one shows that the commit was not done.
    pub async fn delete(&self, id: TransferId, scope: &Scope) -> Result<Answer, LedgerError> {
        self.change(id, |change| {
            let answer = change.asked(Action::Delete, scope)?;
            match change.record.state {
                State::Running => {
                    change.record.delete_asked = true;
                    change.cancel_if_deleted()?;
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

impl Change {
    /// The attempt shows that what an earlier one had prepared was not done, nor will be: it holds the partial. Nothing
    /// stands in the way of a delete any more that waited for this.
    pub(crate) fn rule_out_earlier_commit(&mut self) -> Result<(), LedgerError> {
        let record = &mut self.record;
        record.prepared = record.prepared.filter(|prepared| prepared.epoch == record.epoch);
        self.cancel_if_deleted()
    }

    /// Cancels what a client deleted, unless it may have been committed.
    fn cancel_if_deleted(&mut self) -> Result<(), LedgerError> {
        let record = &self.record;
        if record.delete_asked && record.state == State::Running && record.prepared.is_none() {
            self.apply(Event::CancelAsked)?;
            self.note(NoteKind::Canceled, "deleted by a client");
        }
        Ok(())
    }
}
