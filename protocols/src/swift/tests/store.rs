//! Objects in memory behind the part of Swift that the module speaks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};
use serde_json::{Value, json};
use url::Url;

use crate::testing::{
    http_server::{Handler, Reply, Seen},
    keystone::Tokens,
};

/// Names on a page of a list: few, so that lists have pages.
const PAGE_NAMES: usize = 2;

/// The account `/v1/AUTH_demo`, with the container `c`.
pub(super) struct Store {
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    still: Mutex<Option<&'static str>>,
    /// Whose tokens open it, but for what it says of itself; everybody may do everything without.
    pub tokens: Option<Tokens>,
}

#[derive(Default)]
pub(super) struct State {
    pub containers: BTreeMap<String, BTreeMap<String, Object>>,
    /// What heads of containers have besides.
    pub container_headers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Default)]
pub(super) struct Object {
    pub bytes: Vec<u8>,
    /// With quotes or without, as Swift has them.
    pub tag: String,
    pub headers: BTreeMap<String, String>,
    /// What it is made of, container and name.
    pub segments: Option<Vec<(String, String)>>,
}

/// Is asked before the store answers: may change what it has and what it is sent, or answer instead.
type Fault = Box<dyn FnMut(&mut State, &Seen, &mut Vec<u8>) -> Option<Reply> + Send>;

impl Store {
    pub fn new(tokens: Option<Tokens>) -> Self {
        let containers = BTreeMap::from([("c".to_owned(), BTreeMap::new())]);
        let state = State { containers, ..State::default() };
        Self { state: Mutex::new(state), faults: Mutex::default(), still: Mutex::default(), tokens }
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        let object = Object::plain(bytes.to_vec(), BTreeMap::new());
        self.state().containers.get_mut("c").expect("it is there").insert(name.to_owned(), object);
    }

    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.state().content("c", name)
    }

    /// Names of what lies beside the objects and is not what they are made of.
    pub fn left_overs(&self) -> Vec<String> {
        let state = self.state();
        let mut used = Vec::new();
        let mut look = state.containers["c"].values().filter_map(|object| object.segments.clone()).collect::<Vec<_>>();
        while let Some(segments) = look.pop() {
            let deeper =
                |(container, name): &(String, String)| state.containers.get(container)?.get(name)?.segments.clone();
            look.extend(segments.iter().filter_map(deeper));
            used.extend(segments);
        }
        let segments = state.containers.get("c_segments").into_iter().flat_map(BTreeMap::keys);
        segments.filter(|name| !used.contains(&("c_segments".into(), (*name).clone()))).cloned().collect()
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
        let open = request.target == "/info" || self.tokens.as_ref().is_none_or(|tokens| tokens.open(request));
        if !open {
            return Some(Reply::new(401));
        }
        let (mut state, mut body) = (self.state(), body.to_vec());
        let fault = lock(&self.faults).iter_mut().find_map(|fault| fault(&mut state, request, &mut body));
        Some(fault.unwrap_or_else(|| state.answer(request, body)))
    }
}

impl Object {
    pub fn plain(bytes: Vec<u8>, headers: BTreeMap<String, String>) -> Self {
        Self { tag: HEXLOWER.encode(&Md5::digest(&bytes)), bytes, headers, segments: None }
    }
}

impl State {
    pub fn answer(&mut self, request: &Seen, body: Vec<u8>) -> Reply {
        let url = Url::parse(&format!("http://h{}", request.target)).expect("the target is a path");
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        let path =
            percent_encoding::percent_decode_str(url.path()).decode_utf8().expect("names are UTF-8").into_owned();
        let Some(path) = path.strip_prefix("/v1/AUTH_demo/") else { return Reply::new(404) };
        let Some((container, name)) = path.split_once('/') else { return self.container(path, request, &query) };
        let Some(objects) = self.containers.get_mut(container) else { return Reply::new(404).body("<html>none") };
        match request.method.as_str() {
            "PUT" if request.headers.contains_key("if-none-match") && objects.contains_key(name) => Reply::new(412),
            "PUT" if query.contains_key("multipart-manifest") => self.manifest(container, name, request, &body),
            "PUT" => {
                let object = Object::plain(body, metadata(request));
                if request.headers.get("etag").is_some_and(|sent| *sent != object.tag) {
                    return Reply::new(422);
                }
                let reply = Reply::new(201).header("ETag", &object.tag);
                objects.insert(name.to_owned(), object);
                reply
            }
            "DELETE" => Reply::new(if objects.remove(name).is_some() { 204 } else { 404 }),
            "GET" | "HEAD" => self.object(container, name, request),
            _ => Reply::new(405),
        }
    }

