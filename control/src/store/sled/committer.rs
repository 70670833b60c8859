//! The thread that commits: it gathers what waits into a group, decides each commit in its turn, makes the group
//! durable, applies it, and only then answers and tells.

use std::{sync::Arc, time::Instant};

use tokio::sync::oneshot;

use super::{
    super::{
        Commit, CommitError, Revision, StoreError, effects,
        journal::{AppendError, Journal, export::Exported, group::GroupWriter, header::StoreId},
        watch::Committed,
    },
    Shared,
    pending::Pending,
    records::guarded,
};

/// Commits that are handed over together, and who waits for them.
pub struct Submission {
    /// What to commit, one after the other.
    pub commits: Vec<Commit>,
    /// Where the answers go; nobody may be there.
    pub reply: Reply,
}

type Answers = Vec<Result<Revision, CommitError>>;
type Reply = oneshot::Sender<Answers>;

/// The committing thread's state.
pub struct Committer {
    shared: Arc<Shared>,
    store: StoreId,
    journal: Journal,
    orders: flume::Sender<Revision>,
    exports: flume::Receiver<Option<Exported>>,
    /// What did not fit into the last group.
    next: Option<Submission>,
}

/// Commits decided and not yet durable.
struct Group {
    writer: GroupWriter,
    committed: Vec<Committed>,
    /// Who waits, for how many answers, and those that there are.
    waiting: Vec<(Reply, usize, Answers)>,
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
        Self { shared, store, journal, orders, exports, next: None }
    }

    /// Commits until nobody is left who could submit.
    pub fn run(mut self, submissions: &flume::Receiver<Submission>) {
        self.order_export();
        while let Some(first) = self.next.take().or_else(|| submissions.recv().ok()) {
            if let Some(error) = self.shared.failure.get() {
                refuse([(first.reply, first.commits.len())], error);
                continue;
            }
            // A panic drops the replies, which tells those who wait that the store has stopped.
            match guarded(|| self.commit_group(first, submissions)) {
                Ok(()) => self.order_export(),
                Err(error) => self.shared.fail(error),
            }
        }
        self.shared.watchers.close();
    }

    fn commit_group(&mut self, first: Submission, rest: &flume::Receiver<Submission>) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        let mut pending = Pending::over(&shared.records);
        let mut group = Group::new(self.journal.end().revision + 1);
        let done = self.gather(&mut group, &mut pending, first, rest).map_err(AppendError::Failed).and_then(|()| {
            if group.writer.is_empty() {
                return Ok(());
            }
            let digest = pending.digest_after(self.journal.end().digest);
            self.journal.append(&mut group.writer, digest)?;
            pending.apply(self.store, self.journal.end().revision).map_err(AppendError::Failed)
        });
        match done {
            Ok(()) => {}
            Err(AppendError::Refused(error)) => {
                tracing::warn!(%error, "no room for the journal: refused a group of commits");
                refuse(group.who_waits(), &error);
                return Ok(());
            }
            Err(AppendError::Failed(error)) => {
                refuse(group.who_waits(), &error);
                return Err(error);
            }
        }
        // Before the answers: whoever begins to watch after an answer does not hear of that commit.
        self.shared.watchers.advance(self.journal.end().revision);
        for (reply, _, answers) in group.waiting {
            let _ = reply.send(answers);
        }
        self.shared.watchers.notify(&group.committed);
        Ok(())
    }

    /// Decides what waits, in its order, until the group is full.
    fn gather(
        &mut self,
        group: &mut Group,
        pending: &mut Pending<'_>,
        first: Submission,
        rest: &flume::Receiver<Submission>,
    ) -> Result<(), StoreError> {
        let mut next = Some(first);
        while let Some(Submission { commits, reply }) = next {
            if !group.writer.has_room_for(commits.len()) {
                self.next = Some(Submission { commits, reply });
                break;
            }
            group.waiting.push((reply, commits.len(), Vec::with_capacity(commits.len())));
            for commit in commits {
                let answer = match self.decide(group, pending, commit) {
                    Err(CommitError::Failed(error)) => return Err(error),
                    answer => answer,
                };
                group.waiting.last_mut().expect("it was just put there").2.push(answer);
            }
            next = if group.writer.is_full() { None } else { rest.try_recv().ok() };
        }
        Ok(())
    }

    /// Decides one commit on the state that the records and the group make together.
    fn decide(&self, group: &mut Group, pending: &mut Pending<'_>, commit: Commit) -> Result<Revision, CommitError> {
        effects::decide(pending, commit.preconditions)?;
        let revision = group.writer.push(&commit.writes);
        let changes = effects::apply(pending, commit.writes, revision, self.shared.records.derive())?;
        group.committed.push(Committed { revision, changes });
        Ok(revision)
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
        Self { writer: GroupWriter::new(first), committed: Vec::new(), waiting: Vec::new() }
    }

    fn who_waits(self) -> impl Iterator<Item = (Reply, usize)> {
        self.waiting.into_iter().map(|(reply, commits, _)| (reply, commits))
    }
}

fn refuse(replies: impl IntoIterator<Item = (Reply, usize)>, error: &StoreError) {
    for (reply, commits) in replies {
        let _ = reply.send((0..commits).map(|_| Err(CommitError::Failed(error.clone()))).collect());
    }
}
