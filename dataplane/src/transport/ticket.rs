//! What allows an executor to read an object of another: signed by the control plane, pure.
//!
//! The control plane gives a ticket to the executor that reads; that shows it to the owner of the object, who knows the
//! control plane's public key and nothing of transfers. A ticket names its reader by the key of its certificate, so that it
//! is of no use to anybody else. Its end is a time on the control plane's clock, which the owner knows from its
//! heartbeats: executors' own clocks may be wrong.
//!
//! A ticket is its version (1 byte), its fields, and an Ed25519 signature (RFC 8032) of both.

use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use staccato_protocols::{ByteRange, ObjectUrl, url::URL_BYTES_MAX};

use super::{
    frame::TICKET_BYTES_MAX,
    wire::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
const TRANSFER_BYTES_MAX: usize = 64;
const _: () =
    assert!(1 + 2 + TRANSFER_BYTES_MAX + 8 + 2 + URL_BYTES_MAX + 16 + 32 + 8 + SIGNATURE_BYTES <= TICKET_BYTES_MAX);

/// SHA-256 of the public key in an executor's certificate (its SubjectPublicKeyInfo, RFC 5280): stays the same when the
/// certificate is renewed.
pub type KeyDigest = [u8; 32];

/// Allows one reader to read a part of one object for one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Id of the transfer, for logs.
    pub transfer: String,
    /// The attempt's epoch, for logs.
    pub epoch: u64,
    /// The object, as its owner knows it.
    pub url: String,
    /// The part of it.
    pub range: ByteRange,
    /// Who may show the ticket.
    pub reader: KeyDigest,
    /// Until when, on the control plane's clock: milliseconds since 1970.
    pub until_ms: u64,
}

/// Why a ticket allows nothing, or not this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not of this deployment's control plane, or altered.
    #[error("the ticket is not signed by this deployment's control plane")]
    WrongSignature,
    /// Signed, but not understood.
    #[error("the ticket is malformed: {0}")]
    Malformed(&'static str),
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// Shown by another executor than the one that it was made for.
    #[error("the ticket was made for another executor")]
    OtherReader,
    /// It is about another object.
    #[error("the ticket is about another object")]
    OtherObject,
    /// It does not cover these bytes.
    #[error("the ticket does not cover the bytes that were asked for")]
    OutsideRange,
}

impl Ticket {
    /// The ticket as it travels.
    pub fn sign(&self, key: &Ed25519KeyPair) -> Vec<u8> {
        let mut bytes = self.fields();
        let signature = key.sign(&bytes);
        bytes.extend(signature.as_ref());
        bytes
    }

    /// What of it is signed.
    pub(super) fn fields(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut to = Writer(&mut bytes);
        to.u8(VERSION);
        to.bytes(self.transfer.as_bytes(), TRANSFER_BYTES_MAX);
        to.u64(self.epoch);
        to.bytes(self.url.as_bytes(), URL_BYTES_MAX);
        to.range(self.range);
        to.0.extend(self.reader);
        to.u64(self.until_ms);
        bytes
    }

    /// The ticket in `bytes`, if `public_key` belongs to the key that signed it.
    pub fn verify(bytes: &[u8], public_key: &[u8]) -> Result<Self, TicketError> {
        let (signed, signature) =
            bytes.len().checked_sub(SIGNATURE_BYTES).map(|at| bytes.split_at(at)).ok_or(TicketError::WrongSignature)?;
        let key = UnparsedPublicKey::new(&ED25519, public_key);
        key.verify(signed, signature).map_err(|_| TicketError::WrongSignature)?;
        Self::parse(signed).map_err(|Malformed(how)| TicketError::Malformed(how))
    }

    /// What is signed, as [`Ticket::fields`] writes it.
    pub(super) fn parse(signed: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader(signed);
        if from.u8()? != VERSION {
            return Err(Malformed("its version is unknown"));
        }
        let ticket = Self {
            transfer: from.text(TRANSFER_BYTES_MAX)?,
            epoch: from.u64()?,
            url: from.text(URL_BYTES_MAX)?,
            range: from.range()?,
            reader: from.array()?,
            until_ms: from.u64()?,
        };
        from.end()?;
        Ok(ticket)
    }

