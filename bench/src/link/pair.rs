//! Both ends of a contestant, measured each by itself: a server that listens, and a client that does the work. A process of
//! its own, so that the CPU seconds of everybody who worked for it add up where the bench looks.

use std::{
    fs,
    io::{self, Read as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{measure, worker::from_argument};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may take to end.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A server and its client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ends {
    /// The server's command; it becomes that process.
    pub server: Vec<String>,
    /// Ports on which it listens, TCP or UDP, and nobody else, before the client is started.
    pub listens: Vec<u16>,
    /// The client's command.
    pub client: Vec<String>,
    /// How long the client may take, in seconds.
    pub seconds_max: f64,
}

/// Runs both ends of a link.
#[derive(Clone, Debug, Args)]
pub struct Pair {
    /// The ends, as JSON
    #[arg(value_parser = from_argument::<Ends>)]
    ends: Ends,
}

/// What became of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PairTold {
    /// From before the client was started to its end.
    pub seconds: f64,
    /// CPU seconds of the server from then to its own end.
    pub server_cpu_seconds: f64,
    /// CPU seconds of the client.
    pub client_cpu_seconds: f64,
    /// What the client wrote to standard output.
    pub client_said: String,
    /// Why there is nothing to tell, where the client took too long.
    pub late: Option<String>,
}

impl Pair {
    /// Runs them.
    pub fn run(&self) -> io::Result<PairTold> {
        self.ends.run()
    }
}

impl Ends {
    fn run(&self) -> io::Result<PairTold> {
        let mut server = Server::start(&self.server, &self.listens)?;
        let before = server.cpu_seconds();
        let patience = format!("{}", self.seconds_max);
        // A client that hangs ends with its time; timeout(1) tells it so.
        let mut client = Command::new("timeout");
        client.args(["--kill-after=2", &patience]).args(&self.client);
        let began = Instant::now();
        let ended = measure::run(&mut client);
        let (server_cpu_seconds, server_said) = server.end();
        if ended.is_err() && began.elapsed().as_secs_f64() >= self.seconds_max {
            let said = String::from_utf8_lossy(&server_said);
            let said = said.lines().last().map_or(String::new(), |line| format!("; its server said: {line}"));
            let late = Some(format!("it takes longer than {} s (--patience){said}", self.seconds_max));
            return Ok(PairTold { late, ..PairTold::default() });
        }
        let ended = ended.map_err(|error| {
            let said = String::from_utf8_lossy(&server_said);
            io::Error::other(format!("{error}; its server said: {}", said.trim()))
        })?;
        Ok(PairTold {
            seconds: ended.seconds,
            server_cpu_seconds: (server_cpu_seconds - before).max(0.0),
            client_cpu_seconds: ended.cpu_seconds,
            client_said: String::from_utf8_lossy(&ended.output).into_owned(),
            late: None,
        })
    }
}

/// A server until it is ended.
pub(crate) struct Server {
    process: Option<Child>,
    said: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Server {
    /// Starts it, and waits until it listens on these ports, TCP or UDP, and nobody else.
    pub(crate) fn start(words: &[String], listens: &[u16]) -> io::Result<Self> {
        let [program, arguments @ ..] = words else { return Err(io::Error::other("no server")) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
        let mut errors = process.stderr.take().expect("it was asked for");
        let said = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            text
        });
        let mut server = Self { process: Some(process), said: Some(said) };
        match server.wait_until_it_listens(listens) {
            Ok(()) => Ok(server),
            Err(error) => {
                let (_, said) = server.end();
                let said = String::from_utf8_lossy(&said);
                Err(io::Error::other(format!("{words:?} {error}: {}", said.trim())))
            }
        }
    }

    fn wait_until_it_listens(&mut self, ports: &[u16]) -> io::Result<()> {
        let process = self.process.as_mut().expect("it was started");
        let began = Instant::now();
        loop {
            if let Some(status) = process.try_wait()? {
                return Err(io::Error::other(format!("ended at once ({status})")));
            }
            if ports.iter().all(|port| listens_alone(process.id(), *port)) {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other("does not listen, or not alone"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has cost so far, with its children.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let pids =
            self.process.iter().flat_map(|process| [vec![process.id()], measure::children(process.id())].concat());
        pids.filter_map(|pid| measure::cpu_seconds(pid).ok()).sum()
    }

    /// Its CPU seconds, and what it said.
    pub(crate) fn end(&mut self) -> (f64, Vec<u8>) {
        // It is counted when it is waited for.
        let before = measure::children_cpu_seconds();
        if let Some(mut process) = self.process.take() {
            let began = Instant::now();
            let _ = kill_process(Pid::from_child(&process), Signal::TERM);
            while matches!(process.try_wait(), Ok(None)) {
                if began.elapsed() > END_PATIENCE {
                    let _ = process.kill();
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        (measure::children_cpu_seconds() - before, said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Whether somebody listens on a port where this process is, and whoever does is this process or a child of it (sshd listens
/// as one). The sockets of a process that has just ended may live on for a moment, held by its io_uring: a client that came to
/// one of those would be sent away.
fn listens_alone(pid: u32, port: u16) -> bool {
    let table = |name: &str| fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let tcp = ["tcp", "tcp6"].map(|name| sockets(&table(name), Some("0A")));
    let udp = ["udp", "udp6"].map(|name| sockets(&table(name), None));
    let mut at_port = tcp.into_iter().chain(udp).flatten().filter(|socket| socket.0 == port).peekable();
    let own: Vec<u64> = std::iter::once(pid).chain(children(pid)).flat_map(sockets_of).collect();
    at_port.peek().is_some() && at_port.all(|(_, inode)| own.contains(&inode))
}

/// Children of a process (proc_pid_task(5)).
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Inodes of the sockets that a process has open.
fn sockets_of(pid: u32) -> Vec<u64> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let names = links.filter_map(|entry| Some(fs::read_link(entry.ok()?.path()).ok()?.to_string_lossy().into_owned()));
    names.filter_map(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}

/// Local ports and inodes in a table of the kernel's (proc_pid_net(5)), of sockets in this state.
fn sockets(table: &str, state: Option<&str>) -> Vec<(u16, u64)> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let wanted = lines.filter(|fields| fields.len() > 9 && state.is_none_or(|state| fields[3] == state));
    let read = |fields: Vec<&str>| {
        let port = u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok()?;
        Some((port, fields[9].parse().ok()?))
    };
    wanted.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(server: &[&str], listens: Vec<u16>, client: &[&str]) -> Ends {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Ends { server: words(server), listens, client: words(client), seconds_max: 5.0 }
    }

    #[test]
    fn both_ends_are_measured_each_by_itself() {
        let busy = "sleep 0.2; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 1000";
        let told = ends(&["sh", "-c", busy], vec![], &["sh", "-c", "sleep 1; echo done"]).run().unwrap();
        assert_eq!(told.client_said, "done\n");
        assert!(told.seconds >= 1.0 && told.server_cpu_seconds > 0.02 && told.client_cpu_seconds < 0.5, "{told:?}");
    }

    #[test]
    fn who_fails_says_why() {
        let error = ends(&["sh", "-c", "echo no room >&2; exit 3"], vec![1], &["true"]).run().unwrap_err().to_string();
        assert!(error.contains("ended at once") && error.contains("no room"), "{error}");
        let error = ends(&["sleep", "100"], vec![], &["sh", "-c", "echo lost >&2; exit 1"]).run().unwrap_err();
        assert!(error.to_string().contains("lost"), "{error}");
        let server = ["sh", "-c", "echo help >&2; exec sleep 100"];
        let hangs = Ends { seconds_max: 0.5, ..ends(&server, vec![], &["sleep", "100"]) };
        let late = hangs.run().unwrap().late;
        assert_eq!(late.as_deref(), Some("it takes longer than 0.5 s (--patience); its server said: help"));
    }

    #[test]
    fn tables_of_sockets_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0\n\
                     1: 0100007F:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000 0 0 78 1 0\n";
        let (listening, all) = (sockets(table, Some("0A")), sockets(table, None));
        assert_eq!((listening, all), (vec![(8080, 77)], vec![(8080, 77), (8081, 78)]));
    }

    #[test]
    fn a_server_is_ready_when_it_listens_and_nobody_else_does_at_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens_alone(std::process::id(), port));
        let mut other = Command::new("sleep").arg("100").spawn().unwrap();
        assert!(!listens_alone(other.id(), port), "somebody else listens there");
        other.kill().unwrap();
        other.wait().unwrap();
        drop(listener);
        assert!(!listens_alone(std::process::id(), port), "nobody does");
    }
}
