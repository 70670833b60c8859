//! A service of the bench's own, and two executors that have joined it by invitation: one where the owner of a testbed is,
//! one where the reader is. The service is on the owner's host.

use std::{
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
use crate::{alias::Alias, measure::cpu_seconds, service};

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
    processes: Vec<(&'static str, Process)>,
    folder: Alias,
    api: String,
    client: Client,
    _bed: Rc<Testbed>,
}

/// A process that is ended when this is dropped.
#[derive(Debug)]
struct Process(Child);

impl Fleet {
    /// Starts all three, with what is theirs in `folder`, which is there and empty. Files under `roots` may be moved;
    /// `slots` transfers run at a time.
    pub fn start(bed: &Rc<Testbed>, folder: &Path, roots: &[PathBuf], slots: usize) -> io::Result<Self> {
        let binary = service::binary()?.display().to_string();
        let door = bed.port(1);
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, bed.port(1).port())).to_string();
        let alias = Alias::of(folder)?;
        let folder = alias.path().to_owned();
        let path = |name: &str| folder.join(name).display().to_string();
        let (pki, cert, key, data) = (path("pki"), path("cert.pem"), path("key.pem"), path("service.data"));
        let at = |host: Vec<String>, words: &[&str]| -> Vec<String> {
            host.into_iter().chain([binary.clone()]).chain(words.iter().map(|word| (*word).to_owned())).collect()
        };
        let own = Client::of_own(vec![binary.clone()]);
        own.ask(&["pki", "init", "--dir", &pki])?;
        own.ask(&["pki", "issue", "--dir", &pki, "--host", &door.ip().to_string(), "--cert", &cert, "--key", &key])?;

        let (url, slots) = (format!("https://{door}"), slots.to_string());
        let serve = ["serve", "--executors", "none", "--name", "service", "--log", "warn", "--slots", &slots];
        let listen = ["--listen", &api, "--listen", &url, "--data-dir", &data];
        let tls = ["--tls-cert", &cert, "--tls-key", &key, "--pki-dir", &pki];
        let service = start(&at(bed.at_owner(), &[&serve[..], &listen, &tls].concat()), &folder, "service")?;
        let api = format!("http://{api}");
        let client = Client::of_own(at(bed.at_owner(), &["--server", &api]));
        let mut fleet = Self { processes: vec![("service", service)], folder: alias, api, client, _bed: bed.clone() };
        fleet.wait_until("the service answers", |client| client.executors().is_ok())?;

        let ca = format!("{pki}/ca.pem");
        for (name, host, listen) in
            [(OWNER, bed.at_owner(), bed.port(PORTS).to_string()), (READER, bed.at_reader(), "none".to_owned())]
        {
            let invited = own.ask(&["executors", "invite", name, "--data-dir", &data])?;
            let token = invited["token"].as_str().ok_or_else(|| io::Error::other("no invitation"))?;
            let (invitation, data) = (path(&format!("{name}.invitation")), path(&format!("{name}.data")));
            fs::write(&invitation, token)?;
            let executor = ["executor", "--join", &url, "--name", name, "--ca", &ca, "--token-file", &invitation];
            let settings = ["--listen", &listen, "--data-dir", &data, "--log", "warn", "--slots", &slots];
            let roots: Vec<String> =
                roots.iter().flat_map(|root| ["--root".into(), format!("{}:rw", root.display())]).collect();
            let words = [at(host, &[&executor[..], &settings].concat()), roots].concat();
            fleet.processes.insert(0, (name, start(&words, &folder, name)?));
        }
        let is_up = |client: &Client| {
            let executors = client.executors().unwrap_or_default();
            executors.iter().filter(|executor| executor.health == "up").count() == 2
        };
        fleet.wait_until("both executors have joined", is_up)?;
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
        let of = |(name, process): &(&str, Process)| ((*name).to_owned(), cpu_seconds(process.0.id()).unwrap_or(0.0));
        self.processes.iter().map(of).collect()
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
        let tail = |name: &str| {
            let log = fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("{name}:\n  {}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  "))
        };
        self.processes.iter().map(|(name, _)| tail(name)).collect::<Vec<_>>().join("\n")
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
