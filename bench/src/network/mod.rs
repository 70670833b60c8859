//! Networks of this machine's own, for measurements and tests: hosts that are network namespaces, joined by cables (veth
//! pairs, through a bridge where there are more than two) or by a relay that delays and loses what is sent.
//!
//! Nothing in them reaches the machine's network, nor is reached from there: who talks to a host runs within one, by
//! [`Host::command`], or on a thread, by [`Host::run`]. Root only. A [`Network`] goes when it is dropped, with everything that still runs in it; what a
//! process that was killed has left goes when the next network is built ([`sweep`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use staccato_bench::{network::{Network, Wiring}, relay::Conditions};
//!
//! let far = Conditions { delay: Duration::from_millis(25), loss: 0.01, ..Conditions::default() };
//! let network = Network::build(&Wiring { relay: Some(far), ..Wiring::default() })?;
//! let [here, there] = network.hosts() else { unreachable!("a network has two hosts unless told") };
//! let mut server = there.command("iperf3").args(["--server", "--one-off"]).spawn()?;
//! here.command("iperf3").args(["--client", &there.address().to_string()]).status()?;
//! server.wait()?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod congestion;
mod ip;
mod names;

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::LinkNameSpaceType,
};

use crate::relay::{
    Conditions,
    tun::{Relay, Tun},
};
use ip::{ip, run};

/// Most hosts of a network.
pub const HOSTS_MAX: usize = 200;
/// The longest queue of packets that a device's reader has not taken: relays are not always awake.
const TUN_QUEUE: &str = "4000";
/// How long a process may take to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(2);

/// How hosts are joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Wiring {
    /// How many there are: 2 to [`HOSTS_MAX`]; 2 with a relay.
    pub hosts: usize,
    /// Largest packet, in bytes: 1,500 is that of most networks, 9,000 that of a data centre's.
    pub mtu: u16,
    /// Bits per second that a cable carries in each direction (`tbf`); as many as the machine can, when absent. A relay has
    /// its own rate.
    pub rate: Option<u64>,
    /// The same of hosts whose cable carries another one, by their place (from 0). Not with a relay.
    pub rates: BTreeMap<usize, u64>,
    /// What a relay between two hosts does; a cable joins them when absent.
    pub relay: Option<Conditions>,
    /// What decides by which packets a relay loses.
    pub seed: u64,
    /// TCP's congestion control in all hosts (`bbr`, `cubic`); the machine's own when absent.
    pub congestion: Option<String>,
}

impl Default for Wiring {
    fn default() -> Self {
        Self { hosts: 2, mtu: 1500, rate: None, rates: BTreeMap::new(), relay: None, seed: 1, congestion: None }
    }
}

impl Wiring {
    /// What the cable of a host carries in each direction.
    fn rate_of(&self, index: usize) -> Option<u64> {
        self.rates.get(&index).copied().or(self.rate)
    }
}

/// Hosts that are joined. See the module.
#[derive(Debug)]
pub struct Network {
    hosts: Vec<Host>,
    /// Where the bridge is, if there is one.
    hub: Option<Namespace>,
    relay: Option<Relay>,
}

impl Network {
    /// Builds one.
    pub fn build(wiring: &Wiring) -> io::Result<Self> {
        check(wiring)?;
        sweep()?;
        static NETWORKS: AtomicUsize = AtomicUsize::new(0);
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let mut network = Self { hosts: Vec::new(), hub: None, relay: None };
        for index in 0..wiring.hosts {
            let namespace = Namespace::make(names::name(number, &format!("{}", index + 1)))?;
            let address = Ipv4Addr::new(10, 77, 0, (index + 1) as u8);
            network.hosts.push(Host { namespace, address });
        }
        match &wiring.relay {
            Some(conditions) => network.join_by_relay(number, wiring, *conditions)?,
            None if wiring.hosts == 2 => network.join_by_cable(wiring)?,
            None => network.join_by_bridge(number, wiring)?,
        }
        network.hosts.iter().try_for_each(|host| host.set_up(wiring))?;
        Ok(network)
    }

