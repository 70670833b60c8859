//! What is known of copies, on disk: so that another process can show them again.
//!
//! A file for each copy, beside no destination: in a folder of the executor's own. It is a list of records, each with its
//! length (4 bytes, little endian), the CRC-32 of what follows (4 bytes), its kind (1 byte), and its bytes. Records are
//! appended, and never synced: what a power cut takes away is not shown again, and nothing else happens. What lies behind a
//! record that is torn does not count.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use staccato_protocols::Validator;

use super::{super::voucher::Voucher, CopyName};
use crate::attempt::swarm::KnownObject;

/// What nothing was added to for so long, and is not whole, belongs to nobody any more.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// Files are named so; their names begin with the copies' keys.
const SUFFIX: &str = ".copy";
const HEAD_BYTES: usize = 9;
/// No record is longer.
const RECORD_BYTES_MAX: usize = 1 << 20;
const VOUCHER: u8 = 1;
const WHOLE: u8 = 2;

/// The folder with what is known of this executor's copies.
#[derive(Clone, Debug)]
pub struct CopyStore {
    folder: PathBuf,
}

/// The file of one copy. Nobody else has it.
#[derive(Debug)]
pub struct CopyFile {
    file: File,
}

/// A copy that is whole, at its destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Which one.
    pub copy: CopyName,
    /// Of what it is a copy.
    pub object: KnownObject,
    /// Where it is.
    pub url: String,
    /// What tells whether it still is what was written.
    pub validator: Option<Validator>,
    /// Most bytes per second that are sent of it.
    #[serde(default)]
    pub upload_limit: Option<u64>,
}

/// What a file tells.
#[derive(Debug, Default)]
pub struct Known {
    /// Of its chunks.
    pub vouchers: Vec<Voucher>,
    /// Once all of it is there.
    pub whole: Option<Whole>,
}

impl CopyStore {
    /// The store in a folder, which is made when it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let store = Self { folder: folder.to_owned() };
        for (path, modified) in store.files()? {
            let is_old = modified.elapsed().is_ok_and(|age| age > AGE_MAX);
            // Whoever has it, has it.
            if is_old && CopyFile::open(&path).and_then(CopyFile::read).is_ok_and(|(_, known)| known.whole.is_none()) {
                fs::remove_file(path)?;
            }
        }
        Ok(store)
    }

    /// The file of a copy of which nothing is known.
    pub fn begin(&self, key: &str) -> io::Result<CopyFile> {
        let file = CopyFile::open(&self.path(key))?;
        file.file.set_len(0)?;
        Ok(file)
    }

    /// The file of a copy, and what is known of it.
    pub fn resume(&self, key: &str) -> io::Result<(CopyFile, Known)> {
        CopyFile::open(&self.path(key))?.read()
    }

    /// Forgets a copy.
    pub fn remove(&self, key: &str) {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, key, "what is known of a copy stays behind");
            }
            _ => {}
        }
    }

    /// All copies that are whole and that no other process shows. What is not whole is gone on with by its attempt.
    pub fn whole(&self) -> io::Result<Vec<(CopyFile, Known)>> {
        let mut whole = Vec::new();
        for (path, _) in self.files()? {
            // Another process has it, or it is no file of ours.
            let Ok((file, known)) = CopyFile::open(&path).and_then(CopyFile::read) else { continue };
            if known.whole.is_some() {
                whole.push((file, known));
            }
        }
        Ok(whole)
    }

    fn files(&self) -> io::Result<Vec<(PathBuf, std::time::SystemTime)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
                files.push((entry.path(), entry.metadata()?.modified()?));
            }
        }
        Ok(files)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}{SUFFIX}", key.replace('/', "-")))
    }
}

