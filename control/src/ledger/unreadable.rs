//! Records that this version cannot read: a newer one wrote them, or they are damaged. Each stops nobody but itself. It
//! is set aside: taken out of whatever line it stands in, in memory only, and said once. In the store it stays as it
//! is, so that everything goes on where a version opens the store that can read it.

use crate::model::TransferId;

use super::{Ledger, LedgerError, UNREADABLE_MAX, change::POISON, keys};

/// What operators are told to do about it.
pub(crate) const WHAT_TO_DO: &str =
    "start the version of Staccato that wrote it, or a newer one; if this is that version, report it";

impl Ledger {
    /// What came of a command, or `otherwise` when a record cannot be read, which is set aside then.
    pub(crate) fn skip_unreadable<T>(&self, result: Result<T, LedgerError>, otherwise: T) -> Result<T, LedgerError> {
        match result {
            Err(LedgerError::Unreadable { key, why }) => {
                self.set_aside(key, &why);
                Ok(otherwise)
            }
            other => other,
        }
    }

    /// The transfer that an index names, unless its key is damaged or the transfer was set aside.
    pub(crate) fn indexed(&self, key: &[u8]) -> Option<TransferId> {
        match keys::trailing_id(key) {
            Some(id) => Some(id).filter(|id| !self.is_set_aside(*id)),
            None => {
                self.set_aside(String::from_utf8_lossy(key).into_owned(), "no id at its end");
                None
            }
        }
    }

    /// Whether a transfer was found to be unreadable. It takes no slot.
    pub(crate) fn is_set_aside(&self, id: TransferId) -> bool {
        let unreadable = self.inner.unreadable.lock().expect(POISON);
        !unreadable.is_empty() && unreadable.contains(&text_of(id))
    }

    fn set_aside(&self, key: String, why: &str) {
        let id = keys::trailing_id(key.as_bytes());
        if let Some(id) = id.filter(|id| text_of(*id) == key) {
            self.inner.leases.lock().expect(POISON).forget(id);
        }
        let mut unreadable = self.inner.unreadable.lock().expect(POISON);
        if unreadable.len() < UNREADABLE_MAX && unreadable.insert(key.clone()) {
            let transfer = id.map(|id| id.to_string());
            tracing::error!(transfer, key, why, "a record cannot be read and is left as it is: {WHAT_TO_DO}");
        }
    }
}

fn text_of(id: TransferId) -> String {
    String::from_utf8(keys::transfer(id)).expect("keys are text")
}
