//! Real storage servers on loopback: what `tests/run install` installs, started for measurements and for tests.
//!
//! Each has a `shared()`, started once by the first test of the process that asks, and a `start`, for whoever hurts its
//! server or wants it otherwise. Both end with the process, however that ends; see `keeper.rs`. Where a server does not
//! do what it is there for, there is nothing to measure and nothing to test: then everything here panics, with what the
//! server has logged. Ask [`missing`] first whether they are installed.

pub mod glance;
mod http;
mod keeper;
pub mod keystone;
pub mod rclone;
pub mod swift;

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub use http::{Reply, exchange};

use crate::measure::cpu_seconds;

/// How long a server may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a start is tried: between finding a free port and binding it, another test may take it.
const STARTS_MAX: usize = 5;

/// How much of a log is shown.
const LOG_SHOWN_BYTES_MAX: usize = 8 << 10;

/// The programs that are one server, and their folder.
struct Server {
    name: &'static str,
    // Before the folder: they end before it goes.
    running: Vec<Running>,
    programs: Vec<Program>,
    ports: Vec<u16>,
    folder: tempfile::TempDir,
}

/// A program that runs until this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of a server, with the name of its log.
struct Program {
    name: &'static str,
    command: Command,
}

impl Program {
    fn new(name: &'static str, mut command: Command) -> Self {
        keeper::end_with_this_process(&mut command);
        Self { name, command }
    }

    fn start(mut self, folder: &Path) -> (Running, Self) {
        let log = folder.join(self.name).with_extension("log");
        let log = File::options().create(true).append(true).open(log).expect("a log opens");
        self.command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log opens")).stderr(log);
        let (command, child) = keeper::start(self.command);
        let child = child.unwrap_or_else(|error| {
            panic!("{}: {error}; `tests/run install` installs it", command.get_program().display());
        });
        (Running(child), Self { name: self.name, command })
    }
}

impl Server {
    /// Starts a server and waits until all its ports answer. `plan` says which programs it is, for a folder of the
    /// server's own and as many free ports as it takes.
    fn start<const N: usize>(name: &'static str, plan: impl Fn(&Path, [u16; N]) -> Vec<Program>) -> Self {
        let mut log = String::new();
        for _ in 0..STARTS_MAX {
            let folder = tempfile::Builder::new().prefix(name).tempdir_in(keeper::folder());
            let folder = folder.expect("a folder can be made");
            let ports = free_ports::<N>();
            let programs = plan(folder.path(), ports);
            let mut server = Self { name, running: Vec::new(), programs, ports: ports.to_vec(), folder };
            if server.launch() {
                return server;
            }
            log = server.log();
        }
        panic!("{name} does not start; `tests/run install` installs it. It says:\n{log}");
    }

    /// Starts its programs (again) on the same ports and data; whether they run.
    fn launch(&mut self) -> bool {
        let folder = self.folder.path();
        let (running, programs) =
            std::mem::take(&mut self.programs).into_iter().map(|program| program.start(folder)).unzip();
        (self.running, self.programs) = (running, programs);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let has_ended = |program: &mut Running| program.0.try_wait().expect("a child can be waited for").is_some();
            if self.running.iter_mut().any(has_ended) {
                self.kill();
                return false;
            }
            if self.ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
                return true;
            }
            assert!(Instant::now() < deadline, "{} does not answer within {PATIENCE:?}:\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills its programs; their connections are reset, their data stays.
    fn kill(&mut self) {
        self.running.clear();
    }

    /// CPU seconds of its programs so far.
    fn cpu_seconds(&self) -> f64 {
        self.running.iter().filter_map(|program| cpu_seconds(program.0.id()).ok()).sum()
    }

    /// URL of its first port.
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// The last that each of its programs has said.
    fn log(&self) -> String {
        let tail = |program: &Program| {
            let log = self.folder.path().join(program.name).with_extension("log");
            let log = fs::read(log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN_BYTES_MAX)..]).into_owned();
            format!("-- {}\n{log}\n", program.name)
        };
        self.programs.iter().map(tail).collect()
    }
}

/// A command of Debian's own Python, for the servers that are Debian's packages: another Python does not see them.
fn debian_python(script: &Path) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(script);
    command
}

/// A program of the virtual environment that `tests/run install` makes in the target folder.
pub fn tool(name: &str) -> PathBuf {
    target_folder().unwrap_or_default().join(TOOLS).join("bin").join(name)
}

/// Where that environment lies in the target folder.
const TOOLS: &str = "tools/python";

/// Debian's folder of Python's packages, and those of them that are servers.
const DEBIAN: (&str, [&str; 2]) = ("/usr/lib/python3/dist-packages", ["keystone", "glance"]);

/// What is not installed, with what to do about it.
pub fn missing() -> Option<String> {
    let (folder, packages) = DEBIAN;
    let absent = packages.iter().find(|package| !Path::new(folder).join(package).is_dir());
    let absent = absent.map(|package| format!("Debian's python3-{package}"));
    let absent = absent.or_else(|| target_folder().is_none().then(|| "target/tools/python".to_owned()))?;
    Some(format!("{absent} is not there; `tests/run install` installs the storage servers"))
}

/// The target folder that this executable lies in, where the environment is made.
fn target_folder() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    executable.ancestors().find(|folder| folder.join(TOOLS).is_dir()).map(Path::to_owned)
}

/// Writes a file of a server's folder; its path.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the folder can be written");
    path
}

/// Different ports of loopback that nobody listens on now.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}
