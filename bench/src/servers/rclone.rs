//! `rclone serve`: a folder behind S3, and one behind WebDAV.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::{Program, Server, tool};

/// The access key of its S3, and the user of its WebDAV.
pub const USER: &str = "rclone-demo";

/// The secret of that key, and the password of that user.
pub const SECRET: &str = "secret-of-rclone-demo";

/// An rclone that serves a folder.
pub struct Rclone {
    server: Server,
    tls: bool,
}

impl Rclone {
    /// The S3 server that tests share: addressed by paths, in any region.
    pub fn shared_s3() -> &'static Self {
        static SHARED: OnceLock<Rclone> = OnceLock::new();
        SHARED.get_or_init(Self::start_s3)
    }

    /// The WebDAV server that tests share.
    pub fn shared_webdav() -> &'static Self {
        static SHARED: OnceLock<Rclone> = OnceLock::new();
        SHARED.get_or_init(Self::start_webdav)
    }

    /// An S3 server of one's own.
    pub fn start_s3() -> Self {
        Self::start("s3", &["--auth-key", &format!("{USER},{SECRET}")])
    }

    /// A WebDAV server of one's own.
    pub fn start_webdav() -> Self {
        Self::start("webdav", &["--user", USER, "--pass", SECRET])
    }

    /// An S3 server of one's own with TLS, for `localhost`: a certificate and its key, in files.
    pub fn start_s3_with_tls(certificate: &Path, key: &Path) -> Self {
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let rclone =
            Self::start("s3", &["--auth-key", &format!("{USER},{SECRET}"), "--cert", &certificate, "--key", &key]);
        Self { tls: true, ..rclone }
    }

    fn start(protocol: &'static str, arguments: &[&str]) -> Self {
        let server = Server::start("rclone", |folder, [port]| {
            let served = served(folder);
            fs::create_dir(&served).expect("a folder can be made");
            let mut command = Command::new(tool("rclone"));
            // Nothing is remembered of the folder: what a test writes there itself is served at once.
            command.args(["serve", protocol, "--config", "/dev/null", "--dir-cache-time", "0s"]);
            command.args(["--addr", &format!("127.0.0.1:{port}")]).args(arguments).arg(served);
            vec![Program::new(protocol, command)]
        });
        Self { server, tls: false }
    }

    /// Its URL: what S3's clients call the endpoint, or the root of its WebDAV.
    pub fn url(&self) -> String {
        let url = self.server.url();
        if self.tls { url.replace("http://127.0.0.1", "https://localhost") } else { url }
    }

    /// Where an object lies: `BUCKET/NAME`, or just the name for WebDAV.
    pub fn path(&self, name: &str) -> PathBuf {
        served(self.server.folder.path()).join(name)
    }

    /// Makes a bucket, or a folder.
    pub fn create(&self, name: &str) {
        fs::create_dir(self.path(name)).expect("a folder can be made");
    }

    /// Kills it; its connections are reset.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on its port and folder.
    pub fn launch(&mut self) {
        assert!(self.server.launch(), "rclone starts again:\n{}", self.server.log());
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

fn served(folder: &Path) -> PathBuf {
    folder.join("served")
}
