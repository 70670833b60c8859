//! A service without sockets: requests go to the router, the ledger lies in memory.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use staccato_dataplane::attempt::{CheckpointReport, Completion, Outcome, StageTimes, VerifiedRange};
use staccato_protocols::{ByteRange, Code, Error, web::networks::Networks};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use crate::{
    api::{Api, access::Peer, keystone::Gate, problem::PROBLEM_JSON, router},
    config::registry,
    ledger::{INDEXES, Ledger, LedgerConfig, Seal, SystemEnvironment},
    model::{State, TransferId, host::Announcement},
    policy::Policy,
    store::{MemoryStore, SharedStore},
};

/// Who asks unless a test says otherwise.
pub const OWNER: &str = "alice";
const EXECUTOR: &str = "executor-under-test";

pub struct Driver {
    pub ledger: Ledger,
    api: Api,
    pub router: Router,
    pub stop: watch::Sender<bool>,
    pub large_bodies: Arc<Semaphore>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Driver {
    /// A service that offers files under `/data`, http, zero and null. Nothing is moved: no executor runs.
    pub async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(INDEXES))).await
    }

    /// The same on this store.
    pub async fn over(store: SharedStore) -> Self {
        let roots = ["/data", "/data/bob:rw:bob"].map(|root| root.parse().unwrap());
        let registry = registry(&roots, true, Networks::any());
        let environment = Arc::new(SystemEnvironment::default());
        let config = LedgerConfig::default();
        let ledger = Ledger::open(store, Seal::ephemeral(), registry, config, environment).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(ledger.clone(), Policy::new(&roots), None, stopping);
        let large_bodies = api.large_bodies.clone();
        Self { ledger, router: router(api.clone()), api, stop, large_bodies }
    }

    /// The same service, also for those whom Keystone vouches for.
    pub fn with_keystone(self, gate: Gate) -> Self {
        let api = self.api.with_keystone(Some(gate));
        Self { router: router(api.clone()), api, ..self }
    }

    /// Sends a request as it is; `Host` and peer are there unless it has its own.
    pub async fn send(&self, mut request: Request<Body>) -> Answer {
        if request.extensions().get::<Peer>().is_none() {
            request.extensions_mut().insert(Peer::user(OWNER));
        }
        request.headers_mut().entry(header::HOST).or_insert_with(|| "localhost:5309".parse().unwrap());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: head.status.as_u16(), headers: head.headers, bytes }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body.to_string(), &[]).await
    }

    /// A POST of a body that is declared as JSON, with more headers.
    pub async fn post_with(&self, path: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        // Over a connection, a length always comes with a body.
        if let Some(length) = axum::body::HttpBody::size_hint(&body).exact() {
            request = request.header(header::CONTENT_LENGTH, length);
        }
        self.send(request.body(body).unwrap()).await
    }

    /// The same request as another user.
    pub async fn as_user(&self, user: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).extension(Peer::user(user));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send(request.body(body.map_or_else(Body::empty, |body| body.to_string().into())).unwrap()).await
    }

    /// The same request at the admin socket.
    pub async fn at_admin_socket(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).extension(Peer::Admin("root".into()));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send(request.body(body.map_or_else(Body::empty, |body| body.to_string().into())).unwrap()).await
    }

    /// Hosts `h0`, `h1`, ... with a root `/data`, whose executors `i0@h0`, ... have joined; two in each rack.
    pub async fn join(&self, count: usize) {
        for number in 0..count {
            let name = format!("h{number}").parse().unwrap();
            let invitation = self.ledger.invite(&name, None).await.unwrap();
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            self.ledger.enrol(&name, &invitation.token, &key).await.unwrap();
            let announced = Announcement {
                version: "1".into(),
                slots: 8,
                roots: vec!["/data:rw".into()],
                address: Some("192.0.2.1:5310".parse().unwrap()),
                rack: Some(format!("r{}", number / 2).parse().unwrap()),
                ..Announcement::default()
            };
            self.ledger.join(Some(&name), &format!("i{number}@h{number}"), announced).await.unwrap();
        }
    }

    /// Looks at a document until it is as it shall be.
    pub async fn look_until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let document = self.get(path).await.json();
            if is_so(&document) {
                return document;
            }
            assert!(Instant::now() < patience, "{document:#}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Submits a transfer to nowhere and returns its id.
    pub async fn submit_null(&self) -> String {
        let body = json!({"source_url": "zero:///5", "destination_url": "null:///"});
        self.post("/v1/transfers", &body).await.json()["id"].as_str().unwrap().to_owned()
    }

    /// Submits a transfer to a destination of its own and returns its id.
    pub async fn submit(&self, name: &str) -> String {
        let answer = self.post("/v1/transfers", &transfer(name)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// A new transfer that has been brought to `state`.
    pub async fn transfer_in(&self, state: State) -> String {
        let text = self.submit(&format!("{state}")).await;
        let id: TransferId = text.parse().unwrap();
        let path = format!("/v1/transfers/{text}");
        match state {
            State::New => {}
            State::Paused => self.act(&text, "pause", 204).await,
            State::Canceled => self.act(&text, "cancel", 204).await,
            State::Ready => assert!(self.ledger.mark_ready(id, "the test wants it").await.unwrap()),
            _ => {
                assert!(self.ledger.mark_ready(id, "the test wants it").await.unwrap());
                let attempt = self.ledger.claim(EXECUTOR, 1).await.unwrap().pop().unwrap();
                assert_eq!(attempt.transfer, text);
                self.move_on(id, attempt.epoch, state).await;
            }
        }
        assert_eq!(self.get(&path).await.json()["state"], state.as_str());
        text
    }

    /// Brings a running transfer to a state behind it.
    async fn move_on(&self, id: TransferId, epoch: u64, state: State) {
        match state {
            State::Running => {}
            State::Canceling => self.act(&id.to_string(), "cancel", 202).await,
            State::Error => {
                let error = Error::fatal(Code::SourceMissing, "there is nothing at the source");
                self.ledger.release(EXECUTOR, id, epoch, &Outcome::Failed { error }).await.unwrap();
            }
            State::Complete => {
                let stages = StageTimes::default();
                let completion = Completion {
                    bytes_total: 5,
                    crc32: Some(0),
                    bytes_fetched: 5,
                    bytes_from_peers: 0,
                    identity: None,
                    stages,
                };
                self.ledger.prepare(EXECUTOR, id, epoch, &completion).await.unwrap();
                self.ledger.committed(EXECUTOR, id, epoch, &completion).await.unwrap();
            }
            State::Erroring => {
                // More bytes than there are: the ledger believes none of it.
                let range = VerifiedRange { range: ByteRange::new(0, 10).unwrap(), crc32: 0 };
                let report = CheckpointReport {
                    ranges: vec![range],
                    bytes_total: Some(5),
                    validator: None,
                    bytes_fetched: 10,
                    bytes_from_peers: 0,
                    upload: None,
                    started_over: None,
                    stages: StageTimes::default(),
                };
                self.ledger.checkpoint(EXECUTOR, id, epoch, &report).await.unwrap();
            }
            State::New | State::Ready | State::Paused | State::Canceled => unreachable!("not behind running"),
        }
    }

    pub async fn act(&self, id: &str, action: &str, status: u16) {
        let answer = self.post(&format!("/v1/transfers/{id}/action"), &json!({"xferaction": action})).await;
        assert_eq!(answer.status, status, "{action}: {}", answer.text());
    }
}

/// A valid body; `name` names the destination.
pub fn transfer(name: &str) -> Value {
    json!({"source_url": "zero:///5", "destination_url": format!("file:///data/{name}")})
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Whether it is this problem, in the form every problem has; its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str, field: Option<&str>) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some(PROBLEM_JSON));
        let document = self.json();
        assert_eq!(document["code"], code, "{document:#}");
        assert_eq!(document["field"].as_str(), field, "{document:#}");
        assert_eq!(document["status"], status);
        assert_eq!(document["type"], "about:blank");
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert!(StatusCode::from_u16(status).is_ok_and(|status| status.is_client_error() || status.is_server_error()));
        let detail = document["detail"].as_str().unwrap();
        assert!(detail.len() > 10, "a sentence is expected: {detail}");
        detail.to_owned()
    }
}
