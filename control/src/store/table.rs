//! An ordered map of byte strings in memory, for millions of small records.
//!
//! Records lie one behind the other in *pages* of about [`PAGE_BYTES`], in order of their keys; what all keys of a page
//! begin with is kept once. A map of the pages by a lower bound of their keys leads to the right one, which is then
//! searched from its beginning. So a record costs little more than its bytes, and a change moves no more than a page.
//!
//! Invariants:
//!
//! - A page holds the keys from its bound on, up to the next page's bound; the first bound is the empty key. Only the
//!   first page may be empty.
//! - A page is longer than [`PAGE_BYTES`] only if it holds one record.
//! - A page that has become short is joined with its right neighbour where both fit into one, so that many deletions do
//!   not leave many small pages behind.

use std::{collections::BTreeMap, ops::Bound};

use smallvec::SmallVec;

use super::{Record, Revision, effects::Change};

mod made;
mod page;

pub use made::Gathered;

use page::Page;

/// A page is split when it gets longer than this.
const PAGE_BYTES: usize = 2 << 10;
/// A page shorter than this looks for a neighbour to join.
const PAGE_BYTES_SHORT: usize = PAGE_BYTES / 4;
/// Neighbours are joined when they have no more than this together: far enough from a split.
const PAGE_BYTES_JOINED: usize = PAGE_BYTES * 3 / 4;

/// A bound of pages. Most are shorter than this, and so lie where the map itself does: a search touches little memory.
type Lower = SmallVec<[u8; 40]>;

/// The map. See the module.
pub struct Table {
    pages: BTreeMap<Lower, Page>,
    len: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { pages: BTreeMap::from([(Lower::new(), Page::default())]), len: 0 }
    }
}

impl Table {
    /// Number of records.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The record under a key.
    pub fn get(&self, key: &[u8]) -> Option<Record> {
        let found = self.page_of(key).get(key)?;
        Some(Record { value: found.value.to_vec(), revision: found.revision })
    }

    /// The commit that wrote the record under a key.
    pub fn revision(&self, key: &[u8]) -> Option<Revision> {
        Some(self.page_of(key).get(key)?.revision)
    }

    /// At most `limit` records with `start <= key < end`, in order of their keys (backwards when `reverse`).
    pub fn range(&self, start: &[u8], end: &[u8], limit: usize, reverse: bool) -> Vec<(Vec<u8>, Record)> {
        let mut found = Vec::new();
        if start >= end || limit == 0 {
            return found;
        }
        let first = self.bound_of(start);
        let pages = self.pages.range::<[u8], _>((Bound::Included(first), Bound::Excluded(end)));
        if reverse {
            for (_, page) in pages.rev() {
                let records: Vec<_> = page.between(start, end).collect();
                found.extend(records.into_iter().rev().take(limit - found.len()));
                if found.len() == limit {
                    break;
                }
            }
        } else {
            for (_, page) in pages {
                found.extend(page.between(start, end).take(limit - found.len()));
                if found.len() == limit {
                    break;
                }
            }
        }
        found
    }

    /// Splits the page that `within` belongs to until no part is too long; `put` is the key that was put last.
    fn split(&mut self, within: &[u8], put: &[u8]) {
        let page = self.page_of_mut(within);
        if page.bytes() <= PAGE_BYTES {
            return;
        }
        if let Some((bound, right)) = page.split_behind(put) {
            let left = Lower::from_slice(self.bound_of(within));
            self.pages.insert(Lower::from_slice(&bound), right);
            self.split(&left, put);
            self.split(&bound, put);
        }
    }

