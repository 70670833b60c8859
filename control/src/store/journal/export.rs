//! Exports: all records of a store at one point, in order of their keys, in one checksummed file.
//!
//! Layout: a [`Header`], then blocks of records (length 4, CRC-32 4, payload), then an end mark: a block of length 0
//! whose checksum is that of the file's length. A record is: length of the key 2, length of the value 4, revision 8,
//! key, value. All little-endian.
//!
//! Invariants:
//!
//! - An export appears under its name only after every byte of it is durable. One that fails leaves nothing.
//! - The digest in the header is computed from the very records that were written. A reader computes it again.

use std::{
    fs::File,
    io::{BufReader, Read, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    super::{
        Record, Revision, StoreError,
        contract::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
        digest::{Digest, Point},
    },
    files::{Unfinished, export_path, failed},
    header::{HEADER_BYTES, Header, Kind, StoreId, u32_at, u64_at},
    segment::unsound,
};

/// A block is written when it has reached this.
const BLOCK_BYTES: usize = 64 << 10;
/// Longest block: one that was just not full, and the largest record.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + RECORD_HEAD_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX;
const RECORD_HEAD_BYTES: usize = 14;
const BLOCK_HEAD_BYTES: usize = 8;
/// Bytes between two syncs while an export is written, so that a commit's own sync never waits for much more.
const SYNC_EVERY_BYTES: u64 = 8 << 20;

/// A finished export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The state it holds.
    pub point: Point,
    /// Its length.
    pub bytes: u64,
}

/// Writes an export.
pub struct ExportWriter {
    path: PathBuf,
    file: File,
    unfinished: Unfinished,
    store: StoreId,
    point: Point,
    block: Vec<u8>,
    written: u64,
    synced: u64,
}

impl ExportWriter {
    /// Begins the export of the state after `revision`.
    pub fn create(dir: &Path, store: StoreId, revision: Revision) -> Result<Self, StoreError> {
        let path = export_path(dir, revision);
        let (mut file, unfinished) = Unfinished::create(&path)?;
        // The real header comes last, when the digest is known.
        file.write_all(&[0; HEADER_BYTES]).map_err(failed("cannot write", &path))?;
        let point = Point { revision, digest: Digest::default() };
        let written = HEADER_BYTES as u64;
        let block = Vec::with_capacity(BLOCK_BYTES_MAX + BLOCK_HEAD_BYTES);
        Ok(Self { path, file, unfinished, store, point, block, written, synced: 0 })
    }

    /// Takes the next record. Keys grow.
    pub fn push(&mut self, key: &[u8], record: &Record) -> Result<(), StoreError> {
        if self.block.is_empty() {
            self.block.extend([0; BLOCK_HEAD_BYTES]);
        }
        self.block.extend((key.len() as u16).to_le_bytes());
        self.block.extend((record.value.len() as u32).to_le_bytes());
        self.block.extend(record.revision.to_le_bytes());
        self.block.extend(key);
        self.block.extend(&record.value);
        self.point.digest.add(key, record);
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    /// Makes it durable and gives it its name.
    pub fn finish(mut self) -> Result<Exported, StoreError> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        let bytes = self.written + BLOCK_HEAD_BYTES as u64;
        self.block.extend([0; 4]);
        self.block.extend(end_mark(bytes).to_le_bytes());
        let header = Header { kind: Kind::Export, store: self.store, point: self.point };
        (self.file.write_all(&self.block))
            .and_then(|()| self.file.write_all_at(&header.to_bytes(), 0))
            .and_then(|()| self.file.sync_all())
            .map_err(failed("cannot write", &self.path))?;
        self.unfinished.publish()?;
        Ok(Exported { point: self.point, bytes })
    }

