//! A service of the bench's own, and executors that have joined it by invitation. For a testbed they are two: one where its
//! owner is, one where the reader is, and the service is on the owner's host.

use std::{
    any::Any,
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    Testbed,
    client::{Client, without_settings},
};
use crate::{
    alias::Alias,
    measure::{cpu_seconds, forget_rss_max, rss_bytes_max},
    service,
};

/// What the owner's host is called.
pub const OWNER: &str = "owner";
/// What the reader's host is called.
pub const READER: &str = "reader";

/// How long starting may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process may take to end; executors let go of what they do.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether all are there.
const LOOK: Duration = Duration::from_millis(50);
/// UDP ports of an executor: one for each lane, of which there are four at most.
const PORTS: u16 = 4;
/// Lines of a log that are shown when something fails.
const LOG_LINES: usize = 10;

/// See the module.
#[derive(Debug)]
pub struct Fleet {
    /// Name and process; the service last: executors say goodbye to it.
    processes: Vec<(String, Process)>,
    folder: Alias,
    api: String,
    client: Client,
    _hosts: Rc<dyn Any>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Words before those of a command that make it run there.
    pub at: Vec<String>,
    /// Where executors join it.
    pub door: SocketAddr,
    /// The port of its REST interface, on loopback.
    pub api_port: u16,
}

/// An executor, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// What its host is called.
    pub name: String,
    /// Words before those of a command that make it run there.
    pub at: Vec<String>,
    /// Where others connect; nowhere when absent.
    pub listen: Option<SocketAddr>,
    /// Files under these may be moved.
    pub roots: Vec<PathBuf>,
}

