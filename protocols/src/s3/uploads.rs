//! The requests that make an object: a multipart upload from its beginning to its end.

use std::collections::BTreeMap;

use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use md5::{Digest, Md5};

use super::{
    calls::{Calls, Payload, TRANSFER, sha256},
    options::{PartChecksum, S3Options},
    refusal::{Failure, Refusal},
    xml::{Document, Part, completion},
};
use crate::{CRC_BLOCK, Chunk, Code, Error, contract::UPLOAD_BYTES_MAX, parts::PARTS_MAX};

/// Longest document: 1,000 parts with checksums, or 1,000 uploads with the longest keys.
pub(super) const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// Longest answer of which only the head matters.
const ANSWER_BYTES_MAX: usize = 64 << 10;

const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-checksum-algorithm");
const CHECKSUM_TYPE: HeaderName = HeaderName::from_static("x-amz-checksum-type");
const CHECKSUM_CRC32: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");
const CHECKSUM_SHA256: HeaderName = HeaderName::from_static("x-amz-checksum-sha256");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
const STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");

impl Calls {
    /// Begins an upload for a transfer; its id.
    pub async fn create(&self, transfer: &str, options: &S3Options) -> Result<String, Failure> {
        let mut headers = object_headers(transfer, options)?;
        let algorithm = match options.checksum {
            // The whole object's is made of its parts', and published with it.
            PartChecksum::Crc32 => Some(("CRC32", "FULL_OBJECT")),
            PartChecksum::Sha256 => Some(("SHA256", "COMPOSITE")),
            PartChecksum::Md5 | PartChecksum::None => None,
        };
        if let Some((algorithm, of)) = algorithm {
            headers.insert(CHECKSUM_ALGORITHM, HeaderValue::from_static(algorithm));
            headers.insert(CHECKSUM_TYPE, HeaderValue::from_static(of));
        }
        let place = self.address.object(&[("uploads", "")])?;
        let mut answer = self.call(Method::POST, &place, headers, Payload::Nothing).await?;
        match Document::parse(&answer.document(DOCUMENT_BYTES_MAX).await?) {
            Some(Document::InitiateMultipartUploadResult(begun))
                if (1..=UPLOAD_BYTES_MAX).contains(&begun.upload_id.len()) =>
            {
                Ok(begun.upload_id)
            }
            _ => Err(self.nonsense("began an upload without saying its id").into()),
        }
    }

    /// Writes a part; its tag. It lasts when this returns.
    pub async fn put_part(
        &self,
        upload: &str,
        number: u32,
        chunk: &Chunk,
        checksum: PartChecksum,
    ) -> Result<String, Failure> {
        let (headers, expected) = part_headers(chunk, checksum);
        let place = self.address.object(&[("partNumber", &number.to_string()), ("uploadId", upload)])?;
        let mut answer = self.call(Method::PUT, &place, headers, Payload::Chunk(chunk)).await?;
        answer.document(ANSWER_BYTES_MAX).await?;
        let headers = &answer.head().headers;
        let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(bare).unwrap_or_default();
        if tag.is_empty() {
            return Err(self.nonsense("took a part without giving it a tag").into());
        }
        if let Some(difference) = expected.difference(headers, tag) {
            return Err(Error::retry(
                Code::WriteFailed,
                format!("{}: part {number} is not what was sent: {difference}", self.address.target),
            )
            .into());
        }
        Ok(tag.to_owned())
    }

    /// Every part of an upload that is there; none where there is no such upload.
    pub async fn parts(&self, upload: &str) -> Result<Option<BTreeMap<u32, Part>>, Failure> {
        let (mut parts, mut marker) = (BTreeMap::new(), 0);
        loop {
            let text = marker.to_string();
            let mut query = vec![("uploadId", upload)];
            if marker > 0 {
                query.push(("part-number-marker", &text));
            }
            let place = self.address.object(&query)?;
            let mut answer = match self.call(Method::GET, &place, HeaderMap::new(), Payload::Nothing).await {
                Err(failure) if failure.says("NoSuchUpload") => return Ok(None),
                answer => answer?,
            };
            let Some(Document::ListPartsResult(page)) = Document::parse(&answer.document(DOCUMENT_BYTES_MAX).await?)
            else {
                return Err(self.nonsense("answered with something that is no list of parts").into());
            };
            let last = page.parts.iter().map(|part| part.number).max();
            parts.extend(page.parts.into_iter().map(|part| (part.number, part)));
            if !page.is_truncated {
                return Ok(Some(parts));
            }
            match page.next_part_number_marker.or(last) {
                Some(next) if next > marker && u64::from(next) <= PARTS_MAX => marker = next,
                _ => return Err(self.nonsense("cut a list of parts short and does not say where it goes on").into()),
            }
        }
    }

