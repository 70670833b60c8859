//! How records lie in sled, the only code that calls it, and what is derived from them beside it.
//!
//! One tree, three kinds of key, told apart by their first byte:
//!
//! - *meta*: the store's id and the last commit that is in;
//! - *head*, the record's key: revision 8, length of the value 4, the first [`PIECE_BYTES`] of it;
//! - *piece*, the record's key and a number of 2 bytes: the next [`PIECE_BYTES`].
//!
//! Invariants:
//!
//! - A batch takes sled from one state of the journal to a later one, meta included: whole commits, or nothing.
//! - Readers see the state before a batch or after it, never between.
//! - Derived records are in memory only, in a [`Table`]: those of exactly the records that are in sled.
//! - Keys and values in sled stay under 4 KiB together: longer log items would go to files that sled never syncs.
//! - sled panics where others return errors. A panic here is an error of the store.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use super::super::{
    Derive, Record, Revision, StoreError,
    contract::KEY_BYTES_MAX,
    digest::Digest,
    effects,
    journal::header::StoreId,
    table::{Gathered, Table},
};

/// Bytes of a value in one item of sled.
const PIECE_BYTES: usize = 3 << 10;
const HEAD_BYTES: usize = 12;
/// No item of sled, key and value together, is this long.
const ITEM_BYTES_MAX: usize = 4 << 10;
const _: () = assert!(1 + KEY_BYTES_MAX + 2 + HEAD_BYTES + PIECE_BYTES < ITEM_BYTES_MAX);

const META: [u8; 1] = [0];
const HEAD: u8 = 1;
const PIECE: u8 = 2;

/// Milliseconds between two flushes of sled. They matter for the time a restart takes only.
const FLUSH_EVERY_MS: u64 = 1000;
/// How long another database in this process may take to let go of its files.
const UNLOCK_WAIT: Duration = Duration::from_secs(10);

/// The records, in sled, and those derived from them.
pub struct Records {
    db: ::sled::Db,
    derive: Derive,
    /// Derived records. Held for writing while a batch is applied, also to sled: its iterators would see half of it.
    derived: RwLock<Table>,
}

/// A change of one key from one batch to the next.
pub struct Change<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Length of the value that is there.
    pub old_len: Option<usize>,
    /// What shall be there.
    pub new: Option<&'a Record>,
}

impl Records {
    /// Opens or creates sled's folder. Derived records are not there yet: see [`Records::scan`].
    pub fn open(dir: &Path, cache_bytes: u64, derive: Derive) -> Result<Self, StoreError> {
        guarded(|| {
            let config = ::sled::Config::new()
                .path(dir)
                .cache_capacity(cache_bytes)
                .mode(::sled::Mode::HighThroughput)
                .flush_every_ms(Some(FLUSH_EVERY_MS));
            let give_up = Instant::now() + UNLOCK_WAIT;
            loop {
                match config.open() {
                    // Our own lock on the data directory is held: this can only be a database that is being dropped.
                    Err(::sled::Error::Io(error)) if error.to_string().contains("lock") && Instant::now() < give_up => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    opened => return Ok(Self { db: opened.map_err(failed)?, derive, derived: RwLock::default() }),
                }
            }
        })
    }

    /// What is derived from records.
    pub fn derive(&self) -> Derive {
        self.derive
    }

    /// The store it belongs to and the last commit in it; none when it is empty.
    pub fn meta(&self) -> Result<Option<(StoreId, Revision)>, StoreError> {
        guarded(|| match self.db.get(META).map_err(failed)? {
            None => Ok(None),
            Some(meta) if meta.len() == 24 => Ok(Some((
                meta[..16].try_into().expect("16 bytes"),
                u64::from_le_bytes(meta[16..].try_into().expect("8 bytes")),
            ))),
            Some(_) => Err(damaged("its mark")),
        })
    }

