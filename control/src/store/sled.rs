//! The store of one control process: a journal that is never in doubt, and sled for reading.
//!
//! Invariants:
//!
//! - A commit is acknowledged when its group is durable in the [`journal`](super::journal) and applied to sled;
//!   watchers hear of it after that. Readers see durable state only, because sled is changed after the journal.
//! - sled is never trusted with what was acknowledged. At open its content counts only if it is, record by record, what
//!   the journal says it was at that commit; otherwise it is put aside and built anew from export and journal.
//! - Derived records are in memory only, made from sled's records when the store opens, and changed with them.
//! - Exports are made from the journal, never from sled.
//! - When a write, a sync or sled has failed, the store answers [`StoreError`] to every later commit and ends all
//!   watches. Nothing is tried again: the process is expected to restart.
//! - One process has a data directory at a time: a lock on `lock`, which goes with the process.
//!
//! Threads: one commits, some read, one makes exports. They end when the store is dropped; commits that were taken
//! before that still happen.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{
    Commit, CommitError, Derive, Record, Revision, Store, StoreError, Watch, contract, journal::JournalOptions,
    watch::Watchers,
};

mod committer;
mod exporter;
mod pending;
mod records;
mod recovery;
#[cfg(test)]
mod tests;

use committer::{Committer, Submission};
use records::{Records, guarded};
use recovery::Recovered;

/// Submissions, each of [`contract::COMMITS_MAX`] commits at most, that wait for the committer before
/// [`Store::commit_each`] itself waits.
const QUEUE_SUBMISSIONS_MAX: usize = 1024;
/// Reads that wait for a thread before a reader itself waits.
const QUEUE_READS_MAX: usize = 1024;
/// Threads that read.
const READERS: usize = 2;

/// What a [`SledStore`] may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SledOptions {
    /// Bytes of sled's page cache. Its memory can grow to several times that.
    pub cache_bytes: u64,
    /// Bytes preallocated for a segment of the journal.
    pub segment_bytes: u64,
    /// Bytes of journal that make an export due.
    pub export_after_bytes: u64,
    /// How long to wait for another process to let go of the data directory: one that was killed is gone only after
    /// its last system call, and a sync can take its time.
    pub lock_wait: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        let JournalOptions { segment_bytes, export_after_bytes } = JournalOptions::default();
        Self { cache_bytes: 32 << 20, segment_bytes, export_after_bytes, lock_wait: Duration::from_secs(5) }
    }
}

/// The embedded store. See the module for what it promises beyond the contract.
pub struct SledStore {
    shared: Option<Arc<Shared>>,
    commits: Option<flume::Sender<Submission>>,
    reads: Option<flume::Sender<ReadJob>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of a store share.
struct Shared {
    records: Records,
    watchers: Watchers,
    failure: OnceLock<StoreError>,
    stopping: AtomicBool,
    /// Dropped last: until then nobody else may open the data directory.
    _lock: File,
}

type ReadJob = Box<dyn FnOnce(&Shared) + Send>;

impl SledStore {
    /// Opens the store in a folder, which is created where it does not exist. Blocks; how long depends on the number of
    /// records. An error names the file and says what to do.
    pub fn open(dir: &Path, derive: Derive) -> Result<Self, StoreError> {
        Self::open_with(dir, derive, SledOptions::default())
    }

    /// Opens the store with other bounds than the default ones.
    pub fn open_with(dir: &Path, derive: Derive, options: SledOptions) -> Result<Self, StoreError> {
        let Recovered { lock, records, journal, journal_dir, store } = recovery::recover(dir, derive, options)?;
        let shared = Arc::new(Shared {
            records,
            watchers: Watchers::new(journal.end().revision),
            failure: OnceLock::new(),
            stopping: AtomicBool::new(false),
            _lock: lock,
        });
        let (commits, submissions) = flume::bounded(QUEUE_SUBMISSIONS_MAX);
        let (reads, jobs) = flume::bounded::<ReadJob>(QUEUE_READS_MAX);
        // One export is under way at most.
        let (orders, ordered) = flume::bounded(1);
        let (done, exports) = flume::bounded(1);
        let mut opened =
            Self { shared: Some(shared.clone()), commits: Some(commits), reads: Some(reads), threads: Vec::new() };
        let committer = Committer::new(shared.clone(), store, journal, orders, exports);
        opened.spawn("store-commit", move || committer.run(&submissions))?;
        for _ in 0..READERS {
            let (shared, jobs) = (shared.clone(), jobs.clone());
            opened.spawn("store-read", move || jobs.iter().for_each(|job| job(&shared)))?;
        }
        opened.spawn("store-export", move || exporter::run(&shared, &journal_dir, store, &ordered, &done))?;
        Ok(opened)
    }

    /// Why the store no longer takes commits; none while it does.
    pub fn failure(&self) -> Option<&StoreError> {
        self.shared().failure.get()
    }

    fn shared(&self) -> &Arc<Shared> {
        self.shared.as_ref().expect("taken by drop only")
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(thread.map_err(|error| StoreError(format!("cannot start a thread: {error}")))?);
        Ok(())
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |shared| {
            let result = read(&shared.records);
            if let Err(error) = &result {
                shared.fail(error.clone());
            }
            let _ = reply.send(result);
        });
        let reads = self.reads.as_ref().expect("taken by drop only");
        reads.send_async(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

#[async_trait]
impl Store for SledStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        let key = key.to_vec();
        self.read(move |records| records.get(&key)).await
    }

    async fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        let (start, end) = (start.to_vec(), end.to_vec());
        self.read(move |records| records.range(&start, &end, limit, reverse)).await
    }

    async fn get_each(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Option<Record>>, StoreError> {
        self.read(move |records| records.get_each(&keys)).await
    }

    async fn commit_each(&self, commits: Vec<Commit>) -> Vec<Result<Revision, CommitError>> {
        contract::assert_bounds(&commits);
        let count = commits.len();
        let (reply, answer) = oneshot::channel();
        let submissions = self.commits.as_ref().expect("taken by drop only");
        let answered = match submissions.send_async(Submission { commits, reply }).await {
            Ok(()) => answer.await.ok(),
            Err(_) => None,
        };
        answered.unwrap_or_else(|| (0..count).map(|_| Err(stopped().into())).collect())
    }

    fn watch(&self, prefix: &[u8]) -> Watch {
        self.shared().watchers.watch(prefix)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.shared().stopping.store(true, Ordering::Relaxed);
        self.commits = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // sled may panic while it closes; that is no reason to take the process down.
        let shared = self.shared.take();
        let _ = guarded(|| {
            drop(shared);
            Ok(())
        });
    }
}

impl Shared {
    /// Ends the store's service; the first cause is kept.
    fn fail(&self, error: StoreError) {
        if self.failure.set(error).is_ok() {
            let cause = self.failure.get().map_or("", |error| &error.0);
            tracing::error!(cause, "the store has failed and takes no more commits; restart the process");
            self.watchers.close();
        }
    }
}

fn stopped() -> StoreError {
    StoreError("the store has stopped".to_owned())
}
