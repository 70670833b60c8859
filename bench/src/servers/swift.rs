//! Swift: OpenStack's objects, which also speaks S3.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{
    Program, Reply, Server, exchange,
    keystone::{Keystone, User, token_settings},
    tool, write,
};

/// The user of its own, as Swift's version 1 of signing in and S3 (as the access key) call it; its account is
/// `TEMP_demo`.
pub const USER: &str = "demo:demo";

/// That user's password, and the secret of its access key.
pub const SECRET: &str = "secret-of-swift-demo";

/// The region that signatures of S3 must name.
pub const REGION: &str = "us-east-1";

/// A Swift of one device: an account, a container, and an object server behind a proxy that knows large objects (static
/// and dynamic), TempURLs, bulk operations, S3, users of its own and Keystone's.
pub struct Swift {
    server: Server,
}

/// An account of a Swift, and a token that may do everything there.
#[derive(Debug)]
pub struct Account {
    /// Its storage URL.
    pub url: String,
    /// The token.
    pub token: String,
}

impl Swift {
    /// The one that tests share, in the catalogue of [`Keystone::shared`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Swift> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Keystone::shared()))
    }

    /// One of one's own, with a Keystone of one's own, whose catalogue it enters.
    pub fn start(keystone: &Keystone) -> Self {
        let server =
            Server::start("swift", |folder, [proxy, backends @ ..]: [u16; 4]| plan(folder, proxy, backends, keystone));
        keystone.publish("object-store", &format!("{}/v1/AUTH_$(project_id)s", server.url()));
        Self { server }
    }

    /// Its URL; for S3 the endpoint, addressed by paths.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Where clients of version 1 sign in, as [`USER`] with [`SECRET`].
    pub fn auth_url(&self) -> String {
        format!("{}/auth/v1.0", self.url())
    }

    /// The account of [`USER`], whose containers are the buckets of S3.
    pub fn own_account(&self) -> Account {
        let reply = exchange("GET", &self.auth_url(), &[("x-auth-user", USER), ("x-auth-key", SECRET)], &[]);
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), self.log());
        Account { url: reply.header("x-storage-url").into(), token: reply.header("x-auth-token").into() }
    }

    /// The account of the project of one of Keystone's users.
    pub fn account(&self, keystone: &Keystone, user: User) -> Account {
        let url = format!("{}/v1/AUTH_{}", self.url(), keystone.project_id(user));
        Account { url, token: keystone.token(user) }
    }

    /// Kills it; its connections are reset.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on its ports and with all its objects.
    pub fn launch(&mut self) {
        assert!(self.server.launch(), "Swift starts again:\n{}", self.server.log());
    }

    /// Where the data of its objects lies.
    pub fn folder(&self) -> PathBuf {
        self.server.folder.path().join("devices")
    }

    /// CPU seconds of its programs so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.server.cpu_seconds()
    }

    /// The last that it has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

impl Account {
    /// Makes a container.
    pub fn create(&self, container: &str) {
        self.succeed("PUT", container, &[], &[]);
    }

    /// Writes an object, `CONTAINER/NAME`.
    pub fn put(&self, object: &str, bytes: &[u8]) {
        self.succeed("PUT", object, &[], bytes);
    }

    /// Reads an object.
    pub fn get(&self, object: &str) -> Vec<u8> {
        self.succeed("GET", object, &[], &[]).body
    }

    /// Deletes an object or an empty container.
    pub fn delete(&self, object: &str) {
        self.succeed("DELETE", object, &[], &[]);
    }

    /// Names of the objects in a container.
    pub fn list(&self, container: &str) -> Vec<String> {
        self.succeed("GET", container, &[], &[]).text().lines().map(ToOwned::to_owned).collect()
    }

    /// Any request for a path of the account: an object, a container, or the account itself (an empty path).
    pub fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let headers = [&[("x-auth-token", self.token.as_str())], headers].concat();
        exchange(method, &format!("{}/{path}", self.url), &headers, body)
    }

    fn succeed(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let reply = self.exchange(method, path, headers, body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.text());
        reply
    }
}

/// Its programs, and what they need in their folder.
fn plan(folder: &Path, proxy: u16, backends: [u16; 3], keystone: &Keystone) -> Vec<Program> {
    fs::create_dir_all(folder.join("devices/disk")).expect("a folder can be made");
    write(folder, "swift.conf", "[swift-hash]\nswift_hash_path_suffix = staccato\n");
    write(folder, "cache_in_process.py", include_str!("python/cache_in_process.py"));
    let script = write(folder, "make_rings.py", include_str!("python/make_rings.py"));
    let mut rings = Command::new(tool("python"));
    rings.arg(script).arg(folder).args(backends.map(|port| port.to_string()));
    let rings = rings.output().unwrap_or_else(|error| panic!("Swift: {error}; `tests/run install` installs it"));
    assert!(rings.status.success(), "Swift's rings: {}", String::from_utf8_lossy(&rings.stderr));

    let [account, container, object] = backends;
    vec![
        program(folder, "swift-account-server", &backend(folder, "account", account)),
        program(folder, "swift-container-server", &backend(folder, "container", container)),
        program(folder, "swift-object-server", &backend(folder, "object", object)),
        program(folder, "swift-proxy-server", &front(folder, proxy, keystone)),
    ]
}

fn program(folder: &Path, name: &'static str, configuration: &str) -> Program {
    let configuration = write(folder, &format!("{name}.conf"), configuration);
    let mut command = Command::new(tool(name));
    // It logs to its standard output, too.
    command.arg(configuration).arg("--verbose");
    command.env("SWIFT_DIR", folder).env("PYTHONPATH", folder);
    Program::new(name, command)
}

/// No workers: each program is one process, and what is killed is all there is.
fn backend(folder: &Path, kind: &str, port: u16) -> String {
    let folder = folder.display();
    format!(
        "[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"
    )
}

/// Accounts `AUTH_...` are Keystone's projects; `TEMP_...` belong to tempauth, which stands last: Keystone's filter would
/// overrule it.
fn front(folder: &Path, port: u16, keystone: &Keystone) -> String {
    let (folder, tokens) = (folder.display(), token_settings(keystone));
    // tempauth writes `user_ACCOUNT_NAME`.
    let user = USER.replace(':', "_");
    format!(
        "[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors cache bulk tempurl s3api authtoken keystoneauth tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
paste.filter_factory = cache_in_process:filter_factory
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:s3api]
use = egg:swift#s3api
[filter:keystoneauth]
use = egg:swift#keystoneauth
reseller_prefix = AUTH
operator_roles = admin, member
[filter:tempauth]
use = egg:swift#tempauth
reseller_prefix = TEMP
user_{user} = {SECRET} .admin
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
{tokens}"
    )
}
