//! A service and executors that have joined it, each on a host of its own, with all that belongs to them in one folder.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use staccato_bench::network::{Network, Wiring};

use super::super::{free_port, image::stored_bytes, text};
use crate::{
    client::{Client, Server},
    pki::{Authority, certificate_path},
};

/// What the service's host is called.
const HEAD: &str = "head";
/// How long starting may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the certificate at the service's door lasts: longer than anybody looks on.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(86_400);
/// Lines of a log that are shown when something fails.
const LOG_LINES: usize = 15;

/// See the module. Processes end before the network does.
pub(super) struct Deployment {
    executors: Vec<Executor>,
    service: Process,
    network: Option<Network>,
    folder: PathBuf,
    /// Where executors join.
    pub join: Server,
    /// Why there is no network of namespaces, where one was wanted.
    no_network: Option<String>,
}

struct Executor {
    name: String,
    process: Process,
}

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Deployment {
    /// Starts the service and so many executors, and waits until they have joined.
    pub async fn start(folder: &Path, hosts: usize, loopback: bool) -> Result<Self, String> {
        let (network, no_network) = match loopback {
            true => (None, None),
            false => match Network::build(&Wiring { hosts: hosts + 1, ..Wiring::default() }) {
                Ok(network) => (Some(network), None),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        let (address, port) = match &network {
            Some(network) => (network.hosts()[0].address(), 5309),
            None => (Ipv4Addr::LOCALHOST, free_port().map_err(text("find a free port"))?),
        };
        let pki = folder.join("pki");
        let authority = Authority::create(&pki, "Staccato demo").map_err(|error| error.to_string())?;
        let issued = authority.issue(&[address.to_string()], CERTIFICATE_LIFE);
        let written = issued.and_then(|issued| issued.write(&folder.join("cert.pem"), &folder.join("key.pem")));
        written.map_err(|error| error.to_string())?;

        let join = Server::Tls(address.to_string(), port);
        let service = Process(start_service(network.as_ref(), folder, &join)?);
        let mut deployment =
            Self { executors: Vec::new(), service, network, folder: folder.to_owned(), join, no_network };
        deployment.wait_until_ready().await?;
        for number in 1..=hosts {
            deployment.join(number).await?;
        }
        deployment.wait_until_joined().await?;
        Ok(deployment)
    }

    /// What hosts are here, for people.
    pub fn what_hosts_are(&self) -> String {
        match (&self.network, &self.no_network) {
            (Some(network), _) => {
                let names: Vec<_> = network.hosts().iter().map(|host| host.namespace()).collect();
                format!("each in a network namespace ({} to {})", names[0], names[names.len() - 1])
            }
            (None, Some(why)) => format!("processes on loopback ({why})"),
            (None, None) => "processes on loopback".into(),
        }
    }

    /// A client of the service.
    pub fn client(&self) -> Client {
        Client::new(self.server())
    }

    /// Where clients of this host reach the service.
    pub fn server(&self) -> Server {
        Server::Unix(self.folder.join("socket"))
    }

    /// Path of a file in a host's root.
    pub fn path(&self, host: &str, name: &str) -> PathBuf {
        self.folder.join(host).join(name)
    }

    /// Path of an image that is on no host.
    pub fn image(&self) -> PathBuf {
        self.folder.join("image.raw")
    }

    /// What stands for the URLs of files of this name, one in each host's root.
    pub fn template(&self, name: &str) -> String {
        let folder = url::Url::from_file_path(&self.folder).expect("the folder's path is absolute");
        format!("file://{{host}}{}/{{host}}/{name}", folder.path())
    }

    /// A socket on the service's host, where all hosts can connect.
    pub fn listen(&self) -> std::io::Result<TcpListener> {
        match &self.network {
            Some(network) => {
                let head = &network.hosts()[0];
                head.run(|| TcpListener::bind((head.address(), 0)))?
            }
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// Bytes that all files in the hosts' roots take on disk, those that are being written included.
    pub fn stored(&self) -> u64 {
        let roots = self.executors.iter().filter_map(|executor| fs::read_dir(self.folder.join(&executor.name)).ok());
        roots.flatten().filter_map(|entry| stored_bytes(&entry.ok()?.path()).ok()).sum()
    }

    /// URL of a file in a host's root.
    pub fn url(&self, host: &str, name: &str) -> String {
        let url = url::Url::from_file_path(self.path(host, name)).expect("the folder's path is absolute");
        url.as_str().replacen("file://", &format!("file://{host}"), 1)
    }

    /// The hosts as `staccato executors` tells of them.
    pub async fn table(&self) -> Result<Vec<String>, String> {
        let hosts = self.documents().await?;
        let line = |host: &Value| {
            let text = |field: &str| host[field].as_str().unwrap_or("-").to_owned();
            format!("{:<4}  {:<5}  {:<21}  {}", text("name"), text("health"), text("address"), host["roots"][0])
        };
        Ok(hosts.iter().map(line).collect())
    }

    /// Kills the executor of a host (SIGKILL) and starts another one; their process ids.
    pub fn kill_and_start(&mut self, host: &str) -> Result<(u32, u32), String> {
        let at = self.executors.iter().position(|executor| executor.name == host).ok_or("there is no such host")?;
        let killed = self.executors[at].process.0.id();
        self.executors[at].process.0.kill().map_err(text("kill an executor"))?;
        let _ = self.executors[at].process.0.wait();
        self.executors[at].process = Process(self.start_executor(at + 1)?);
        Ok((killed, self.executors[at].process.0.id()))
    }

    /// Kills the service (SIGKILL): nobody can ask it anything until it is started again. Its process id.
    pub fn kill_service(&mut self) -> Result<u32, String> {
        let killed = self.service.0.id();
        self.service.0.kill().map_err(text("kill the service"))?;
        let _ = self.service.0.wait();
        Ok(killed)
    }

    /// Starts the service again, and waits until it answers; its process id.
    pub async fn start_service(&mut self) -> Result<u32, String> {
        self.service = Process(start_service(self.network.as_ref(), &self.folder, &self.join)?);
        self.wait_until_ready().await?;
        Ok(self.service.0.id())
    }

    /// Bytes that have come to a host over its network so far; none on loopback, which all share.
    pub fn received(&self, host: &str) -> Option<u64> {
        let at = self.executors.iter().position(|executor| executor.name == host)?;
        let devices = || fs::read_to_string("/proc/thread-self/net/dev");
        bytes_received(&self.network.as_ref()?.hosts()[at + 1].run(devices).ok()?.ok()?)
    }

    /// The last lines that each process has logged.
    pub fn logs(&self) -> String {
        let names = self.executors.iter().map(|executor| executor.name.as_str());
        let tail = |name: &str| {
            let log = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{name}:\n  {}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  "))
        };
        std::iter::once(HEAD).chain(names).map(tail).collect::<Vec<_>>().join("\n")
    }

    async fn documents(&self) -> Result<Vec<Value>, String> {
        let answer = self.client().get("/v1/executors").await.map_err(|error| error.to_string())?;
        Ok(answer.body.as_array().cloned().unwrap_or_default())
    }

    async fn join(&mut self, number: usize) -> Result<(), String> {
        let name = format!("h{number}");
        fs::create_dir(self.folder.join(&name)).map_err(text("make a folder"))?;
        let admin = Client::new(Server::Unix(self.folder.join("head/admin.sock")));
        let invited = admin.post("/v1/executors", &json!({"name": name})).await.map_err(|error| error.to_string())?;
        let invitation = invited.body["token"].as_str().ok_or("the service gave no invitation")?.to_owned();
        fs::write(self.folder.join(format!("{name}.invitation")), invitation).map_err(text("write an invitation"))?;
        let process = Process(self.start_executor(number)?);
        self.executors.push(Executor { name, process });
        Ok(())
    }

    fn start_executor(&self, number: usize) -> Result<Child, String> {
        let name = format!("h{number}");
        let mut command = command(self.network.as_ref(), number)?;
        command.args(["executor", "--join", &self.join.to_string(), "--name", &name]);
        // Small ones: they share a machine.
        command.args(["--lanes", "2", "--memory", "128M"]);
        command.arg("--ca").arg(certificate_path(&self.folder.join("pki")));
        command.arg("--token-file").arg(self.folder.join(format!("{name}.invitation")));
        command.arg("--root").arg(format!("{}:rw", self.folder.join(&name).display()));
        command.arg("--data-dir").arg(self.folder.join(format!("{name}.data")));
        if self.network.is_none() {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        start(command, &self.folder, &name)
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let client = self.client();
        let deadline = Instant::now() + PATIENCE;
        while client.get("/readyz").await.is_err() {
            self.look(deadline, "the service is not ready")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn wait_until_joined(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let hosts = self.documents().await?;
            if hosts.iter().filter(|host| host["health"] == "up").count() == self.executors.len() {
                return Ok(());
            }
            self.look(deadline, "the executors have not joined")?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// An error when a process has ended, or it takes too long.
    fn look(&mut self, deadline: Instant, what: &str) -> Result<(), String> {
        let all = std::iter::once(&mut self.service).chain(self.executors.iter_mut().map(|one| &mut one.process));
        let ended = all.filter_map(|process| process.0.try_wait().ok().flatten()).next();
        match ended {
            Some(status) => Err(format!("{what}: a process has ended ({status})\n{}", self.logs())),
            None if Instant::now() > deadline => Err(format!("{what} after {} s\n{}", PATIENCE.as_secs(), self.logs())),
            None => Ok(()),
        }
    }
}

/// What all devices but loopback have received: proc_pid_net(5), `dev`.
fn bytes_received(devices: &str) -> Option<u64> {
    let lines = devices.lines().filter_map(|line| line.split_once(':'));
    let others = lines.filter(|(name, _)| name.trim() != "lo");
    others.map(|(_, counts)| counts.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// This program, on a host: 0 is the service's.
fn command(network: Option<&Network>, host: usize) -> Result<Command, String> {
    let program = std::env::current_exe().map_err(text("find the program itself"))?;
    let mut command = match network {
        Some(network) => network.hosts()[host].command(&program.display().to_string()),
        None => Command::new(program),
    };
    // Settings of whoever looks on are not those of the hosts.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"STACCATO_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

fn start_service(network: Option<&Network>, folder: &Path, join: &Server) -> Result<Child, String> {
    let mut command = command(network, 0)?;
    command.args(["serve", "--executors", "none", "--name", HEAD, "--listen", &join.to_string()]);
    for (flag, name) in [
        ("--tls-cert", "cert.pem"),
        ("--tls-key", "key.pem"),
        ("--pki-dir", "pki"),
        ("--socket", "socket"),
        ("--data-dir", "head"),
    ] {
        command.arg(flag).arg(folder.join(name));
    }
    start(command, folder, HEAD)
}

fn start(mut command: Command, folder: &Path, name: &str) -> Result<Child, String> {
    use std::os::unix::process::CommandExt as _;
    let log = folder.join(format!("{name}.log"));
    let log = fs::File::options().create(true).append(true).open(log).map_err(text("create the log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(text("open the log"))?)
        .stderr(log)
        // Ctrl-C is for the demonstration, which ends them.
        .process_group(0)
        .spawn()
        .map_err(text("start a process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_over_loopback_came_from_nobody() {
        let devices = "Inter-|   Receive                     |  Transmit\n face |bytes    packets errs|bytes packets errs\n    \
                       lo:    7  1 0  7 1 0\n  eth0: 1234 2 0 99 1 0\n  eth1:6 1 0 0 0 0\n";
        assert_eq!(bytes_received(devices), Some(1240));
        assert_eq!(bytes_received("  eth0: many"), None);
        assert!(bytes_received(&fs::read_to_string("/proc/thread-self/net/dev").unwrap()).is_some());
    }
}
