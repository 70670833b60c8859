//! The first of the transfers that wait, in the order of the queue, and all that take a slot. Pure: it is told of
//! changes and says what it wants to have read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use staccato_scheduler_plugins::Uuid;

use crate::{
    ledger::{WorkEntry, keys},
    model::TransferId,
};

pub(crate) use crate::ledger::WorkEntry as Entry;

/// A bounded view of the queue.
///
/// It knows every waiting transfer whose key is not behind the *horizon*, and whose hosts are there; with no horizon it
/// knows all such. Transfers that wait for a host must not hide those behind them; when hosts come or go, a new window is
/// read. Taking in a
/// change never needs the store. When so many have gone that less than half of the bound is left before the horizon,
/// [`Window::wants`] says what to read.
///
/// What is read may be ahead of the changes that come: a transfer can be seen to wait, and be started, before the word
/// comes that it gave its last slot back. So what [`Window::started`] says counts until the change that it made itself
/// comes round; changes before that one are old. And what takes a slot, as far as is known, is not taken in as waiting
/// before the word comes that it does not. A transfer that takes a slot is never missed.
pub struct Window {
    max: usize,
    waiting: BTreeMap<Vec<u8>, (TransferId, WorkEntry)>,
    keys: HashMap<Uuid, Vec<u8>>,
    active: BTreeMap<TransferId, WorkEntry>,
    /// Those of `active` whose start has not come round as a change.
    starting: HashSet<TransferId>,
    horizon: Option<Vec<u8>>,
    /// Other hosts than the service's own that are there.
    hosts: BTreeSet<String>,
}

impl Window {
    /// A window that knows nothing and wants everything up to its bound, of transfers that need none but these hosts beside
    /// the service's own.
    pub fn new(max: usize, hosts: BTreeSet<String>) -> Self {
        let horizon = Some(keys::QUEUE.to_vec());
        Self {
            max: max.max(1),
            waiting: BTreeMap::new(),
            keys: HashMap::new(),
            active: BTreeMap::new(),
            starting: HashSet::new(),
            horizon,
            hosts,
        }
    }

    /// Whether the hosts that it needs are there.
    fn can_run(&self, entry: &WorkEntry) -> bool {
        let mut needed = [Some(entry.runs_at.as_str()), entry.reads_from.as_deref()].into_iter().flatten();
        needed.all(|host| host.is_empty() || self.hosts.contains(host))
    }

    /// Takes in a change of a key below `w/`: its new value, or that it is no more.
    pub fn take_in(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(id) = keys::trailing_id(key) else { return };
        let entry = value.and_then(|value| serde_json::from_slice::<WorkEntry>(value).ok());
        if key.starts_with(keys::QUEUE) {
            match entry {
                Some(_) if self.starting.contains(&id) => {}
                Some(entry) if !self.can_run(&entry) => {}
                Some(entry) if self.horizon.as_deref().is_none_or(|horizon| key <= horizon) => {
                    self.insert(key.to_vec(), id, entry);
                }
                Some(_) => {}
                None => self.remove(key),
            }
        } else if key.starts_with(keys::ACTIVE) {
            match entry {
                Some(entry) => {
                    self.starting.remove(&id);
                    self.active.insert(id, entry);
                }
                None if self.starting.contains(&id) => {}
                None => drop(self.active.remove(&id)),
            }
        }
    }

    /// From which key on to read the queue, and how many at most; nothing while enough is known.
    pub fn wants(&self) -> Option<(Vec<u8>, usize)> {
        let horizon = self.horizon.as_ref()?;
        if self.waiting.len() > self.max / 2 {
            return None;
        }
        let mut start = horizon.clone();
        start.push(0);
        Some((start, self.max - self.waiting.len()))
    }

    /// Takes in what was read for [`Window::wants`]; `reached_end` when nothing lies behind it.
    pub fn refill(&mut self, page: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>, reached_end: bool) {
        let mut last = None;
        for (key, value) in page {
            if let (Some(id), Ok(entry)) = (keys::trailing_id(&key), serde_json::from_slice(&value))
                && !self.active.contains_key(&id)
                && self.can_run(&entry)
            {
                self.keys.insert(id.as_uuid(), key.clone());
                self.waiting.insert(key.clone(), (id, entry));
            }
            last = Some(key);
        }
        if reached_end {
            self.horizon = None;
        } else if last.is_some() {
            self.horizon = last;
        }
    }

    /// A transfer that was waiting takes a slot now.
    pub fn started(&mut self, id: TransferId) {
        if let Some(key) = self.keys.remove(&id.as_uuid())
            && let Some((_, entry)) = self.waiting.remove(&key)
        {
            self.active.insert(id, entry);
            self.starting.insert(id);
        }
    }

