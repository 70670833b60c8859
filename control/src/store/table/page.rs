//! One page of a [`Table`](super::Table): records in order, one behind the other, in one piece of memory.
//!
//! A record is: length of the rest of its key, length of the value, revision (all LEB128), the rest of the key behind
//! what all keys of the page begin with, the value.

use super::super::{Record, Revision};

/// Records in one piece of memory.
#[derive(Default)]
pub struct Page {
    prefix: Box<[u8]>,
    bytes: Vec<u8>,
    /// Where the last record begins: keys that grow need no search.
    last_at: usize,
}

/// A record within a page.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Its key without the page's prefix.
    rest: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The commit that wrote it.
    pub revision: Revision,
    /// Where it begins, and the next one.
    at: usize,
    end: usize,
}

impl Page {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of its records.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries().count()
    }

    /// The record under a key.
    pub fn get(&self, key: &[u8]) -> Option<Entry<'_>> {
        self.find(key.strip_prefix(&*self.prefix)?).ok()
    }

    /// Its records with `start <= key < end`, in order.
    pub fn between<'a>(&'a self, start: &'a [u8], end: &'a [u8]) -> impl Iterator<Item = (Vec<u8>, Record)> + 'a {
        let from = match start.strip_prefix(&*self.prefix) {
            Some(rest) => self.find(rest).map_or_else(|at| at, |entry| entry.at),
            // All keys of this page are on one side of it.
            None if start < &*self.prefix => 0,
            None => self.bytes.len(),
        };
        let before_end = move |entry: &Entry<'_>| match end.strip_prefix(&*self.prefix) {
            Some(rest) => entry.rest < rest,
            None => &*self.prefix < end,
        };
        self.entries_from(from)
            .take_while(before_end)
            .map(|entry| (self.key(&entry), Record { value: entry.value.to_vec(), revision: entry.revision }))
    }

    /// Puts a record under a key; whether the key is new.
    pub fn put(&mut self, key: &[u8], value: &[u8], revision: Revision) -> bool {
        if self.bytes.is_empty() {
            self.prefix = key.into();
        } else if !key.starts_with(&self.prefix) {
            self.shorten_prefix(shared(&self.prefix, key));
        }
        let rest = &key[self.prefix.len()..];
        let (at, end) = match self.find(rest) {
            Ok(entry) => (entry.at, entry.end),
            Err(at) => (at, at),
        };
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = encode_head(&mut head, rest.len(), value.len(), revision);
        // Makes room, or takes some back, behind what stays in front.
        let (new_len, old_len) = (head_len + rest.len() + value.len(), end - at);
        let behind = self.bytes.len() - end;
        if new_len > old_len {
            if self.bytes.len() + new_len - old_len > self.bytes.capacity() {
                // Not twice as much: most pages are to be almost full.
                self.bytes.reserve_exact(new_len - old_len + SLACK_BYTES);
            }
            self.bytes.resize(self.bytes.len() + new_len - old_len, 0);
        }
        self.bytes.copy_within(end..end + behind, at + new_len);
        self.bytes.truncate(at + new_len + behind);
        let place = &mut self.bytes[at..at + new_len];
        place[..head_len].copy_from_slice(&head[..head_len]);
        place[head_len..head_len + rest.len()].copy_from_slice(rest);
        place[head_len + rest.len()..].copy_from_slice(value);
        self.last_at = if behind == 0 { at } else { self.last_at + new_len - old_len };
        old_len == 0
    }

    /// Removes the record under a key; `false` when there is none.
    pub fn delete(&mut self, key: &[u8]) -> bool {
        let Some(Entry { at, end, .. }) = self.get(key) else { return false };
        self.bytes.drain(at..end);
        self.last_at = match at.cmp(&self.last_at) {
            std::cmp::Ordering::Less => self.last_at - (end - at),
            _ => self.entries().last().map_or(0, |entry| entry.at),
        };
        if self.bytes.capacity() > self.bytes.len() + 2 * SLACK_BYTES {
            self.bytes.shrink_to(self.bytes.len() + SLACK_BYTES);
        }
        true
    }

    /// Moves the later part to a new page, and returns it with a bound: the shortest that all its keys have before them
    /// and no key that stays. Nothing when there is one record only.
    /// Where `put`, the key that was put last, is the last one, only that one moves: keys that grow fill their pages.
    pub fn split_behind(&mut self, put: &[u8]) -> Option<(Vec<u8>, Self)> {
        let half = self.bytes.len() / 2;
        let mut entries = self.entries();
        let first = entries.next()?;
        let middle = entries.find(|entry| entry.end > half || entry.end == self.bytes.len());
        let middle = middle.map(|entry| if entry.at >= first.end { entry.at } else { first.end })?;
        let last = self.get(put).filter(|entry| entry.end == self.bytes.len() && entry.at > 0);
        // Keys of different kinds: those of the first one grow at their end, which is to be the end of a page.
        let kind = first.rest.first().filter(|_| self.prefix.is_empty());
        let other = kind.and_then(|kind| self.entries().find(|entry| entry.rest.first() != Some(kind)));
        let at = other.or(last).map_or(middle, |entry| entry.at);
        let mut right = Self::default();
        right.take_over(self, self.entries_from(at));
        let mut left = Self::default();
        left.take_over(self, self.entries().take_while(|entry| entry.at < at));
        left.bytes.shrink_to_fit();
        *self = left;
        let (before, mut bound) = (self.last_key()?, right.key(&right.entries().next()?));
        bound.truncate(shared(&before, &bound) + 1);
        Some((bound, right))
    }

    /// A page of these records, which are in order.
    pub fn of(records: &[(&[u8], &[u8], Revision)]) -> Self {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Self::default() };
        let prefix = &first.0[..shared(first.0, last.0)];
        let len: usize = records.iter().map(|(key, value, _)| key.len() - prefix.len() + value.len() + 8).sum();
        let mut page = Self { prefix: prefix.into(), bytes: Vec::with_capacity(len), last_at: 0 };
        for (key, value, revision) in records {
            let rest = &key[prefix.len()..];
            let mut head = [0; HEAD_BYTES_MAX];
            let head_len = encode_head(&mut head, rest.len(), value.len(), *revision);
            page.last_at = page.bytes.len();
            for part in [&head[..head_len], rest, value] {
                page.bytes.extend_from_slice(part);
            }
        }
        page
    }

    /// A page of its records and those of the page behind it. Neither is empty.
    pub fn joined(&self, right: &Self) -> Self {
        let mut joined = Self::default();
        // The prefix of all is that of the first and the last.
        let (Some(first), Some(last)) = (self.entries().next(), right.entries().last()) else {
            unreachable!("an empty page is removed, and only the first one may be empty")
        };
        let (first, last) = (self.key(&first), right.key(&last));
        joined.prefix = first[..shared(&first, &last)].into();
        joined.bytes.reserve_exact(self.bytes.len() + right.bytes.len());
        for page in [self, right] {
            page.entries().for_each(|entry| joined.push(page, &entry));
        }
        joined
    }

    /// Fills an empty page with records of another one.
    fn take_over<'a>(&mut self, from: &Self, entries: impl Iterator<Item = Entry<'a>> + Clone) {
        let (Some(first), Some(last)) = (entries.clone().next(), entries.clone().last()) else { return };
        let more = shared(first.rest, last.rest);
        self.prefix = [&*from.prefix, &first.rest[..more]].concat().into();
        self.bytes.reserve_exact(last.end - first.at);
        entries.for_each(|entry| self.push(from, &entry));
    }

    /// Adds a record of another page behind the last one. Its key begins with this page's prefix.
    fn push(&mut self, from: &Self, entry: &Entry<'_>) {
        let (own, theirs) = (self.prefix.len(), from.prefix.len());
        // Either prefix may be the longer one: of what is missing here, part may be in theirs.
        let lead = &from.prefix[own.min(theirs)..];
        let rest = &entry.rest[own.saturating_sub(theirs)..];
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = encode_head(&mut head, lead.len() + rest.len(), entry.value.len(), entry.revision);
        self.last_at = self.bytes.len();
        for part in [&head[..head_len], lead, rest, entry.value] {
            self.bytes.extend_from_slice(part);
        }
    }

    fn shorten_prefix(&mut self, len: usize) {
        let mut shorter =
            Self { prefix: self.prefix[..len].into(), bytes: Vec::with_capacity(self.bytes.len()), last_at: 0 };
        self.entries().for_each(|entry| shorter.push(self, &entry));
        *self = shorter;
    }

    /// The record with this rest of a key, or where it would begin.
    fn find(&self, rest: &[u8]) -> Result<Entry<'_>, usize> {
        if self.entries_from(self.last_at).next().is_none_or(|last| last.rest < rest) {
            return Err(self.bytes.len());
        }
        for entry in self.entries() {
            match entry.rest.cmp(rest) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(entry),
                std::cmp::Ordering::Greater => return Err(entry.at),
            }
        }
        Err(self.bytes.len())
    }

    /// The last of its keys.
    pub fn last_key(&self) -> Option<Vec<u8>> {
        Some(self.key(&self.entries_from(self.last_at).next()?))
    }

    fn key(&self, entry: &Entry<'_>) -> Vec<u8> {
        [&*self.prefix, entry.rest].concat()
    }

    fn entries(&self) -> Entries<'_> {
        self.entries_from(0)
    }

    fn entries_from(&self, at: usize) -> Entries<'_> {
        Entries { bytes: &self.bytes, at }
    }
}

