//! A service, and executors that have joined it as other hosts would: each with its own data folder and root, all on
//! loopback.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    binary::command,
    process::{Killed, eventually, signal},
    service::{PATIENCE, Service, free_port, scratch},
};

/// See the module.
pub struct Deployment {
    /// The service; its own executor is on the host `head`.
    pub service: Service,
    pki: tempfile::TempDir,
    address: Ipv4Addr,
    port: u16,
}

/// An executor that has been told to join.
pub struct Host {
    /// What its host is called.
    pub name: String,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    process: Option<Killed>,
}

impl Deployment {
    /// Starts a service that others can join; `arguments` are added to `staccato serve`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, arguments)
    }

    /// The same at another address of this host: that of a network namespace, to be called on a thread in it.
    pub fn start_at(address: Ipv4Addr, arguments: &[&str]) -> Self {
        let pki = tempfile::tempdir().expect("a folder can be made");
        let path = |name: &str| pki.path().join(name).display().to_string();
        let authority = path("authority");
        let (cert, key, host) = (path("cert.pem"), path("key.pem"), address.to_string());
        for arguments in [&["init"][..], &["issue", "--host", &host, "--cert", &cert, "--key", &key]] {
            let made = command().arg("pki").args(arguments).args(["--dir", &authority]).output();
            let made = made.expect("the binary runs");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let port = free_port();
        let (listen, peers) = (format!("https://{address}:{port}"), format!("{address}:0"));
        let tls = ["--listen", &listen, "--tls-cert", &cert, "--tls-key", &key, "--pki-dir", &authority];
        let own = ["--name", "head", "--peer-listen", &peers, "--allow-network", "any"];
        Self { service: Service::start(&[&tls[..], &own, arguments].concat()), pki, address, port }
    }

    /// Where executors join it.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }

    /// The port at which executors join it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of its authority.
    pub fn ca(&self) -> PathBuf {
        self.pki.path().join("authority/ca.pem")
    }

    /// `staccato ARGUMENTS`, at its admin socket.
    pub fn admin(&self, arguments: &[&str]) -> Output {
        command().args(arguments).arg("--data-dir").arg(self.service.data()).output().expect("the binary runs")
    }

    /// An invitation for a host.
    pub fn invite(&self, name: &str) -> String {
        let made = self.admin(&["executors", "invite", name]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("an invitation is text").trim().to_owned()
    }

    /// Invites a host, starts its executor, and waits until it has joined; `arguments` are added to `staccato executor`.
    pub fn join(&self, name: &str, arguments: &[&str]) -> Host {
        let invitation = self.invite(name);
        let mut host = self.host(name, arguments);
        host.launch(self, Some(&invitation));
        let joined = || {
            let ended = host.process.as_mut().and_then(|process| process.0.try_wait().ok()?);
            assert!(ended.is_none(), "the executor of {name} has ended:\n{}", host.log());
            self.executor(name).filter(|one| one["health"] == "up")
        };
        eventually(PATIENCE, &format!("{name} has joined"), joined);
        host
    }

    /// A host whose executor does not run yet.
    pub fn host(&self, name: &str, arguments: &[&str]) -> Host {
        let folder = tempfile::tempdir_in(scratch()).expect("a folder can be made");
        fs::create_dir(folder.path().join("root")).expect("a folder can be made");
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Host { name: name.into(), folder, arguments, environment: Vec::new(), process: None }
    }

    /// The document of an executor.
    pub fn executor(&self, name: &str) -> Option<Value> {
        let all = self.service.get("/v1/executors").body;
        all.as_array()?.iter().find(|one| one["name"] == name).cloned()
    }

    /// What it knows of the link over which `reader` reads from `owner`.
    pub fn link(&self, reader: &str, owner: &str) -> Option<Value> {
        let executor = self.executor(reader)?;
        executor["links"].as_array()?.iter().find(|link| link["host"] == owner).cloned()
    }

    /// Waits until an executor counts as up.
    pub fn wait_until_up(&self, name: &str) {
        self.wait_for_health(name, "up");
    }

    /// Waits until an executor counts as this.
    pub fn wait_for_health(&self, name: &str, health: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.executor(name).is_none_or(|one| one["health"] != health) {
            assert!(Instant::now() < deadline, "{name} is not {health}:\n{}", self.service.log());
            sleep(Duration::from_millis(20));
        }
    }
}

impl Host {
    /// The same, with an executor that finds these variables in its environment.
    pub fn with_environment(self, environment: Vec<(&'static str, String)>) -> Self {
        Self { environment, ..self }
    }

    /// Starts its executor; with an invitation, if it is to enrol.
    pub fn launch(&mut self, deployment: &Deployment, invitation: Option<&str>) {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        let log = log.expect("a log opens");
        let mut command = command();
        command.args(["executor", "--join", &deployment.url(), "--name", &self.name, "--lanes", "2"]);
        command.args(["--memory", "128M", "--slots", "8"]);
        command.arg("--ca").arg(deployment.ca()).arg("--data-dir").arg(self.folder.path().join("data"));
        command.arg("--root").arg(format!("{}:rw", self.root().display()));
        if !self.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        if let Some(invitation) = invitation {
            command.env("STACCATO_TOKEN", invitation);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log opens")).stderr(log);
        self.process = Some(Killed(command.spawn().expect("the executor starts")));
    }

    /// Kills its executor (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Waits until its executor has ended by itself; its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("it runs");
        let ended = eventually(PATIENCE, "the executor ends", || process.0.try_wait().expect("it can be waited for"));
        ended.code()
    }

    /// Sends its executor a signal.
    pub fn signal(&self, what: rustix::process::Signal) {
        signal(self.process.as_ref().expect("it runs").0.id(), what);
    }

    /// The root it may read and write.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Path of a file in the root.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// URL of a file in the root.
    pub fn file(&self, name: &str) -> String {
        on(&self.name, &self.path(name))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// URL of a file on a host.
pub fn on(host: &str, path: &Path) -> String {
    let local: String = url::Url::from_file_path(path).expect("the root is absolute").into();
    local.replacen("file://", &format!("file://{host}"), 1)
}

/// Longer than a lease, for whatever machine.
pub const AFTER_A_LEASE: Duration = Duration::from_secs(30);