impl CopyFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { file })
    }

    /// Appends vouchers.
    pub fn append(&mut self, vouchers: &[Arc<Voucher>]) -> io::Result<()> {
        let mut records = Vec::new();
        vouchers.iter().for_each(|voucher| push(&mut records, VOUCHER, &voucher.bytes));
        self.file.write_all(&records)
    }

    /// The copy is whole, and where it belongs.
    pub fn finish(&mut self, whole: &Whole) -> io::Result<()> {
        let mut record = Vec::new();
        push(&mut record, WHOLE, &serde_json::to_vec(whole).expect("numbers and strings"));
        self.file.write_all(&record)
    }

    /// What it tells. What is torn is cut off: what is appended from now on counts.
    fn read(mut self) -> io::Result<(Self, Known)> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        let (mut known, mut rest) = (Known::default(), &bytes[..]);
        while let Some((kind, record, behind)) = pop(rest) {
            match kind {
                // It was verified before it was written here; whoever is shown it verifies it again.
                VOUCHER => known.vouchers.extend(Voucher::read(record.to_vec())),
                WHOLE => known.whole = serde_json::from_slice(record).ok(),
                _ => {}
            }
            rest = behind;
        }
        let end = (bytes.len() - rest.len()) as u64;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        Ok((self, known))
    }
}

fn push(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[kind]);
    crc.update(bytes);
    to.extend((bytes.len() as u32).to_le_bytes());
    to.extend(crc.finalize().to_le_bytes());
    to.push(kind);
    to.extend(bytes);
}

/// The next record, and what lies behind it; none where it is torn, or there is none.
fn pop(from: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = from.split_at_checked(HEAD_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let len = Some(word(0) as usize).filter(|len| *len <= RECORD_BYTES_MAX)?;
    let (record, behind) = rest.split_at_checked(len)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[8..]);
    crc.update(record);
    (crc.finalize() == word(4)).then_some((head[8], record, behind))
}

#[cfg(test)]
mod tests {
    use staccato_protocols::ByteRange;

    use super::*;
    use crate::transport::voucher::tests::voucher;

    fn whole() -> Whole {
        Whole {
            copy: CopyName { name: "n".into(), member: 7, distribution: "d".into(), transfer: "t".into() },
            object: KnownObject { size: 5, validator: None },
            url: "file:///x".into(),
            validator: None,
            upload_limit: None,
        }
    }

    #[test]
    fn what_was_noted_is_known_again_up_to_where_it_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let store = CopyStore::open(&folder.path().join("copies")).unwrap();
        let vouchers = [0, 1, 2].map(|chunk| Arc::new(voucher(ByteRange::at(chunk << 20, 1 << 20).unwrap())));
        let mut file = store.begin("n/7").unwrap();
        file.append(&vouchers[..2]).unwrap();
        assert!(store.resume("n/7").is_err(), "somebody has it");
        drop(file);

        let path = store.path("n/7");
        let len = fs::metadata(&path).unwrap().len();
        fs::write(&path, &fs::read(&path).unwrap()[..len as usize - 1]).unwrap();
        let (mut file, known) = store.resume("n/7").unwrap();
        assert_eq!((known.vouchers.len(), known.whole), (1, None));
        assert_eq!(known.vouchers[0], *vouchers[0]);
        file.append(&vouchers[2..]).unwrap();
        assert_eq!(store.whole().unwrap().len(), 0, "somebody has it");
        file.finish(&whole()).unwrap();
        drop(file);
        let (file, known) = store.whole().unwrap().pop().expect("it is whole");
        assert_eq!((known.vouchers.len(), known.whole), (2, Some(whole())));
        drop(file);
        assert_eq!(store.begin("n/7").unwrap().read().unwrap().1.vouchers, []);
        store.remove("n/7");
        store.remove("n/7");
        assert!(!path.exists());
    }

    #[test]
    fn what_is_damaged_is_not_known() {
        let mut bytes = Vec::new();
        push(&mut bytes, WHOLE, b"abc");
        assert_eq!(pop(&bytes), Some((WHOLE, &b"abc"[..], &b""[..])));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(pop(&damaged), None, "{at}");
        }
    }
}
