//! Requests about one object, and what came of them.

use std::rc::Rc;

use data_encoding::HEXLOWER_PERMISSIVE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{place::Address, refusal::Failure};
use crate::{
    Checksum, ChecksumKind, Code, Error,
    web::{answer::Facts, body::Body, client::Client, place::Place},
};

/// Longest page that says why something was refused.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// An object's metadata in which its transfer's id stands: by it a commit is recognised afterwards. `public`: else nobody
/// sees it with a TempURL.
pub(super) const TRANSFER: HeaderName = HeaderName::from_static("x-object-meta-public-staccato-transfer");
/// The same of the upload of which it is made.
pub(super) const UPLOAD: HeaderName = HeaderName::from_static("x-object-meta-public-staccato-upload");
/// Asks all replicas, and believes the newest.
const NEWEST: HeaderName = HeaderName::from_static("x-newest");
const STATIC_LARGE_OBJECT: HeaderName = HeaderName::from_static("x-static-large-object");
const DYNAMIC_LARGE_OBJECT: HeaderName = HeaderName::from_static("x-object-manifest");

/// Sends requests about one object.
pub(super) struct Calls {
    pub client: Rc<Client>,
    pub address: Address,
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Nothing,
    Document(&'a [u8]),
}

/// Which replicas are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replicas {
    /// One, which may be behind the others.
    Any,
    /// All: what the newest one says.
    Newest,
}

/// What the store tells of an object without its bytes.
pub(super) struct Told {
    pub facts: Facts,
    pub checksum: Option<Checksum>,
    /// Whether it is made of segments that a manifest names one by one.
    pub is_static_large_object: bool,
    /// The transfer that wrote it.
    pub transfer: Option<String>,
    /// The upload of which it is made.
    pub upload: Option<String>,
}

impl Calls {
    /// Sends a request; an answer is one that says yes, or, to a GET, something about ranges and conditions.
    pub async fn call(
        &self,
        method: Method,
        place: &Place,
        mut headers: HeaderMap,
        payload: Payload<'_>,
    ) -> Result<Body, Failure> {
        if matches!(payload, Payload::Nothing) && method == Method::PUT {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let reads = method == Method::GET;
        let mut answer = match payload {
            Payload::Nothing => self.client.send(method, place, &headers, &[]).await?,
            Payload::Document(bytes) => self.client.send(method, place, &headers, bytes).await?,
        };
        // Swift's tags have quotes or not, depending on the object and on how it is set up.
        answer.head_mut().quote_tag();
        let status = answer.head().status;
        let conditional = matches!(status, StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE);
        if status.is_success() || (reads && conditional) {
            return Ok(answer);
        }
        let said = answer.document(REFUSAL_BYTES_MAX).await.unwrap_or_default();
        Err(Failure::refused(answer.head(), &said, &self.address.target))
    }

    /// What there is of the object; none where there is nothing.
    pub async fn look(&self, replicas: Replicas) -> Result<Option<Told>, Error> {
        let head = self.head(&self.address.object(&[])?, replicas).await?;
        Ok(head.map(|answer| Told::new(answer.head().facts(), &answer.head().headers)))
    }

    /// The head of an object or a container; none where there is nothing.
    pub async fn head(&self, place: &Place, replicas: Replicas) -> Result<Option<Body>, Error> {
        let newest = (replicas == Replicas::Newest).then(|| (NEWEST, HeaderValue::from_static("true")));
        match self.call(Method::HEAD, place, newest.into_iter().collect(), Payload::Nothing).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.has_status(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The container of the object, as its head tells; an error where it is missing.
    pub async fn container(&self) -> Result<Body, Error> {
        let name = &self.address.target.container;
        let head = self.head(&self.address.container(name, &[])?, Replicas::Any).await?;
        head.ok_or_else(|| self.missing_container(name))
    }

    /// The error where a container is not there.
    pub fn missing_container(&self, name: &str) -> Error {
        let target = &self.address.target;
        Error::fatal(Code::BucketMissing, format!("{target}: there is no container {name}; create it, or name another"))
    }

    /// An answer that makes no sense.
    pub fn nonsense(&self, what: &str) -> Error {
        Error::retry(Code::ProtocolViolation, format!("{}: the server {what}", self.address.target))
    }

    /// The error where something is there that shall not be replaced.
    pub fn exists(&self) -> Error {
        let target = &self.address.target;
        let why = format!("{target} exists already; submit with \"overwrite\": \"always\" to replace it");
        Error::fatal(Code::DestinationExists, why)
    }
}

impl Told {
    fn new(facts: Facts, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let is_static_large_object = text(&STATIC_LARGE_OBJECT).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let plain = !is_static_large_object && !headers.contains_key(DYNAMIC_LARGE_OBJECT);
        Self {
            checksum: facts.strong_etag().filter(|_| plain).and_then(md5_of),
            facts,
            is_static_large_object,
            transfer: text(&TRANSFER).map(str::to_owned),
            upload: text(&UPLOAD).map(str::to_owned),
        }
    }

    /// Whether this transfer wrote it, with this length.
    pub fn is_of(&self, transfer: &str, length: u64) -> bool {
        self.transfer.as_deref() == Some(transfer) && self.facts.size == Some(length)
    }
}

/// The tag of a plain object is its MD5.
fn md5_of(tag: &str) -> Option<Checksum> {
    let digest = HEXLOWER_PERMISSIVE.decode(tag.trim_matches('"').as_bytes()).ok()?;
    (digest.len() == ChecksumKind::Md5.digest_len()).then(|| Checksum::new(ChecksumKind::Md5, digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::answer::Etag;

    fn told(headers: &[(&'static str, &'static str)]) -> Told {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let opaque = "\"0123456789abcdef0123456789abcdef\"".to_owned();
        let facts = Facts { size: Some(7), etag: Some(Etag { weak: false, opaque }), last_modified: None };
        Told::new(facts, &headers.collect())
    }

    #[test]
    fn only_the_tag_of_a_plain_object_is_its_checksum() {
        let md5 = "md5:0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(told(&[]).checksum, Some(md5));
        assert_eq!(told(&[("x-static-large-object", "True")]).checksum, None);
        assert_eq!(told(&[("x-object-manifest", "c/p")]).checksum, None);
        assert_eq!(md5_of("\"0123\""), None);
    }

    #[test]
    fn an_object_is_the_transfers_by_its_metadata_and_its_length() {
        let told = told(&[("x-object-meta-public-staccato-transfer", "t")]);
        assert!(told.is_of("t", 7));
        assert!(!told.is_of("t", 8) && !told.is_of("u", 7));
    }
}
