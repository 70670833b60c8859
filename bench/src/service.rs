//! The built binary `staccato`, run as a service of the bench's own.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Longest wait for an answer, for an executor, and for a transfer to change at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a service is asked.
const LOOK: Duration = Duration::from_millis(5);

/// A service that ends with this.
pub struct Service {
    process: Child,
    /// Held open: a service may say more than once that it is ready.
    _said: BufReader<ChildStdout>,
    url: String,
    agent: ureq::Agent,
}

impl Service {
    /// Starts `binary` on a free port, with its data in `data` and these arguments besides, and lets its executor move
    /// something: from then on its lanes are there. Returns the id of that transfer, too.
    pub fn start(binary: &Path, data: &Path, arguments: &[String]) -> io::Result<(Self, String)> {
        let mut command = Command::new(binary);
        command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(data);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| explain(error, &binary.display()))?;
        let said = BufReader::new(process.stdout.take().expect("it was asked for"));
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        // Whatever goes wrong from here on, it ends with this.
        let mut service = Self { process, _said: said, url: String::new(), agent: config.build().new_agent() };
        let mut line = String::new();
        service._said.read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("{} serve did not start; it says why above", binary.display())))?;
        service.url = ready["url"].as_str().unwrap_or_default().to_owned();
        let warm = service.submit(&json!({"source_url": "zero:///1M?seed=1", "destination_url": "null:///"}))?;
        service.complete(&warm)?;
        let warm = id(&warm).to_owned();
        Ok((service, warm))
    }

    /// The process of its executor, once it has one.
    fn executor_pid(&self) -> io::Result<u32> {
        let began = Instant::now();
        loop {
            if let Some(pid) = child_of(self.process.id()) {
                return Ok(pid);
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the service has no executor"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// CPU seconds of the control plane and its executor so far.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        Ok(cpu_seconds(self.process.id())? + cpu_seconds(self.executor_pid()?)?)
    }

    /// Submits something; what is not taken is an error.
    pub fn submit(&self, request: &Value) -> io::Result<Value> {
        let url = format!("{}/v1/transfers", self.url);
        let mut answer = self.agent.post(url).send_json(request).map_err(io::Error::other)?;
        let document: Value = answer.body_mut().read_json().map_err(io::Error::other)?;
        match answer.status().as_u16() {
            200..300 => Ok(document),
            _ => Err(io::Error::other(format!("the service refused: {document}"))),
        }
    }

    /// What it answers to a GET.
    pub fn get(&self, path: &str) -> io::Result<Value> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().map_err(io::Error::other)?;
        answer.body_mut().with_config().limit(1 << 30).read_json().map_err(io::Error::other)
    }

    /// What it answers to a GET, as it stands.
    pub fn text(&self, path: &str) -> io::Result<String> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().map_err(io::Error::other)?;
        answer.body_mut().read_to_string().map_err(io::Error::other)
    }

    /// Waits until a transfer that was submitted is complete; one that does not change for a minute is an error.
    pub fn complete(&self, submitted: &Value) -> io::Result<()> {
        let path = format!("/v1/transfers/{}", id(submitted));
        let (mut changed, mut before) = (Instant::now(), Value::Null);
        loop {
            let document = self.get(&path)?;
            match document["state"].as_str() {
                Some("STATE_COMPLETE") => return Ok(()),
                Some("STATE_ERROR" | "STATE_CANCELED") => {
                    return Err(io::Error::other(format!("the transfer failed: {}", document["error"])));
                }
                _ if document != before => (changed, before) = (Instant::now(), document),
                _ if changed.elapsed() > PATIENCE => {
                    return Err(io::Error::other(format!("the transfer does not move: {document}")));
                }
                _ => (),
            }
            std::thread::sleep(LOOK);
        }
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

/// The id in a document.
pub fn id(document: &Value) -> &str {
    document["id"].as_str().unwrap_or_default()
}

/// A child of a process, whichever of its threads started it.
fn child_of(pid: u32) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    children.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).next()
}

/// User and system CPU seconds of a process, with threads that have ended: from its own clock, because ticks are coarse.
fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are to live variables of the right types.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return Err(io::Error::other(format!("process {pid} has no clock (any more)")));
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

fn explain(error: io::Error, what: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
