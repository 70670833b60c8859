//! Tells watchers what was committed: the half of [`Store::watch`](super::Store::watch) that all stores share.
//!
//! Invariants:
//!
//! - A watcher hears of commits after the one that was visible when it began, in their order, each whole or not at all.
//! - When it is too far behind, it is told so once, hears nothing until it has taken that in, and then everything
//!   again. What it did not hear was visible before it could learn that it had missed something, so that reading again
//!   finds it.
//! - A slow watcher costs bounded memory and never holds up a commit.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    Event, Revision, Watch,
    contract::{WATCH_BACKLOG_MAX, WATCH_EVENTS_MAX},
    effects::Change,
};

/// All watchers of one store.
#[derive(Default)]
pub struct Watchers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    visible: Revision,
    watchers: Vec<Watcher>,
    closed: bool,
}

/// What one commit changed.
pub struct Committed {
    /// The commit.
    pub revision: Revision,
    /// Its changes, in order.
    pub changes: Vec<Change>,
}

impl Watchers {
    /// For a store whose last visible commit is `visible`.
    pub fn new(visible: Revision) -> Self {
        Self { inner: Mutex::new(Inner { visible, ..Inner::default() }) }
    }

    /// A new watcher, for commits that are not visible yet.
    pub fn watch(&self, prefix: &[u8]) -> Watch {
        // One place more than events: for the word that the watcher fell behind.
        let (sender, receiver) = mpsc::channel(WATCH_EVENTS_MAX + 1);
        let mut inner = self.lock();
        if !inner.closed {
            let after = inner.visible;
            inner.watchers.push(Watcher {
                prefix: prefix.to_vec(),
                after,
                sender,
                sent: 0,
                unread: VecDeque::new(),
                lagging: false,
            });
        }
        Watch::new(receiver)
    }

    /// Says that commits up to this one can be read now. Comes before anybody is told of them.
    pub fn advance(&self, visible: Revision) {
        self.lock().visible = visible;
    }

    /// Tells everybody of visible commits.
    pub fn notify(&self, commits: &[Committed]) {
        self.lock().watchers.retain_mut(|watcher| commits.iter().all(|commit| watcher.tell(commit)));
    }

    /// Ends every watch: the store is gone.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.watchers.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can be left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watcher {
    prefix: Vec<u8>,
    after: Revision,
    sender: mpsc::Sender<Event>,
    /// Events sent so far.
    sent: u64,
    /// For each commit not read to its end, what `sent` was behind it.
    unread: VecDeque<u64>,
    lagging: bool,
}

impl Watcher {
    /// `false` when nobody listens any more.
    fn tell(&mut self, commit: &Committed) -> bool {
        if self.sender.is_closed() {
            return false;
        }
        let news = || commit.changes.iter().filter(|change| change.key.starts_with(&self.prefix));
        let count = news().count();
        if commit.revision <= self.after || count == 0 {
            return true;
        }
        let waiting = self.sender.max_capacity() - self.sender.capacity();
        if self.lagging && waiting > 0 {
            return true;
        }
        self.lagging = false;
        let read = self.sent - waiting as u64;
        while self.unread.front().is_some_and(|end| *end <= read) {
            self.unread.pop_front();
        }
        if self.unread.len() >= WATCH_BACKLOG_MAX || waiting + count > WATCH_EVENTS_MAX {
            self.lagging = true;
            self.unread.clear();
            self.sent += 1;
            return self.sender.try_send(Event::Lagged).is_ok();
        }
        let event = |change: &Change| Event::Changed { key: change.key.clone(), record: change.record.clone() };
        let told = news().all(|change| self.sender.try_send(event(change)).is_ok());
        self.sent += count as u64;
        self.unread.push_back(self.sent);
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Record;
    use futures_util::FutureExt;

    fn commit(revision: Revision, keys: usize) -> Committed {
        let record = Some(Record { value: Vec::new(), revision });
        let changes = (0..keys).map(|i| Change { key: format!("k{i}").into(), record: record.clone() }).collect();
        Committed { revision, changes }
    }

    fn tell(watchers: &Watchers, commit: Committed) {
        watchers.advance(commit.revision);
        watchers.notify(&[commit]);
    }

    #[test]
    fn commits_behind_are_counted_and_not_events() {
        let watchers = Watchers::default();
        let mut watch = watchers.watch(b"k");
        for revision in 1..=WATCH_BACKLOG_MAX as u64 {
            tell(&watchers, commit(revision, 2));
        }
        // Reads one commit, so there is room for one more.
        for _ in 0..2 {
            assert!(matches!(watch.next().now_or_never(), Some(Some(Event::Changed { .. }))));
        }
        tell(&watchers, commit(5000, 2));
        for revision in 5001..5010 {
            tell(&watchers, commit(revision, 2));
        }
        let mut events = Vec::new();
        while let Some(Some(event)) = watch.next().now_or_never() {
            events.push(event);
        }
        assert_eq!(events.len(), 2 * WATCH_BACKLOG_MAX + 1);
        assert_eq!(events.pop(), Some(Event::Lagged));
        assert!(matches!(events.pop(), Some(Event::Changed { record: Some(Record { revision: 5000, .. }), .. })));
        tell(&watchers, commit(6000, 1));
        assert!(matches!(watch.next().now_or_never(), Some(Some(Event::Changed { .. }))));
    }

    #[test]
    fn a_commit_that_was_visible_before_is_not_heard_of() {
        let watchers = Watchers::new(7);
        watchers.advance(8);
        let mut watch = watchers.watch(b"");
        watchers.notify(&[commit(8, 1)]);
        tell(&watchers, commit(9, 1));
        let Some(Some(Event::Changed { record: Some(record), .. })) = watch.next().now_or_never() else {
            panic!("an event is there")
        };
        assert_eq!(record.revision, 9);
        watchers.close();
        assert_eq!(watch.next().now_or_never(), Some(None));
        assert_eq!(watchers.watch(b"").next().now_or_never(), Some(None));
    }
}
