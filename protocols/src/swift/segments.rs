//! The requests that make an object: its segments, and the manifests that name them.

use std::{collections::BTreeMap, time::SystemTime};

use data_encoding::HEXLOWER;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::{
    calls::{Calls, Payload, Replicas, TRANSFER, UPLOAD},
    options::SwiftOptions,
    refusal::Failure,
    upload::Upload,
};
use crate::{Code, Error, web::place::Place};

/// Names on a page of a list.
const PAGE_NAMES: usize = 1000;
/// Longest page: with the longest names, each letter escaped.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Longest answer of which only the head matters.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A segment that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub bytes: u64,
    pub md5: String,
}

/// An object on a page of a list.
#[derive(Deserialize)]
pub(super) struct Listed {
    /// None where it stands for many.
    pub name: Option<String>,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    hash: String,
    #[serde(default)]
    last_modified: String,
}

impl Listed {
    /// When it was written.
    pub fn written(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339_weak(&self.last_modified).ok()
    }
}

/// What a manifest says of a segment, or of a manifest that stands for many.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    path: String,
    etag: String,
    size_bytes: u64,
}

impl Calls {
    /// Begins an upload: both containers are there then, and its marker.
    pub async fn begin(&self, upload: &Upload) -> Result<(), Error> {
        self.container().await?;
        let marker = self.address.segment(&upload.marker(&self.address.target.object), &[])?;
        let failure = match self.put(&marker, HeaderMap::new(), Payload::Nothing).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if !failure.has_status(StatusCode::NOT_FOUND) {
            return Err(failure.into());
        }
        let container = self.address.container(&self.address.segments, &[])?;
        self.put(&container, HeaderMap::new(), Payload::Nothing).await?;
        self.put(&marker, HeaderMap::new(), Payload::Nothing).await?;
        Ok(())
    }

    /// Whether an upload has begun and was neither completed nor given up.
    pub async fn is_under_way(&self, upload: &Upload) -> Result<bool, Error> {
        let marker = self.address.segment(&upload.marker(&self.address.target.object), &[])?;
        Ok(self.head(&marker, Replicas::Newest).await?.is_some())
    }

    /// The segments of an upload that are there, as far as Swift's list knows: it may be a moment behind.
    pub async fn segments(&self, upload: &Upload) -> Result<BTreeMap<u32, Segment>, Error> {
        let object = &self.address.target.object;
        let mut segments = BTreeMap::new();
        for Listed { name, bytes, hash, .. } in self.list(&upload.prefix(object)).await? {
            let number = name.and_then(|name| upload.number(object, &name));
            if let Some(number) = number.filter(|number| upload.cut.fits(*number, bytes)) {
                segments.insert(number, Segment { bytes, md5: hash });
            }
        }
        Ok(segments)
    }

    /// Everything in the container of segments whose name begins like this.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let (mut all, mut marker) = (Vec::<Listed>::new(), String::new());
        let limit = PAGE_NAMES.to_string();
        loop {
            let query = [("format", "json"), ("limit", &limit), ("prefix", prefix), ("marker", &marker)];
            let place = self.address.container(&self.address.segments, &query)?;
            let mut answer = match self.call(Method::GET, &place, HeaderMap::new(), Payload::Nothing).await {
                Err(failure) if failure.has_status(StatusCode::NOT_FOUND) => return Ok(all),
                answer => answer?,
            };
            let page = answer.document(PAGE_BYTES_MAX).await?;
            if answer.head().status == StatusCode::NO_CONTENT {
                return Ok(all);
            }
            let nonsense = || self.nonsense("answered with something that is no list of objects");
            let page: Vec<Listed> = serde_json::from_slice(&page).map_err(|_| nonsense())?;
            // The list ends with an empty page: how long pages are is up to the server.
            let Some(last) = page.last() else { return Ok(all) };
            match &last.name {
                Some(last) if *last > marker && last.starts_with(prefix) => marker.clone_from(last),
                _ => return Err(nonsense()),
            }
            all.extend(page);
        }
    }

    /// What the object's manifest says: its segments, or manifests of them where it cannot name so many (`most`).
    pub async fn manifest(&self, upload: &Upload, segments: &[Segment], most: usize) -> Result<Vec<Entry>, Error> {
        let object = &self.address.target.object;
        let numbered = segments.iter().zip(1..);
        let entries = numbered.map(|(segment, number)| self.entry(&upload.segment(object, number), segment));
        let entries: Vec<_> = entries.collect();
        if entries.len() <= most {
            return Ok(entries);
        }
        let mut above = Vec::new();
        for (group, number) in entries.chunks(most).zip(1..) {
            let name = upload.manifest(object, number);
            let place = self.address.segment(&name, &[("multipart-manifest", "put")])?;
            let document = serde_json::to_vec(group).expect("entries are text and numbers");
            self.put(&place, HeaderMap::new(), Payload::Document(&document)).await?;
            above.push(self.entry(&name, &of_group(group)));
        }
        Ok(above)
    }

    /// Makes the object of what its manifest names, at once and as a whole. `only_new`: not over one that is there.
    pub async fn complete(
        &self,
        upload: &Upload,
        manifest: &[Entry],
        options: &SwiftOptions,
        only_new: bool,
    ) -> Result<(), Failure> {
        let mut headers = object_headers(&upload.transfer, options, only_new)?;
        headers.insert(UPLOAD, header_of(&upload.to_string())?);
        let place = self.address.object(&[("multipart-manifest", "put")])?;
        let document = serde_json::to_vec(manifest).expect("entries are text and numbers");
        self.put(&place, headers, Payload::Document(&document)).await?;
        Ok(())
    }

    /// Puts an empty object: a manifest cannot be without segments.
    pub async fn put_empty(&self, transfer: &str, options: &SwiftOptions, only_new: bool) -> Result<(), Failure> {
        let headers = object_headers(transfer, options, only_new)?;
        self.put(&self.address.object(&[])?, headers, Payload::Nothing).await?;
        Ok(())
    }

    /// The error for a failure of which 404 means that this container is missing.
    pub fn unless_missing(&self, failure: Failure, container: &str) -> Error {
        match failure.has_status(StatusCode::NOT_FOUND) {
            true => self.missing_container(container),
            false => failure.into(),
        }
    }

    /// Puts something.
    async fn put(&self, place: &Place, headers: HeaderMap, payload: Payload<'_>) -> Result<(), Failure> {
        let mut answer = self.call(Method::PUT, place, headers, payload).await?;
        answer.document(ANSWER_BYTES_MAX).await?;
        Ok(())
    }

    fn entry(&self, name: &str, segment: &Segment) -> Entry {
        let path = format!("/{}/{name}", self.address.segments);
        Entry { path, etag: segment.md5.clone(), size_bytes: segment.bytes }
    }
}

/// What stands for a group of segments: the tag of a large object is the MD5 of its segments' tags.
fn of_group(group: &[Entry]) -> Segment {
    let mut hasher = Md5::new();
    group.iter().for_each(|entry| hasher.update(&entry.etag));
    Segment { bytes: group.iter().map(|entry| entry.size_bytes).sum(), md5: HEXLOWER.encode(&hasher.finalize()) }
}

/// What is said of an object when it is made.
pub(super) fn object_headers(transfer: &str, options: &SwiftOptions, only_new: bool) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::from_iter([(TRANSFER, header_of(transfer)?)]);
    headers.extend(options.content_type.clone().map(|value| (header::CONTENT_TYPE, value)));
    if only_new {
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    Ok(headers)
}

fn header_of(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| Error::fatal(Code::Internal, "a transfer's id does not fit a header"))
}
