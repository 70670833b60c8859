//! The first of the transfers that wait, in the order of the queue, and all that take a slot. Pure: it is told of
//! changes and says what it wants to have read.

use std::collections::{BTreeMap, HashMap};

use staccato_scheduler_plugins::Uuid;

use crate::{
    ledger::{WorkEntry, keys},
    model::TransferId,
};

pub(crate) use crate::ledger::WorkEntry as Entry;

/// A bounded view of the queue.
///
/// It knows every waiting transfer whose key is not behind the *horizon*; with no horizon it knows all. Taking in a
/// change never needs the store. When so many have gone that less than half of the bound is left before the horizon,
/// [`Window::wants`] says what to read.
pub struct Window {
    max: usize,
    waiting: BTreeMap<Vec<u8>, (TransferId, WorkEntry)>,
    keys: HashMap<Uuid, Vec<u8>>,
    active: BTreeMap<TransferId, WorkEntry>,
    horizon: Option<Vec<u8>>,
}

impl Window {
    /// A window that knows nothing and wants everything up to its bound.
    pub fn new(max: usize) -> Self {
        let horizon = Some(keys::QUEUE.to_vec());
        Self { max: max.max(1), waiting: BTreeMap::new(), keys: HashMap::new(), active: BTreeMap::new(), horizon }
    }

    /// Takes in a change of a key below `w/`: its new value, or that it is no more.
    pub fn take_in(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(id) = keys::trailing_id(key) else { return };
        let entry = value.and_then(|value| serde_json::from_slice::<WorkEntry>(value).ok());
        if key.starts_with(keys::QUEUE) {
            match entry {
                Some(entry) if self.horizon.as_deref().is_none_or(|horizon| key <= horizon) => {
                    self.insert(key.to_vec(), id, entry);
                }
                Some(_) => {}
                None => self.remove(key),
            }
        } else if key.starts_with(keys::ACTIVE) {
            match entry {
                Some(entry) => self.active.insert(id, entry),
                None => self.active.remove(&id),
            };
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
            if let (Some(id), Ok(entry)) = (keys::trailing_id(&key), serde_json::from_slice(&value)) {
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

    fn value() -> Vec<u8> {
        let entry = WorkEntry {
            owner: "o".into(),
            priority: 5,
            created_at: Timestamp::from_millis(1),
            source_host: String::new(),
            destination_host: String::new(),
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
            let mut window = Window::new(max);
            let mut queue: BTreeMap<Vec<u8>, TransferId> = BTreeMap::new();
            let mut last = None;
            for _ in 0..2_000 {
                if random.u8(..) < 140 {
                    let id = TransferId::following(last, Timestamp::from_millis(1), random.u64(..));
                    last = Some(id);
                    let key = keys::queue(Priority::new(random.u8(0..=9)).unwrap(), id);
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
}