    /// Makes the object of these parts, at once and as a whole. `only_new`: not over one that is there.
    pub async fn complete(
        &self,
        upload: &str,
        parts: impl Iterator<Item = &Part>,
        only_new: bool,
    ) -> Result<(), Failure> {
        let place = self.address.object(&[("uploadId", upload)])?;
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"))]);
        if only_new {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let document = completion(parts);
        let mut answer = self.call(Method::POST, &place, headers, Payload::Document(document.as_bytes())).await?;
        // What began with 200 may still fail: the server has to say something while it puts the parts together.
        match Document::parse(&answer.document(DOCUMENT_BYTES_MAX).await?) {
            Some(Document::CompleteMultipartUploadResult(_)) => Ok(()),
            Some(Document::Error(fault)) => {
                Err(Failure::Refused(Refusal::of(answer.head(), fault, &self.address.target)))
            }
            _ => Err(self.nonsense("does not say whether the upload is complete").into()),
        }
    }

    /// Puts an empty object: an upload cannot be without parts.
    pub async fn put_empty(&self, transfer: &str, options: &S3Options, only_new: bool) -> Result<(), Failure> {
        let mut headers = object_headers(transfer, options)?;
        if only_new {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let mut answer = self.call(Method::PUT, &self.address.object(&[])?, headers, Payload::Nothing).await?;
        answer.document(ANSWER_BYTES_MAX).await?;
        Ok(())
    }

    /// Gives an upload up, also one that is not there. An object that is complete is not touched by that.
    pub async fn abort(&self, upload: &str) -> Result<(), Error> {
        let place = self.address.object(&[("uploadId", upload)])?;
        match self.call(Method::DELETE, &place, HeaderMap::new(), Payload::Nothing).await {
            Ok(mut answer) => answer.document(ANSWER_BYTES_MAX).await.map(drop),
            Err(failure) if failure.has_status(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// What is said of an object when it is begun.
fn object_headers(transfer: &str, options: &S3Options) -> Result<HeaderMap, Error> {
    let transfer = HeaderValue::from_str(transfer)
        .map_err(|_| Error::fatal(Code::Internal, "a transfer's id does not fit a header"))?;
    let mut headers = HeaderMap::from_iter([(TRANSFER, transfer)]);
    headers.extend(options.content_type.clone().map(|value| (header::CONTENT_TYPE, value)));
    headers.extend(options.storage_class.clone().map(|value| (STORAGE_CLASS, value)));
    Ok(headers)
}

/// What an answer about a part must agree with.
enum Expected {
    Header(HeaderName, HeaderValue),
    Tag(String),
    Anything,
}

/// The headers by which a server notices that a part was damaged.
fn part_headers(chunk: &Chunk, checksum: PartChecksum) -> (HeaderMap, Expected) {
    let base64 = |digest: &[u8]| HeaderValue::try_from(BASE64.encode(digest)).expect("base64 fits a header");
    let (name, value) = match checksum {
        PartChecksum::None => return (HeaderMap::new(), Expected::Anything),
        PartChecksum::Crc32 => (CHECKSUM_CRC32, base64(&crc32(chunk).to_be_bytes())),
        PartChecksum::Sha256 => (CHECKSUM_SHA256, base64(&sha256(chunk))),
        PartChecksum::Md5 => {
            let mut hasher = Md5::new();
            chunk.pieces(|piece| hasher.update(piece));
            let digest = hasher.finalize();
            let headers = HeaderMap::from_iter([(CONTENT_MD5, base64(&digest))]);
            return (headers, Expected::Tag(HEXLOWER.encode(&digest)));
        }
    };
    (HeaderMap::from_iter([(name.clone(), value.clone())]), Expected::Header(name, value))
}

impl Expected {
    /// In what an answer differs. One that says nothing differs in nothing; a tag is an MD5 only where it looks like
    /// one and nothing is encrypted.
    fn difference(&self, headers: &HeaderMap, tag: &str) -> Option<String> {
        match self {
            Self::Anything => None,
            Self::Header(name, sent) => {
                let told = headers.get(name).filter(|told| *told != sent)?;
                Some(format!("its {name} is {told:?} instead of {sent:?}"))
            }
            Self::Tag(md5) => {
                let digest = tag.len() == md5.len() && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
                let comparable = digest && !headers.contains_key(ENCRYPTION);
                (comparable && !tag.eq_ignore_ascii_case(md5)).then(|| format!("its MD5 is {tag} instead of {md5}"))
            }
        }
    }
}

/// A tag without its quotes: some servers leave them out in documents.
pub(super) fn bare(tag: &str) -> &str {
    tag.trim().trim_matches('"')
}

/// CRC-32 of a chunk, made of those of its blocks.
fn crc32(chunk: &Chunk) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    let mut left = chunk.len() as u64;
    for block in chunk.block_crcs() {
        let len = left.min(CRC_BLOCK);
        whole.combine(&crc32fast::Hasher::new_with_initial_len(block, len));
        left -= len;
    }
    whole.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_of_a_chunk_is_that_of_its_bytes() {
        for len in [1, CRC_BLOCK as usize, 5 * CRC_BLOCK as usize + 7] {
            assert_eq!(crc32(&Chunk::zero(len)), crc32fast::hash(&vec![0; len]), "{len}");
        }
    }

    #[test]
    fn a_tag_is_compared_only_where_it_is_an_md5() {
        let (headers, expected) = part_headers(&Chunk::zero(3), PartChecksum::Md5);
        assert_eq!(headers[CONTENT_MD5], "aT6a+E09/MceZA4AW9xeLg==");
        let plain = HeaderMap::new();
        assert_eq!(expected.difference(&plain, "693E9AF84D3DFCC71E640E005BDC5E2E"), None);
        assert_eq!(expected.difference(&plain, "opaque"), None);
        let other = "00000000000000000000000000000000";
        assert!(expected.difference(&plain, other).is_some());
        let encrypted = HeaderMap::from_iter([(ENCRYPTION, HeaderValue::from_static("aws:kms"))]);
        assert_eq!(expected.difference(&encrypted, other), None);
    }
}
