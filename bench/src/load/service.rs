//! A service to be measured: a process of the real binary, on a free port, with a data folder of its own.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A running `serve`, ended when this is dropped.
pub struct Service {
    binary: PathBuf,
    folder: TempDir,
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts one on a fresh data folder below `folder`, and waits until it is ready.
    pub fn start(binary: &Path, folder: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("staccato-load-").tempdir_in(folder.canonicalize()?)?;
        fs::create_dir(folder.path().join("root"))?;
        let (child, address) = launch(binary, folder.path())?;
        Ok(Self { binary: binary.to_owned(), folder, child, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder whose files may be named in transfers.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Kills it with SIGKILL and starts it again; how long the new one took until it was ready.
    pub fn kill_and_restart(&mut self) -> io::Result<Duration> {
        self.child.kill()?;
        self.child.wait()?;
        let began = Instant::now();
        (self.child, self.address) = launch(&self.binary, self.folder.path())?;
        TcpStream::connect(self.address)?;
        Ok(began.elapsed())
    }

    /// Its anonymous memory: heap, stacks, and what the allocator keeps for later (proc_pid_status(5), `RssAnon`).
    pub fn heap_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.map(|kibibytes| kibibytes << 10).ok_or_else(|| io::Error::other("the kernel tells no RssAnon"))
    }

    /// CPU seconds that it has used, of all threads.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold spaces; user and system time are the 14th and 15th field (proc_pid_stat(5)).
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Starts the binary and waits until it says that it is ready, and where.
fn launch(binary: &Path, folder: &Path) -> io::Result<(Child, SocketAddr)> {
    let mut command = Command::new(binary);
    command
        .args(["serve", "--json", "--executors", "none", "--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
        .arg(folder.join("data"))
        .arg("--root")
        .arg(folder.join("root"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", binary.display()));
    let mut child = command.spawn().map_err(told)?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it was asked for")).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    let url = ready["url"].as_str().and_then(|url| url.strip_prefix("http://")?.parse().ok());
    match url {
        Some(address) => Ok((child, address)),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(io::Error::other(format!("{} did not become ready; it said {line:?}", binary.display())))
        }
    }
}
