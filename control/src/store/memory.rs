//! A store that forgets everything when the process ends: for tests and simulation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Commit, CommitError, Derive, Record, Revision, Store, StoreError, Watch, contract,
    effects::{self, decide},
    table::Table,
    watch::{Committed, Watchers},
};

/// A store in memory. Clones share their content, as if one store were opened again.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    derive: Derive,
    state: Mutex<State>,
    watchers: Watchers,
}

#[derive(Default)]
struct State {
    records: Table,
    revision: Revision,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(derive: Derive) -> Self {
        let (state, watchers) = (Mutex::default(), Watchers::default());
        Self { shared: Arc::new(Shared { derive, state, watchers }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A commit changes nothing before all its preconditions hold, and cannot panic after that.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_one(&self, commit: Commit) -> Result<Revision, CommitError> {
        // Held until watchers know: they hear in the order of commits.
        let mut state = self.state();
        decide(&mut state.records, commit.preconditions)?;
        state.revision += 1;
        let revision = state.revision;
        let changes = effects::apply(&mut state.records, commit.writes, revision, self.shared.derive)?;
        self.shared.watchers.advance(revision);
        self.shared.watchers.notify(&[Committed { revision, changes }]);
        Ok(revision)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        Ok(self.state().records.get(key))
    }

    async fn get_each(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Record>>, StoreError> {
        let state = self.state();
        Ok(keys.iter().map(|key| state.records.get(key)).collect())
    }

    async fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        Ok(self.state().records.range(start, end, limit, reverse))
    }

    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Revision, CommitError>> {
        contract::assert_bounds(&commits);
        commits.into_iter().map(|commit| self.commit_one(commit)).collect()
    }

    fn watch(&self, prefix: &[u8]) -> Watch {
        self.shared.watchers.watch(prefix)
    }
}