    /// The record under a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        if self.derive.is_derived(key) {
            return Ok(self.derived().get(key));
        }
        guarded(|| {
            let _whole = self.derived();
            self.get_unlocked(key)
        })
    }

    /// The records under keys, all of one moment.
    pub fn get_each(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Record>>, StoreError> {
        guarded(|| {
            let derived = self.derived();
            let get = |key: &Vec<u8>| match self.derive.is_derived(key) {
                true => Ok(derived.get(key)),
                false => self.get_unlocked(key),
            };
            keys.iter().map(get).collect()
        })
    }

    /// The record under a key that is not derived, for the one thread that applies batches.
    pub fn get_as_writer(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        guarded(|| self.get_unlocked(key))
    }

    /// See [`Store::range`](super::super::Store::range).
    pub fn range(
        &self,
        start: &[u8],
        end: &[u8],
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<(Vec<u8>, Record)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        if self.derive.is_derived(start) {
            return Ok(self.derived().range(start, end, limit, reverse));
        }
        guarded(|| {
            let _whole = self.derived();
            let mut found = self.db.range(tagged(HEAD, start)..tagged(HEAD, end));
            let mut records = Vec::new();
            while records.len() < limit {
                let Some(item) = (if reverse { found.next_back() } else { found.next() }) else { break };
                let (key, head) = item.map_err(failed)?;
                records.push((key[1..].to_vec(), self.assemble(&key[1..], &head)?));
            }
            Ok(records)
        })
    }

    /// Applies changes, each key at most once and those of derived records in order, and marks the last commit they
    /// belong to.
    pub fn apply<'a>(
        &self,
        changes: impl Iterator<Item = Change<'a>>,
        derived: &[effects::Change],
        store: StoreId,
        revision: Revision,
    ) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for change in changes {
            stage(&mut batch, &change);
        }
        let mut meta = store.to_vec();
        meta.extend(revision.to_le_bytes());
        batch.insert(&META, meta);
        guarded(|| {
            let mut whole = self.derived_mut();
            self.db.apply_batch(batch).map_err(failed)?;
            whole.apply(derived);
            Ok(())
        })
    }

    /// Fills an empty sled, to be scanned then. Marks nothing: until [`Records::apply`] does, what is there counts for
    /// nothing.
    pub fn load(&self, records: &[(Vec<u8>, Record)]) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for (key, record) in records {
            stage(&mut batch, &Change { key, old_len: None, new: Some(record) });
        }
        guarded(|| self.db.apply_batch(batch).map_err(failed))
    }

    /// Shows every record, in order of keys.
    pub fn each(&self, visit: impl FnMut(&[u8], Record) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.each_between(vec![HEAD], vec![HEAD + 1], visit)
    }

    /// Reads every record: computes their digest, and derives what follows from them. For whoever opens.
    pub fn scan(&self) -> Result<Digest, StoreError> {
        // Two halves on two threads: at a million records this is most of the time a restart takes.
        let middle = self.middle()?;
        let half = |start: Vec<u8>, end: Vec<u8>| {
            let mut scanned = Scanned::of(self.derive);
            self.each_between(start, end, |key, record| {
                scanned.take(key, &record);
                Ok(())
            })?;
            scanned.derived.values_mut().for_each(Gathered::sort);
            Ok(scanned)
        };
        let (lower, upper) = std::thread::scope(|scope| {
            let lower = scope.spawn(|| half(vec![HEAD], middle.clone()));
            let upper = half(middle.clone(), vec![HEAD + 1]);
            let lower = lower.join().unwrap_or_else(|_| Err(damaged("a half")));
            Ok((lower?, upper?))
        })?;
        let mut derived = Table::default();
        let digest = lower.digest.join(upper.digest);
        for (lower, upper) in lower.derived.into_values().zip(upper.derived.into_values()) {
            derived.extend_sorted(&lower, &upper);
        }
        *self.derived_mut() = derived;
        Ok(digest)
    }

    /// Writes out what sled holds back.
    pub fn flush(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush().map(|_| ()).map_err(failed))
    }

    fn each_between(
        &self,
        start: Vec<u8>,
        end: Vec<u8>,
        mut visit: impl FnMut(&[u8], Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        guarded(|| {
            for item in self.db.range(start..end) {
                let (key, head) = item.map_err(failed)?;
                visit(&key[1..], self.assemble(&key[1..], &head)?)?;
            }
            Ok(())
        })
    }

    /// Derived records, to be read.
    pub fn derived(&self) -> RwLockReadGuard<'_, Table> {
        // A panic while a batch is applied ends the store; what was durable before can still be read.
        self.derived.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn derived_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.derived.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_unlocked(&self, key: &[u8]) -> Result<Option<Record>, StoreError> {
        let head = self.db.get(tagged(HEAD, key)).map_err(failed)?;
        head.map(|head| self.assemble(key, &head)).transpose()
    }

    fn assemble(&self, key: &[u8], head: &[u8]) -> Result<Record, StoreError> {
        let Some((fixed, first)) = head.split_at_checked(HEAD_BYTES) else { return Err(damaged("a record")) };
        let revision = u64::from_le_bytes(fixed[..8].try_into().expect("8 bytes"));
        let len = u32::from_le_bytes(fixed[8..].try_into().expect("4 bytes")) as usize;
        let mut value = Vec::with_capacity(len.min(super::super::contract::VALUE_BYTES_MAX));
        value.extend(first);
        for index in 1..pieces(len) {
            let piece = self.db.get(piece_key(key, index)).map_err(failed)?;
            value.extend(piece.ok_or_else(|| damaged("a long value"))?.iter());
        }
        if value.len() == len { Ok(Record { value, revision }) } else { Err(damaged("the length of a value")) }
    }

    /// A key that about half of all records lie below. It need not be exact.
    fn middle(&self) -> Result<Vec<u8>, StoreError> {
        guarded(|| {
            let mut ends = self.db.range(vec![HEAD]..vec![HEAD + 1]);
            let (Some(first), Some(last)) = (ends.next(), ends.next_back()) else { return Ok(vec![HEAD]) };
            let (first, last) = (first.map_err(failed)?.0, last.map_err(failed)?.0);
            // Keys often share a long prefix: bisect what follows it, as a number of 8 bytes.
            let shared = first.iter().zip(last.iter()).take_while(|(first, last)| first == last).count();
            let number = |key: &[u8]| {
                let mut bytes = [0; 8];
                key[shared..].iter().zip(&mut bytes).for_each(|(from, to)| *to = *from);
                u64::from_be_bytes(bytes)
            };
            let (low, high) = (number(&first), number(&last));
            let mut middle = first[..shared].to_vec();
            middle.extend((low + high.saturating_sub(low) / 2).to_be_bytes());
            Ok(middle)
        })
    }
}

