//! Plain servers: an nginx that takes PUT, and rclone's WebDAV.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;

use super::{OFFERED, Store, WRITTEN, rclone, reader, with_rivals, writer};
use crate::{
    contest::Contestant,
    contestants::Rival,
    server::Nginx,
    servers::rclone::{Rclone, SECRET, USER},
    worker::Program,
};

/// An nginx that serves a folder and takes what is put there.
pub struct Plain {
    nginx: Nginx,
    folder: PathBuf,
}

impl Plain {
    /// Starts one that has this object, in a folder of the bench's own.
    pub fn start(source: &Path, folder: &Path) -> io::Result<Self> {
        let folder = folder.join("nginx");
        fs::create_dir(&folder)?;
        fs::copy(source, folder.join(OFFERED))?;
        Ok(Self { nginx: Nginx::start_writable(&folder)?, folder })
    }
}

impl Store for Plain {
    fn offered(&self) -> Vec<PathBuf> {
        vec![self.folder.join(OFFERED)]
    }

    fn cpu_seconds(&self) -> f64 {
        self.nginx.cpu_seconds()
    }

    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>> {
        let origin = self.nginx.origin(false);
        let url = format!("{origin}/{OFFERED}");
        let aria2 = ["-q", "-x8", "-s8", "-k1M", "--file-allocation=none", "-d", "{folder}", "-o", "{name}", &url];
        let rivals = [
            Rival::new("curl", "curl", &["-sSf", "-o", "{to}", &url]),
            Rival::new("aria2c x8", "aria2c", &aria2),
            rclone(
                "rclone x8",
                &["copyto", "--multi-thread-streams=8", "--http-url", &origin, ":http:offered", "{to}"],
            ),
        ];
        with_rivals(reader(program, &url, &[]), rivals)
    }

    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>> {
        let (url, from) = (format!("{}/{WRITTEN}", self.nginx.origin(false)), source.display().to_string());
        // rclone writes to WebDAV, of which nginx speaks too little.
        with_rivals(writer(program, source, &url, &[]), [Rival::new("curl", "curl", &["-sSf", "-T", &from, &url])])
    }

    fn remove_written(&self) -> io::Result<u64> {
        remove(&self.folder.join(WRITTEN))
    }
}

/// rclone's WebDAV over a folder.
pub struct WebDav {
    rclone: Rclone,
}

impl WebDav {
    /// Starts one that has this object.
    pub fn start(source: &Path) -> io::Result<Self> {
        let rclone = Rclone::start_webdav();
        fs::copy(source, rclone.path(OFFERED))?;
        Ok(Self { rclone })
    }

    fn rival(&self, name: &str, from: &str, to: &str) -> Rival {
        rclone(name, &["copyto", "--multi-thread-streams=8", from, to])
            .with_environment("RCLONE_WEBDAV_URL", &self.rclone.url())
            .with_environment("RCLONE_WEBDAV_HEADERS", &format!("Authorization,{}", authorization()))
    }
}

impl Store for WebDav {
    fn offered(&self) -> Vec<PathBuf> {
        vec![self.rclone.path(OFFERED)]
    }

    fn cpu_seconds(&self) -> f64 {
        self.rclone.cpu_seconds()
    }

    fn readers(&self, program: &Program) -> Vec<Box<dyn Contestant>> {
        let (url, user) = (format!("{}/{OFFERED}", self.rclone.url()), format!("{USER}:{SECRET}"));
        let rivals = [
            Rival::new("curl", "curl", &["-sSf", "-u", &user, "-o", "{to}", &url]),
            self.rival("rclone x8", ":webdav:offered", "{to}"),
        ];
        with_rivals(reader(program, &url, &[("header.Authorization", &authorization())]), rivals)
    }

    fn writers(&self, program: &Program, source: &Path) -> Vec<Box<dyn Contestant>> {
        let (url, from) = (format!("{}/{WRITTEN}", self.rclone.url()), source.display().to_string());
        let user = format!("{USER}:{SECRET}");
        let rivals = [
            Rival::new("curl", "curl", &["-sSf", "-u", &user, "-T", &from, &url]),
            self.rival("rclone", &from, ":webdav:written"),
        ];
        with_rivals(writer(program, source, &url, &[("header.Authorization", &authorization())]), rivals)
    }

    fn remove_written(&self) -> io::Result<u64> {
        remove(&self.rclone.path(WRITTEN))
    }
}

/// Who asks, as a header says it.
fn authorization() -> String {
    format!("Basic {}", BASE64.encode(format!("{USER}:{SECRET}").as_bytes()))
}

fn remove(path: &Path) -> io::Result<u64> {
    let len = fs::metadata(path)?.len();
    fs::remove_file(path)?;
    Ok(len)
}
