//! `mark_ready`: the scheduler's decision.

use crate::model::{State, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError};

impl Ledger {
    /// Makes a waiting transfer ready, with the scheduler's reason. `false` when it does not wait any more (decisions
    /// may come late), or cannot be read.
    pub async fn mark_ready(&self, id: TransferId, reason: &str) -> Result<bool, LedgerError> {
        let changed = self
            .change(id, |change| {
                if change.record.state != State::New || change.record.not_before.is_some() {
                    return Ok(false);
                }
                change.apply(Event::Scheduled)?;
                change.note(NoteKind::Scheduled, reason);
                Ok(true)
            })
            .await;
        self.skip_unreadable(super::gone_is(changed, false), false)
    }
}
