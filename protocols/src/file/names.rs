//! Names of what lies beside a destination.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Longest file name Linux file systems accept, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The names of one attempt's files: `.NAME.staccato-ID.EPOCH` and what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    prefix: Vec<u8>,
    epoch: u64,
}

impl Names {
    /// Names for the attempt `epoch` of `transfer`, which writes `name`. A `name` too long for the additions is cut,
    /// and told from others that begin alike by its digest.
    pub fn new(name: &OsStr, transfer: &str, epoch: u64) -> Self {
        Self { prefix: prefix(name, transfer), epoch }
    }

    /// The partial.
    pub fn partial(&self) -> OsString {
        self.with("")
    }

    /// Its block CRCs.
    pub fn sidecar(&self) -> OsString {
        self.with(".crc")
    }

    /// A predecessor's partial whose holder does not let go, while it is copied.
    pub fn held(&self) -> OsString {
        self.with(".held")
    }

    fn with(&self, suffix: &str) -> OsString {
        let mut name = self.prefix.clone();
        name.extend_from_slice(self.epoch.to_string().as_bytes());
        name.extend_from_slice(suffix.as_bytes());
        OsString::from_vec(name)
    }

    /// What `entry` is to this transfer, if it belongs to it.
    pub fn classify(&self, entry: &OsStr) -> Option<Entry> {
        let rest = std::str::from_utf8(entry.as_bytes().strip_prefix(self.prefix.as_slice())?).ok()?;
        let (epoch, kind) = match rest.split_once('.') {
            None => (rest, Kind::Partial),
            Some((epoch, "crc")) => (epoch, Kind::Sidecar),
            Some((epoch, "held")) => (epoch, Kind::Held),
            Some(_) => return None,
        };
        Some(Entry { epoch: epoch.parse().ok()?, kind })
    }
}

/// Whether a name looks like one of ours, of whatever transfer.
pub(super) fn is_reserved(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".") && name.windows(MARK.len()).any(|part| part == MARK)
}

const MARK: &[u8] = b".staccato-";

/// A file that belongs to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub epoch: u64,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Partial,
    Sidecar,
    Held,
}

fn prefix(name: &OsStr, transfer: &str) -> Vec<u8> {
    let middle = format!(".staccato-{transfer}.");
    // The longest ending: 20 digits of an epoch and ".held".
    let mut prefix = hidden(name, middle.len() + 20 + ".held".len());
    prefix.extend_from_slice(middle.as_bytes());
    prefix
}

/// `.NAME`, with room for `addition_bytes` more. A name too long for that is cut, and told from others that begin alike
/// by its digest: `.NAM~DIGEST`.
pub fn hidden(name: &OsStr, addition_bytes: usize) -> Vec<u8> {
    let name = name.as_bytes();
    let room = NAME_BYTES_MAX - 1 - addition_bytes;
    if name.len() <= room {
        return [b".", name].concat();
    }
    let digest = HEXLOWER.encode(&Sha256::digest(name)[..8]);
    let kept = &name[..room - 1 - digest.len()];
    [b".", kept, b"~", digest.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_again() {
        let names = Names::new(OsStr::new("a b"), "id", 7);
        assert_eq!(names.partial(), ".a b.staccato-id.7");
        assert_eq!(names.classify(&names.partial()), Some(Entry { epoch: 7, kind: Kind::Partial }));
        assert_eq!(names.classify(&names.sidecar()), Some(Entry { epoch: 7, kind: Kind::Sidecar }));
        assert_eq!(names.classify(&names.held()), Some(Entry { epoch: 7, kind: Kind::Held }));
        for other in [".a b.staccato-id2.7", "a b", ".a b.staccato-id.x", ".a b.staccato-id.7.bak", ".b.staccato-id.7"]
        {
            assert_eq!(names.classify(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn the_longest_name_still_leaves_room() {
        let names = Names::new(OsStr::new(&"x".repeat(255)), &"i".repeat(36), u64::MAX);
        assert_eq!(names.held().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn long_names_that_begin_alike_are_told_apart() {
        let names = |last: &str| Names::new(OsStr::new(&format!("{}{last}", "x".repeat(254))), "copy", 1);
        assert_ne!(names("a").partial(), names("b").partial());
        assert_eq!(names("a").classify(&names("b").partial()), None);
    }

    #[test]
    fn every_name_of_an_attempt_is_reserved_and_others_are_not() {
        for name in ["d", "\u{4f60}", &"x".repeat(255)] {
            let names = Names::new(OsStr::new(name), "t", u64::MAX);
            assert!([names.partial(), names.sidecar(), names.held()].iter().all(|name| is_reserved(name)), "{name}");
        }
        for name in ["d", ".d", "d.staccato-t.1", ".staccato", "..staccato"] {
            assert!(!is_reserved(OsStr::new(name)), "{name}");
        }
    }
}
