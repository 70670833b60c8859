//! Requests about one object, and what came of them.

use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use super::{
    place::Address,
    refusal::{Failure, Refusal},
    sign::{CONTENT_SHA256, Signature, UNSIGNED_PAYLOAD},
};
use crate::{
    ByteRange, Checksum, ChecksumKind, Chunk, Code, Error,
    web::{
        answer::Facts,
        body::Body,
        client::{Ask, Client},
        place::Place,
    },
};

/// Longest document that says why something was refused.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// An object's metadata in which its transfer's id stands: by it a commit is recognised afterwards.
pub(super) const TRANSFER: HeaderName = HeaderName::from_static("x-amz-meta-staccato-transfer");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");

/// Checksums of objects, the cheapest first: a CRC-32 is computed of everything that is moved anyway.
const CHECKSUMS: [(HeaderName, ChecksumKind); 3] = [
    (HeaderName::from_static("x-amz-checksum-crc32"), ChecksumKind::Crc32),
    (HeaderName::from_static("x-amz-checksum-crc32c"), ChecksumKind::Crc32c),
    (HeaderName::from_static("x-amz-checksum-sha256"), ChecksumKind::Sha256),
];

/// Sends requests about one object.
pub(super) struct Calls {
    pub client: Client,
    pub signature: Signature,
    pub address: Address,
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Nothing,
    Document(&'a [u8]),
    Chunk(&'a Chunk),
}

/// What the store tells of an object without its bytes.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub facts: Facts,
    /// The name of its version, in a bucket that keeps them.
    pub version: Option<String>,
    pub checksum: Option<Checksum>,
    /// The transfer that wrote it.
    pub transfer: Option<String>,
}

impl Calls {
    /// Sends a request; an answer is one that says yes, or, to a GET, something about ranges and conditions. A refusal
    /// for a wrong clock is healed, once.
    pub async fn call(
        &self,
        method: Method,
        place: &Place,
        mut headers: HeaderMap,
        payload: Payload<'_>,
    ) -> Result<Body, Failure> {
        if self.signature.signs() {
            headers.insert(CONTENT_SHA256, payload_hash(payload, place.is_secure()));
        }
        if matches!(payload, Payload::Nothing) && matches!(method, Method::PUT | Method::POST) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut healed = false;
        loop {
            let mut answer = match payload {
                Payload::Nothing => self.client.send(method.clone(), place, &headers, &[]).await?,
                Payload::Document(bytes) => self.client.send(method.clone(), place, &headers, bytes).await?,
                Payload::Chunk(chunk) => self.client.send_chunk(method.clone(), place, &headers, chunk).await?,
            };
            let status = answer.head().status;
            let conditional = matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE);
            if status.is_success() || (method == Method::GET && conditional) {
                return Ok(answer);
            }
            let document = answer.document(REFUSAL_BYTES_MAX).await.unwrap_or_default();
            let refusal = Refusal::new(answer.head(), &document, &self.address.target);
            if refusal.word == "RequestTimeTooSkewed" && !healed && self.signature.follow_clock(&answer.head().headers)
            {
                healed = true;
                continue;
            }
            return Err(Failure::Refused(refusal));
        }
    }

