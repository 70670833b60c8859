//! Swift, with Keystone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{OFFERED, Store, WRITTEN, large_files, rclone, reader, with_rivals, writer};
use crate::{
    contest::Contestant,
    contestants::Rival,
    servers::{
        keystone::{DEMO, DOMAIN_NAME, Keystone, REGION},
        swift::{Account, Swift},
    },
    worker::Program,
};

/// The container of all objects.
const CONTAINER: &str = "bench";

/// rclone's own default: up to 5 GiB without segments, so that what breaks is begun anew.
const WHOLE: &str = "--swift-chunk-size=5G";

/// A Swift of one device, whose accounts are Keystone's projects.
pub struct Containers {
    keystone: Keystone,
    swift: Swift,
    offered: Vec<PathBuf>,
}

impl Containers {
    /// Starts one that has this object.
    pub fn start(source: &Path) -> io::Result<Self> {
        let keystone = Keystone::start();
        let swift = Swift::start(&keystone);
        let account = swift.account(&keystone, DEMO);
        account.create(CONTAINER);
        account.put(&format!("{CONTAINER}/{OFFERED}"), &fs::read(source)?);
        let offered = large_files(&swift.folder());
        Ok(Self { keystone, swift, offered })
    }

    fn account(&self) -> Account {
        self.swift.account(&self.keystone, DEMO)
    }

    /// With an object's URL, and who asks.
    fn with_account<T>(&self, object: &str, then: impl FnOnce(&str, &[(&str, &str)]) -> T) -> T {
        let auth_url = self.keystone.url();
        let user = [("username", DEMO.name), ("password", DEMO.password), ("project_name", DEMO.project)];
        then(&format!("swift://{CONTAINER}/{object}"), &[&user[..], &[("auth_url", &auth_url)]].concat())
    }

    fn rclone(&self, name: &str, chunk: &str, from: &str, to: &str) -> Rival {
        rclone(name, &["copyto", "--multi-thread-streams=8", chunk, from, to])
            .with_environment("RCLONE_SWIFT_AUTH", &self.keystone.url())
            .with_environment("RCLONE_SWIFT_AUTH_VERSION", "3")
            .with_environment("RCLONE_SWIFT_REGION", REGION)
            .with_environment("RCLONE_SWIFT_USER", DEMO.name)
            .with_environment("RCLONE_SWIFT_KEY", DEMO.password)
            .with_environment("RCLONE_SWIFT_TENANT", DEMO.project)
            .with_environment("RCLONE_SWIFT_DOMAIN", DOMAIN_NAME)
            .with_environment("RCLONE_SWIFT_TENANT_DOMAIN", DOMAIN_NAME)
    }
}

impl Store for Containers {
    fn offered(&self) -> Vec<PathBuf> {
        self.offered.clone()
    }

    fn cpu_seconds(&self) -> f64 {
        self.swift.cpu_seconds() + self.keystone.cpu_seconds()
    }

    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>> {
        let Account { url, token } = self.account();
        let (url, token) = (format!("{url}/{CONTAINER}/{OFFERED}"), format!("X-Auth-Token: {token}"));
        let rivals = [
            self.rclone("rclone", WHOLE, &format!(":swift:{CONTAINER}/{OFFERED}"), "{to}"),
            Rival::new("curl with a token", "curl", &["-sSf", "-H", &token, "-o", "{to}", &url]),
        ];
        with_rivals(self.with_account(OFFERED, |url, options| reader(program, url, options)), rivals)
    }

    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>> {
        let (Account { url, token }, from) = (self.account(), source.display().to_string());
        let to = format!(":swift:{CONTAINER}/{WRITTEN}");
        let (url, token) = (format!("{url}/{CONTAINER}/{WRITTEN}"), format!("X-Auth-Token: {token}"));
        let rivals = [
            self.rclone("rclone in segments", "--swift-chunk-size=16M", &from, &to),
            self.rclone("rclone", WHOLE, &from, &to),
            Rival::new("curl with a token", "curl", &["-sSf", "-H", &token, "-T", &from, &url]),
        ];
        with_rivals(self.with_account(WRITTEN, |url, options| writer(program, source, url, options)), rivals)
    }

    fn remove_written(&self) -> io::Result<u64> {
        let (account, object) = (self.account(), format!("{CONTAINER}/{WRITTEN}"));
        let found = account.exchange("HEAD", &object, &[], &[]);
        let is_large = found.header("x-static-large-object") == "True";
        let removal = if is_large { format!("{object}?multipart-manifest=delete") } else { object };
        account.delete(&removal);
        found.header("content-length").parse().map_err(io::Error::other)
    }
}