/// What a scan has found.
struct Scanned {
    derive: Derive,
    digest: Digest,
    /// Derived records by what their keys begin with: of each kind most come in order.
    derived: BTreeMap<&'static [u8], Gathered>,
}

impl Scanned {
    fn of(derive: Derive) -> Self {
        let derived = derive.derived.iter().map(|prefix| (*prefix, Gathered::default())).collect();
        Self { derive, digest: Digest::default(), derived }
    }

    fn take(&mut self, key: &[u8], record: &Record) {
        self.digest.add(key, record);
        if !self.derive.is_source(key) {
            return;
        }
        for (key, value) in self.derive.from(key, &record.value) {
            let of_its_kind = self.derived.iter_mut().find(|(prefix, _)| key.starts_with(prefix));
            of_its_kind.expect("what is derived begins as it was said to").1.push(&key, &value, record.revision);
        }
    }
}

/// Runs code that calls sled; a panic becomes an error.
pub fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    // Whoever gets an error stops using the database, so that nothing sees what a panic has left.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(StoreError(format!("sled panicked: {text}")))
    })
}

fn stage(batch: &mut ::sled::Batch, change: &Change<'_>) {
    let old_pieces = change.old_len.map_or(0, pieces);
    let mut new_pieces = 0;
    if let Some(Record { value, revision }) = change.new {
        new_pieces = pieces(value.len());
        let mut head = Vec::with_capacity(HEAD_BYTES + value.len().min(PIECE_BYTES));
        head.extend(revision.to_le_bytes());
        head.extend((value.len() as u32).to_le_bytes());
        let mut chunks = value.chunks(PIECE_BYTES);
        head.extend(chunks.next().unwrap_or_default());
        insert(batch, tagged(HEAD, change.key), head);
        for (index, piece) in (1..).zip(chunks) {
            insert(batch, piece_key(change.key, index), piece.to_vec());
        }
    } else if change.old_len.is_some() {
        batch.remove(tagged(HEAD, change.key));
    }
    for index in new_pieces.max(1)..old_pieces {
        batch.remove(piece_key(change.key, index));
    }
}

fn insert(batch: &mut ::sled::Batch, key: Vec<u8>, value: Vec<u8>) {
    assert!(key.len() + value.len() < ITEM_BYTES_MAX, "{} and {} bytes for sled", key.len(), value.len());
    batch.insert(key, value);
}

/// Items a value of this length takes: one for the head, which holds the first piece, and one for each further piece.
fn pieces(len: usize) -> usize {
    len.div_ceil(PIECE_BYTES).max(1)
}

fn tagged(tag: u8, key: &[u8]) -> Vec<u8> {
    let mut tagged = Vec::with_capacity(key.len() + 3);
    tagged.push(tag);
    tagged.extend(key);
    tagged
}

/// Two keys never share one: equal results have equal lengths, so equal keys.
fn piece_key(key: &[u8], index: usize) -> Vec<u8> {
    let mut piece = tagged(PIECE, key);
    piece.extend((index as u16).to_be_bytes());
    piece
}

fn failed(error: ::sled::Error) -> StoreError {
    StoreError(format!("sled: {error}"))
}

fn damaged(what: &str) -> StoreError {
    StoreError(format!("sled is damaged: {what}"))
}