/// A process that is ended when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Fleet {
    /// Starts a service and both executors of a testbed, with what is theirs in `folder`, which is there and empty. Files under
    /// `roots` may be moved; `slots` transfers run at a time.
    pub fn start(bed: &Rc<Testbed>, folder: &Path, roots: &[PathBuf], slots: usize) -> io::Result<Self> {
        let seat = Seat { at: bed.at_owner(), door: bed.port(1), api_port: bed.port(1).port() };
        let post = |name: &str, at, listen| Post { name: name.into(), at, listen, roots: roots.into() };
        let posts = [post(OWNER, bed.at_owner(), Some(bed.port(PORTS))), post(READER, bed.at_reader(), None)];
        Self::start_at(&seat, &posts, folder, Some(slots), bed.clone())
    }

    /// Starts a service and executors at these posts, with what is theirs in `folder`, which is there and empty. As many
    /// transfers run at a time as by default, where `slots` is absent. `hosts` are there as long as they.
    pub fn start_at(
        seat: &Seat,
        posts: &[Post],
        folder: &Path,
        slots: Option<usize>,
        hosts: Rc<dyn Any>,
    ) -> io::Result<Self> {
        let binary = service::binary()?.display().to_string();
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, seat.api_port)).to_string();
        let alias = Alias::of(folder)?;
        let folder = alias.path().to_owned();
        let path = |name: &str| folder.join(name).display().to_string();
        let (pki, cert, key, data) = (path("pki"), path("cert.pem"), path("key.pem"), path("service.data"));
        let at = |host: &[String], words: &[&str]| -> Vec<String> {
            let words = words.iter().map(|word| (*word).to_owned());
            host.iter().cloned().chain([binary.clone()]).chain(words).collect()
        };
        let own = Client::of_own(vec![binary.clone()]);
        let door = seat.door.ip().to_string();
        own.ask(&["pki", "init", "--dir", &pki])?;
        own.ask(&["pki", "issue", "--dir", &pki, "--host", &door, "--cert", &cert, "--key", &key])?;

        let url = format!("https://{}", seat.door);
        let slots: Vec<String> = slots.iter().flat_map(|slots| ["--slots".into(), slots.to_string()]).collect();
        let serve = ["serve", "--executors", "none", "--name", "service", "--log", "warn"];
        let listen = ["--listen", &api, "--listen", &url, "--data-dir", &data];
        let tls = ["--tls-cert", &cert, "--tls-key", &key, "--pki-dir", &pki];
        let words = [at(&seat.at, &[&serve[..], &listen, &tls].concat()), slots.clone()].concat();
        let service = start(&words, &folder, "service")?;
        let api = format!("http://{api}");
        let client = Client::of_own(at(&seat.at, &["--server", &api]));
        let processes = vec![("service".to_owned(), service)];
        let mut fleet = Self { processes, folder: alias, api, client, _hosts: hosts };
        fleet.wait_until("the service answers", |client| client.executors().is_ok())?;

        let ca = format!("{pki}/ca.pem");
        for Post { name, at: host, listen, roots } in posts {
            let invited = own.ask(&["executors", "invite", name, "--data-dir", &data])?;
            let token = invited["token"].as_str().ok_or_else(|| io::Error::other("no invitation"))?;
            let (invitation, data) = (path(&format!("{name}.invitation")), path(&format!("{name}.data")));
            fs::write(&invitation, token)?;
            let listen = listen.map_or_else(|| "none".into(), |listen| listen.to_string());
            let executor = ["executor", "--join", &url, "--name", name, "--ca", &ca, "--token-file", &invitation];
            let settings = ["--listen", &listen, "--data-dir", &data, "--log", "warn"];
            let roots: Vec<String> =
                roots.iter().flat_map(|root| ["--root".into(), format!("{}:rw", root.display())]).collect();
            let words = [at(host, &[&executor[..], &settings].concat()), slots.clone(), roots].concat();
            fleet.processes.insert(0, (name.clone(), start(&words, &folder, name)?));
        }
        let are_up = |client: &Client| {
            let executors = client.executors().unwrap_or_default();
            executors.iter().filter(|executor| executor.health == "up").count() == posts.len()
        };
        fleet.wait_until("all executors have joined", are_up)?;
        Ok(fleet)
    }

    /// Where its REST interface is, for processes on the owner's host.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// A client of it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// CPU seconds of each process so far, by its name.
    pub fn cpu_seconds(&self) -> BTreeMap<String, f64> {
        let of = |(name, process): &(String, Process)| (name.clone(), cpu_seconds(process.0.id()).unwrap_or(0.0));
        self.processes.iter().map(of).collect()
    }

    /// What its executors had in memory so far is forgotten.
    pub fn forget_rss_max(&self) {
        self.executors().for_each(forget_rss_max);
    }

    /// Most memory of an executor at a time, since it was forgotten.
    pub fn rss_bytes_max(&self) -> Option<u64> {
        self.executors().filter_map(|pid| rss_bytes_max(pid).ok()).max()
    }

    fn executors(&self) -> impl Iterator<Item = u32> {
        let (_service, executors) = self.processes.split_last().expect("there is a service");
        executors.iter().map(|(_, process)| process.0.id())
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Client) -> bool) -> io::Result<()> {
        let began = Instant::now();
        while !is_so(&self.client) {
            let ended = self.processes.iter_mut().find_map(|(name, process)| {
                Some(format!("{name} has ended ({})", process.0.try_wait().ok().flatten()?))
            });
            let late = (began.elapsed() > PATIENCE).then(|| format!("after {} s", PATIENCE.as_secs()));
            if let Some(why) = ended.or(late) {
                return Err(io::Error::other(format!("waited until {what}: {why}\n{}", self.logs())));
            }
            sleep(LOOK);
        }
        Ok(())
    }

    /// The last lines that each process has logged.
    pub fn logs(&self) -> String {
        let tail = |(name, _): &(String, Process)| {
            let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{name}:\n  {}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  "))
        };
        self.processes.iter().map(tail).collect::<Vec<_>>().join("\n")
    }
}

fn start(words: &[String], folder: &Path, name: &str) -> io::Result<Process> {
    let [program, arguments @ ..] = words else { return Err(io::Error::other("no program")) };
    let log = fs::File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
    let mut command = Command::new(program);
    without_settings(&mut command);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Process(command.spawn()?))
}

impl Drop for Process {
    fn drop(&mut self) {
        let began = Instant::now();
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        while matches!(self.0.try_wait(), Ok(None)) {
            if began.elapsed() > END_PATIENCE {
                let _ = self.0.kill();
            }
            sleep(Duration::from_millis(5));
        }
    }
}
