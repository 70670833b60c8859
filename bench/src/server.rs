//! A real nginx of the bench's own, on loopback, with and without TLS.

use std::{
    fs,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{
    contestants::path_of,
    measure::{children, cpu_seconds},
};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a start is tried.
const STARTS_MAX: usize = 5;

/// What may be done with the files of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    Read,
    /// Also written, with PUT.
    Write,
}

/// A server that serves one folder, with as many processes as there are cores, until it is dropped.
#[derive(Debug)]
pub struct Nginx {
    folder: tempfile::TempDir,
    plain: u16,
    tls: u16,
    process: Child,
}

impl Nginx {
    /// Starts one.
    pub fn start(files: &Path) -> io::Result<Self> {
        Self::start_with(files, Files::Read)
    }

    /// Starts one that takes files with PUT.
    pub fn start_writable(files: &Path) -> io::Result<Self> {
        Self::start_with(files, Files::Write)
    }

    fn start_with(files: &Path, access: Files) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        write_certificate(folder.path()).map_err(io::Error::other)?;
        for _ in 0..STARTS_MAX {
            if let Some((plain, tls, process)) = launch(folder.path(), files, access)? {
                return Ok(Self { folder, plain, tls, process });
            }
        }
        let said = fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
        Err(io::Error::other(format!("nginx does not start: {said}")))
    }

    /// `http://` or `https://` and its authority.
    pub fn origin(&self, secure: bool) -> String {
        if secure { format!("https://localhost:{}", self.tls) } else { format!("http://localhost:{}", self.plain) }
    }

    /// CPU seconds of its processes so far.
    pub fn cpu_seconds(&self) -> f64 {
        let master = self.process.id();
        let processes = children(master).into_iter().chain([master]);
        processes.filter_map(|process| cpu_seconds(process).ok()).sum()
    }

    /// The file with the root of its certificate, in PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }
}

/// The command of an nginx that serves `files` plain at an address, with what it needs in `folder`. Whoever runs it ends it
/// with SIGTERM.
pub fn command(folder: &Path, files: &Path, listen: SocketAddr) -> io::Result<Vec<String>> {
    fs::write(folder.join("nginx.conf"), configuration(files, Files::Read, &format!("listen {listen};")))?;
    let nginx = path_of("nginx").unwrap_or_else(|| "nginx".into());
    let words = [nginx.to_string_lossy(), "-p".into(), folder.to_string_lossy(), "-c".into(), "nginx.conf".into()];
    Ok(words.iter().map(|word| word.clone().into_owned()).chain(["-e".into(), "error.log".into()]).collect())
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed master would leave its workers behind.
        let pid = Pid::from_child(&self.process);
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Starts it on free ports; nothing when it ended at once, because somebody else took one in between.
fn launch(folder: &Path, files: &Path, access: Files) -> io::Result<Option<(u16, u16, Child)>> {
    // Both at once, so that they are two.
    let ports = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (plain, tls) = (ports.0.local_addr()?.port(), ports.1.local_addr()?.port());
    drop(ports);
    let listens = format!(
        "listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl; ssl_certificate certificate.pem; \
         ssl_certificate_key key.pem;"
    );
    fs::write(folder.join("nginx.conf"), configuration(files, access, &listens))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "error.log"]);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let begun = Instant::now();
    while process.try_wait()?.is_none() {
        if TcpStream::connect(("127.0.0.1", plain)).is_ok() {
            return Ok(Some((plain, tls, process)));
        }
        if begun.elapsed() > PATIENCE {
            process.kill()?;
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}

fn configuration(files: &Path, access: Files, listens: &str) -> String {
    // Workers of a master that root has started would be nobody, who may not look into the folder.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let temporary: String =
        ["proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};")).concat();
    // What is put somewhere is renamed to there: it must be on the same disk.
    let put = match access {
        Files::Read => "client_body_temp_path client_body;".to_owned(),
        Files::Write => format!(
            "client_body_temp_path {}; client_max_body_size 0; dav_methods PUT DELETE;",
            files.join(".client_body").display()
        ),
    };
    format!(
        "daemon off; pid pid; worker_processes auto; {user}
events {{}}
http {{
    {temporary} {put}
    access_log off; sendfile on; types {{}} default_type application/octet-stream;
    server {{
        {listens}
        root {};
    }}
}}
",
        files.display()
    )
}

/// A certificate for `localhost` of an authority of its own.
fn write_certificate(folder: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (key, authority_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Two names: OpenSSL takes a certificate whose issuer has its own name for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "staccato-bench");
    let root = authority.self_signed(&authority_key)?.pem();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])?;
    let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
    fs::write(folder.join("root.pem"), root)?;
    fs::write(folder.join("certificate.pem"), leaf.pem())?;
    let mut file = fs::File::create(folder.join("key.pem"))?;
    file.write_all(key.serialize_pem().as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn it_serves_the_folder_until_it_is_dropped() {
        if !crate::contestants::installed("nginx") {
            panic!("nginx is not installed; tests/run does it");
        }
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("a"), b"the object").unwrap();
        let nginx = Nginx::start(files.path()).unwrap();
        let port = nginx.plain;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET /a HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("the object"), "{answer}");
        assert!(nginx.cpu_seconds() > 0.0);
        drop(nginx);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
