//! What uploads and their segments are called. Pure.

use std::{fmt, str::FromStr};

use crate::parts::Cut;

/// What stands before an upload in the names of its segments.
const MARK: &str = "staccato-";
/// Longest text of an upload: a transfer's id with three numbers.
const UPLOAD_BYTES_MAX: usize = 128;
/// So much is added to an object's name to name its segments.
pub(super) const NAME_BYTES_ADDED_MAX: usize = MARK.len() + UPLOAD_BYTES_MAX + "//manifest-00000001".len();

/// An upload: which attempt began it, and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    pub transfer: String,
    pub epoch: u64,
    pub cut: Cut,
}

impl Upload {
    /// What the names of all its objects begin with.
    pub fn prefix(&self, object: &str) -> String {
        format!("{object}/{MARK}{self}/")
    }

    /// The object that says that the upload has begun and was neither completed nor given up.
    pub fn marker(&self, object: &str) -> String {
        format!("{}upload", self.prefix(object))
    }

    /// The object and the upload of which this is the marker.
    pub fn of_marker(name: &str) -> Option<(&str, Self)> {
        let (object, upload) = name.strip_suffix("/upload")?.rsplit_once('/')?;
        Some((object, upload.strip_prefix(MARK)?.parse().ok()?))
    }

    /// The segment that is the part of this number.
    pub fn segment(&self, object: &str, number: u32) -> String {
        format!("{}{number:08}", self.prefix(object))
    }

    /// The manifest of segments that has this number.
    pub fn manifest(&self, object: &str, number: u32) -> String {
        format!("{}manifest-{number:08}", self.prefix(object))
    }

    /// The number of the part that an object of this name is.
    pub fn number(&self, object: &str, name: &str) -> Option<u32> {
        let digits = name.strip_prefix(&self.prefix(object))?;
        (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    }
}

/// What the names of all segments begin with that a transfer made of an object.
pub(super) fn transfer_prefix(object: &str, transfer: &str) -> String {
    format!("{object}/{MARK}{transfer}.")
}

/// `TRANSFER.EPOCH.PART_BYTES.LENGTH`; the length is `-` where it is not known.
impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transfer, epoch, cut: Cut { bytes, length } } = self;
        write!(f, "{transfer}.{epoch}.{bytes}.")?;
        match length {
            Some(length) => write!(f, "{length}"),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Upload {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.rsplitn(4, '.');
        let mut next = || fields.next().ok_or(());
        let length = match next()? {
            "-" => None,
            digits => Some(digits.parse().map_err(drop)?),
        };
        let bytes = next()?.parse().ok().filter(|bytes| *bytes > 0).ok_or(())?;
        let epoch = next()?.parse().map_err(drop)?;
        let transfer = next()?.to_owned();
        let upload = Self { transfer, epoch, cut: Cut { bytes, length } };
        // What is not spelt like this is not ours.
        let plain = !upload.transfer.is_empty() && !upload.transfer.contains('/');
        if plain && text.len() <= UPLOAD_BYTES_MAX && upload.to_string() == text { Ok(upload) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_found_by_their_names() {
        for length in [None, Some(0), Some(17)] {
            let cut = Cut { bytes: 8 << 20, length };
            let upload = Upload { transfer: "0190b5a0-0000-7000-8000-000000000001".into(), epoch: 3, cut };
            assert_eq!(upload.to_string().parse(), Ok(upload.clone()));
            let name = upload.segment("a/b", 12);
            assert_eq!(upload.number("a/b", &name), Some(12));
            assert_eq!(Upload::of_marker(&upload.marker("a/b")), Some(("a/b", upload.clone())));
            assert_eq!(Upload::of_marker(&name), None);
            assert!(name.starts_with(&transfer_prefix("a/b", &upload.transfer)));
            for other in [upload.marker("a/b"), upload.manifest("a/b", 12), upload.segment("a", 12), format!("{name}0")]
            {
                assert_eq!(upload.number("a/b", &other), None, "{other}");
            }
            let longest = Upload { epoch: u64::MAX, cut: Cut { bytes: u64::MAX, length: Some(u64::MAX) }, ..upload };
            assert!(longest.to_string().len() <= UPLOAD_BYTES_MAX);
            assert!(longest.manifest("", u32::MAX).len() <= NAME_BYTES_ADDED_MAX + 2);
        }
        for text in ["", "t.1.2", "t.1.0.3", "t.1.2.x", "t.+1.2.3", "t.01.2.3", ".1.2.3", "a/b.1.2.3"] {
            assert_eq!(text.parse::<Upload>(), Err(()), "{text}");
        }
    }
}