    fn container(&mut self, name: &str, request: &Seen, query: &BTreeMap<String, String>) -> Reply {
        match (request.method.as_str(), self.containers.get(name)) {
            ("PUT", _) => {
                self.containers.entry(name.to_owned()).or_default();
                Reply::new(201)
            }
            (_, None) => Reply::new(404),
            ("HEAD", Some(_)) => {
                self.container_headers.iter().fold(Reply::new(204), |reply, (name, value)| reply.header(name, *value))
            }
            (_, Some(objects)) => {
                let (prefix, marker) = (&query["prefix"], query.get("marker").cloned().unwrap_or_default());
                let found = objects.iter().filter(|(name, _)| name.starts_with(prefix) && **name > marker);
                let page = found.take(PAGE_NAMES).map(|(name, object)| {
                    json!({"name": name, "bytes": object.bytes.len(), "hash": object.tag.trim_matches('"')})
                });
                Reply::json(200, &Value::Array(page.collect()))
            }
        }
    }

    fn manifest(&mut self, container: &str, name: &str, request: &Seen, body: &[u8]) -> Reply {
        let entries: Vec<Value> = serde_json::from_slice(body).expect("a manifest is a list");
        let (mut segments, mut tags) = (Vec::new(), String::new());
        for entry in &entries {
            let path = entry["path"].as_str().and_then(|path| path.strip_prefix('/')?.split_once('/'));
            let (container, name) = path.expect("a path names a container and an object");
            let tag = self.containers.get(container).and_then(|objects| objects.get(name)).map(|object| &object.tag);
            let len = self.content(container, name).map(|bytes| bytes.len());
            if tag.map(|tag| tag.trim_matches('"')) != entry["etag"].as_str()
                || len.map(|len| json!(len)) != Some(entry["size_bytes"].clone())
            {
                return Reply::new(400).body("Errors: Etag Mismatch");
            }
            tags.push_str(entry["etag"].as_str().expect("it was compared"));
            segments.push((container.to_owned(), name.to_owned()));
        }
        if entries.is_empty() || entries.len() > 1000 {
            return Reply::new(400).body("a manifest has 1 to 1000 segments");
        }
        let tag = format!("\"{}\"", HEXLOWER.encode(&Md5::digest(&tags)));
        let reply = Reply::new(201).header("ETag", &tag);
        let mut headers = metadata(request);
        headers.insert("x-static-large-object".into(), "True".into());
        let object = Object { bytes: Vec::new(), tag, headers, segments: Some(segments) };
        self.containers.get_mut(container).expect("it was asked for").insert(name.to_owned(), object);
        reply
    }

    /// What an object holds; none where it, or something of which it is made, is not there.
    pub fn content(&self, container: &str, name: &str) -> Option<Vec<u8>> {
        let object = self.containers.get(container)?.get(name)?;
        let Some(segments) = &object.segments else { return Some(object.bytes.clone()) };
        let pieces = segments.iter().map(|(container, name)| self.content(container, name));
        Some(pieces.collect::<Option<Vec<_>>>()?.concat())
    }

    fn object(&self, container: &str, name: &str, request: &Seen) -> Reply {
        let Some(object) = self.containers[container].get(name) else { return Reply::new(404) };
        // Tags are compared without their quotes.
        let bare = |tag: &String| tag.trim_matches('"').to_owned();
        if request.headers.get("if-match").is_some_and(|tag| bare(tag) != bare(&object.tag)) {
            return Reply::new(412);
        }
        let Some(bytes) = self.content(container, name) else { return Reply::new(409) };
        let (size, range) = (bytes.len(), request.headers.get("range"));
        let reply = match range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
            None => Reply::new(200).body(bytes),
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                if first >= size {
                    return Reply::new(416).header("Content-Range", format!("bytes */{size}"));
                }
                let last = last.min(size - 1);
                let header = format!("bytes {first}-{last}/{size}");
                Reply::new(206).header("Content-Range", header).body(&bytes[first..=last])
            }
        };
        let reply = reply.header("ETag", &object.tag);
        object.headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }
}

/// What is kept of a request's headers with the object.
fn metadata(request: &Seen) -> BTreeMap<String, String> {
    let kept = |name: &String| name.starts_with("x-object-meta-") || name == "content-type";
    request.headers.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
