//! A store for tests that can be held up, to put commands in an order that is rare otherwise, and that can fail, as one
//! does whose disk is gone.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Commit, CommitError, MemoryStore, Record, Revision, Store, StoreError, Watch};

/// See the module.
pub struct FaultyStore {
    inner: MemoryStore,
    held: watch::Sender<Held>,
    waiting: watch::Sender<usize>,
    /// How many commits were refused since it failed; none while it works.
    failed: watch::Sender<Option<usize>>,
    /// How many commits it takes before it fails; none: it does not.
    left: watch::Sender<Option<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Nothing,
    Commits,
    All,
}

impl FaultyStore {
    /// A store that does as `inner` does until it is told otherwise.
    pub fn new(inner: MemoryStore) -> Arc<Self> {
        let (held, waiting) = (watch::Sender::new(Held::Nothing), watch::Sender::new(0));
        let (failed, left) = (watch::Sender::new(None), watch::Sender::new(None));
        Arc::new(Self { inner, held, waiting, failed, left })
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

    /// From now on it refuses every commit, and still reads.
    pub fn fail(&self) {
        self.failed.send_replace(Some(0));
    }

    /// From now on it takes so many commits more, and then refuses every one.
    pub fn fail_after(&self, commits: usize) {
        self.left.send_replace(Some(commits));
    }

    /// Waits until it has refused a commit.
    pub async fn refused(&self) {
        let refused = |failed: &Option<usize>| failed.is_some_and(|refused| refused > 0);
        self.failed.subscribe().wait_for(refused).await.expect("the sender is here");
    }

    /// It works again.
    pub fn mend(&self) {
        self.left.send_replace(None);
        self.failed.send_replace(None);
    }

    async fn pass(&self, blocked_by: impl Fn(Held) -> bool) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        self.held.subscribe().wait_for(|held| !blocked_by(*held)).await.expect("the sender is here");
        self.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        self.pass(|held| held == Held::All).await;
        self.inner.get(key).await
    }

    async fn get_each(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Record>>, StoreError> {
        self.inner.get_each(keys).await
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

    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Revision, CommitError>> {
        self.pass(|held| held != Held::Nothing).await;
        match *self.left.borrow() {
            Some(0) => self.failed.send_if_modified(|failed| failed.is_none() && failed.replace(0).is_none()),
            _ => false,
        };
        self.left.send_modify(|left| *left = left.map(|left| left.saturating_sub(commits.len())));
        if self.failed.borrow().is_some() {
            self.failed.send_modify(|refused| *refused = refused.map(|refused| refused + 1));
            return commits.iter().map(|_| Err(StoreError("its disk is gone".to_owned()).into())).collect();
        }
        self.inner.commit_each(commits).await
    }

    fn watch(&self, prefix: &[u8]) -> Watch {
        self.inner.watch(prefix)
    }
}
