//! Who vouches for the bytes of a chunk that came from others.
//!
//! Whoever reads a chunk from its source signs what it has read: the CRCs of its blocks, and its BLAKE3. The others, who
//! have it from one another, hold it against that before they write it, or tell anybody that they have it. So whoever
//! sends other bytes is known for it at the first chunk.
//!
//! A voucher is its version (1 byte), its fields, the key that signs (a SubjectPublicKeyInfo, RFC 5280), the algorithm
//! (a SignatureScheme of TLS 1.3, RFC 8446) and the signature of all that is before it. Which keys may vouch is not said
//! in it: the control plane names those that read the source.

use std::fmt;

use ring::digest::{SHA256, digest};
use rustls::{
    SignatureScheme,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use staccato_protocols::{ByteRange, CRC_BLOCK, Chunk, Code, Error, Object, tls::provider};
use webpki::RawPublicKeyEntity;

use super::{
    frame::{CHUNK_BYTES_MAX, VOUCHER_BYTES_MAX, encode_object},
    ticket::KeyDigest,
    wire::{Malformed, Reader, Writer},
};

const VERSION: u8 = 1;
/// Longest name of what the object is to many.
const NAME_BYTES_MAX: usize = 64;
const KEY_BYTES_MAX: usize = 1 << 10;
const SIGNATURE_BYTES_MAX: usize = 1 << 10;
/// What signs with certificates of executors, best first.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];
const _: () = assert!(
    1 + 2
        + NAME_BYTES_MAX
        + 32
        + 16
        + 4 * (CHUNK_BYTES_MAX / CRC_BLOCK) as usize
        + 32
        + 2
        + KEY_BYTES_MAX
        + 2
        + SIGNATURE_BYTES_MAX
        <= VOUCHER_BYTES_MAX
);

/// BLAKE3 of what tells a version of an object from others.
pub type ObjectDigest = [u8; 32];

/// What the bytes of a chunk are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The distribution.
    pub name: String,
    /// The version of its object.
    pub object: ObjectDigest,
    /// The chunk.
    pub range: ByteRange,
    /// CRC-32 of each of its blocks.
    pub crcs: Vec<u32>,
    /// BLAKE3 of all of it.
    pub blake3: [u8; 32],
}

/// A voucher as it travels, and what it says. It was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// What the bytes are.
    pub content: Content,
    /// Whose key signed it.
    pub signer: KeyDigest,
    /// As it travels.
    pub bytes: Vec<u8>,
}

/// Why a voucher is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoucherError {
    /// Not understood.
    #[error("the voucher is malformed: {0}")]
    Malformed(&'static str),
    /// Altered.
    #[error("the voucher is not signed by the key that it names")]
    WrongSignature,
    /// Signed by somebody of whom is not known that he reads the source.
    #[error("the voucher is signed by somebody who is not known to read the source")]
    UnknownSigner,
}

impl From<Malformed> for VoucherError {
    fn from(Malformed(how): Malformed) -> Self {
        Self::Malformed(how)
    }
}

/// What tells this version of an object from others.
pub fn object_digest(object: &Object) -> ObjectDigest {
    let mut bytes = Vec::new();
    encode_object(object, &mut bytes);
    blake3::hash(&bytes).into()
}

impl Content {
    /// What was read of an object.
    pub fn of(name: &str, object: ObjectDigest, range: ByteRange, chunk: &Chunk) -> Self {
        Self { name: name.to_owned(), object, range, crcs: chunk.block_crcs(), blake3: blake3_of(chunk) }
    }

    /// Whether these are the bytes.
    pub fn is(&self, chunk: &Chunk) -> bool {
        self.range.len() == chunk.len() as u64 && self.crcs == chunk.block_crcs() && self.blake3 == blake3_of(chunk)
    }

    /// Signs it with an executor's key.
    pub fn sign(self, own: &CertifiedKey) -> Result<Voucher, Error> {
        let unusable = |why: &dyn fmt::Display| Error::fatal(Code::TlsFailed, format!("the key cannot vouch: {why}"));
        let signer = own.key.choose_scheme(&SCHEMES).ok_or_else(|| unusable(&"its kind is unknown"))?;
        let key = key_of(&own.cert[0]).map_err(|error| unusable(&error))?;
        let mut bytes = self.fields();
        let mut to = Writer(&mut bytes);
        to.bytes(&key, KEY_BYTES_MAX);
        to.u16(signer.scheme().into());
        let signature = signer.sign(&bytes).map_err(|error| unusable(&error))?;
        Writer(&mut bytes).bytes(&signature, SIGNATURE_BYTES_MAX);
        Ok(Voucher { content: self, signer: digest_of(&key), bytes })
    }