    /// The hosts, in the order of their addresses.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The relay between the two, if there is one.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    fn join_by_cable(&self, wiring: &Wiring) -> io::Result<()> {
        let [one, other] = [0, 1].map(|index| self.hosts[index].namespace.name.as_str());
        let ends =
            [["link", "add", DEVICE, "netns", one, "type", "veth"], ["peer", "name", DEVICE, "netns", other, "", ""]];
        ip(&ends.as_flattened()[..12])?;
        let limit = |(index, host): (usize, &Host)| limit(&host.namespace, DEVICE, wiring.rate_of(index));
        self.hosts.iter().enumerate().try_for_each(limit)
    }

    fn join_by_bridge(&mut self, number: usize, wiring: &Wiring) -> io::Result<()> {
        let hub = self.hub.insert(Namespace::make(names::name(number, "hub"))?);
        let mtu = wiring.mtu.to_string();
        hub.ip(&["link", "add", "bridge", "mtu", &mtu, "type", "bridge"])?;
        hub.ip(&["link", "set", "bridge", "up"])?;
        for (index, host) in self.hosts.iter().enumerate() {
            let (port, name) = (format!("port{}", index + 1), &host.namespace.name);
            hub.ip(&["link", "add", &port, "mtu", &mtu, "type", "veth", "peer", "name", DEVICE, "netns", name])?;
            hub.ip(&["link", "set", &port, "master", "bridge", "up"])?;
            limit(&host.namespace, DEVICE, wiring.rate_of(index))?;
            limit(hub, &port, wiring.rate_of(index))?;
        }
        Ok(())
    }

    fn join_by_relay(&mut self, number: usize, wiring: &Wiring, conditions: Conditions) -> io::Result<()> {
        let mut ends = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            // Devices have their first name in the machine's own namespace, where others are; at most 15 bytes.
            let name = format!("sb{}x{:x}", std::process::id(), number % 256 * 2 + index);
            let tun = Tun::open(&name)?;
            ip(&["link", "set", &name, "netns", &host.namespace.name])?;
            host.namespace.ip(&["link", "set", &name, "name", DEVICE, "txqueuelen", TUN_QUEUE])?;
            ends.push(tun);
        }
        let ends = ends.try_into().expect("a relay has two ends");
        self.relay = Some(Relay::start(ends, wiring.mtu, conditions, wiring.seed)?);
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What runs in them first: a namespace whose name is gone lives on with its processes.
        for host in &self.hosts {
            host.namespace.end_processes();
        }
        self.relay = None;
    }
}

/// Where ip-netns(8) keeps names.
const NAMESPACES: &str = "/run/netns";
/// The network device of a host.
const DEVICE: &str = "eth0";

/// A host of a network.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Host {
    /// Its address in the network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The name of its namespace, for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.namespace.name
    }

    /// A command that runs a program in it. The process that is started becomes the program: its number is the child's.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace.name, program]);
        command
    }

    /// Does something in it, on a thread of its own: sockets that are made there are the host's, and stay so.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = std::fs::File::open(PathBuf::from(NAMESPACES).join(&self.namespace.name))?;
        let inside = || {
            rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(done) => done,
            Err(panicked) => std::panic::resume_unwind(panicked),
        })
    }

    /// Words before those of a command that make it run in it: [`Host::command`] for whoever starts it later.
    pub fn words(&self) -> Vec<String> {
        ["ip", "netns", "exec", self.namespace()].map(str::to_owned).into()
    }

    /// Bytes that its device has sent so far, headers included.
    pub fn bytes_sent(&self) -> io::Result<u64> {
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
        bytes_sent(&self.run(read)??).ok_or_else(|| io::Error::other(format!("{DEVICE} has no counters")))
    }

    fn set_up(&self, wiring: &Wiring) -> io::Result<()> {
        let namespace = &self.namespace;
        namespace.ip(&["address", "add", &format!("{}/24", self.address), "dev", DEVICE])?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.ip(&["link", "set", DEVICE, "mtu", &wiring.mtu.to_string(), "up"])?;
        if let Some(congestion) = &wiring.congestion {
            congestion::set(&namespace.name, congestion)?;
        }
        Ok(())
    }
}