    fn write_block(&mut self) -> Result<(), StoreError> {
        let len = (self.block.len() - BLOCK_HEAD_BYTES) as u32;
        let crc = crc32fast::hash(&self.block[BLOCK_HEAD_BYTES..]);
        self.block[..4].copy_from_slice(&len.to_le_bytes());
        self.block[4..BLOCK_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all(&self.block).map_err(failed("cannot write", &self.path))?;
        self.written += self.block.len() as u64;
        self.block.clear();
        if self.written - self.synced >= SYNC_EVERY_BYTES {
            self.file.sync_data().map_err(failed("cannot sync", &self.path))?;
            self.synced = self.written;
        }
        Ok(())
    }
}

/// Reads an export: an iterator over its records. After an error it ends; whoever stops early has verified nothing of
/// the rest.
pub struct ExportReader {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    bytes: u64,
    digest: Digest,
    block: Vec<u8>,
    at: usize,
    read: u64,
    ended: bool,
}

impl ExportReader {
    /// Opens the export of the state after `revision` and checks its two ends.
    pub fn open(dir: &Path, store: StoreId, revision: Revision) -> Result<Self, StoreError> {
        let path = export_path(dir, revision);
        let file = File::open(&path).map_err(failed("cannot open", &path))?;
        let bytes = file.metadata().map_err(failed("cannot read", &path))?.len();
        let mut head = [0; HEADER_BYTES];
        let mut mark = [0; BLOCK_HEAD_BYTES];
        if bytes < (HEADER_BYTES + BLOCK_HEAD_BYTES) as u64 {
            return Err(unsound(&path, "it is too short"));
        }
        (file.read_exact_at(&mut head, 0))
            .and_then(|()| file.read_exact_at(&mut mark, bytes - BLOCK_HEAD_BYTES as u64))
            .map_err(failed("cannot read", &path))?;
        let header = Header::from_bytes(Kind::Export, &head).map_err(|why| unsound(&path, &why))?;
        if header.store != store || header.point.revision != revision {
            return Err(unsound(&path, "it is an export of another journal, or was renamed"));
        }
        if mark[..4] != [0; 4] || u32_at(&mark, 4) != end_mark(bytes) {
            return Err(unsound(&path, "its end is missing"));
        }
        let mut file = BufReader::with_capacity(256 << 10, file);
        file.read_exact(&mut head).map_err(failed("cannot read", &path))?;
        let (block, read) = (Vec::new(), HEADER_BYTES as u64);
        Ok(Self { path, file, header, bytes, digest: Digest::default(), block, at: 0, read, ended: false })
    }

    /// The state it holds.
    pub fn point(&self) -> Point {
        self.header.point
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Record)>, StoreError> {
        if self.at == self.block.len() && !self.read_block()? {
            if self.digest != self.header.point.digest {
                return Err(unsound(&self.path, "its records are not those it was made of"));
            }
            return Ok(None);
        }
        let rest = &self.block[self.at..];
        let malformed = || unsound(&self.path, "a record is malformed");
        if rest.len() < RECORD_HEAD_BYTES {
            return Err(malformed());
        }
        let key_len = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
        let value_at = RECORD_HEAD_BYTES + key_len;
        let end = value_at + u32_at(rest, 2) as usize;
        let key = rest.get(RECORD_HEAD_BYTES..value_at).ok_or_else(malformed)?.to_vec();
        let value = rest.get(value_at..end).ok_or_else(malformed)?.to_vec();
        let record = Record { value, revision: u64_at(rest, 6) };
        self.digest.add(&key, &record);
        self.at += end;
        Ok(Some((key, record)))
    }

    /// `false` at the end.
    fn read_block(&mut self) -> Result<bool, StoreError> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        self.file.read_exact(&mut head).map_err(failed("cannot read", &self.path))?;
        self.read += BLOCK_HEAD_BYTES as u64;
        let len = u32_at(&head, 0) as usize;
        if len == 0 && self.read == self.bytes {
            return Ok(false);
        }
        if len == 0 || len > BLOCK_BYTES_MAX {
            return Err(unsound(&self.path, "a block is damaged"));
        }
        self.block.resize(len, 0);
        self.file.read_exact(&mut self.block).map_err(failed("cannot read", &self.path))?;
        if crc32fast::hash(&self.block) != u32_at(&head, 4) {
            return Err(unsound(&self.path, &format!("the block at byte {} is damaged", self.read)));
        }
        self.read += len as u64;
        self.at = 0;
        Ok(true)
    }
}

impl Iterator for ExportReader {
    type Item = Result<(Vec<u8>, Record), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.advance().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn end_mark(bytes: u64) -> u32 {
    crc32fast::hash(&bytes.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_export_comes_back_and_damage_anywhere_is_noticed() {
        let dir = tempfile::tempdir().expect("a folder");
        let records: Vec<_> = (0u32..300)
            .map(|i| (i.to_be_bytes().to_vec(), Record { value: vec![i as u8; i as usize * 4], revision: 9 }))
            .collect();
        let mut writer = ExportWriter::create(dir.path(), [1; 16], 12).unwrap();
        for (key, record) in &records {
            writer.push(key, record).unwrap();
        }
        let exported = writer.finish().unwrap();
        assert_eq!(exported.point.digest.records(), 300);
        let reader = ExportReader::open(dir.path(), [1; 16], 12).unwrap();
        assert_eq!(reader.point(), exported.point);
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), records);

        assert!(ExportReader::open(dir.path(), [2; 16], 12).is_err(), "of another store");
        let path = export_path(dir.path(), 12);
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len() as u64, exported.bytes);
        let sound =
            || ExportReader::open(dir.path(), [1; 16], 12).is_ok_and(|mut reader| reader.all(|item| item.is_ok()));
        for at in (0..whole.len()).step_by(997).chain(whole.len() - 8..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(!sound(), "damaged at {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(!sound(), "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(sound());
    }
}