    /// What there is of the object, or of one version of it; none where there is nothing.
    pub async fn look(&self, version: Option<&str>) -> Result<Option<Told>, Error> {
        let place = self.object(version)?;
        let mut explained = false;
        loop {
            let headers = HeaderMap::from_iter([(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"))]);
            let failure = match self.call(Method::HEAD, &place, headers, Payload::Nothing).await {
                Ok(answer) => return Ok(Some(Told::new(answer.head().facts(), &answer.head().headers))),
                Err(failure) if failure.has_status(StatusCode::NOT_FOUND) => return Ok(None),
                Err(failure @ Failure::Refused(_)) if !explained => failure,
                Err(failure) => return Err(failure.into()),
            };
            // Nothing comes with an answer to HEAD that would say why.
            self.explain(version).await.map_err(|why| match why {
                Failure::Refused(why) => why.error,
                Failure::Lost(_) => failure.into(),
            })?;
            explained = true;
        }
    }

    /// Why an object cannot be looked at: asks for its first byte, since a refusal of that brings a document.
    pub async fn explain(&self, version: Option<&str>) -> Result<(), Failure> {
        let ask = Ask { range: ByteRange::new(0, 1), ..Ask::default() };
        let mut answer = self.call(Method::GET, &self.object(version)?, ask.headers(), Payload::Nothing).await?;
        answer.skip(2).await?;
        Ok(())
    }

    /// Where the object is, or one version of it.
    pub fn object(&self, version: Option<&str>) -> Result<Place, Error> {
        match version {
            Some(version) => self.address.object(&[("versionId", version)]),
            None => self.address.object(&[]),
        }
    }

    /// An answer that makes no sense.
    pub fn nonsense(&self, what: &str) -> Error {
        Error::retry(Code::ProtocolViolation, format!("{}: the server {what}", self.address.target))
    }
}

impl Told {
    fn new(facts: Facts, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // The version "null" is that of objects from before a bucket kept versions: it is overwritten like any other.
        let version = text(&VERSION_ID).filter(|version| !version.is_empty() && *version != "null");
        Self {
            facts,
            version: version.map(str::to_owned),
            checksum: published(headers),
            transfer: text(&TRANSFER).map(str::to_owned),
        }
    }
}

/// The checksum of the whole object, if it has one. One of the parts' checksums (`COMPOSITE`, with `-PARTS` at its end)
/// says nothing of the whole.
fn published(headers: &HeaderMap) -> Option<Checksum> {
    if headers.get(CHECKSUM_TYPE).is_some_and(|kind| kind != "FULL_OBJECT") {
        return None;
    }
    CHECKSUMS.iter().find_map(|(name, kind)| {
        let digest = BASE64.decode(headers.get(name)?.as_bytes()).ok()?;
        (digest.len() == kind.digest_len()).then(|| Checksum::new(*kind, digest))
    })
}

/// What is signed of the body. TLS keeps what it carries from being changed, so that a part's own checksum, which is
/// signed as a header, is enough there; without TLS a chunk's SHA-256 is.
fn payload_hash(payload: Payload<'_>, secure: bool) -> HeaderValue {
    let digest = match payload {
        Payload::Chunk(_) if secure => return HeaderValue::from_static(UNSIGNED_PAYLOAD),
        Payload::Chunk(chunk) => sha256(chunk),
        Payload::Document(bytes) => Sha256::digest(bytes).into(),
        Payload::Nothing => Sha256::digest([]).into(),
    };
    HeaderValue::try_from(HEXLOWER.encode(&digest)).expect("hex fits a header")
}

/// SHA-256 of a chunk, also of one without bytes.
pub(super) fn sha256(chunk: &Chunk) -> [u8; 32] {
    let mut hasher = Sha256::new();
    chunk.pieces(|piece| hasher.update(piece));
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_checksums_of_the_whole_are_handed_on() {
        let crc = ("x-amz-checksum-crc32", "AAAAAQ==");
        let wanted = Some("crc32:00000001".parse().unwrap());
        assert_eq!(published(&headers(&[crc])), wanted);
        assert_eq!(published(&headers(&[crc, ("x-amz-checksum-type", "FULL_OBJECT")])), wanted);
        for other in [
            &[crc, ("x-amz-checksum-type", "COMPOSITE")][..],
            &[("x-amz-checksum-crc32", "AAAAAQ==-3")],
            &[("x-amz-checksum-crc32", "AAAA")],
            &[("x-amz-checksum-crc64nvme", "AAAAAAAAAAE=")],
            &[],
        ] {
            assert_eq!(published(&headers(other)), None, "{other:?}");
        }
    }

    #[test]
    fn a_version_that_is_overwritten_is_none() {
        for (version, wanted) in [("null", None), ("", None), ("3Lg", Some("3Lg"))] {
            let told = Told::new(Facts::default(), &headers(&[("x-amz-version-id", version)]));
            assert_eq!(told.version.as_deref(), wanted);
        }
    }

    #[test]
    fn zeros_that_are_not_stored_have_the_hash_of_zeros() {
        let len = (64 << 10) + 17;
        assert_eq!(sha256(&Chunk::zero(len)), <[u8; 32]>::from(Sha256::digest(vec![0; len])));
        assert_eq!(payload_hash(Payload::Chunk(&Chunk::zero(1)), true), UNSIGNED_PAYLOAD);
        assert_ne!(payload_hash(Payload::Chunk(&Chunk::zero(1)), false), UNSIGNED_PAYLOAD);
    }
}