    /// A transfer does not wait any more.
    pub fn vanished(&mut self, id: TransferId) {
        if let Some(key) = self.keys.remove(&id.as_uuid()) {
            self.waiting.remove(&key);
        }
    }

    /// The transfer with this UUID, if it waits and is known.
    pub fn waiting_id(&self, id: Uuid) -> Option<TransferId> {
        self.keys.get(&id).and_then(|key| keys::trailing_id(key))
    }

    /// What waits, in the order of the queue.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (TransferId, &WorkEntry)> {
        self.waiting.values().map(|(id, entry)| (*id, entry))
    }

    /// What takes a slot.
    pub(crate) fn active(&self) -> impl Iterator<Item = (TransferId, &WorkEntry)> {
        self.active.iter().map(|(id, entry)| (*id, entry))
    }

    /// Whether more may wait than is known.
    pub fn has_more(&self) -> bool {
        self.horizon.is_some()
    }

    /// Waiting transfers that are known.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no waiting transfer is known.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn insert(&mut self, key: Vec<u8>, id: TransferId, entry: WorkEntry) {
        self.keys.insert(id.as_uuid(), key.clone());
        self.waiting.insert(key, (id, entry));
        if self.waiting.len() > self.max {
            let (_, (gone, _)) = self.waiting.pop_last().expect("it has more than its bound");
            self.keys.remove(&gone.as_uuid());
            // Everything up to the last that is left is known; what was dropped lies behind.
            self.horizon = self.waiting.last_key_value().map(|(key, _)| key.clone());
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some((id, _)) = self.waiting.remove(key) {
            self.keys.remove(&id.as_uuid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Priority, Timestamp};
    use std::collections::VecDeque;

    fn value() -> Vec<u8> {
        let entry = WorkEntry {
            owner: "o".into(),
            priority: 5,
            created_at: Timestamp::from_millis(1),
            source_host: String::new(),
            destination_host: String::new(),
            runs_anywhere: true,
            runs_at: String::new(),
            reads_from: None,
        };
        serde_json::to_vec(&entry).unwrap()
    }

    /// Against a model that knows the whole queue: the window is always its beginning, within the bound.
    #[test]
    fn is_always_the_beginning_of_the_queue() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let max = random.usize(1..20);
            let mut window = Window::new(max, BTreeSet::new());
            let mut queue: BTreeMap<Vec<u8>, TransferId> = BTreeMap::new();
            let mut last = None;
            for _ in 0..2_000 {
                if random.u8(..) < 140 {
                    let id = TransferId::following(last, Timestamp::from_millis(1), random.u64(..));
                    last = Some(id);
                    let key = keys::with_id(&keys::queue_of(Priority::new(random.u8(0..=9)).unwrap()), id);
                    queue.insert(key.clone(), id);
                    window.take_in(&key, Some(&value()));
                } else if let Some(key) = queue.keys().nth(random.usize(0..queue.len().max(1))).cloned() {
                    queue.remove(&key);
                    window.take_in(&key, None);
                }
                while let Some((start, limit)) = window.wants() {
                    let page: Vec<_> =
                        queue.range(start..).take(limit).map(|(key, _)| (key.clone(), value())).collect();
                    let reached_end = page.len() < limit;
                    window.refill(page, reached_end);
                }
                assert!(window.len() <= max, "{} of {max}", window.len());
                let seen: Vec<_> = window.waiting().map(|(id, _)| id).collect();
                let first: Vec<_> = queue.values().take(window.len()).copied().collect();
                assert_eq!(seen, first);
                assert!(window.has_more() || window.len() == queue.len());
                assert!(window.len() > max / 2 || window.len() == queue.len());
                assert_eq!(window.keys.len(), window.len());
            }
        }
    }

    /// A store, the changes that the watch has not brought yet, and a scheduler that acts on what it knows.
    #[derive(Default)]
    struct Late {
        queue: BTreeMap<Vec<u8>, TransferId>,
        active: BTreeMap<TransferId, Vec<u8>>,
        changes: VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
        last: Option<TransferId>,
    }

    impl Late {
        fn submit(&mut self, random: &mut fastrand::Rng) {
            let id = TransferId::following(self.last, Timestamp::from_millis(1), random.u64(..));
            self.last = Some(id);
            let key = keys::with_id(&keys::queue_of(Priority::new(random.u8(0..3)).unwrap()), id);
            self.queue.insert(key.clone(), id);
            self.changes.push_back((key, Some(value())));
        }

        fn cancel(&mut self, random: &mut fastrand::Rng) {
            if let Some(key) = self.queue.keys().nth(random.usize(0..self.queue.len().max(1))).cloned() {
                self.queue.remove(&key);
                self.changes.push_back((key, None));
            }
        }

        /// An attempt ends; most of them are queued again.
        fn release(&mut self, random: &mut fastrand::Rng) {
            let nth = self.active.keys().nth(random.usize(0..self.active.len().max(1))).copied();
            let Some((id, key)) = nth.and_then(|id| self.active.remove_entry(&id)) else { return };
            self.changes.push_back((keys::with_id(keys::ACTIVE, id), None));
            if random.u8(..4) > 0 {
                self.queue.insert(key.clone(), id);
                self.changes.push_back((key, Some(value())));
            }
        }

        fn read(&mut self, max: usize, random: &mut fastrand::Rng) -> Window {
            let mut window = Window::new(max, BTreeSet::new());
            self.active.keys().for_each(|id| window.take_in(&keys::with_id(keys::ACTIVE, *id), Some(&value())));
            if random.bool() {
                self.release(random);
            }
            self.refill(&mut window);
            window
        }

        fn refill(&self, window: &mut Window) {
            while let Some((start, limit)) = window.wants() {
                let page: Vec<_> =
                    self.queue.range(start..).take(limit).map(|(key, _)| (key.clone(), value())).collect();
                let reached_end = page.len() < limit;
                window.refill(page, reached_end);
            }
        }

        fn start_first(&mut self, window: &mut Window) {
            let Some((id, _)) = window.waiting().next() else { return };
            let Some(key) = self.queue.iter().find(|(_, waiting)| **waiting == id).map(|(key, _)| key.clone()) else {
                return window.vanished(id);
            };
            self.queue.remove(&key);
            self.changes.extend([(key.clone(), None), (keys::with_id(keys::ACTIVE, id), Some(value()))]);
            self.active.insert(id, key);
            window.started(id);
        }
    }

    /// Changes come late and one by one, what is read is ahead of them: no transfer that takes a slot is ever missed,
    /// and once all changes have come, the window is what a scan gives.
    #[test]
    fn never_misses_what_takes_a_slot_however_late_changes_come() {
        for seed in 0..200 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let max = random.usize(1..6);
            let mut store = Late::default();
            let mut window = Window::new(max, BTreeSet::new());
            for _ in 0..1_000 {
                match random.u8(..100) {
                    0..15 => store.submit(&mut random),
                    15..20 => store.cancel(&mut random),
                    20..40 => store.release(&mut random),
                    40..60 => {
                        store.refill(&mut window);
                        store.start_first(&mut window);
                    }
                    60..98 => {
                        if let Some((key, change)) = store.changes.pop_front() {
                            window.take_in(&key, change.as_deref());
                        }
                    }
                    _ => {
                        // The scheduler begins anew: it watches, and then it reads.
                        store.changes.clear();
                        store.release(&mut random);
                        window = store.read(max, &mut random);
                    }
                }
                let seen: Vec<_> = window.active().map(|(id, _)| id).collect();
                assert!(store.active.keys().all(|id| seen.contains(id)), "a slot is taken and not counted");
                assert!(window.len() <= max);
                if store.changes.is_empty() {
                    store.refill(&mut window);
                    let waiting: Vec<_> = window.waiting().map(|(id, _)| id).collect();
                    let first: Vec<_> = store.queue.values().take(waiting.len()).copied().collect();
                    assert_eq!((waiting, seen), (first, store.active.keys().copied().collect()));
                }
            }
        }
    }

    #[test]
    fn what_waits_for_a_host_hides_nothing() {
        let mut window = Window::new(2, BTreeSet::from(["here".to_owned()]));
        let mut last = None;
        let mut submit = |runs_at: &str, reads_from: Option<&str>| {
            let id = TransferId::following(last, Timestamp::from_millis(1), 0);
            last = Some(id);
            let mut entry: WorkEntry = serde_json::from_slice(&value()).unwrap();
            (entry.runs_anywhere, entry.runs_at) = (false, runs_at.into());
            entry.reads_from = reads_from.map(str::to_owned);
            (keys::with_id(&keys::queue_of(Priority::default()), id), serde_json::to_vec(&entry).unwrap(), id)
        };
        let gone: Vec<_> = (0..5).flat_map(|_| [submit("gone", None), submit("here", Some("gone"))]).collect();
        let there = [submit("here", None), submit("", Some("here")), submit("", Some(""))];
        let page = gone.iter().chain(&there).map(|(key, value, _)| (key.clone(), value.clone()));
        window.refill(page, true);
        let known: Vec<_> = window.waiting().map(|(id, _)| id).collect();
        assert_eq!(known, there.each_ref().map(|(_, _, id)| *id));
        let (key, value, _) = submit("gone", None);
        window.take_in(&key, Some(&value));
        assert_eq!(window.len(), 3);
    }
}
