//! A store that forgets everything when the process ends: for tests and simulation.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    Commit, CommitError, Event, Precondition, Record, Revision, Store, StoreError, Watch, Write,
    watch::{Committed, Watchers},
};

/// A store in memory. Clones share their content, as if one store were opened again.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    watchers: Watchers,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Vec<u8>, Record>,
    revision: Revision,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A commit changes nothing before all its preconditions hold, and cannot panic after that.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        Ok(self.state().records.get(key).cloned())
    }

    async fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let state = self.state();
        let found = state.records.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
        let owned = |(key, record): (&Vec<u8>, &Record)| (key.clone(), record.clone());
        Ok(match reverse {
            false => found.take(limit).map(owned).collect(),
            true => found.rev().take(limit).map(owned).collect(),
        })
    }

    async fn commit(&self, commit: Commit) -> Result<Revision, CommitError> {
        commit.assert_bounds();
        // Held until watchers know: they hear in the order of commits.
        let mut state = self.state();
        for precondition in &commit.preconditions {
            let (key, wanted) = match precondition {
                Precondition::Absent(key) => (key, None),
                Precondition::Revision(key, revision) => (key, Some(*revision)),
            };
            if state.records.get(key).map(|record| record.revision) != wanted {
                return Err(CommitError::Conflict(key.clone()));
            }
        }
        state.revision += 1;
        let revision = state.revision;
        let mut events = Vec::with_capacity(commit.writes.len());
        for write in commit.writes {
            match write {
                Write::Put(key, value) => {
                    let record = Record { value, revision };
                    state.records.insert(key.clone(), record.clone());
                    events.push(Event::Changed { key, record: Some(record) });
                }
                Write::Delete(key) => {
                    if state.records.remove(&key).is_some() {
                        events.push(Event::Changed { key, record: None });
                    }
                }
            }
        }
        self.shared.watchers.advance(revision);
        self.shared.watchers.notify(&[Committed { revision, events }]);
        Ok(revision)
    }

    fn watch(&self, prefix: &[u8]) -> Watch {
        self.shared.watchers.watch(prefix)
    }
}
