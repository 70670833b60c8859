//! Checksums that the moved bytes must have.

use staccato_protocols::{Checksum, ChecksumKind, Code, Error, Session};

use super::AttemptSpec;

/// The request's, and the one that the storage of the source publishes.
pub(super) struct Wanted<'a> {
    requested: Option<&'a Checksum>,
    published: Option<Checksum>,
}

impl<'a> Wanted<'a> {
    /// What an attempt's bytes must have; `published` is of what is moved.
    pub fn new(spec: &'a AttemptSpec, published: Option<&Checksum>) -> Self {
        Self { requested: spec.checksum.as_ref(), published: published.cloned() }
    }

    /// Kinds that have to be computed, for the session, too. CRC-32 need not be, where every block is read, as it is not
    /// when an object is `cloned`.
    pub fn kinds(&self, session: &dyn Session, cloned: bool) -> Vec<ChecksumKind> {
        let mut kinds = Vec::new();
        for kind in self.all().map(|(wanted, _)| wanted.kind()).chain(session.wants_checksum()) {
            if (cloned || kind != ChecksumKind::Crc32) && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// Compares them with those that were `found`, one of each of the kinds.
    pub fn compare(&self, found: &[Checksum]) -> Result<(), Error> {
        for (wanted, who) in self.all() {
            let found = found
                .iter()
                .find(|found| found.kind() == wanted.kind())
                .ok_or_else(|| Error::fatal(Code::Internal, "a checksum was not computed"))?;
            if found != wanted {
                return Err(Error::fatal(
                    Code::ChecksumMismatch,
                    format!("the bytes have {found}, {who} {wanted}; check which of the two is right"),
                ));
            }
        }
        Ok(())
    }

    /// Each with who says so.
    fn all(&self) -> impl Iterator<Item = (&Checksum, &'static str)> {
        let requested = self.requested.map(|checksum| (checksum, "the request said"));
        requested.into_iter().chain(self.published.as_ref().map(|checksum| (checksum, "its storage says")))
    }
}
