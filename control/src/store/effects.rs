//! What a commit does to the records, derived ones included: the same for every store, and for what is done again at
//! start.

use std::cmp::Ordering;

use super::{CommitError, Derive, Precondition, Record, Revision, StoreError, Write, table::Table};

/// The records as a commit finds them, and as it leaves them.
pub trait State {
    /// The record under a key.
    fn get(&mut self, key: &[u8]) -> Result<Option<Record>, StoreError>;

    /// The commit that wrote the record under a key.
    fn revision(&mut self, key: &[u8]) -> Result<Option<Revision>, StoreError>;

    /// Puts a record under a key, or removes it.
    fn set(&mut self, change: &Change);
}

/// A key and what is under it from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// Its new record; none when it was removed.
    pub record: Option<Record>,
}

/// Whether all preconditions hold; the error names the first key of which one does not.
pub fn decide(state: &mut impl State, preconditions: Vec<Precondition>) -> Result<(), CommitError> {
    for precondition in preconditions {
        let (key, wanted) = match precondition {
            Precondition::Absent(key) => (key, None),
            Precondition::Revision(key, revision) => (key, Some(revision)),
        };
        if state.revision(&key)? != wanted {
            return Err(CommitError::Conflict(key));
        }
    }
    Ok(())
}

/// Applies the writes of a commit whose preconditions hold, and what follows from them. Returns everything that
/// changed, in order: the writes themselves, then derived records.
pub fn apply(
    state: &mut impl State,
    writes: Vec<Write>,
    revision: Revision,
    derive: Derive,
) -> Result<Vec<Change>, StoreError> {
    let mut changes = Vec::with_capacity(writes.len() + 8);
    let mut derived = Vec::with_capacity(8);
    for write in writes {
        let (key, value) = match write {
            Write::Put(key, value) => (key, Some(value)),
            Write::Delete(key) => (key, None),
        };
        assert!(!derive.is_derived(&key), "a derived record is not written");
        if derive.is_source(&key) {
            let before = state.get(&key)?;
            let gone = before.map(|before| derive.from(&key, &before.value)).unwrap_or_default();
            derived.extend(gone.into_iter().map(|(key, _)| Derived { key, value: None }));
            let given = value.as_ref().map(|value| derive.from(&key, value)).unwrap_or_default();
            derived.extend(given.into_iter().map(|(key, value)| Derived { key, value: Some(value) }));
        }
        // Looked at whatever comes: a store that changes a record must know what was there.
        if state.revision(&key)?.is_none() && value.is_none() {
            continue;
        }
        let change = Change { key, record: value.map(|value| Record { value, revision }) };
        state.set(&change);
        changes.push(change);
    }
    // Stable: of several values of one key, the last stays the last.
    derived.sort_by(|one, next| one.key.cmp(&next.key));
    for of_one_key in derived.chunk_by_mut(|one, next| one.key == next.key) {
        let given = of_one_key.iter().filter(|one| one.value.is_some()).count();
        let (gone, last) = (of_one_key.len() - given, of_one_key.iter_mut().rev().find(|one| one.value.is_some()));
        let value = last.and_then(|one| one.value.take());
        let key = std::mem::take(&mut of_one_key[0].key);
        let value = match given.cmp(&gone) {
            // Nothing gives it any more.
            Ordering::Less => None,
            // What gave it gives it still, or something else does.
            Ordering::Equal => match (state.get(&key)?, value) {
                (Some(before), Some(value)) if before.value != value => Some(value),
                _ => continue,
            },
            Ordering::Greater => value,
        };
        if value.is_none() && state.revision(&key)?.is_none() {
            continue;
        }
        let change = Change { key, record: value.map(|value| Record { value, revision }) };
        state.set(&change);
        changes.push(change);
    }
    Ok(changes)
}

/// A derived record that a record of the commit gives, or gave before and does so no more.
struct Derived {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

impl State for Table {
    fn get(&mut self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        Ok(Self::get(self, key))
    }

    fn revision(&mut self, key: &[u8]) -> Result<Option<Revision>, StoreError> {
        Ok(Self::revision(self, key))
    }

    fn set(&mut self, change: &Change) {
        self.apply([change]);
    }
}
