//! Keystone: OpenStack's tokens and its catalogue of services.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::OnceLock, time::Duration};

use data_encoding::BASE64URL;
use serde_json::{Value, json};

use super::{Program, Reply, Server, debian_python, exchange, write};

/// The region of all endpoints.
pub const REGION: &str = "RegionOne";

/// The id of the domain of all users and projects.
pub const DOMAIN: &str = "default";

/// That domain's name.
pub const DOMAIN_NAME: &str = "Default";

/// May do everything, everywhere.
pub const ADMIN: User = User { name: "admin", password: "password-of-admin", project: "admin" };

/// A member of the project `demo`.
pub const DEMO: User = User { name: "demo", password: "password-of-demo", project: "demo" };

/// A member of another project.
pub const OTHER: User = User { name: "other", password: "password-of-other", project: "other" };

/// Glance and Swift themselves, which ask whether tokens are valid.
pub(super) const SERVICE: User = User { name: "service", password: "password-of-service", project: "service" };

/// How long tokens are valid unless told: longer than any test.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A user, and the project that it works in. Its role there is `member`, but for [`ADMIN`] and the services: `admin`.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// Its name, in [`DOMAIN`].
    pub name: &'static str,
    /// Its password.
    pub password: &'static str,
    /// Its project's name, in [`DOMAIN`].
    pub project: &'static str,
}

/// What Keystone knows of a token.
#[derive(Debug)]
pub struct Token {
    /// The token itself.
    pub token: String,
    /// Its description: `user`, `project`, `roles`, `catalog`, `expires_at`.
    pub description: Value,
}

/// An application credential: what programs sign in with in place of a user's password.
#[derive(Debug)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// A Keystone with the users of this module, on SQLite. The region [`REGION`] has its own endpoint, and those of the
/// servers that were started for it.
pub struct Keystone {
    server: Server,
}

impl Keystone {
    /// The one that tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Keystone> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of one's own.
    pub fn start() -> Self {
        Self::start_with_lifetime(LIFETIME)
    }

    /// One whose tokens are valid for so long, in whole seconds.
    pub fn start_with_lifetime(lifetime: Duration) -> Self {
        let server = Server::start("keystone", |folder, [port]| {
            for keys in ["token-keys", "credential-keys"] {
                write_keys(&folder.join(keys));
            }
            let configuration = write(folder, "keystone.conf", &configuration(folder, lifetime));
            let script = write(folder, "serve_keystone.py", include_str!("python/serve_keystone.py"));
            let mut command = debian_python(&script);
            command.arg(configuration).arg(folder.join("keystone.db"));
            command.arg(format!("http://127.0.0.1:{port}/v3")).arg(ADMIN.password).arg(users().to_string());
            vec![Program::new("keystone", command)]
        });
        Self { server }
    }

    /// What clients call `OS_AUTH_URL`.
    pub fn url(&self) -> String {
        format!("{}/v3", self.server.url())
    }

    /// A new token of a user.
    pub fn token(&self, user: User) -> String {
        self.sign_in(user).token
    }

    /// Signs a user in: a new token and what it stands for.
    pub fn sign_in(&self, user: User) -> Token {
        let domain = json!({"id": DOMAIN});
        let identity = json!({"methods": ["password"], "password": {
            "user": {"name": user.name, "domain": domain, "password": user.password}}});
        let scope = json!({"project": {"name": user.project, "domain": domain}});
        let request = json!({"auth": {"identity": identity, "scope": scope}});
        let reply = self.exchange("POST", "/auth/tokens", "", &request);
        let token = reply.header("x-subject-token").to_owned();
        Token { token, description: reply.json()["token"].take() }
    }

