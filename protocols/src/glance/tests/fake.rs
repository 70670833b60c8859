//! A Glance.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use md5::{Digest, Md5};
use serde_json::Value;
use sha2::Sha512;

use super::*;
use crate::testing::{http_server::Seen, keystone::Tokens};

/// A running Glance. Records are kept here, the data of images is the server's pages.
pub struct FakeGlance {
    pub server: HttpServer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, Value>,
    /// Tokens that open it; anybody may in without.
    tokens: Option<Tokens>,
    /// Answers to the next requests that ask for a record.
    troubles: Vec<Reply>,
    /// Answers to the next requests that bring data.
    refusals: Vec<Reply>,
    /// Data of images that were made.
    data: BTreeMap<String, Vec<u8>>,
    /// Ids that were given away: none is given twice.
    used: BTreeSet<String>,
    /// What becomes of data that comes: the last byte is another.
    spoils: bool,
}

impl FakeGlance {
    /// One that anybody may ask.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// One that wants tokens of this Keystone, and is in its catalogue.
    pub fn behind(keystone: &Keystone) -> Self {
        let glance = Self::launch(Some(keystone.tokens()));
        keystone.serve("image", &glance.server.url(""));
        glance
    }

    fn launch(tokens: Option<Tokens>) -> Self {
        let (server, state) = (HttpServer::start(), Arc::new(Mutex::new(State { tokens, ..State::default() })));
        let answering = state.clone();
        server.program(move |request| lock(&answering).answer(request));
        Self { server, state }
    }

    /// The URL of an image.
    pub fn url(&self, id: &str) -> String {
        format!("glance://{}/{id}", self.server.address())
    }

    /// Puts an image there, honest in everything.
    pub fn put(&self, id: &str, bytes: &[u8]) {
        self.put_page(id, bytes, Page::new(bytes).etag(None));
    }

    /// The same, whose data is served in its own way.
    pub fn put_page(&self, id: &str, bytes: &[u8], page: Page) {
        let mut record = json!({ "id": id, "created_at": "2026-11-30T08:13:12Z", "tags": [], "visibility": "shared" });
        complete(&mut record, bytes);
        lock(&self.state).records.insert(id.into(), record);
        self.server.put(&format!("/v2/images/{id}/file"), page);
    }

    /// Changes a field of a record.
    pub fn set(&self, id: &str, field: &str, value: Value) {
        lock(&self.state).records.get_mut(id).expect("it is there")[field] = value;
    }

    /// Deletes an image.
    pub fn delete(&self, id: &str) {
        lock(&self.state).records.remove(id);
    }

    /// Answers the next requests that bring data like this.
    pub fn refuse(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state).refusals = replies.into_iter().collect();
    }

    /// Spoils the data of images that are made from now on.
    pub fn spoil(&self) {
        lock(&self.state).spoils = true;
    }

    /// A record, as it is now.
    pub fn record(&self, id: &str) -> Option<Value> {
        lock(&self.state).records.get(id).cloned()
    }

    /// The data of an active image that was made.
    pub fn data(&self, id: &str) -> Option<Vec<u8>> {
        let state = lock(&self.state);
        let active = state.records.get(id).is_some_and(|record| record["status"] == "active");
        active.then(|| state.data[id].clone())
    }

    /// Images that wait for their data.
    pub fn waiting(&self) -> usize {
        lock(&self.state).records.values().filter(|record| record["status"] != "active").count()
    }

    /// Puts an image there that somebody else made.
    pub fn place(&self, id: &str, bytes: &[u8]) {
        self.put(id, bytes);
        lock(&self.state).data.insert(id.into(), bytes.into());
    }

    /// Answers the next requests for records like this.
    pub fn trouble(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state).troubles = replies.into_iter().collect();
    }
}

impl State {
    fn answer(&mut self, request: &Seen) -> Option<Reply> {
        if self.tokens.as_ref().is_some_and(|tokens| !tokens.open(request)) {
            return Some(Reply::new(401).header("WWW-Authenticate", "Keystone uri=\"http://k\""));
        }
        if (request.method.as_str(), request.target.as_str()) == ("POST", "/v2/images") {
            return Some(self.make(request));
        }
        let id = request.target.strip_prefix("/v2/images/")?;
        if let Some(id) = id.strip_suffix("/file") {
            if request.method == "PUT" {
                return Some(self.take(id, request));
            }
            return (!self.records.contains_key(id)).then(|| Reply::new(404));
        }
        if !self.troubles.is_empty() {
            return Some(self.troubles.remove(0));
        }
        Some(match self.records.get(id) {
            Some(record) if request.method == "GET" => Reply::json(200, record),
            Some(_) if request.method == "DELETE" => {
                self.records.remove(id);
                Reply::new(204)
            }
            Some(_) if request.method == "PATCH" => {
                self.records.get_mut(id).expect("it is there")["protected"] = true.into();
                Reply::new(200)
            }
            Some(_) => Reply::new(405),
            None => Reply::new(404),
        })
    }

    fn make(&mut self, request: &Seen) -> Reply {
        if !self.troubles.is_empty() {
            return self.troubles.remove(0);
        }
        let mut record: Value = serde_json::from_slice(&request.body).expect("a document");
        let id = record["id"].as_str().expect("an id").to_owned();
        if self.records.contains_key(&id) || !self.used.insert(id.clone()) {
            return Reply::new(409);
        }
        record["status"] = "queued".into();
        record["size"] = Value::Null;
        self.records.insert(id, record.clone());
        Reply::json(201, &record)
    }

    /// Data that comes: an image is active once it is there whole.
    fn take(&mut self, id: &str, request: &Seen) -> Reply {
        if !self.refusals.is_empty() {
            return self.refusals.remove(0);
        }
        let Some(record) = self.records.get_mut(id) else { return Reply::new(410) };
        if record["status"] != "queued" {
            return Reply::new(409);
        }
        if request.whole {
            let mut data = request.body.clone();
            if self.spoils
                && let Some(last) = data.last_mut()
            {
                *last ^= 1;
            }
            complete(record, &data);
            self.data.insert(id.to_owned(), data);
        }
        Reply::new(204)
    }
}

/// Gives a record its data.
fn complete(record: &mut Value, bytes: &[u8]) {
    let hex = |digest: &[u8]| data_encoding::HEXLOWER.encode(digest);
    record["status"] = "active".into();
    record["size"] = bytes.len().into();
    record["checksum"] = hex(&Md5::digest(bytes)).into();
    record["os_hash_algo"] = "sha512".into();
    record["os_hash_value"] = hex(&Sha512::digest(bytes)).into();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
