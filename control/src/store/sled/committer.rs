//! The thread that commits: it gathers what waits into a group, decides each commit in its turn, makes the group
//! durable, applies it, and only then answers and tells.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{
    super::{
        Commit, CommitError, Event, Precondition, Record, Revision, StoreError, Write,
        digest::Digest,
        journal::{AppendError, Journal, export::Exported, group::GroupWriter, header::StoreId},
        watch::Committed,
    },
    Shared,
    records::{Change, guarded},
};

/// A commit and who waits for it.
pub struct Submission {
    /// What to commit.
    pub commit: Commit,
    /// Where the answer goes; nobody may be there.
    pub reply: oneshot::Sender<Result<Revision, CommitError>>,
}

type Reply = oneshot::Sender<Result<Revision, CommitError>>;

/// The committing thread's state.
pub struct Committer {
    shared: Arc<Shared>,
    store: StoreId,
    journal: Journal,
    orders: flume::Sender<Revision>,
    exports: flume::Receiver<Option<Exported>>,
}

/// Commits decided and not yet durable.
struct Group {
    writer: GroupWriter,
    /// Every key that was looked at: as sled has it, and as it will be.
    slots: HashMap<Vec<u8>, Slot>,
    committed: Vec<Committed>,
    answers: Vec<(Reply, Result<Revision, CommitError>)>,
}

struct Slot {
    before: Option<Record>,
    now: Option<Record>,
}

impl Committer {
    /// A committer for a journal and the sled that has all of it. Orders for exports go out through `orders`, what
    /// became of them comes in through `exports`.
    pub fn new(
        shared: Arc<Shared>,
        store: StoreId,
        journal: Journal,
        orders: flume::Sender<Revision>,
        exports: flume::Receiver<Option<Exported>>,
    ) -> Self {
        Self { shared, store, journal, orders, exports }
    }

    /// Commits until nobody is left who could submit.
    pub fn run(mut self, submissions: &flume::Receiver<Submission>) {
        self.order_export();
        while let Ok(first) = submissions.recv() {
            let failure = self.shared.failure.get().cloned();
            let result = match failure {
                Some(error) => {
                    refuse([first.reply], &error);
                    continue;
                }
                // A panic drops the replies, which tells those who wait that the store has stopped.
                None => guarded(|| self.commit_group(first, submissions)),
            };
            match result {
                Ok(()) => self.order_export(),
                Err(error) => self.shared.fail(error),
            }
        }
        self.shared.watchers.close();
    }

    fn commit_group(&mut self, first: Submission, rest: &flume::Receiver<Submission>) -> Result<(), StoreError> {
        let mut group = Group::new(self.journal.end().revision + 1);
        let mut next = Some(first);
        while let Some(Submission { commit, reply }) = next {
            match self.decide(&mut group, commit) {
                Ok(decision) => group.answers.push((reply, decision)),
                Err(error) => {
                    refuse(group.answers.into_iter().map(|(reply, _)| reply).chain([reply]), &error);
                    return Err(error);
                }
            }
            next = if group.writer.is_full() { None } else { rest.try_recv().ok() };
        }
        if !group.writer.is_empty() {
            match self.make_durable(&mut group) {
                Ok(()) => (),
                Err(AppendError::Refused(error)) => {
                    tracing::warn!(%error, "no room for the journal: refused a group of commits");
                    refuse(group.answers.into_iter().map(|(reply, _)| reply), &error);
                    return Ok(());
                }
                Err(AppendError::Failed(error)) => {
                    refuse(group.answers.into_iter().map(|(reply, _)| reply), &error);
                    return Err(error);
                }
            }
        }
        // Before the answers: whoever begins to watch after an answer does not hear of that commit.
        self.shared.watchers.advance(self.journal.end().revision);
        for (reply, answer) in group.answers {
            let _ = reply.send(answer);
        }
        self.shared.watchers.notify(&group.committed);
        Ok(())
    }

    /// Decides one commit on the state that sled and the group make together.
    fn decide(&self, group: &mut Group, commit: Commit) -> Result<Result<Revision, CommitError>, StoreError> {
        for precondition in commit.preconditions {
            let (key, wanted) = match precondition {
                Precondition::Absent(key) => (key, None),
                Precondition::Revision(key, revision) => (key, Some(revision)),
            };
            if self.slot(group, &key)?.now.as_ref().map(|record| record.revision) != wanted {
                return Ok(Err(CommitError::Conflict(key)));
            }
        }
        for write in &commit.writes {
            let (Write::Put(key, _) | Write::Delete(key)) = write;
            self.slot(group, key)?;
        }
        let revision = group.writer.push(&commit.writes);
        let mut events = Vec::with_capacity(commit.writes.len());
        for write in commit.writes {
            let (key, record) = match write {
                Write::Put(key, value) => (key, Some(Record { value, revision })),
                Write::Delete(key) => (key, None),
            };
            let slot = group.slots.get_mut(&key).expect("every key of the commit was looked at");
            if slot.now.is_none() && record.is_none() {
                continue;
            }
            slot.now = record.clone();
            events.push(Event::Changed { key, record });
        }
        group.committed.push(Committed { revision, events });
        Ok(Ok(revision))
    }

    fn slot<'a>(&self, group: &'a mut Group, key: &[u8]) -> Result<&'a mut Slot, StoreError> {
        if !group.slots.contains_key(key) {
            let before = self.shared.records.get_as_writer(key)?;
            group.slots.insert(key.to_vec(), Slot { now: before.clone(), before });
        }
        Ok(group.slots.get_mut(key).expect("it was just put there"))
    }

    fn make_durable(&mut self, group: &mut Group) -> Result<(), AppendError> {
        let digest = group.digest_after(self.journal.end().digest);
        self.journal.append(&mut group.writer, digest)?;
        let changes = group.slots.iter().filter(|(_, slot)| slot.changed()).map(|(key, slot)| Change {
            key,
            old_len: slot.before.as_ref().map(|record| record.value.len()),
            new: slot.now.as_ref(),
        });
        self.shared.records.apply(changes, self.store, self.journal.end().revision).map_err(AppendError::Failed)
    }

    fn order_export(&mut self) {
        let now = Instant::now();
        if let Ok(exported) = self.exports.try_recv() {
            self.journal.exported(exported, now);
        }
        if let Some(until) = self.journal.export_due(now)
            && self.orders.try_send(until).is_err()
        {
            self.journal.exported(None, now);
        }
    }
}

impl Group {
    fn new(first: Revision) -> Self {
        Self { writer: GroupWriter::new(first), slots: HashMap::new(), committed: Vec::new(), answers: Vec::new() }
    }

    fn digest_after(&self, mut digest: Digest) -> Digest {
        for (key, slot) in self.slots.iter().filter(|(_, slot)| slot.changed()) {
            if let Some(record) = &slot.before {
                digest.remove(key, record);
            }
            if let Some(record) = &slot.now {
                digest.add(key, record);
            }
        }
        digest
    }
}

impl Slot {
    fn changed(&self) -> bool {
        let revision = |record: &Option<Record>| record.as_ref().map(|record| record.revision);
        revision(&self.before) != revision(&self.now)
    }
}

fn refuse(replies: impl IntoIterator<Item = Reply>, error: &StoreError) {
    for reply in replies {
        let _ = reply.send(Err(CommitError::Failed(error.clone())));
    }
}