    /// Makes a token invalid from now on.
    pub fn revoke(&self, token: &str) {
        let url = format!("{}/auth/tokens", self.url());
        let reply = exchange("DELETE", &url, &[("x-auth-token", token), ("x-subject-token", token)], &[]);
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    /// The id of a user's project.
    pub fn project_id(&self, user: User) -> String {
        text(&self.sign_in(user).description["project"]["id"])
    }

    /// Makes an application credential of a user, with a name that the user has not used yet.
    pub fn application_credential(&self, user: User, name: &str) -> ApplicationCredential {
        let Token { token, description } = self.sign_in(user);
        let path = format!("/users/{}/application_credentials", text(&description["user"]["id"]));
        let made = self.exchange("POST", &path, &token, &json!({"application_credential": {"name": name}})).json();
        let made = &made["application_credential"];
        ApplicationCredential { id: text(&made["id"]), secret: text(&made["secret"]) }
    }

    /// Adds a service with one public endpoint to the catalogue. `$(project_id)s` in the URL becomes the project's id.
    pub fn publish(&self, kind: &str, url: &str) {
        let id = self.make("service", json!({"type": kind, "name": kind}));
        self.make("endpoint", json!({"service_id": id, "interface": "public", "region_id": REGION, "url": url}));
    }

    /// Kills it; its connections are reset.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on its port and with all it knew.
    pub fn launch(&mut self) {
        assert!(self.server.launch(), "Keystone starts again:\n{}", self.server.log());
    }

    /// CPU seconds of its programs so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.server.cpu_seconds()
    }

    /// The last that it has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Makes one thing of a kind; its id.
    fn make(&self, kind: &str, what: Value) -> String {
        let reply = self.exchange("POST", &format!("/{kind}s"), &self.token(ADMIN), &json!({kind: what}));
        text(&reply.json()[kind]["id"])
    }

    /// One request that must succeed; without a token when that is empty.
    fn exchange(&self, method: &str, path: &str, token: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let headers = [("x-auth-token", token), ("content-type", "application/json")];
        let headers = if token.is_empty() { &headers[1..] } else { &headers };
        let reply = exchange(method, &format!("{}{path}", self.url()), headers, body.as_bytes());
        let succeeded = (200..300).contains(&reply.status);
        assert!(succeeded, "{method} {path}: {}\n{}\n{}", reply.status, reply.text(), self.log());
        reply
    }
}

/// The settings with which other servers ask this Keystone about tokens, each time anew: a revoked one is refused at
/// once.
pub(super) fn token_settings(keystone: &Keystone) -> String {
    let (url, User { name, password, project }) = (keystone.url(), SERVICE);
    format!(
        "www_authenticate_uri = {url}
auth_url = {url}
auth_type = password
username = {name}
password = {password}
project_name = {project}
user_domain_id = {DOMAIN}
project_domain_id = {DOMAIN}
token_cache_time = -1
service_token_roles_required = true
delay_auth_decision = true
"
    )
}

/// What it keeps in memory saves most of a request's time; one process knows of each change. A power cut need not be
/// survived.
fn configuration(folder: &Path, lifetime: Duration) -> String {
    let (folder, lifetime) = (folder.display(), lifetime.as_secs());
    format!(
        "[database]
connection = sqlite:///{folder}/keystone.db
sqlite_synchronous = false
[token]
expiration = {lifetime}
[fernet_tokens]
key_repository = {folder}/token-keys
[fernet_receipts]
key_repository = {folder}/token-keys
[credential]
key_repository = {folder}/credential-keys
[cache]
enabled = true
backend = oslo_cache.dict
[identity]
password_hash_rounds = 4
[oslo_messaging_notifications]
driver = noop
"
    )
}

/// The users beside [`ADMIN`], as `serve_keystone.py` takes them.
fn users() -> Value {
    let user = |User { name, password, project }, role: &str| json!([name, password, project, role]);
    json!([user(DEMO, "member"), user(OTHER, "member"), user(SERVICE, "admin")])
}

/// Two keys, as `keystone-manage fernet_setup` makes them: the next, and the one in use.
fn write_keys(folder: &Path) {
    fs::DirBuilder::new().mode(0o700).create(folder).expect("a folder can be made");
    for name in ["0", "1"] {
        let mut key = [0; 32];
        fastrand::Rng::new().fill(&mut key);
        write(folder, name, &BASE64URL.encode(&key));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string is expected, not {value}")).to_owned()
}
