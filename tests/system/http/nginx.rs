//! A real nginx, of this test's own.

use std::{
    fmt::Write as _,
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use staccato_tests::{
    process::{Killed, eventually},
    service::PATIENCE,
};

/// How often a start is tried: between finding a free port and binding it, another test may take it.
const STARTS_MAX: usize = 5;

/// nginx on loopback, without and with TLS. Serves a folder under `/`, and the same files in other ways:
///
/// | prefix | how |
/// | --- | --- |
/// | `/whole/` | without ranges |
/// | `/chunked/` | without ranges and length: in chunks |
/// | `/guarded/` | only with the header `Authorization: Bearer hush` |
/// | `/slow/` | 512 KiB of each answer at once and as much each second |
/// | `/moved/` | redirects to the same under `/` |
/// | `/weaker/` | redirects to the same under `/` without TLS |
/// | `/file/` | redirects to `file:///` |
pub struct Nginx {
    folder: tempfile::TempDir,
    ports: Ports,
    /// The root of its certificate in PEM.
    pub root: String,
    process: Option<Killed>,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    tls: u16,
}

impl Nginx {
    /// Starts one that serves an empty folder.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        fs::create_dir(folder.path().join("files")).expect("a folder can be made");
        let root = write_certificate(&folder);
        let mut nginx = Self { folder, ports: Ports::free(), root, process: None };
        for _ in 0..STARTS_MAX {
            if nginx.launch() {
                return nginx;
            }
            nginx.ports = Ports::free();
        }
        panic!("nginx does not start:\n{}", nginx.read_log("error.log"));
    }

    /// Starts it (again) on its ports; whether it runs.
    pub fn launch(&mut self) -> bool {
        let configuration = self.folder.path().join("nginx.conf");
        fs::write(&configuration, self.configuration()).expect("the configuration can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(configuration);
        command.arg("-e").arg(self.folder.path().join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Killed(command.spawn().expect("nginx is installed; tests/run does it"));
        let runs = eventually(PATIENCE, "nginx listens", || {
            if process.0.try_wait().expect("a child can be waited for").is_some() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", self.ports.plain)).is_ok().then_some(true)
        });
        self.process = runs.then_some(process);
        runs
    }

    /// Kills it; its connections are reset.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Path of a file that it serves.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    /// Writes a file for it to serve.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("the folder can be written");
    }

    /// Makes a file of zeros for it to serve, which takes no space.
    pub fn put_zeros(&self, name: &str, len: u64) {
        let file = fs::File::create(self.path(name)).expect("the folder can be written");
        file.set_len(len).expect("a file can have holes");
    }

    /// URL of a path (percent-encoded, without its first slash).
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.ports.plain)
    }

    /// The same with TLS.
    pub fn https(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.ports.tls)
    }

    /// `STATUS RANGE` of every answer to a request for `path` so far.
    pub fn answers(&self, path: &str) -> Vec<String> {
        let log = self.read_log("access.log");
        let lines = log.lines().filter_map(|line| line.split_once('\t'));
        lines.filter(|(requested, _)| requested.strip_prefix('/') == Some(path)).map(|(_, rest)| rest.into()).collect()
    }

    fn read_log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn configuration(&self) -> String {
        let Ports { plain, tls } = self.ports;
        let files = self.folder.path().join("files");
        let files = files.display();
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(temporary, "    {kind}_temp_path temp-{kind};").expect("a string can be written");
        }
        // One process in the foreground: what is killed is all there is.
        format!(
            "daemon off; master_process off; pid pid;
events {{}}
http {{
{temporary}
    log_format answers '$request_uri\t$status $http_range';
    access_log access.log answers;
    sendfile on;
    types {{}} default_type application/octet-stream;
    server {{
        listen 127.0.0.1:{plain};
        listen 127.0.0.1:{tls} ssl;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        root {files};
        location /whole/ {{ alias {files}/; max_ranges 0; }}
        location /chunked/ {{ alias {files}/; ssi on; ssi_types *; }}
        location /slow/ {{ alias {files}/; limit_rate 512k; }}
        location /guarded/ {{
            alias {files}/;
            if ($http_authorization != 'Bearer hush') {{ return 403; }}
        }}
        location ~ ^/moved/(.*) {{ return 302 /$1; }}
        location ~ ^/weaker/(.*) {{ return 302 http://127.0.0.1:{plain}/$1; }}
        location ~ ^/file/(.*) {{ return 302 file:///$1; }}
    }}
}}
"
        )
    }
}

impl Ports {
    fn free() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
        let [plain, tls] = listeners.each_ref().map(|listener| listener.local_addr().expect("it is bound").port());
        Self { plain, tls }
    }
}

/// Writes a certificate for `localhost` of a new authority, with its key; the authority's root in PEM.
fn write_certificate(folder: &tempfile::TempDir) -> String {
    let generate = || KeyPair::generate().expect("a key can be made");
    let (key, authority_key) = (generate(), generate());
    let mut authority = CertificateParams::new(Vec::new()).expect("no name is a name");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("a root can be made").pem();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("localhost is a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate can be made");
    fs::write(folder.path().join("certificate.pem"), leaf.pem()).expect("the certificate can be written");
    fs::write(folder.path().join("key.pem"), key.serialize_pem()).expect("the key can be written");
    root
}
