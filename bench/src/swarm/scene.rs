//! Who takes part in a simulated distribution, what can happen to them, and how fast it could be at best.

use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

use super::network::LinkId;

/// What is simulated.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// Hosts that get the object.
    pub hosts: u32,
    /// Chunks of the object.
    pub chunks: u32,
    /// Bytes of a chunk.
    pub chunk_bytes: u64,
    /// Bits per second of a host's link, each way.
    pub link_bits: u64,
    /// The same of the source's.
    pub source_bits: u64,
    /// Hosts in a rack.
    pub rack_hosts: u32,
    /// How many times the links of a rack's hosts are what its uplink carries, each way.
    pub rack_oversubscription: f64,
    /// How many times the uplinks of all racks are what the core carries.
    pub core_oversubscription: f64,
    /// From any host to any other.
    pub latency: Duration,
    /// Share of hosts with a tenth of the bandwidth.
    pub stragglers: f64,
    /// Share of hosts that die for good, without a word.
    pub failures: f64,
    /// Share of hosts that die and come back.
    pub churn: f64,
    /// Share of hosts that join late.
    pub late: f64,
    /// Members that may read the source.
    pub seeds: u32,
    /// How many times the source may be read.
    pub source_budget: f64,
    /// Peers that each host is told of.
    pub peers: usize,
    /// From one heartbeat to the next.
    pub heartbeat: Duration,
    /// A host that died without a word is noticed after so long.
    pub silence: Duration,
    /// Uploads of a host at a time.
    pub slots: usize,
    /// Questions of a host to peers at a time.
    pub asks_max: usize,
    /// Questions of a host to one peer at a time.
    pub asks_per_peer_max: usize,
    /// Questions of a seed to the source at a time.
    pub source_asks_max: usize,
    /// What everything random comes from.
    pub seed: u64,
}

/// What a host is, and what is going to happen to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Role {
    /// It has a tenth of the bandwidth.
    pub straggler: bool,
    /// When it joins.
    pub joins: Duration,
    /// When it dies.
    pub dies: Option<Duration>,
    /// When it comes back.
    pub returns: Option<Duration>,
}

impl Role {
    /// Whether it has its bandwidth, from the beginning to the end: one of those that the bound is for.
    pub fn is_healthy(&self) -> bool {
        !self.straggler && self.joins == Duration::ZERO && self.dies.is_none()
    }
}

impl Setup {
    /// Bytes of the object.
    pub fn bytes(&self) -> u64 {
        u64::from(self.chunks) * self.chunk_bytes
    }

    /// Bytes per second of a host's link, each way.
    pub fn rate(&self, role: &Role) -> f64 {
        self.link_bits as f64 / 8.0 * if role.straggler { 0.1 } else { 1.0 }
    }

    fn source_rate(&self) -> f64 {
        self.source_bits as f64 / 8.0
    }

    fn racks(&self) -> u32 {
        self.hosts.div_ceil(self.rack_hosts)
    }

    /// The rack of a host.
    pub fn rack(&self, host: u32) -> u32 {
        host / self.rack_hosts
    }

    /// Whether a link out of the racks is there at all.
    fn has_core(&self) -> bool {
        self.racks() > 1
    }

    /// Draws what becomes of each host: blows fall within the time that a good run takes.
    pub fn roles(&self, rng: &mut Rng) -> Vec<Role> {
        let mut roles = vec![Role::default(); self.hosts as usize];
        let span = self.bytes() as f64 / (self.link_bits.min(self.source_bits) as f64 / 8.0);
        let within = |rng: &mut Rng, share: f64| Duration::from_secs_f64(span * share * rng.f64());
        let mut order: Vec<usize> = (0..roles.len()).collect();
        let mut those = |rng: &mut Rng, share: f64| {
            rng.shuffle(&mut order);
            let count = (share * f64::from(self.hosts)).round() as usize;
            order[..count.min(order.len())].to_vec()
        };
        for host in those(rng, self.stragglers) {
            roles[host].straggler = true;
        }
        for host in those(rng, self.late) {
            roles[host].joins = within(rng, 0.5);
        }
        for host in those(rng, self.churn) {
            let dies = roles[host].joins + within(rng, 0.5);
            roles[host].dies = Some(dies);
            roles[host].returns = Some(dies + within(rng, 0.5));
        }
        for host in those(rng, self.failures) {
            roles[host].dies = Some(roles[host].joins + within(rng, 1.0));
            roles[host].returns = None;
        }
        roles
    }

    /// Bytes per second of every link: two for each host (out, in), two for each rack, the core, the source.
    pub fn links(&self, roles: &[Role]) -> Vec<f64> {
        let of_hosts = roles.iter().flat_map(|role| [self.rate(role); 2]);
        let rack = f64::from(self.rack_hosts) * self.link_bits as f64 / 8.0 / self.rack_oversubscription;
        let racks = self.racks() as usize;
        let core = rack * racks as f64 / self.core_oversubscription;
        of_hosts.chain(std::iter::repeat_n(rack, 2 * racks)).chain([core, self.source_rate()]).collect()
    }

    /// The links from a host, or from the source, to a host.
    pub fn path(&self, from: Option<u32>, to: u32) -> ([LinkId; 5], usize) {
        let racks = 2 * self.hosts;
        let (core, source) = (racks + 2 * self.racks(), racks + 2 * self.racks() + 1);
        let (rack_in, host_in) = (racks + 2 * self.rack(to) + 1, 2 * to + 1);
        match from {
            None if self.has_core() => ([source, core, rack_in, host_in, 0], 4),
            None => ([source, host_in, 0, 0, 0], 2),
            Some(from) if self.rack(from) == self.rack(to) => ([2 * from, host_in, 0, 0, 0], 2),
            Some(from) => ([2 * from, racks + 2 * self.rack(from), core, rack_in, host_in], 5),
        }
    }

    /// The time that nobody can beat who brings the object to all healthy hosts: the object has to leave the source once, to
    /// come into each of them, and all of them together can have no more than all, with the source, can send (those that
    /// die count as if they lived). Nothing is added for the way through peers, for racks, or for time until anybody has
    /// anything to send. Stragglers are not healthy hosts: for them it is the object over their own link.
    pub fn bound(&self, roles: &[Role]) -> Duration {
        let bytes = self.bytes() as f64;
        let healthy = || roles.iter().filter(|role| role.is_healthy());
        let slowest = healthy().map(|role| self.rate(role)).fold(f64::INFINITY, f64::min);
        let sent = self.source_rate() + roles.iter().map(|role| self.rate(role)).sum::<f64>();
        let together = bytes * healthy().count() as f64 / sent;
        Duration::from_secs_f64((bytes / self.source_rate()).max(bytes / slowest).max(together))
    }

    /// The same for a host by itself, from when it begins.
    pub fn bound_of(&self, role: &Role) -> Duration {
        Duration::from_secs_f64(self.bytes() as f64 / self.rate(role).min(self.source_rate()))
    }
}
