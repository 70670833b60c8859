//! The contract of a store: an ordered map of bytes with atomic, durable, conditional commits.
//!
//! What every store promises:
//!
//! - **Acknowledged means durable.** When [`Store::commit`] returns `Ok`, the writes survive SIGKILL and power loss,
//!   whatever happens to the files the store rebuilds itself from. Watchers hear of a write only after that.
//! - **All or nothing.** The writes of one commit become visible and durable together.
//! - **Conditional.** Preconditions are checked at the commit's place in the order of all commits; one that does not
//!   hold fails the whole commit and changes nothing.
//! - **In turn.** The commits of one process take their places in the order in which they were submitted, that is in
//!   which their futures were first polled.
//! - **Revisions grow.** Each commit has a revision above that of every earlier one, across restarts; a record's
//!   revision is that of the commit that last wrote it.
//! - **Derived records follow.** What a store was opened to [`Derive`] from a record is read, watched and required like
//!   any other record, and changes with the commit that changes what it comes from; nobody writes it. Whether a store
//!   keeps it or makes it anew when it opens is the store's affair. So its revision is that of some commit that wrote
//!   what it comes from, and not always the same one: require its absence, or the revision of its source.
//! - **Bounded.** Keys are at most [`KEY_BYTES_MAX`], values at most [`VALUE_BYTES_MAX`], commits at most
//!   [`COMMIT_WRITES_MAX`] writes, and at most [`COMMITS_MAX`] are handed over together, with no more writes in all
//!   than one may have; more is a defect of the caller and panics.

use std::sync::Arc;

use async_trait::async_trait;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest value, in bytes. Stores that need small records split it themselves.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Most writes in one commit, and in all that are handed over together.
pub const COMMIT_WRITES_MAX: usize = 4096;
/// Most commits that are handed over together.
pub const COMMITS_MAX: usize = 1000;

/// Number of a commit; 0 is before the first.
pub type Revision = u64;

/// A store, shared by everything in the process.
pub type SharedStore = Arc<dyn Store>;

/// An ordered key-value store. See the module for what it promises.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The record under `key`.
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError>;

    /// The records under several keys, in the order of the keys.
    async fn get_each(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Record>>, StoreError>;

    /// At most `limit` records with `start <= key < end`, in order of their keys (backwards when `reverse`), with their
    /// keys.
    async fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError>;

    /// Commits atomically and durably, in turn: its place is taken when this is first polled. Dropping the future does
    /// not take the commit back: it may happen or not.
    async fn commit(&self, commit: Commit) -> Result<Revision, CommitError> {
        self.commit_each(vec![commit]).await.pop().expect("each commit has a result")
    }

    /// Commits each of these as [`Store::commit`] does, one right after the other, and says what became of each, in
    /// their order. They are not one commit: one that is refused stops none of the others.
    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Revision, CommitError>>;

    /// Hears of every later write to a key that starts with `prefix`, in order of commits. A watcher that falls more
    /// than [`WATCH_BACKLOG_MAX`] commits or [`WATCH_EVENTS_MAX`] events behind is told so once ([`Event::Lagged`]) and
    /// must read again. Removing a key that has no record is no event.
    fn watch(&self, prefix: &[u8]) -> Watch;
}

/// Commits that a watcher may be behind.
pub const WATCH_BACKLOG_MAX: usize = 4096;
/// Events that a watcher may be behind, however few commits they belong to: bounds the memory of a slow watcher.
pub const WATCH_EVENTS_MAX: usize = 4 * WATCH_BACKLOG_MAX;

/// Which records follow from others: the indexes of a store's user. A function of a record alone, and a stable one: it
/// must give for a stored record what it gave when that was written. No two records may give the same key at a time.
#[derive(Clone, Copy)]
pub struct Derive {
    /// What keys of records that others follow from begin with.
    pub sources: &'static [&'static [u8]],
    /// What keys of derived records begin with, and no others. A range lies within one of these, or outside of all.
    pub derived: &'static [&'static [u8]],
    /// Keys and values that follow from a key and a value.
    pub function: fn(&[u8], &[u8]) -> KeysAndValues,
}

/// Records to be: their keys, and their values.
pub type KeysAndValues = Vec<(Vec<u8>, Vec<u8>)>;

/// A value and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Vec<u8>,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// What to change, and what must hold for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// All must hold.
    pub preconditions: Vec<Precondition>,
    /// Applied in order.
    pub writes: Vec<Write>,
}

/// What must hold when a commit's turn comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key has no record.
    Absent(Vec<u8>),
    /// The key's record was written by this commit.
    Revision(Vec<u8>, Revision),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the value of a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; nothing happens when it has no record.
    Delete(Vec<u8>),
}

/// A store that cannot answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A precondition does not hold; nothing was changed. Names the first such key.
    #[error("precondition on {} does not hold", String::from_utf8_lossy(.0))]
    Conflict(Vec<u8>),
    /// The store failed; whether the commit will be there after a restart is not known.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// What a watcher hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was written; no record when it was deleted.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// Its new record.
        record: Option<Record>,
    },
    /// The watcher fell behind and missed events: read again.
    Lagged,
}

/// A stream of events.
pub struct Watch {
    receiver: tokio::sync::mpsc::Receiver<Event>,
}

impl Watch {
    /// Wraps the receiving end of a store's queue of events.
    pub fn new(receiver: tokio::sync::mpsc::Receiver<Event>) -> Self {
        Self { receiver }
    }

    /// The next event; none when the store is gone.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

impl Derive {
    /// Nothing follows from anything.
    pub const NOTHING: Self = Self { sources: &[], derived: &[], function: |_, _| Vec::new() };

    /// Whether anything may follow from a record under this key.
    pub(super) fn is_source(&self, key: &[u8]) -> bool {
        self.sources.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Whether this is the key of a derived record.
    pub(super) fn is_derived(&self, key: &[u8]) -> bool {
        self.derived.iter().any(|prefix| key.starts_with(prefix))
    }

    /// What follows from a record under a key that this concerns.
    pub(super) fn from(&self, key: &[u8], value: &[u8]) -> KeysAndValues {
        (self.function)(key, value)
    }
}

/// Panics when more is handed over together than a store must take.
pub(super) fn assert_bounds(commits: &[Commit]) {
    assert!(commits.len() <= COMMITS_MAX, "{} commits together", commits.len());
    let writes: usize = commits.iter().map(|commit| commit.writes.len()).sum();
    assert!(writes <= COMMIT_WRITES_MAX, "{writes} writes in {} commits", commits.len());
    commits.iter().for_each(Commit::assert_bounds);
}

impl Commit {
    /// Panics when the commit is larger than a store must take. Stores call it on the caller's side.
    fn assert_bounds(&self) {
        for write in &self.writes {
            let (key, value_len) = match write {
                Write::Put(key, value) => (key, value.len()),
                Write::Delete(key) => (key, 0),
            };
            assert!(key.len() <= KEY_BYTES_MAX, "a key of {} bytes", key.len());
            assert!(value_len <= VALUE_BYTES_MAX, "a value of {value_len} bytes");
        }
    }

    /// A commit of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a precondition: no record under `key`.
    pub fn require_absent(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.preconditions.push(Precondition::Absent(key.into()));
        self
    }

    /// Adds a precondition: the record under `key` was written by `revision`.
    pub fn require(mut self, key: impl Into<Vec<u8>>, revision: Revision) -> Self {
        self.preconditions.push(Precondition::Revision(key.into(), revision));
        self
    }

    /// Adds a write.
    pub fn put(mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Adds a removal.
    pub fn delete(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }
}
