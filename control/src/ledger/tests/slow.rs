//! A store that can be held up, to put commands in an order that is rare otherwise.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::store::{Commit, CommitError, MemoryStore, Record, Revision, Store, StoreError, Watch};

pub struct SlowStore {
    inner: MemoryStore,
    held: watch::Sender<Held>,
    waiting: watch::Sender<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Commits,
    All,
}

impl SlowStore {
    pub fn new(inner: MemoryStore) -> Arc<Self> {
        Arc::new(Self { inner, held: watch::Sender::new(Held::Nothing), waiting: watch::Sender::new(0) })
    }

    /// From now on reads of one key and commits wait.
    pub fn hold(&self) {
        self.held.send_replace(Held::All);
    }

    /// From now on commits wait.
    pub fn hold_commits(&self) {
        self.held.send_replace(Held::Commits);
    }

    /// Waits until somebody waits.
    pub async fn reached(&self) {
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.expect("the sender is here");
    }

    /// Lets everybody go on.
    pub fn let_go(&self) {
        self.held.send_replace(Held::Nothing);
    }

    async fn pass(&self, blocked_by: impl Fn(Held) -> bool) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.held.subscribe().wait_for(|held| !blocked_by(*held)).await.expect("the sender is here");
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

#[async_trait]
impl Store for SlowStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.pass(|held| held == Held::All).await;
        self.inner.get(key).await
    }

    async fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        self.inner.range(start, end, limit, reverse).await
    }

    async fn commit(&self, commit: Commit) -> Result<Revision, CommitError> {
        self.pass(|held| held != Held::Nothing).await;
        self.inner.commit(commit).await
    }

    fn watch(&self, prefix: &[u8]) -> Watch {
        self.inner.watch(prefix)
    }
}
