//! The control plane of a simulated distribution: who knows whom, and who may read the source.

use std::{collections::BTreeSet, time::Duration};

use fastrand::Rng;
use staccato_dataplane::swarm::{
    ChunkSet, PeerKey,
    seeds::{Seeds, Share},
};

use super::scene::{Role, Setup};

/// How many of a host's peers are exchanged in a heartbeat, so that parts that know only one another find the rest.
const EXCHANGED: usize = 2;

/// See the module.
pub struct Control {
    /// Who may read the source.
    seeds: Seeds,
    /// Hosts that have joined and are not known to have died.
    living: Vec<bool>,
    /// How many hosts are told of each.
    known_by: Vec<u32>,
    /// Requests that it has answered.
    pub requests: u64,
}

impl Control {
    /// Chooses the seeds among those that are there at the beginning, whatever they are like: nobody knows yet.
    pub fn new(setup: &Setup, roles: &[Role], rng: &mut Rng) -> Self {
        let mut there: Vec<u32> =
            (0..setup.hosts).filter(|host| roles[*host as usize].joins == Duration::ZERO).collect();
        rng.shuffle(&mut there);
        there.truncate(setup.seeds.min(setup.chunks) as usize);
        let mut seeds = Seeds::new(there.len(), (setup.source_budget * 1000.0) as u32);
        seeds.know(setup.chunks);
        for host in there {
            seeds.begin(host.into(), missing_of(&ChunkSet::empty(setup.chunks), &seeds), |_| true);
        }
        Self { seeds, living: vec![false; roles.len()], known_by: vec![0; roles.len()], requests: 0 }
    }

    /// A host claims its transfer; what it may read of the source. One that comes back is another one: what it read since it
    /// was heard of last is not known.
    pub fn claim(&mut self, host: u32, comes_back: bool, has: &ChunkSet) -> Share {
        self.requests += 1;
        self.living[host as usize] = true;
        if comes_back {
            self.seeds.begin(host.into(), missing_of(has, &self.seeds), |host| self.living[host as usize]);
        }
        self.seeds.share(host.into())
    }

    /// A host reports; what it may read of the source from now on.
    pub fn heartbeat(&mut self, host: u32, has: &ChunkSet, read: u32) -> Share {
        self.requests += 1;
        self.seeds.note(host.into(), read.into(), missing_of(has, &self.seeds));
        self.seeds.heal(false, |host| self.living[host as usize]);
        self.seeds.share(host.into())
    }

    /// A host has not been heard of for a lease.
    pub fn lost(&mut self, host: u32) {
        self.living[host as usize] = false;
        self.seeds.settle(host.into(), None);
        self.seeds.heal(false, |host| self.living[host as usize]);
    }

    /// The peers of a host from now on: those that it has and that are living, but for some that are exchanged; ten of
    /// sixteen from its rack, where there are so many. Seeds know those in the seats before and behind
    /// them.
    pub fn peers(&mut self, setup: &Setup, host: u32, before: &[u32], rng: &mut Rng) -> Vec<u32> {
        let mut peers: Vec<u32> = before.iter().copied().filter(|peer| self.living[*peer as usize]).collect();
        rng.shuffle(&mut peers);
        peers.truncate(setup.peers.saturating_sub(EXCHANGED));
        let mut chosen: BTreeSet<u32> = peers.iter().copied().collect();
        chosen.extend(self.seeds.neighbours(host.into()).map(|seed| seed as u32));
        chosen.remove(&host);
        let rack = setup.rack(host);
        let in_rack = rack * setup.rack_hosts..((rack + 1) * setup.rack_hosts).min(setup.hosts);
        for (range, most) in [(in_rack, setup.peers * 5 / 8), (0..setup.hosts, setup.peers)] {
            // Some of those that are drawn are there already, or not living.
            for _ in 0..8 * setup.peers {
                let near = chosen.iter().filter(|peer| range.contains(peer)).count();
                if near >= most || chosen.len() >= setup.peers {
                    break;
                }
                // Of two, the one that fewer are told of: so all have about as many readers, and none is overrun.
                let [one, other] = [(); 2].map(|()| rng.u32(range.clone()));
                let fewer = self.known_by[one as usize] <= self.known_by[other as usize];
                let peer = if fewer { one } else { other };
                if peer != host && self.living[peer as usize] && chosen.insert(peer) {
                    self.known_by[peer as usize] += 1;
                }
            }
        }
        let peers: Vec<u32> = chosen.into_iter().filter(|peer| self.living[*peer as usize]).collect();
        for gone in before.iter().filter(|peer| !peers.contains(peer)) {
            self.known_by[*gone as usize] = self.known_by[*gone as usize].saturating_sub(1);
        }
        peers
    }
}

/// The name by which others know a host.
pub fn key(host: u32) -> PeerKey {
    PeerKey(host.into())
}

/// How many chunks of each class a host has not got.
fn missing_of(has: &ChunkSet, seeds: &Seeds) -> impl Fn(u32) -> u64 + use<> {
    let (has, classes) = (has.clone(), seeds.classes());
    move |class| (class..has.chunks()).step_by(classes as usize).filter(|chunk| !has.contains(*chunk)).count() as u64
}
