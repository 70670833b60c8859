//! Glance: OpenStack's images.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;

use super::{
    Program, Reply, Server, debian_python, exchange,
    keystone::{Keystone, token_settings},
    write,
};

/// A Glance on SQLite that keeps its images in a folder.
pub struct Glance {
    server: Server,
}

impl Glance {
    /// The one that tests share, in the catalogue of [`Keystone::shared`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Glance> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Keystone::shared()))
    }

    /// One of one's own, with a Keystone of one's own, whose catalogue it enters.
    pub fn start(keystone: &Keystone) -> Self {
        let server = Server::start("glance", |folder, [port]| {
            for name in ["images", "staging", "tasks", "locks"] {
                fs::create_dir(folder.join(name)).expect("a folder can be made");
            }
            let script = write(folder, "serve_glance.py", include_str!("python/serve_glance.py"));
            write(folder, "paste.ini", PIPELINE);
            let configuration = write(folder, "glance.conf", &configuration(folder, port, keystone));
            let mut command = debian_python(&script);
            command.arg(configuration).arg(folder.join("glance.db"));
            vec![Program::new("glance", command)]
        });
        keystone.publish("image", &server.url());
        Self { server }
    }

    /// Its URL, without the version of its API.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Makes the record of an image, with these fields (`name`, `disk_format`, `container_format`...); its id.
    pub fn create(&self, token: &str, fields: &Value) -> String {
        let reply = self.exchange("POST", "", token, "application/json", fields.to_string().as_bytes());
        assert_eq!(reply.status, 201, "{}\n{}", reply.text(), self.log());
        reply.json()["id"].as_str().expect("an image has an id").to_owned()
    }

    /// Sends an image's data.
    pub fn upload(&self, token: &str, id: &str, bytes: &[u8]) {
        let reply = self.exchange("PUT", &format!("/{id}/file"), token, "application/octet-stream", bytes);
        assert_eq!(reply.status, 204, "{}\n{}", reply.text(), self.log());
    }

    /// An image's data.
    pub fn download(&self, token: &str, id: &str) -> Vec<u8> {
        let reply = self.exchange("GET", &format!("/{id}/file"), token, "", &[]);
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), self.log());
        reply.body
    }

    /// The record of an image (`status`, `size`, `checksum`, `os_hash_value`...); nothing when there is none.
    pub fn image(&self, token: &str, id: &str) -> Option<Value> {
        let reply = self.exchange("GET", &format!("/{id}"), token, "", &[]);
        match reply.status {
            200 => Some(reply.json()),
            404 => None,
            status => panic!("{status}: {}\n{}", reply.text(), self.log()),
        }
    }

    /// The ids of the images of a name.
    pub fn named(&self, token: &str, name: &str) -> Vec<String> {
        let reply = self.exchange("GET", &format!("?name={name}"), token, "", &[]);
        assert_eq!(reply.status, 200, "{}\n{}", reply.text(), self.log());
        let found = reply.json();
        let ids = found["images"].as_array().into_iter().flatten().filter_map(|image| image["id"].as_str());
        ids.map(ToOwned::to_owned).collect()
    }

    /// Where the data of its images lies, in files with their ids for names.
    pub fn folder(&self) -> PathBuf {
        self.server.folder.path().join("images")
    }

    /// Deletes an image.
    pub fn delete(&self, token: &str, id: &str) {
        let reply = self.exchange("DELETE", &format!("/{id}"), token, "", &[]);
        assert_eq!(reply.status, 204, "{}\n{}", reply.text(), self.log());
    }

    /// Kills it; its connections are reset.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on its port and with all its images.
    pub fn launch(&mut self) {
        assert!(self.server.launch(), "Glance starts again:\n{}", self.server.log());
    }

    /// CPU seconds of its programs so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.server.cpu_seconds()
    }

    /// The last that it has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    fn exchange(&self, method: &str, path: &str, token: &str, content_type: &str, body: &[u8]) -> Reply {
        let headers = [("x-auth-token", token), ("content-type", content_type)];
        let headers = if body.is_empty() { &headers[..1] } else { &headers };
        exchange(method, &format!("{}/v2/images{path}", self.url()), headers, body)
    }
}

/// As Debian's own, of which it keeps what a client can notice.
const PIPELINE: &str = "[pipeline:glance-api]
pipeline = versionnegotiation authtoken context root

[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory

[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory

[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory

[composite:root]
paste.composite_factory = glance.api:root_app_factory
/: versions
/v2: images

[app:versions]
paste.app_factory = glance.api.versions:create_resource

[app:images]
paste.app_factory = glance.api.v2.router:API.factory
";

fn configuration(folder: &Path, port: u16, keystone: &Keystone) -> String {
    let (folder, tokens) = (folder.display(), token_settings(keystone));
    // No workers: it is one process, and what is killed is all there is.
    format!(
        "[DEFAULT]
bind_host = 127.0.0.1
bind_port = {port}
workers = 0
enabled_backends = disk:file
image_cache_dir = {folder}/cache
[glance_store]
default_backend = disk
[disk]
filesystem_store_datadir = {folder}/images
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[database]
connection = sqlite:///{folder}/glance.db
sqlite_synchronous = false
[paste_deploy]
config_file = {folder}/paste.ini
[oslo_concurrency]
lock_path = {folder}/locks
[oslo_messaging_notifications]
driver = noop
[keystone_authtoken]
{tokens}"
    )
}
