//! Objects in memory behind the part of S3 that the module speaks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use data_encoding::{BASE64, HEXLOWER};
use md5::{Digest, Md5};
use quick_xml::escape::escape;
use url::Url;

use crate::testing::http_server::{Handler, Reply, Seen};

/// Parts on a page of a list: few, so that lists have pages.
const PAGE_PARTS: usize = 2;

/// The same of uploads.
const PAGE_UPLOADS: usize = 2;

/// When every upload was begun.
pub(super) const BEGUN: &str = "2026-11-29T10:00:00.000Z";

/// How far clocks may differ.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// A bucket named `bucket`.
#[derive(Default)]
pub(super) struct Store {
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    still: Mutex<Option<&'static str>>,
}

#[derive(Default)]
pub(super) struct State {
    pub objects: BTreeMap<String, Object>,
    pub uploads: BTreeMap<String, Upload>,
    begun: usize,
    /// How far the store's clock is ahead.
    pub ahead: Duration,
}

#[derive(Clone, Default)]
pub(super) struct Object {
    pub bytes: Vec<u8>,
    pub tag: String,
    pub headers: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
pub(super) struct Upload {
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub parts: BTreeMap<u32, Object>,
}

/// Is asked before the store answers: may change what it has and what it is sent, or answer instead.
type Fault = Box<dyn FnMut(&mut State, &Seen, &mut Vec<u8>) -> Option<Reply> + Send>;

impl Store {
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.state().objects.insert(key.to_owned(), Object::new(bytes.to_vec(), BTreeMap::new()));
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state().objects.get(key).map(|object| object.bytes.clone())
    }

