//! A whole table made at once, for opening: records are gathered in any order, put in order, and laid out page by page.
//! That takes a fraction of the time of putting them one by one.

use std::{cmp::Ordering, iter::Peekable};

use super::{super::Revision, Lower, PAGE_BYTES, Table, page::Page, page::shared};

/// Bytes of records in one piece of memory: it never has to grow, and what is not used is little.
const BLOCK_BYTES: usize = 1 << 20;
/// What is before a record's key and value: the commit that wrote it 8, length of the key 2, of the value 4.
const PREFACE_BYTES: usize = 14;
/// What a page keeps beside key and value, at most as far as keys, values and revisions are as short as most are.
const HEAD_BYTES: usize = 8;

/// Records to make a table of: no two with the same key.
#[derive(Default)]
pub struct Gathered {
    /// Records one behind the other, each with a preface.
    blocks: Vec<Vec<u8>>,
    /// Where each begins: the number of its block times [`BLOCK_BYTES`], and the place within.
    places: Vec<u32>,
}

/// A key, its value, and the commit that wrote it.
type Borrowed<'a> = (&'a [u8], &'a [u8], Revision);

impl Gathered {
    /// Takes a record.
    pub fn push(&mut self, key: &[u8], value: &[u8], revision: Revision) {
        let len = PREFACE_BYTES + key.len() + value.len();
        assert!(len <= BLOCK_BYTES, "a record of {len} bytes");
        if self.blocks.last().is_none_or(|block| block.len() + len > BLOCK_BYTES) {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES));
        }
        let number = self.blocks.len() - 1;
        let block = &mut self.blocks[number];
        let place = u32::try_from(number * BLOCK_BYTES + block.len());
        self.places.push(place.expect("derived records of 4 GiB are not kept in memory"));
        block.extend_from_slice(&revision.to_le_bytes());
        block.extend_from_slice(&(key.len() as u16).to_le_bytes());
        block.extend_from_slice(&(value.len() as u32).to_le_bytes());
        block.extend_from_slice(key);
        block.extend_from_slice(value);
    }

    /// Puts them in order. Quick where most of them came in order.
    pub fn sort(&mut self) {
        let Self { blocks, places } = self;
        places.sort_by(|one, next| record(blocks, *one).0.cmp(record(blocks, *next).0));
    }

    fn records(&self) -> impl Iterator<Item = Borrowed<'_>> {
        self.places.iter().map(|place| record(&self.blocks, *place))
    }
}

fn record(blocks: &[Vec<u8>], place: u32) -> Borrowed<'_> {
    let place = place as usize;
    let (preface, behind) = blocks[place / BLOCK_BYTES][place % BLOCK_BYTES..].split_at(PREFACE_BYTES);
    let revision = u64::from_le_bytes(preface[..8].try_into().expect("8 bytes"));
    let key_len = u16::from_le_bytes(preface[8..10].try_into().expect("2 bytes"));
    let value_len = u32::from_le_bytes(preface[10..].try_into().expect("4 bytes"));
    let (key, behind) = behind.split_at(key_len.into());
    (key, &behind[..value_len as usize], revision)
}

impl Table {
    /// Puts the records of both, each of which is in order, behind all that are there.
    pub fn extend_sorted(&mut self, one: &Gathered, other: &Gathered) {
        let mut page: Vec<Borrowed<'_>> = Vec::new();
        // Of keys and values, what they begin with together included.
        let mut bytes = 0;
        for record in merged(one.records().peekable(), other.records().peekable()) {
            let (key, value, _) = record;
            bytes += key.len() + value.len() + HEAD_BYTES;
            let begin_with = page.first().map_or(key.len(), |first| shared(first.0, key));
            if !page.is_empty() && bytes - (page.len() + 1) * begin_with > PAGE_BYTES {
                self.push_page(&page);
                page.clear();
                bytes = key.len() + value.len() + HEAD_BYTES;
            }
            page.push(record);
        }
        if !page.is_empty() {
            self.push_page(&page);
        }
    }

    /// Adds a page of records behind the last one.
    fn push_page(&mut self, records: &[Borrowed<'_>]) {
        let (_, last) = self.pages.last_key_value().expect(super::FIRST);
        let bound = match last.last_key() {
            // The first page's bound is the empty key, and no other page is empty.
            None => Lower::new(),
            Some(before) => {
                let first = records[0].0;
                assert!(*before < *first, "records behind those that are there");
                Lower::from_slice(&first[..=shared(&before, first)])
            }
        };
        self.pages.insert(bound, Page::of(records));
        self.len += records.len();
    }
}

fn merged<'a>(
    mut one: Peekable<impl Iterator<Item = Borrowed<'a>>>,
    mut other: Peekable<impl Iterator<Item = Borrowed<'a>>>,
) -> impl Iterator<Item = Borrowed<'a>> {
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if first.0.cmp(second.0) == Ordering::Greater => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Record, conformance::tests::seed};

    #[test]
    fn is_the_table_that_puts_make() {
        let seed = seed();
        let mut random = fastrand::Rng::with_seed(seed);
        for count in [0, 1, 2, 50, 3_000] {
            let (mut all, mut halves) = (Table::default(), [Gathered::default(), Gathered::default()]);
            for number in 0..count {
                let key = match random.u8(..3) {
                    0 => format!("s/STATE_NEW/{number:020}"),
                    1 => format!("d/{:016x}", random.u64(..)),
                    _ => format!("w/{:03}/{number}", random.u8(..9)),
                };
                let len_max = if random.u8(..50) == 0 { 5_000 } else { 60 };
                let value = vec![number as u8; random.usize(..len_max)];
                halves[random.usize(..2)].push(key.as_bytes(), &value, number);
                all.put(key.as_bytes(), &value, number);
            }
            halves.iter_mut().for_each(Gathered::sort);
            let mut made = Table::default();
            made.extend_sorted(&halves[0], &halves[1]);
            let everything = |table: &Table| table.range(b"", &[0xff], usize::MAX, false);
            assert!(everything(&made) == everything(&all), "seed {seed}, {count} records");
            assert_eq!(made.len(), all.len());
            super::super::tests::check_pages(&made);
            for (key, record) in everything(&all) {
                assert_eq!(made.get(&key), Some(record), "seed {seed}");
                made.put(&key, b"", 0);
                assert_eq!(made.get(&key), Some(Record { value: Vec::new(), revision: 0 }));
                assert!(made.delete(&key));
            }
        }
    }
}
