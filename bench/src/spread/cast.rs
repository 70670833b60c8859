//! Servers, and a client for each host, until all have the object: a process of its own, so that the CPU seconds of
//! everybody who worked for it add up where the bench looks.

use std::{
    fs, io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{link::pair::Server, measure::children_cpu_seconds, worker::from_argument};

/// How often it is looked whether a host has everything.
const LOOK: Duration = Duration::from_millis(2);
/// How long servers may take until they are ready together.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a process may take to end.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// Who does it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cast {
    /// They are started first, one after the other.
    pub servers: Vec<Listening>,
    /// What tells that they are ready together, where listening does not.
    pub ready: Option<Ready>,
    /// One for each host; they are started together.
    pub clients: Vec<Receiving>,
    /// How long it may take, in seconds.
    pub seconds_max: f64,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listening {
    /// Its command; it becomes that process.
    pub words: Vec<String>,
    /// Ports on which it listens.
    pub ports: Vec<u16>,
}

/// A page that says so when servers are ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Where it is.
    pub url: String,
    /// What it then has in it.
    pub has: String,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receiving {
    /// Its command; it becomes that process.
    pub words: Vec<String>,
    /// What it writes.
    pub target: PathBuf,
    /// A file that it makes when it has everything, and goes on; without, it ends then.
    pub done: Option<PathBuf>,
}

/// Runs a cast.
#[derive(Clone, Debug, Args)]
pub struct Casting {
    /// The cast, as JSON
    #[arg(value_parser = from_argument::<Cast>)]
    cast: Cast,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CastTold {
    /// From before the first client was started until all hosts had everything, durable.
    pub seconds: f64,
    /// The same of the first host.
    pub seconds_first: f64,
    /// CPU seconds of everybody from then on.
    pub cpu_seconds: f64,
    /// Why there is nothing to tell, where it took too long.
    pub late: Option<String>,
}

impl Casting {
    /// Does it.
    pub fn run(&self) -> io::Result<CastTold> {
        self.cast.run()
    }
}

impl Cast {
    fn run(&self) -> io::Result<CastTold> {
        let mut servers = Vec::new();
        for Listening { words, ports } in &self.servers {
            servers.push(Server::start(words, ports)?);
        }
        self.ready.as_ref().map_or(Ok(()), Ready::wait)?;
        let spent_before: f64 = servers.iter().map(Server::cpu_seconds).sum();
        let ended_before = children_cpu_seconds();
        let began = Instant::now();
        let mut clients = self.clients.iter().map(Client::start).collect::<io::Result<Vec<_>>>()?;
        let deadline = began + Duration::from_secs_f64(self.seconds_max);
        let took = thread::scope(|scope| {
            let hosts: Vec<_> = clients
                .iter_mut()
                .map(|client| scope.spawn(move || client.wait(deadline).map(|()| began.elapsed().as_secs_f64())))
                .collect();
            hosts.into_iter().map(|host| host.join().expect("it does not panic")).collect::<io::Result<Vec<_>>>()
        });
        clients.iter().for_each(Client::end);
        drop(clients);
        for server in &mut servers {
            server.end();
        }
        let cpu_seconds = children_cpu_seconds() - ended_before - spent_before;
        match took {
            Ok(took) => Ok(CastTold {
                seconds: took.iter().copied().fold(0.0, f64::max),
                seconds_first: took.iter().copied().fold(f64::INFINITY, f64::min),
                cpu_seconds,
                late: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let late = Some(format!("it takes longer than {} s (--patience)", self.seconds_max));
                Ok(CastTold { late, ..CastTold::default() })
            }
            Err(error) => Err(error),
        }
    }
}

impl Ready {
    fn wait(&self) -> io::Result<()> {
        let began = Instant::now();
        loop {
            let page = ureq::get(&self.url).call().and_then(|mut answer| answer.body_mut().read_to_vec());
            if page.as_ref().is_ok_and(|page| page.windows(self.has.len()).any(|part| part == self.has.as_bytes())) {
                return Ok(());
            }
            if began.elapsed() > READY_PATIENCE {
                let page = page.map(|page| String::from_utf8_lossy(&page).into_owned());
                return Err(io::Error::other(format!("{} has no {:?}: {page:?}", self.url, self.has)));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A client that runs; it is ended with this.
struct Client<'a> {
    process: Child,
    role: &'a Receiving,
}

impl<'a> Client<'a> {
    fn start(role: &'a Receiving) -> io::Result<Self> {
        let [program, arguments @ ..] = &role.words[..] else { return Err(io::Error::other("no client")) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self { process: command.spawn()?, role })
    }

    /// Waits until its host has everything, and makes that durable.
    fn wait(&mut self, deadline: Instant) -> io::Result<()> {
        loop {
            let ended = self.process.try_wait()?;
            let is_done = match (&self.role.done, ended) {
                (None, Some(status)) if status.success() => true,
                (_, Some(status)) => {
                    return Err(io::Error::other(format!("{:?} failed ({status})", self.role.words)));
                }
                (Some(done), None) => done.exists(),
                (None, None) => false,
            };
            if is_done {
                return fs::File::open(&self.role.target)?.sync_all();
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(LOOK);
        }
    }

    fn end(&self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        let began = Instant::now();
        self.end();
        while matches!(self.process.try_wait(), Ok(None)) {
            if began.elapsed() > END_PATIENCE {
                let _ = self.process.kill();
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(folder: &std::path::Path, scripts: &[(&str, bool)]) -> Cast {
        let client = |(index, (script, goes_on)): (usize, &(&str, bool))| Receiving {
            words: ["sh", "-c", &format!("cd {}; {script}", folder.display())].map(str::to_owned).into(),
            target: folder.join(format!("target{index}")),
            done: goes_on.then(|| folder.join(format!("done{index}"))),
        };
        Cast { clients: scripts.iter().enumerate().map(client).collect(), seconds_max: 2.0, ..Cast::default() }
    }

    #[test]
    fn it_lasts_until_the_last_host_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let scripts = [("echo a >target0", false), ("sleep 0.5; echo b >target1; touch done1; exec sleep 100", true)];
        let told = cast(folder.path(), &scripts).run().unwrap();
        assert!((0.5..2.0).contains(&told.seconds) && told.seconds_first < 0.5, "{told:?}");
    }

    #[test]
    fn who_fails_or_takes_too_long_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = cast(folder.path(), &[("exit 3", false)]).run().unwrap_err().to_string();
        assert!(error.contains("failed") && error.contains("exit 3"), "{error}");
        let error = cast(folder.path(), &[("exit 0", true)]).run().unwrap_err().to_string();
        assert!(error.contains("failed"), "it should have gone on: {error}");
        let late = Cast { seconds_max: 0.2, ..cast(folder.path(), &[("exec sleep 100", false)]) }.run().unwrap().late;
        assert_eq!(late.as_deref(), Some("it takes longer than 0.2 s (--patience)"));
    }
}