    /// How many uploads are not complete.
    pub fn uploads(&self) -> usize {
        self.state().uploads.len()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// From now on, asks `fault` about requests of this method whose target holds this text, the `times` first of them.
    pub fn fault(
        &self,
        method: &'static str,
        text: &'static str,
        mut times: usize,
        mut fault: impl FnMut(&mut State, &Seen, &mut Vec<u8>) -> Option<Reply> + Send + 'static,
    ) {
        lock(&self.faults).push(Box::new(move |state, request, body| {
            if times == 0 || request.method != method || !request.target.contains(text) {
                return None;
            }
            times -= 1;
            fault(state, request, body)
        }));
    }

    /// From now on, stands still at requests whose target holds this text, their body unread.
    pub fn stand_still(&self, text: &'static str) {
        *lock(&self.still) = Some(text);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handler for Store {
    fn takes(&self, request: &Seen) -> bool {
        !lock(&self.still).is_some_and(|text| request.target.contains(text))
    }

    fn answer(&self, request: &Seen, body: &[u8]) -> Option<Reply> {
        let (mut state, mut body) = (self.state(), body.to_vec());
        let date = httpdate::fmt_http_date(SystemTime::now() + state.ahead);
        let fault = lock(&self.faults).iter_mut().find_map(|fault| fault(&mut state, request, &mut body));
        let reply = fault.or_else(|| state.skewed(request)).unwrap_or_else(|| state.answer(request, body));
        Some(reply.header("Date", date))
    }
}

/// A refusal with its document.
pub(super) fn refusal(status: u16, word: &str) -> Reply {
    Reply::new(status).body(format!("<?xml version=\"1.0\"?>\n<Error><Code>{word}</Code><Message>so</Message></Error>"))
}

impl Object {
    fn new(bytes: Vec<u8>, headers: BTreeMap<String, String>) -> Self {
        Self { tag: format!("\"{}\"", HEXLOWER.encode(&Md5::digest(&bytes))), bytes, headers }
    }
}

impl State {
    /// The refusal of a signature by another clock.
    fn skewed(&self, request: &Seen) -> Option<Reply> {
        let signed = request.headers.get("x-amz-date")?;
        // 20261130T080239Z
        let (date, time) = signed.split_at_checked(9)?;
        let text =
            format!("{}-{}-{}T{}:{}:{}", &date[..4], &date[4..6], &date[6..8], &time[..2], &time[2..4], &time[4..6]);
        let ours = humantime::parse_rfc3339_weak(&text).ok()?;
        let theirs = SystemTime::now() + self.ahead;
        let apart = theirs.duration_since(ours).unwrap_or_else(|early| early.duration());
        (apart > SKEW_MAX).then(|| refusal(403, "RequestTimeTooSkewed"))
    }

    pub fn answer(&mut self, request: &Seen, body: Vec<u8>) -> Reply {
        let url = Url::parse(&format!("http://h{}", request.target)).expect("the target is a path");
        let query: BTreeMap<String, String> =
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let path = percent_encoding::percent_decode_str(url.path()).decode_utf8().expect("keys are UTF-8").into_owned();
        let Some(key) = path.strip_prefix("/bucket/") else { return refusal(404, "NoSuchBucket") };
        let upload = query.get("uploadId").cloned();
        match (request.method.as_str(), upload) {
            ("POST", None) if query.contains_key("uploads") => self.begin(key, request),
            ("GET", None) if query.contains_key("uploads") => self.list_uploads(&query),
            ("PUT", Some(upload)) => self.put_part(&upload, query["partNumber"].parse().unwrap(), request, body),
            ("GET", Some(upload)) => self.list_parts(&upload, query.get("part-number-marker")),
            ("POST", Some(upload)) => self.complete(&upload, key, request, &body),
            ("DELETE", Some(upload)) => match self.uploads.remove(&upload) {
                Some(_) => Reply::new(204),
                None => refusal(404, "NoSuchUpload"),
            },
            ("PUT", None) => self.put_object(key, request, body),
            ("GET" | "HEAD", None) => self.get_object(key, request),
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    fn begin(&mut self, key: &str, request: &Seen) -> Reply {
        self.begun += 1;
        // As those of real stores: with characters that a query must encode.
        let id = format!("upload+{}/=", self.begun);
        let upload = Upload { key: key.to_owned(), headers: metadata(request), ..Upload::default() };
        self.uploads.insert(id.clone(), upload);
        Reply::new(200)
            .body(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn put_part(&mut self, upload: &str, number: u32, request: &Seen, body: Vec<u8>) -> Reply {
        let Some(upload) = self.uploads.get_mut(upload) else { return refusal(404, "NoSuchUpload") };
        let crc32 = BASE64.encode(&crc32fast::hash(&body).to_be_bytes());
        let md5 = BASE64.encode(&Md5::digest(&body));
        let differs = |name: &str, is: &str| request.headers.get(name).is_some_and(|sent| sent != is);
        if differs("x-amz-checksum-crc32", &crc32) || differs("content-md5", &md5) {
            return refusal(400, "BadDigest");
        }
        let headers = BTreeMap::from([("x-amz-checksum-crc32".to_owned(), crc32)]);
        let part = Object::new(body, headers.clone());
        let reply = Reply::new(200).header("ETag", &part.tag);
        upload.parts.insert(number, part);
        headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }

    fn list_parts(&self, upload: &str, marker: Option<&String>) -> Reply {
        let Some(upload) = self.uploads.get(upload) else { return refusal(404, "NoSuchUpload") };
        let marker: u32 = marker.map_or(0, |marker| marker.parse().unwrap());
        let mut left = upload.parts.range(marker + 1..);
        let page: Vec<_> = left.by_ref().take(PAGE_PARTS).collect();
        let parts: String = page
            .iter()
            .map(|(number, part)| {
                let (tag, size) = (part.tag.replace('"', "&quot;"), part.bytes.len());
                let crc32 = &part.headers["x-amz-checksum-crc32"];
                format!(
                    "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag><Size>{size}</Size>\
                     <ChecksumCRC32>{crc32}</ChecksumCRC32></Part>"
                )
            })
            .collect();
        let truncated = left.next().is_some();
        let next = page.last().map_or(0, |(number, _)| **number);
        Reply::new(200).body(format!(
            "<ListPartsResult><NextPartNumberMarker>{next}</NextPartNumberMarker>\
             <IsTruncated>{truncated}</IsTruncated>{parts}</ListPartsResult>"
        ))
    }

    fn list_uploads(&self, query: &BTreeMap<String, String>) -> Reply {
        let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let mut all: Vec<_> = self.uploads.iter().map(|(id, upload)| (upload.key.as_str(), id.as_str())).collect();
        all.sort_unstable();
        let after = (text("key-marker"), text("upload-id-marker"));
        let mut left = all.into_iter().filter(|upload| upload.0.starts_with(text("prefix")) && *upload > after);
        let page: Vec<_> = left.by_ref().take(PAGE_UPLOADS).collect();
        let truncated = left.next().is_some();
        let (key, id) = page.last().copied().unwrap_or_default();
        let describe = |(key, id): &(&str, &str)| {
            let (key, id) = (escape(*key), escape(*id));
            format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{BEGUN}</Initiated></Upload>")
        };
        let uploads: String = page.iter().map(describe).collect();
        Reply::new(200).body(format!(
            "<ListMultipartUploadsResult><IsTruncated>{truncated}</IsTruncated><NextKeyMarker>{}</NextKeyMarker>\
             <NextUploadIdMarker>{}</NextUploadIdMarker>{uploads}</ListMultipartUploadsResult>",
            escape(key),
            escape(id)
        ))
    }

    fn complete(&mut self, id: &str, key: &str, request: &Seen, document: &[u8]) -> Reply {
        let Some(upload) = self.uploads.get(id) else { return refusal(404, "NoSuchUpload") };
        if request.headers.contains_key("if-none-match") && self.objects.contains_key(key) {
            return refusal(412, "PreconditionFailed");
        }
        let document = String::from_utf8_lossy(document).replace("&quot;", "\"");
        let named = |number: &u32, part: &Object| {
            document.contains(&format!("<PartNumber>{number}</PartNumber><ETag>{}</ETag>", part.tag))
        };
        let count = document.matches("<Part>").count();
        let parts: Vec<_> = upload.parts.iter().filter(|(number, part)| named(number, part)).collect();
        if parts.len() != count || count == 0 {
            return refusal(400, "InvalidPart");
        }
        let bytes = parts.iter().flat_map(|(_, part)| part.bytes.clone()).collect();
        let mut object = Object::new(bytes, upload.headers.clone());
        object.tag = format!("{}-{count}\"", object.tag.trim_end_matches('"'));
        self.uploads.remove(id);
        self.objects.insert(key.to_owned(), object);
        Reply::new(200).body("<CompleteMultipartUploadResult><Key>x</Key></CompleteMultipartUploadResult>")
    }

    fn put_object(&mut self, key: &str, request: &Seen, body: Vec<u8>) -> Reply {
        if request.headers.contains_key("if-none-match") && self.objects.contains_key(key) {
            return refusal(412, "PreconditionFailed");
        }
        let object = Object::new(body, metadata(request));
        let reply = Reply::new(200).header("ETag", &object.tag);
        self.objects.insert(key.to_owned(), object);
        reply
    }

    fn get_object(&self, key: &str, request: &Seen) -> Reply {
        let Some(object) = self.objects.get(key) else { return refusal(404, "NoSuchKey") };
        if request.headers.get("if-match").is_some_and(|tag| *tag != object.tag) {
            return refusal(412, "PreconditionFailed");
        }
        let (size, range) = (object.bytes.len(), request.headers.get("range"));
        let reply = match range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            None => Reply::new(200).body(object.bytes.clone()),
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                if first >= size {
                    return refusal(416, "InvalidRange").header("Content-Range", format!("bytes */{size}"));
                }
                let last = last.min(size - 1);
                let header = format!("bytes {first}-{last}/{size}");
                Reply::new(206).header("Content-Range", header).body(&object.bytes[first..=last])
            }
        };
        let reply = reply.header("ETag", &object.tag);
        object.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

/// What is kept of a request's headers with the object.
fn metadata(request: &Seen) -> BTreeMap<String, String> {
    let kept = |name: &String| name.starts_with("x-amz-meta-") || name == "content-type";
    request.headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