    /// Applies changes, each key at most once, in order of their keys: neighbours share a search.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        let mut changes = changes.into_iter().peekable();
        while let Some(first) = changes.peek() {
            let bound = Lower::from_slice(self.bound_of(&first.key));
            let mut behind = self.pages.range::<[u8], _>((Bound::Excluded(&*bound), Bound::Unbounded));
            let end = behind.next().map(|(end, _)| end.clone());
            let page = self.pages.get_mut(&bound).expect("it was just found");
            let (mut last, mut deleted) = (None, false);
            while let Some(change) = changes.next_if(|change| end.as_ref().is_none_or(|end| *change.key < **end)) {
                match &change.record {
                    Some(record) => self.len += usize::from(page.put(&change.key, &record.value, record.revision)),
                    None => {
                        self.len -= usize::from(page.delete(&change.key));
                        deleted = true;
                    }
                }
                last = Some(&change.key);
                if page.bytes() > PAGE_BYTES || deleted && page.bytes() < PAGE_BYTES_SHORT {
                    break;
                }
            }
            let Some(last) = last else { unreachable!("the first key is in the page that was found for it") };
            if self.pages[&bound].bytes() > PAGE_BYTES {
                self.split(last, last);
            } else if deleted && self.pages[&bound].bytes() < PAGE_BYTES_SHORT {
                self.join(last);
            }
        }
    }

    /// Joins the short page that `key` belongs to with its neighbour, if they fit into one.
    fn join(&mut self, key: &[u8]) {
        let bound = Lower::from_slice(self.bound_of(key));
        if self.pages[&bound].bytes() == 0 {
            // What it was responsible for becomes its left neighbour's; the first one stays.
            if !bound.is_empty() {
                self.pages.remove(&bound);
            }
            return;
        }
        let mut behind = self.pages.range::<[u8], _>((Bound::Excluded(&*bound), Bound::Unbounded));
        let Some((right_bound, right)) = behind.next() else { return };
        if self.pages[&bound].bytes() + right.bytes() > PAGE_BYTES_JOINED {
            return;
        }
        // What they begin with may be shorter than what each began with.
        let joined = self.pages[&bound].joined(right);
        if joined.bytes() > PAGE_BYTES_JOINED {
            return;
        }
        let right_bound = right_bound.clone();
        self.pages.remove(&right_bound);
        self.pages.insert(bound, joined);
    }

    fn bound_of(&self, key: &[u8]) -> &[u8] {
        self.at(key).0
    }

    fn page_of(&self, key: &[u8]) -> &Page {
        self.at(key).1
    }

    fn at(&self, key: &[u8]) -> (&[u8], &Page) {
        let mut until = self.pages.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        let (bound, page) = until.next_back().expect(FIRST);
        (bound, page)
    }

    fn page_of_mut(&mut self, key: &[u8]) -> &mut Page {
        let mut until = self.pages.range_mut::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        until.next_back().expect(FIRST).1
    }
}

