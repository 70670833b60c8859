//! The built binary `staccato`, run as a service of the bench's own.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    alias::Alias,
    api::{self, Api, LOOK, PATIENCE},
    measure::{children, cpu_seconds},
};

/// A service that ends with this.
pub struct Service {
    launch: Launch,
    process: Child,
    /// Held open: a service may say more than once that it is ready.
    _said: BufReader<ChildStdout>,
    api: Api,
}

/// How it is started.
struct Launch {
    binary: PathBuf,
    data: Alias,
    arguments: Vec<String>,
}

impl Launch {
    /// Starts it and waits until it says that it is ready, and where. A process that does not is ended.
    fn start(&self) -> io::Result<(Child, BufReader<ChildStdout>, String)> {
        let mut command = Command::new(&self.binary);
        command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]);
        command.arg(self.data.path());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| explain(error, &self.binary.display()))?;
        let mut said = BufReader::new(process.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        let read = said.read_line(&mut line);
        let ready: Option<Value> = read.ok().and_then(|_| serde_json::from_str(&line).ok());
        if let Some(url) = ready.and_then(|ready| Some(ready["url"].as_str()?.to_owned())) {
            return Ok((process, said, url));
        }
        let _ = process.kill();
        let _ = process.wait();
        Err(io::Error::other(format!("{} serve did not start; it says why above", self.binary.display())))
    }
}

impl Service {
    /// Starts `binary` on a free port, with its data in `data` and these arguments besides.
    pub fn start(binary: &Path, data: &Path, arguments: &[String]) -> io::Result<Self> {
        let data = Alias::of(data)?;
        let launch = Launch { binary: binary.to_owned(), data, arguments: arguments.to_vec() };
        let (process, said, url) = launch.start()?;
        Ok(Self { launch, process, _said: said, api: Api::new(url) })
    }

    /// Its REST interface.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Lets its executor move something: from then on its lanes are there. The id of that transfer.
    pub fn warm_up(&self) -> io::Result<String> {
        let warm = self.api.submit(&json!({"source_url": "zero:///1M?seed=1", "destination_url": "null:///"}))?;
        self.api.complete(&warm)?;
        Ok(api::id(&warm).to_owned())
    }

    /// Kills it with SIGKILL and starts it again; how long the new one took until it was ready.
    pub fn kill_and_restart(&mut self) -> io::Result<Duration> {
        self.process.kill()?;
        self.process.wait()?;
        let began = Instant::now();
        let (process, said, url) = self.launch.start()?;
        let took = began.elapsed();
        (self.process, self._said, self.api) = (process, said, Api::new(url));
        Ok(took)
    }

    /// Host and port where it listens.
    pub fn address(&self) -> &str {
        self.api.url().strip_prefix("http://").unwrap_or(self.api.url())
    }

    /// Anonymous memory of the control plane: heap, stacks, and what the allocator keeps for later (`RssAnon` of
    /// proc_pid_status(5)).
    pub fn anonymous_bytes(&self) -> io::Result<u64> {
        self.memory("RssAnon:")
    }

    /// Most memory of the control plane at a time (`VmHWM`).
    pub fn rss_bytes_max(&self) -> io::Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes
            .map(|kibibytes| kibibytes << 10)
            .ok_or_else(|| io::Error::other(format!("the kernel tells no {name}")))
    }

    /// The process of its executor, once it has one.
    fn executor_pid(&self) -> io::Result<u32> {
        let began = Instant::now();
        loop {
            if let Some(pid) = children(self.process.id()).into_iter().next() {
                return Ok(pid);
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the service has no executor"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// CPU seconds of the control plane so far.
    pub fn control_cpu_seconds(&self) -> io::Result<f64> {
        cpu_seconds(self.process.id())
    }

    /// CPU seconds of the control plane and its executor so far.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        Ok(self.control_cpu_seconds()? + cpu_seconds(self.executor_pid()?)?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It stops its executor, which closes what it has open.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

/// The binary `staccato`: this very executable, or the one beside it.
pub fn binary() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found =
        if own.file_stem().is_some_and(|name| name == "staccato") { own } else { own.with_file_name("staccato") };
    if found.exists() {
        return Ok(found);
    }
    let why = format!("{} is not there; build it: cargo build --release", found.display());
    Err(io::Error::new(io::ErrorKind::NotFound, why))
}

fn explain(error: io::Error, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
