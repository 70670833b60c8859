//! Describes an object to swarms (BEP 3): pure, but for reading the object.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use data_encoding::{HEXLOWER, HEXUPPER};
use ring::digest::{Digest, SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Bytes of a piece: what peers check and pass on.
pub const PIECE_BYTES: usize = 1 << 20;

/// What swarms are told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// The file's content.
    pub content: Vec<u8>,
    /// Which it is among others: a SHA-1.
    info_hash: Vec<u8>,
}

impl Torrent {
    /// Of a file, by which that tracker is asked.
    pub fn of(object: &Path, tracker: &str) -> io::Result<Self> {
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        let (mut file, mut pieces, mut piece) = (fs::File::open(object)?, Vec::new(), Vec::new());
        loop {
            piece.clear();
            if file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece)? == 0 {
                break;
            }
            pieces.extend_from_slice(sha1(&piece).as_ref());
        }
        Ok(Self::from(&name, file.metadata()?.len(), &pieces, tracker))
    }

    fn from(name: &str, length: u64, pieces: &[u8], tracker: &str) -> Self {
        let mut info = b"d6:length".to_vec();
        info.extend(format!("i{length}e4:name{}12:piece lengthi{PIECE_BYTES}e6:pieces", string(name)).as_bytes());
        info.extend(format!("{}:", pieces.len()).as_bytes());
        info.extend(pieces);
        info.push(b'e');
        let content = [format!("d8:announce{}4:info", string(tracker)).as_bytes(), &info, b"e"].concat();
        Self { content, info_hash: sha1(&info).as_ref().to_vec() }
    }

    /// As a tracker's whitelist has it.
    pub fn info_hash(&self) -> String {
        HEXLOWER.encode(&self.info_hash)
    }

    /// As a URL has it.
    pub fn info_hash_in_url(&self) -> String {
        self.info_hash.iter().map(|byte| format!("%{}", HEXUPPER.encode(&[*byte]))).collect()
    }
}

/// A string, as torrents write it.
fn string(text: &str) -> String {
    format!("{}:{text}", text.len())
}

fn sha1(bytes: &[u8]) -> Digest {
    digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_described_as_swarms_expect() {
        let folder = tempfile::tempdir().unwrap();
        let object = folder.path().join("object");
        fs::write(&object, [vec![1; PIECE_BYTES], vec![2; 3]].concat()).unwrap();
        let torrent = Torrent::of(&object, "http://10.0.0.1:1/announce").unwrap();
        let text = String::from_utf8_lossy(&torrent.content);
        let begins = "d8:announce26:http://10.0.0.1:1/announce4:infod6:lengthi1048579e4:name6:object\
                      12:piece lengthi1048576e6:pieces40:";
        assert!(text.starts_with(begins) && text.ends_with("ee"), "{text}");
        let last = sha1(&[2; 3]);
        assert!(torrent.content.windows(20).any(|window| window == last.as_ref()));
        assert_eq!((torrent.info_hash().len(), torrent.info_hash_in_url().len()), (40, 60));
    }
}