    fn fields(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut to = Writer(&mut bytes);
        to.u8(VERSION);
        to.bytes(self.name.as_bytes(), NAME_BYTES_MAX);
        to.0.extend(self.object);
        to.range(self.range);
        self.crcs.iter().for_each(|crc| to.u32(*crc));
        to.0.extend(self.blake3);
        bytes
    }

    fn parse(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        if from.u8()? != VERSION {
            return Err(Malformed("its version is unknown"));
        }
        let (name, object, range) = (from.text(NAME_BYTES_MAX)?, from.array()?, from.range()?);
        if range.is_empty() || range.len() > CHUNK_BYTES_MAX {
            return Err(Malformed("it is about no bytes, or too many"));
        }
        let crcs = (0..range.len().div_ceil(CRC_BLOCK)).map(|_| from.u32()).collect::<Result<_, _>>()?;
        Ok(Self { name, object, range, crcs, blake3: from.array()? })
    }
}

impl Voucher {
    /// The voucher in `bytes`, which was verified when it was written where only this executor writes.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let mut from = Reader(&bytes);
        let content = Content::parse(&mut from).ok()?;
        let signer = digest_of(from.bytes(KEY_BYTES_MAX).ok()?);
        Some(Self { content, signer, bytes })
    }

    /// The voucher in `bytes`, if the signature is that of a key which `may_vouch`: that is asked once the signature was found
    /// right.
    pub async fn verify(bytes: Vec<u8>, may_vouch: impl AsyncFnOnce(&KeyDigest) -> bool) -> Result<Self, VoucherError> {
        let mut from = Reader(&bytes);
        let content = Content::parse(&mut from)?;
        let (key, scheme) = (from.bytes(KEY_BYTES_MAX)?, SignatureScheme::from(from.u16()?));
        let signed = &bytes[..bytes.len() - from.0.len()];
        let signature = from.bytes(SIGNATURE_BYTES_MAX)?;
        from.end()?;
        let signer = digest_of(key);
        let key = SubjectPublicKeyInfoDer::from(key);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| VoucherError::WrongSignature)?;
        let algorithms = provider().signature_verification_algorithms;
        let known = algorithms.mapping.iter().find(|(known, _)| *known == scheme && SCHEMES.contains(known));
        let algorithms = known.map_or(&[][..], |(_, algorithms)| algorithms);
        let mut algorithms = algorithms.iter();
        let is_right = algorithms.any(|algorithm| key.verify_signature(*algorithm, signed, signature).is_ok());
        if !is_right {
            return Err(VoucherError::WrongSignature);
        }
        if !may_vouch(&signer).await {
            return Err(VoucherError::UnknownSigner);
        }
        Ok(Self { content, signer, bytes })
    }
}

fn blake3_of(chunk: &Chunk) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    chunk.pieces(|piece| {
        hasher.update(piece);
    });
    hasher.finalize().into()
}

fn digest_of(key: &[u8]) -> KeyDigest {
    digest(&SHA256, key).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, rustls::Error> {
    Ok(ParsedCertificate::try_from(certificate)?.subject_public_key_info().as_ref().to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::transport::authority::Authority;

    fn content(range: ByteRange) -> Content {
        Content::of("n", [7; 32], range, &Chunk::zero(range.len() as usize))
    }

    /// A voucher of a chunk of zeros, by somebody.
    pub fn voucher(range: ByteRange) -> Voucher {
        content(range).sign(&Authority::new().identity("seed").own()).unwrap()
    }

    #[test]
    fn a_voucher_counts_if_it_is_whole_and_its_signer_may_vouch() {
        let range = ByteRange::at(1 << 20, 100_000).unwrap();
        let voucher = voucher(range);
        let signer = voucher.signer;
        let verify = |bytes: &[u8]| {
            Voucher::verify(bytes.to_vec(), async |key| *key == signer).now_or_never().expect("nobody is waited for")
        };
        assert_eq!(verify(&voucher.bytes).unwrap(), voucher);
        assert_eq!(Voucher::read(voucher.bytes.clone()).unwrap(), voucher);
        let nobody = Voucher::verify(voucher.bytes.clone(), async |_| false).now_or_never();
        assert_eq!(nobody, Some(Err(VoucherError::UnknownSigner)));
        assert!(voucher.content.is(&Chunk::zero(100_000)) && !voucher.content.is(&Chunk::zero(99_999)));
        for at in 0..voucher.bytes.len() {
            let mut altered = voucher.bytes.clone();
            altered[at] ^= 1;
            assert!(verify(&altered).is_err(), "{at}");
        }
        for end in 0..voucher.bytes.len() {
            assert!(verify(&voucher.bytes[..end]).is_err(), "{end}");
        }
    }
}
