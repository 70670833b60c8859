//! A Keystone with one user, which answers as the real one does, or as badly as it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::http_server::{HttpServer, Reply, Seen};

/// The password of [`Keystone::USER`].
pub const PASSWORD: &str = "hush-password";
/// The secret of [`Keystone::CREDENTIAL`].
pub const SECRET: &str = "hush-secret";

/// A running Keystone; stops when it is dropped.
pub struct Keystone {
    server: HttpServer,
    state: Tokens,
}

/// The tokens it knows. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<State>>);

struct State {
    /// By text, with their ends.
    known: BTreeMap<String, SystemTime>,
    issued: usize,
    life: Duration,
    clock_ahead: Duration,
    roles: Vec<String>,
    services: Vec<Value>,
    trouble: Option<Reply>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            issued: 0,
            life: Duration::from_secs(3600),
            clock_ahead: Duration::ZERO,
            roles: vec!["member".into()],
            services: Vec::new(),
            trouble: None,
        }
    }
}

impl Tokens {
    /// Whether a request shows one that is in force.
    pub fn open(&self, request: &Seen) -> bool {
        request.headers.get("x-auth-token").is_some_and(|token| self.lock().is_known(token))
    }

    /// Forgets all of them, as if they had been revoked.
    pub fn revoke_all(&self) {
        self.lock().known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.clock_ahead
    }

    fn is_known(&self, token: &str) -> bool {
        self.known.get(token).is_some_and(|end| *end > self.now())
    }

    fn issue(&mut self) -> String {
        let token = format!("hush-token-{}", self.issued);
        self.issued += 1;
        let end = self.now() + self.life;
        self.known.insert(token.clone(), end);
        token
    }

    fn document(&self, end: SystemTime) -> Value {
        let time = |time| humantime::format_rfc3339_micros(time).to_string();
        let roles: Vec<_> = self.roles.iter().map(|name| json!({ "id": name, "name": name })).collect();
        json!({ "token": {
            "methods": ["password"],
            "issued_at": time(end - self.life),
            "expires_at": time(end),
            "user": { "id": "1", "name": Keystone::USER, "domain": { "id": "default", "name": "Default" } },
            "project": { "id": Keystone::PROJECT, "name": "demo" },
            "roles": roles,
            "catalog": self.services,
        }})
    }

    fn answer(&mut self, request: &Seen) -> Reply {
        if let Some(trouble) = &self.trouble {
            return trouble.clone();
        }
        let date = httpdate::fmt_http_date(self.now());
        match (request.method.as_str(), request.target.as_str()) {
            ("POST", "/v3/auth/tokens") => match serde_json::from_slice::<Value>(&request.body) {
                Ok(asked) if self.is_right(&asked["auth"]["identity"]) => {
                    let token = self.issue();
                    Reply::json(201, &self.document(self.known[&token])).header("X-Subject-Token", token)
                }
                Ok(asked) if asked["auth"]["identity"]["methods"][0] == "application_credential" => refused(404),
                Ok(_) => refused(401),
                Err(_) => refused(400),
            },
            ("GET", "/v3/auth/tokens") => {
                let known = |name: &str| request.headers.get(name).filter(|token| self.is_known(token));
                match (known("x-auth-token"), known("x-subject-token")) {
                    (None, _) => refused(401),
                    (_, None) => refused(404),
                    (_, Some(token)) => Reply::json(200, &self.document(self.known[token])),
                }
            }
            _ => refused(404),
        }
        .header("Date", date)
    }

    fn is_right(&self, identity: &Value) -> bool {
        match identity["methods"][0].as_str() {
            Some("password") => {
                let user = &identity["password"]["user"];
                user["name"] == Keystone::USER && user["domain"]["id"] == "default" && user["password"] == PASSWORD
            }
            Some("application_credential") => {
                let credential = &identity["application_credential"];
                credential["id"] == Keystone::CREDENTIAL && credential["secret"] == SECRET
            }
            Some("token") => identity["token"]["id"].as_str().is_some_and(|token| self.is_known(token)),
            _ => false,
        }
    }
}

fn refused(code: u16) -> Reply {
    let message = "The request you have made requires authentication.";
    Reply::json(code, &json!({ "error": { "code": code, "message": message } }))
}

impl Keystone {
    /// Its user.
    pub const USER: &str = "demo";
    /// An application credential of the user.
    pub const CREDENTIAL: &str = "credential-1";
    /// The project of all tokens.
    pub const PROJECT: &str = "project-1";

    /// One on a free port of loopback, with an empty catalogue.
    pub fn start() -> Self {
        let (server, state) = (HttpServer::start(), Tokens::default());
        let answering = state.clone();
        server.program(move |request| Some(answering.lock().answer(request)));
        Self { server, state }
    }

    /// Where it is.
    pub fn auth_url(&self) -> String {
        self.server.url("/v3")
    }

    /// The tokens it knows.
    pub fn tokens(&self) -> Tokens {
        self.state.clone()
    }

    /// Adds a service to the catalogue.
    pub fn serve(&self, kind: &str, url: &str) {
        let endpoint = json!({ "id": "1", "interface": "public", "region_id": "RegionOne", "url": url });
        self.state.lock().services.push(json!({ "id": "1", "type": kind, "endpoints": [endpoint] }));
    }

    /// A new token.
    pub fn issue(&self) -> String {
        self.state.lock().issue()
    }

    /// How many tokens were issued so far.
    pub fn issued(&self) -> usize {
        self.state.lock().issued
    }

    /// Tokens live so long from now on.
    pub fn set_life(&self, life: Duration) {
        self.state.lock().life = life;
    }

    /// Its clock is so much ahead of ours.
    pub fn set_clock_ahead(&self, by: Duration) {
        self.state.lock().clock_ahead = by;
    }

    /// What the user may do from now on.
    pub fn set_roles(&self, roles: &[&str]) {
        self.state.lock().roles = roles.iter().map(ToString::to_string).collect();
    }

    /// Answers everything like this from now on; none: as it should.
    pub fn set_trouble(&self, trouble: Option<Reply>) {
        self.state.lock().trouble = trouble;
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.server.seen()
    }
}
