//! The built binary `staccato`, run as a service of the bench's own.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Longest wait for a service to start, or for a transfer to move at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a service is asked.
const LOOK: Duration = Duration::from_millis(5);

/// A service that ends with this.
pub struct Service {
    process: Child,
    url: String,
    agent: ureq::Agent,
}

/// CPU seconds of a service so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServiceCpu {
    /// Of the control plane.
    pub control_seconds: f64,
    /// Of its executor.
    pub executor_seconds: f64,
}

impl Service {
    /// Starts `binary` on a free port, with its data in `data` and these arguments besides.
    pub fn start(binary: &Path, data: &Path, arguments: &[String]) -> io::Result<Self> {
        let mut command = Command::new(binary);
        command.args(["--json", "serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(data);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| explain(error, &binary.display()))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it was asked for")).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("{} serve did not start; it says why above", binary.display())))?;
        let url = ready["url"].as_str().unwrap_or_default().to_owned();
        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE));
        Ok(Self { process, url, agent: config.build().new_agent() })
    }

    /// The URL of its REST API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The process of its executor, once it has one.
    pub fn executor_pid(&self) -> io::Result<u32> {
        let began = Instant::now();
        loop {
            if let Some(pid) = child_of(self.pid()) {
                return Ok(pid);
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("the service has no executor"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// CPU seconds so far.
    pub fn cpu(&self) -> io::Result<ServiceCpu> {
        Ok(ServiceCpu {
            control_seconds: cpu_seconds(self.pid())?,
            executor_seconds: cpu_seconds(self.executor_pid()?)?,
        })
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

    /// Waits until a transfer is complete; its document.
    pub fn complete(&self, id: &str) -> io::Result<Value> {
        loop {
            let document = self.get(&format!("/v1/transfers/{id}"))?;
            match document["state"].as_str() {
                Some("STATE_COMPLETE") => return Ok(document),
                Some("STATE_ERROR" | "STATE_CANCELED") => {
                    return Err(io::Error::other(format!("the transfer failed: {}", document["error"])));
                }
                _ => std::thread::sleep(LOOK),
            }
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
