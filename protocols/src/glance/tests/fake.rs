//! A Glance.

use std::{
    collections::BTreeMap,
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
        let hex = |digest: &[u8]| data_encoding::HEXLOWER.encode(digest);
        let record = json!({
            "id": id, "status": "active", "size": bytes.len(), "checksum": hex(&Md5::digest(bytes)),
            "os_hash_algo": "sha512", "os_hash_value": hex(&Sha512::digest(bytes)),
            "created_at": "2026-11-30T08:13:12Z", "tags": [], "visibility": "shared",
        });
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

    /// Answers the next requests for records like this.
    pub fn trouble(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state).troubles = replies.into_iter().collect();
    }
}

impl State {
    fn answer(&mut self, request: &Seen) -> Option<Reply> {
        if self.tokens.as_ref().is_some_and(|tokens| !tokens.open(request)) {
            return Some(Reply::status(401).header("WWW-Authenticate", "Keystone uri=\"http://k\""));
        }
        let id = request.target.strip_prefix("/v2/images/")?;
        if let Some(id) = id.strip_suffix("/file") {
            return (!self.records.contains_key(id)).then(|| Reply::status(404));
        }
        if !self.troubles.is_empty() {
            return Some(self.troubles.remove(0));
        }
        Some(match self.records.get(id) {
            Some(record) if request.method == "GET" => Reply::json(200, record),
            Some(_) => Reply::status(405),
            None => Reply::status(404),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
