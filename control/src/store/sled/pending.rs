//! The records as commits that are decided and not yet durable will leave them: for the thread that commits, and for
//! opening, which does again what a journal's groups did.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use super::{
    super::{
        Record, Revision, StoreError,
        digest::Digest,
        effects::{Change, State},
        journal::header::StoreId,
    },
    records::{self, Records},
};

/// The records, and over them what is pending.
pub struct Pending<'a> {
    records: &'a Records,
    /// Every key that was looked at.
    slots: HashMap<Vec<u8>, Slot>,
    /// Derived records that change; in the order in which they will be applied.
    derived: BTreeMap<Vec<u8>, Option<Record>>,
}

/// A record as sled has it, and as it will be.
struct Slot {
    before: Option<Record>,
    now: Option<Record>,
}

impl<'a> Pending<'a> {
    /// Nothing is pending yet.
    pub fn over(records: &'a Records) -> Self {
        Self { records, slots: HashMap::new(), derived: BTreeMap::new() }
    }

    /// The digest after all of this, when that of the records is `digest`.
    pub fn digest_after(&self, mut digest: Digest) -> Digest {
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

    /// Makes it what the records are, up to this commit.
    pub fn apply(self, store: StoreId, revision: Revision) -> Result<(), StoreError> {
        let changes = self.slots.iter().filter(|(_, slot)| slot.changed()).map(|(key, slot)| records::Change {
            key,
            old_len: slot.before.as_ref().map(|record| record.value.len()),
            new: slot.now.as_ref(),
        });
        let derived: Vec<Change> = self.derived.into_iter().map(|(key, record)| Change { key, record }).collect();
        self.records.apply(changes, &derived, store, revision)
    }

    fn slot(&mut self, key: &[u8]) -> Result<&mut Slot, StoreError> {
        Ok(match self.slots.entry(key.to_vec()) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => {
                let before = self.records.get_as_writer(key)?;
                slot.insert(Slot { now: before.clone(), before })
            }
        })
    }
}

impl State for Pending<'_> {
    fn get(&mut self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        if !self.records.derive().is_derived(key) {
            return Ok(self.slot(key)?.now.clone());
        }
        Ok(self.derived.get(key).map_or_else(|| self.records.derived().get(key), Clone::clone))
    }

    fn revision(&mut self, key: &[u8]) -> Result<Option<Revision>, StoreError> {
        if !self.records.derive().is_derived(key) {
            return Ok(self.slot(key)?.now.as_ref().map(|record| record.revision));
        }
        Ok(match self.derived.get(key) {
            Some(record) => record.as_ref().map(|record| record.revision),
            None => self.records.derived().revision(key),
        })
    }

    fn set(&mut self, change: &Change) {
        if self.records.derive().is_derived(&change.key) {
            self.derived.insert(change.key.clone(), change.record.clone());
        } else {
            // Whoever sets has looked before.
            let slot = self.slots.get_mut(&change.key).expect("it was looked at");
            slot.now.clone_from(&change.record);
        }
    }
}

impl Slot {
    fn changed(&self) -> bool {
        let revision = |record: &Option<Record>| record.as_ref().map(|record| record.revision);
        revision(&self.before) != revision(&self.now)
    }
}