    /// Whether this reader may open this object now, which is a time on the control plane's clock. Of a reader that is not
    /// known, because its connection is plain, the ticket is all there is.
    pub fn allows(&self, reader: Option<&KeyDigest>, url: &ObjectUrl, now_ms: u64) -> Result<(), TicketError> {
        self.is_valid(now_ms)?;
        if reader.is_some_and(|reader| *reader != self.reader) {
            return Err(TicketError::OtherReader);
        }
        if url.as_str() != self.url {
            return Err(TicketError::OtherObject);
        }
        Ok(())
    }

    /// Whether its time is not over, at this time on the control plane's clock.
    pub fn is_valid(&self, now_ms: u64) -> Result<(), TicketError> {
        if now_ms < self.until_ms { Ok(()) } else { Err(TicketError::Expired) }
    }

    /// Whether it covers these bytes.
    pub fn covers(&self, range: ByteRange) -> Result<(), TicketError> {
        if self.range.contains(range) { Ok(()) } else { Err(TicketError::OutsideRange) }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::KeyPair;

    use super::*;

    const READER: KeyDigest = [7; 32];
    const UNTIL_MS: u64 = 1_800_000;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            transfer: "0195f7f0-0000-7000-8000-000000000001".into(),
            epoch: 3,
            url: "file:///images/a.raw".into(),
            range: ByteRange::new(4096, 1 << 30).unwrap(),
            reader: READER,
            until_ms: UNTIL_MS,
        }
    }

    #[test]
    fn a_signed_ticket_is_read_as_it_was_made_and_no_other_is() {
        let (key, other) = (key(1), key(2));
        let public = key.public_key().as_ref();
        let bytes = ticket().sign(&key);
        assert_eq!(Ticket::verify(&bytes, public), Ok(ticket()));
        assert_eq!(Ticket::verify(&ticket().sign(&other), public), Err(TicketError::WrongSignature));
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Ticket::verify(&altered, public), Err(TicketError::WrongSignature), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Ticket::verify(&bytes[..len], public), Err(TicketError::WrongSignature), "{len} bytes");
        }
    }

    #[test]
    fn what_is_signed_and_not_understood_allows_nothing() {
        let key = key(1);
        let bytes = ticket().sign(&key);
        let fields = &bytes[..bytes.len() - SIGNATURE_BYTES];
        for altered in [&fields[..fields.len() - 1], &[fields, &[0]].concat(), &[&[2], &fields[1..]].concat()] {
            let signed = [altered, key.sign(altered).as_ref()].concat();
            let verified = Ticket::verify(&signed, key.public_key().as_ref());
            assert!(matches!(verified, Err(TicketError::Malformed(_))), "{verified:?}");
        }
    }

    #[test]
    fn a_ticket_allows_its_reader_its_object_in_its_time() {
        let url = |text: &str| ObjectUrl::parse(text).unwrap();
        let allows = |reader: &KeyDigest, text: &str, now_ms| ticket().allows(Some(reader), &url(text), now_ms);
        let own = "file:///images/a.raw";
        assert_eq!(allows(&READER, own, UNTIL_MS - 1), Ok(()));
        assert_eq!(allows(&READER, own, UNTIL_MS), Err(TicketError::Expired));
        assert_eq!(allows(&[8; 32], own, 0), Err(TicketError::OtherReader));
        assert_eq!(allows(&READER, "file:///images/b.raw", 0), Err(TicketError::OtherObject));
        assert_eq!(ticket().allows(None, &url(own), 0), Ok(()), "who it is, is not known");
    }

    #[test]
    fn a_ticket_covers_its_range_and_no_byte_more() {
        let covers = |start, end| ticket().covers(ByteRange::new(start, end).unwrap());
        assert_eq!((covers(4096, 1 << 30), covers(5000, 5001)), (Ok(()), Ok(())));
        for (start, end) in [(4095, 5000), (5000, (1 << 30) + 1), (0, 10), (0, u64::MAX)] {
            assert_eq!(covers(start, end), Err(TicketError::OutsideRange), "{start}..{end}");
        }
    }
}