/// Spare room that a page gets at a time; it may keep twice of that.
const SLACK_BYTES: usize = 384;

/// The records of a page from some place on.
#[derive(Clone)]
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let at = self.at;
        if at == self.bytes.len() {
            return None;
        }
        let mut place = at;
        let rest_len = decode(self.bytes, &mut place) as usize;
        let value_len = decode(self.bytes, &mut place) as usize;
        let revision = decode(self.bytes, &mut place);
        let (rest, behind) = self.bytes[place..].split_at(rest_len);
        self.at = place + rest_len + value_len;
        Some(Entry { rest, value: &behind[..value_len], revision, at, end: self.at })
    }
}

/// Three numbers of LEB128.
const HEAD_BYTES_MAX: usize = 30;

fn encode_head(head: &mut [u8; HEAD_BYTES_MAX], rest_len: usize, value_len: usize, revision: Revision) -> usize {
    let mut len = 0;
    for mut number in [rest_len as u64, value_len as u64, revision] {
        while number >= 0x80 {
            head[len] = number as u8 | 0x80;
            number >>= 7;
            len += 1;
        }
        head[len] = number as u8;
        len += 1;
    }
    len
}

#[inline]
fn decode(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return number;
        }
        shift += 7;
    }
}

/// How many bytes both begin with.
pub fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
