//! S3: rclone's server, and Swift's.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{OFFERED, Store, WRITTEN, large_files, rclone, reader, with_rivals, writer};
use crate::{
    contest::Contestant,
    contestants::Rival,
    servers::{
        keystone::Keystone,
        rclone::{self as rclone_server, Rclone},
        swift::{self as swift_server, Account, Swift},
    },
    worker::Program,
};

/// The bucket of all objects.
const BUCKET: &str = "bench";

/// A server of S3, addressed by paths.
pub struct Buckets {
    server: Server,
    endpoint: String,
    key: &'static str,
    secret: &'static str,
    offered: Vec<PathBuf>,
}

enum Server {
    Rclone(Rclone),
    Swift { swift: Swift, keystone: Keystone },
}

impl Buckets {
    /// Starts an rclone that has this object in its folder.
    pub fn of_rclone(source: &Path) -> io::Result<Self> {
        let rclone = Rclone::start_s3();
        rclone.create(BUCKET);
        let offered = rclone.path(&format!("{BUCKET}/{OFFERED}"));
        fs::copy(source, &offered)?;
        let (endpoint, server) = (rclone.url(), Server::Rclone(rclone));
        let (key, secret) = (rclone_server::USER, rclone_server::SECRET);
        Ok(Self { server, endpoint, key, secret, offered: vec![offered] })
    }

    /// Starts a Swift that has this object.
    pub fn of_swift(source: &Path) -> io::Result<Self> {
        let keystone = Keystone::start();
        let swift = Swift::start(&keystone);
        let account = swift.own_account();
        account.create(BUCKET);
        account.put(&format!("{BUCKET}/{OFFERED}"), &fs::read(source)?);
        let (endpoint, offered) = (swift.url(), large_files(&swift.folder()));
        let (key, secret) = (swift_server::USER, swift_server::SECRET);
        Ok(Self { server: Server::Swift { swift, keystone }, endpoint, key, secret, offered })
    }

    fn options(&self) -> [(&str, &str); 3] {
        [("endpoint", &self.endpoint), ("access_key", self.key), ("secret_key", self.secret)]
    }

    fn rclone(&self, from: &str, to: &str) -> Rival {
        let (streams, parts) = ("--multi-thread-streams=8", "--s3-upload-concurrency=8");
        rclone("rclone x8", &["copyto", streams, parts, "--s3-chunk-size=8M", from, to])
            .with_environment("RCLONE_S3_PROVIDER", "Other")
            .with_environment("RCLONE_S3_ENDPOINT", &self.endpoint)
            .with_environment("RCLONE_S3_FORCE_PATH_STYLE", "true")
            .with_environment("RCLONE_S3_REGION", swift_server::REGION)
            .with_environment("RCLONE_S3_ACCESS_KEY_ID", self.key)
            .with_environment("RCLONE_S3_SECRET_ACCESS_KEY", self.secret)
    }

    /// curl, which takes no key with a colon, as Swift's are. No signature of it covers the bytes.
    fn curl(&self, arguments: &[&str]) -> Option<Rival> {
        let (scheme, user) = (format!("aws:amz:{}:s3", swift_server::REGION), format!("{}:{}", self.key, self.secret));
        let signed = ["-sSf", "--aws-sigv4", &scheme, "--user", &user, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
        (!self.key.contains(':')).then(|| Rival::new("curl", "curl", &[&signed, arguments].concat()))
    }

    fn url(&self, object: &str) -> String {
        format!("{}/{BUCKET}/{object}", self.endpoint)
    }
}

impl Store for Buckets {
    fn offered(&self) -> Vec<PathBuf> {
        self.offered.clone()
    }

    fn cpu_seconds(&self) -> f64 {
        match &self.server {
            Server::Rclone(rclone) => rclone.cpu_seconds(),
            Server::Swift { swift, keystone } => swift.cpu_seconds() + keystone.cpu_seconds(),
        }
    }

    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>> {
        let mut rivals = vec![self.rclone(&format!(":s3:{BUCKET}/{OFFERED}"), "{to}")];
        rivals.extend(self.curl(&["-o", "{to}", &self.url(OFFERED)]));
        with_rivals(reader(program, format!("s3://{BUCKET}/{OFFERED}"), &self.options()), rivals)
    }

    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>> {
        let from = source.display().to_string();
        let mut rivals = vec![self.rclone(&from, &format!(":s3:{BUCKET}/{WRITTEN}"))];
        rivals.extend(self.curl(&["-T", &from, &self.url(WRITTEN)]));
        with_rivals(writer(program, source, format!("s3://{BUCKET}/{WRITTEN}"), &self.options()), rivals)
    }

    fn remove_written(&self) -> io::Result<u64> {
        match &self.server {
            Server::Rclone(rclone) => {
                let path = rclone.path(&format!("{BUCKET}/{WRITTEN}"));
                let len = fs::metadata(&path)?.len();
                fs::remove_file(path)?;
                Ok(len)
            }
            Server::Swift { swift, .. } => remove_from(&swift.own_account()),
        }
    }
}

/// Removes the object, and the segments that it is made of.
fn remove_from(account: &Account) -> io::Result<u64> {
    let object = format!("{BUCKET}/{WRITTEN}");
    let found = account.exchange("HEAD", &object, &[], &[]);
    let is_large = found.header("x-static-large-object") == "True";
    account.delete(&if is_large { format!("{object}?multipart-manifest=delete") } else { object });
    found.header("content-length").parse().map_err(io::Error::other)
}