const FIRST: &str = "the first page's bound is the empty key";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::tests::seed;

    type Model = BTreeMap<Vec<u8>, Record>;

    impl Table {
        /// Puts one record.
        pub(super) fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) {
            self.apply([&Change { key: key.to_vec(), record: Some(Record { value: value.to_vec(), revision }) }]);
        }

        /// Removes one record; `false` when there is none.
        pub(super) fn delete(&mut self, key: &[u8]) -> bool {
            let len_before = self.len;
            self.apply([&Change { key: key.to_vec(), record: None }]);
            self.len < len_before
        }
    }

    /// Keys as the ledger has them: long shared beginnings, some growing, some random; and some that are none of it.
    fn key(random: &mut fastrand::Rng, spread: u64) -> Vec<u8> {
        let number = random.u64(..spread);
        match random.u8(..10) {
            0..4 => format!("o/owner/STATE_NEW/0195{number:012x}").into_bytes(),
            4..6 => format!("d/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes(),
            6..8 => format!("t/{number:08}").into_bytes(),
            8 => number.to_be_bytes()[4..].to_vec(),
            _ => vec![b"\0\x01ab\xff"[(number % 5) as usize]; random.usize(..6)],
        }
    }

    fn check(table: &Table, model: &Model) {
        assert_eq!(table.len(), model.len());
        let all = table.range(b"", &[0xff; 32], usize::MAX, false);
        assert!(all.iter().map(|(key, record)| (key, record)).eq(model), "the records");
        check_pages(table);
    }

    pub(super) fn check_pages(table: &Table) {
        let mut bound: Option<&[u8]> = None;
        for (next, page) in &table.pages {
            assert!(page.bytes() <= PAGE_BYTES || page.len() == 1, "a page of {} bytes", page.bytes());
            assert!(page.bytes() > 0 || next.is_empty(), "an empty page that is not the first");
            assert!(bound.is_none_or(|bound| bound < &next[..]));
            bound = Some(next);
        }
    }

    #[test]
    fn behaves_like_a_map() {
        let seed = seed();
        for round in 0..30u64 {
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(round));
            let (mut table, mut model) = (Table::default(), Model::new());
            let spread = [20, 400, 20_000][(round % 3) as usize];
            for step in 0..6_000u64 {
                // Grows for a while, then shrinks.
                let puts = if step % 3_000 < 1_800 { 8 } else { 2 };
                let key = key(&mut random, spread);
                if random.u8(..10) < puts {
                    let len = if random.u8(..200) == 0 { random.usize(..9_000) } else { random.usize(..60) };
                    let record = Record { value: vec![step as u8; len], revision: step * 77 };
                    table.put(&key, &record.value, record.revision);
                    model.insert(key, record);
                } else {
                    assert_eq!(table.delete(&key), model.remove(&key).is_some(), "seed {seed}, {step}");
                }
                if random.u8(..20) == 0 {
                    // Several at a time.
                    let revision = step * 77 + 1;
                    let changes: Vec<Change> = (0..random.usize(..300))
                        .map(|_| {
                            let record = random.u8(..10) < puts;
                            let value = vec![step as u8; random.usize(..80)];
                            Change {
                                key: self::key(&mut random, spread),
                                record: record.then_some(Record { value, revision }),
                            }
                        })
                        .collect();
                    let changes: BTreeMap<_, _> =
                        changes.into_iter().map(|change| (change.key, change.record)).collect();
                    let changes: Vec<Change> =
                        changes.into_iter().map(|(key, record)| Change { key, record }).collect();
                    table.apply(&changes);
                    for Change { key, record } in changes {
                        match record {
                            Some(record) => drop(model.insert(key, record)),
                            None => drop(model.remove(&key)),
                        }
                    }
                }
                let (mut start, mut end) = (self::key(&mut random, spread), self::key(&mut random, spread));
                assert_eq!(table.get(&start), model.get(&start).cloned(), "seed {seed}, round {round}, {step}");
                assert_eq!(table.revision(&end), model.get(&end).map(|record| record.revision));
                if random.u8(..8) == 0 && start != end {
                    if start > end {
                        std::mem::swap(&mut start, &mut end);
                    }
                    let (limit, reverse) = (random.usize(..200), random.bool());
                    let within =
                        model.range(start.clone()..end.clone()).map(|(key, record)| (key.clone(), record.clone()));
                    let wanted: Vec<_> =
                        if reverse { within.rev().take(limit).collect() } else { within.take(limit).collect() };
                    assert!(table.range(&start, &end, limit, reverse) == wanted, "seed {seed}, round {round}, {step}");
                }
                if step % 500 == 0 {
                    check(&table, &model);
                }
            }
            check(&table, &model);
        }
    }

    #[test]
    fn pages_that_grow_at_their_end_are_full_and_those_that_were_emptied_are_gone() {
        let mut table = Table::default();
        for number in 0..10_000u64 {
            table.put(format!("s/STATE_NEW/{number:036}").as_bytes(), b"", number);
            table.put(format!("t/{number:036}").as_bytes(), &[7; 100], number);
        }
        let bytes: usize = table.pages.values().map(Page::bytes).sum();
        assert!(bytes * 10 > table.pages.len() * PAGE_BYTES * 8, "{bytes} bytes in {} pages", table.pages.len());
        for number in 0..9_990u64 {
            assert!(table.delete(format!("s/STATE_NEW/{number:036}").as_bytes()));
            assert!(table.delete(format!("t/{number:036}").as_bytes()));
        }
        assert_eq!(table.len(), 20);
        assert!(table.pages.len() < 10, "{} pages", table.pages.len());
    }
}