/// A network namespace with a name; it goes when this is dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn make(name: String) -> io::Result<Self> {
        ip(&["netns", "add", &name])?;
        Ok(Self { name })
    }

    fn ip(&self, words: &[&str]) -> io::Result<String> {
        ip(&[&["-n", &self.name], words].concat())
    }

    /// Ends what runs in it, and waits until it has ended.
    fn end_processes(&self) {
        end_processes(&self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end_processes();
        // If it cannot be removed, the next network's sweep tries again.
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// Removes networks of processes that have ended without doing so, with what still runs in them.
pub fn sweep() -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(NAMESPACES) else { return Ok(()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in names.filter(|name| names::is_left_over(name, names::start_of)) {
        end_processes(&name);
        // Somebody else may have done it meanwhile.
        let _ = ip(&["netns", "delete", &name]);
    }
    Ok(())
}

fn end_processes(namespace: &str) {
    let began = Instant::now();
    let mut signal = Signal::TERM;
    loop {
        let pids: Vec<Pid> = ip(&["netns", "pids", namespace])
            .unwrap_or_default()
            .lines()
            .filter_map(|pid| Pid::from_raw(pid.trim().parse().ok()?))
            .collect();
        // Children of this process that nobody has waited for are there until it does; they have ended.
        let living = pids.into_iter().filter(|pid| !is_zombie(*pid)).collect::<Vec<_>>();
        if living.is_empty() || began.elapsed() > 2 * PATIENCE {
            return;
        }
        if began.elapsed() > PATIENCE {
            signal = Signal::KILL;
        }
        for pid in living {
            let _ = kill_process(pid, signal);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

/// The bytes that our device has sent, in a table of proc_pid_net(5): `DEVICE: ` and eight counters of what came before those
/// of what was sent.
fn bytes_sent(table: &str) -> Option<u64> {
    let counters = table.lines().find_map(|line| line.trim_start().strip_prefix(DEVICE)?.strip_prefix(':'))?;
    counters.split_whitespace().nth(8)?.parse().ok()
}

/// Bounds what a device sends.
fn limit(namespace: &Namespace, device: &str, rate: Option<u64>) -> io::Result<()> {
    let Some(rate) = rate else { return Ok(()) };
    // What a tick of the kernel's clock (100 Hz at least) lets through, and a few of the largest packets.
    let burst = (rate / 8 / 100).max(256 << 10).to_string();
    let words = ["qdisc", "add", "dev", device, "root", "tbf", "rate", &format!("{rate}bit"), "burst", &burst];
    run("tc", &[&["-n", &namespace.name][..], &words, &["latency", "50ms"]].concat()).map(drop)
}

fn check(wiring: &Wiring) -> io::Result<()> {
    let wrong = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !(2..=HOSTS_MAX).contains(&wiring.hosts) {
        return wrong(format!("a network has 2 to {HOSTS_MAX} hosts, not {}", wiring.hosts));
    }
    if wiring.relay.is_some() && wiring.hosts != 2 {
        return wrong("a relay joins two hosts; leave it out for more".into());
    }
    if wiring.relay.is_some() && (wiring.rate.is_some() || !wiring.rates.is_empty()) {
        return wrong("a relay has a rate of its own; leave out that of the cable".into());
    }
    if !rustix::process::geteuid().is_root() {
        let why = "network namespaces are made by root only: run it as root, or measure on loopback";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_wired_is_said() {
        let far = Some(Conditions::default());
        for (wiring, why) in [
            (Wiring { hosts: 1, ..Wiring::default() }, "2 to 200 hosts, not 1"),
            (Wiring { hosts: 3, relay: far, ..Wiring::default() }, "joins two hosts"),
            (Wiring { rate: Some(1), relay: far, ..Wiring::default() }, "rate of its own"),
            (Wiring { rates: [(0, 1)].into(), relay: far, ..Wiring::default() }, "rate of its own"),
        ] {
            let error = check(&wiring).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_a_device_has_sent_is_read_from_its_line() {
        let table = "Inter-|   Receive                    |  Transmit\n face |bytes    packets\n    \
                     lo:     1 2 0 0 0 0 0 0     3 4 0 0 0 0 0 0\n  eth0: 5 6 0 0 0 0 0 0 7000 8 0 0 0 0 0 0\n";
        assert_eq!(bytes_sent(table), Some(7000));
        assert_eq!(bytes_sent("  eth01: 5 6 0 0 0 0 0 0 7000 8\n"), None);
    }
}

#[cfg(test)]
mod needs_root;
