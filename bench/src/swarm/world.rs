//! The run of a simulated distribution: hosts that each drive a swarm and its uploads, and what passes between them.
//!
//! Questions, answers and announcements take a latency; chunks take what the network gives them, and a latency. A host that
//! dies says nothing: what it was sending stops, and everybody else hears of it when the silence has lasted long enough. One
//! that comes back has what it had a second before it died, as after a checkpoint.

mod lives;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use fastrand::Rng;
use staccato_dataplane::swarm::{
    Allotment, Answer, Ask, ChunkSet, Failure, Holder, PeerKey, Swarm, SwarmConfig, Uploads, seeds::Share,
};

use super::{
    control::{Control, key},
    network::{FlowId, LinkId, Network, Served},
    outcome::{Outcome, Tally},
    scene::{Role, Setup},
};

/// See the module. Times are nanoseconds.
pub struct World<'a> {
    setup: &'a Setup,
    roles: Vec<Role>,
    rng: Rng,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    network: Network,
    /// Links that have begun to serve a segment, and how long it takes.
    woken: Vec<(LinkId, u64)>,
    /// Where each flow goes.
    flows: Vec<Option<Sending>>,
    hosts: Vec<Host>,
    control: Control,
    tally: Tally,
    /// Hosts that will still be done.
    undone: usize,
}

/// A host, and which of its lives.
type Who = (u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A link has served a segment.
    Link(LinkId),
    Begins(u32),
    Dies(u32),
    /// Everybody has noticed that this life is over.
    Noticed(Who),
    /// A host is told of its first peers.
    Met(Who),
    Heartbeat(Who),
    /// A swarm wants to be polled.
    Timer(Who),
    Asked {
        reader: Who,
        server: Who,
        chunk: u32,
    },
    AskedSource {
        reader: Who,
        chunk: u32,
    },
    Refused {
        reader: Who,
        server: Who,
        chunk: u32,
        after: u64,
    },
    Arrived {
        reader: Who,
        server: Option<Who>,
        chunk: u32,
    },
    /// An announcement arrives at those who watch.
    Told {
        of: Who,
        chunk: u32,
    },
}

struct Host {
    life: u32,
    alive: bool,
    swarm: Swarm,
    /// What it was told that it may read of the source.
    share: Share,
    uploads: Uploads,
    peers: Vec<u32>,
    /// Hosts that have this one among their peers.
    watchers: Vec<u32>,
    /// What is under way to it.
    asks: Vec<(Ask, Option<FlowId>)>,
    /// Readers of this life whose upload has stopped because they died; their slots are free once that is noticed.
    stuck: Vec<u32>,
    timer: u64,
    read: ChunkSet,
    /// When each chunk came, while it may be lost with a crash.
    recent: Vec<(u64, u32)>,
    done: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    reader: Who,
    server: Option<Who>,
    chunk: u32,
    since: u64,
}

impl<'a> World<'a> {
    /// Lets it happen.
    pub fn run(setup: &'a Setup) -> Outcome {
        let mut rng = Rng::with_seed(setup.seed);
        let roles = setup.roles(&mut rng);
        let control = Control::new(setup, &roles, &mut rng);
        let network = Network::new(setup.links(&roles), setup.chunk_bytes);
        let host = || Host {
            life: 0,
            alive: false,
            swarm: Swarm::new(config(setup, 0), ChunkSet::empty(setup.chunks), Allotment::none(setup.chunks)),
            share: Share::default(),
            uploads: Uploads::new(setup.slots),
            peers: Vec::new(),
            watchers: Vec::new(),
            asks: Vec::new(),
            stuck: Vec::new(),
            timer: u64::MAX,
            read: ChunkSet::empty(setup.chunks),
            recent: Vec::new(),
            done: None,
        };
        let undone = roles.iter().filter(|role| role.dies.is_none() || role.returns.is_some()).count();
        let hosts = roles.iter().map(|_| host()).collect();
        let (now, sequence, flows, woken, tally) = (0, 0, Vec::new(), Vec::new(), Tally::default());
        let events = BinaryHeap::new();
        let mut world =
            Self { setup, roles, rng, now, events, sequence, network, woken, flows, hosts, control, tally, undone };
        world.play();
        world.outcome()
    }

    fn play(&mut self) {
        for host in 0..self.setup.hosts {
            let role = self.roles[host as usize];
            for begins in [Some(role.joins), role.returns].into_iter().flatten() {
                self.at(nanos(begins), Event::Begins(host));
            }
            if let Some(dies) = role.dies {
                self.at(nanos(dies), Event::Dies(host));
            }
        }
        // Where some can never be done, nothing but heartbeats is left at last.
        let give_up = 1_000 * nanos(self.setup.bound(&self.roles)) + nanos(Duration::from_secs(600));
        while self.undone > 0 {
            let Some(Reverse((at, _, event))) = self.events.pop() else { return };
            if at > give_up {
                return;
            }
            self.now = at;
            self.tally.events += 1;
            self.handle(event);
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn after_latency(&mut self, event: Event) {
        self.at(self.now + nanos(self.setup.latency), event);
    }

    fn time(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn lives(&self, (host, life): Who) -> bool {
        let host = &self.hosts[host as usize];
        host.alive && host.life == life
    }

    fn who(&self, host: u32) -> Who {
        (host, self.hosts[host as usize].life)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Link(link) => self.link_served(link),
            Event::Begins(host) => self.begins(host),
            Event::Dies(host) => self.dies(host),
            Event::Noticed(who) => self.noticed(who),
            Event::Met((host, _)) => {
                self.refresh(host);
                self.pump(host);
            }
            Event::Heartbeat(who) if self.lives(who) => self.heartbeat(who),
            Event::Timer(who) if self.lives(who) && self.hosts[who.0 as usize].timer == self.now => self.pump(who.0),
            Event::Asked { reader, server, chunk } if self.lives(server) => self.asked(reader, server, chunk),
            Event::AskedSource { reader, chunk } if self.wants(reader, None, chunk) => self.send(reader, None, chunk),
            Event::Refused { reader, server, chunk, after } if self.wants(reader, Some(server), chunk) => {
                let failure = Failure::Busy { after: Duration::from_nanos(after) };
                let ask = Ask { chunk, from: Holder::Peer(key(server.0)) };
                self.tally.busy += 1;
                let now = self.time();
                let host = &mut self.hosts[reader.0 as usize];
                host.asks.retain(|(other, _)| *other != ask);
                host.swarm.handle_failed(ask, failure, now);
                self.pump(reader.0);
            }
            Event::Arrived { reader, server, chunk } if self.wants(reader, server, chunk) => {
                self.arrived(reader.0, server, chunk);
            }
            Event::Told { of, chunk } => self.told(of, chunk),
            _ => {}
        }
    }

    fn holder(server: Option<Who>) -> Holder {
        server.map_or(Holder::Source, |(server, _)| Holder::Peer(key(server)))
    }

    /// Whether a reader still waits for the answer.
    fn wants(&self, reader: Who, server: Option<Who>, chunk: u32) -> bool {
        let ask = Ask { chunk, from: Self::holder(server) };
        self.lives(reader) && self.hosts[reader.0 as usize].asks.iter().any(|(other, _)| *other == ask)
    }

    fn asked(&mut self, reader: Who, server: Who, chunk: u32) {
        if !self.wants(reader, Some(server), chunk) {
            return;
        }
        let now = self.time();
        let answer = self.hosts[server.0 as usize].uploads.handle_asked(key(reader.0), now);
        match answer {
            Answer::Serve => self.send(reader, Some(server), chunk),
            Answer::Busy { after } => self.after_latency(Event::Refused { reader, server, chunk, after: nanos(after) }),
        }
    }

    fn send(&mut self, reader: Who, server: Option<Who>, chunk: u32) {
        let (path, hops) = self.setup.path(server.map(|server| server.0), reader.0);
        let woken = &mut self.woken;
        let flow = self.network.begin(&path[..hops], &mut |link, nanos| woken.push((link, nanos)));
        self.wake();
        if self.flows.len() <= flow as usize {
            self.flows.resize(flow as usize + 1, None);
        }
        self.flows[flow as usize] = Some(Sending { reader, server, chunk, since: self.now });
        let ask = Ask { chunk, from: Self::holder(server) };
        let asks = &mut self.hosts[reader.0 as usize].asks;
        asks.iter_mut().find(|(other, _)| *other == ask).expect("it is wanted").1 = Some(flow);
    }

    fn wake(&mut self) {
        while let Some((link, nanos)) = self.woken.pop() {
            self.at(self.now + nanos, Event::Link(link));
        }
    }

    fn link_served(&mut self, link: LinkId) {
        let woken = &mut self.woken;
        let served = self.network.served(link, &mut |link, nanos| woken.push((link, nanos)));
        self.wake();
        let Served::LastOf(flow) = served else { return };
        let Sending { reader, server, chunk, since } = self.flows[flow as usize].take().expect("it was sent");
        if let Some(server) = server.filter(|server| self.lives(*server)) {
            let took = Duration::from_nanos(self.now - since);
            self.hosts[server.0 as usize].uploads.handle_ended(key(reader.0), Some(took));
        }
        if let Some((_, sent)) = self.hosts[reader.0 as usize].asks.iter_mut().find(|(_, sent)| *sent == Some(flow)) {
            *sent = None;
        }
        self.after_latency(Event::Arrived { reader, server, chunk });
    }

    /// The sending to a reader is given up; bytes that had come.
    fn give_up(&mut self, flow: FlowId) -> u64 {
        let sending = self.flows[flow as usize].take().expect("it is being sent");
        if let Some(server) = sending.server.filter(|server| self.lives(*server)) {
            self.hosts[server.0 as usize].uploads.handle_ended(key(sending.reader.0), None);
        }
        self.network.give_up(flow)
    }

    fn arrived(&mut self, reader: u32, server: Option<Who>, chunk: u32) {
        let now = self.time();
        let ask = Ask { chunk, from: Self::holder(server) };
        self.tally.arrived(server.is_some(), self.setup.chunk_bytes);
        let host = &mut self.hosts[reader as usize];
        host.asks.retain(|(other, _)| *other != ask);
        let dropped = host.swarm.handle_arrived(ask, now);
        host.recent.push((self.now, chunk));
        if server.is_none() {
            self.tally.source_until_s = self.now as f64 / 1e9;
            host.read.insert(chunk);
        }
        for dropped in dropped {
            let host = &mut self.hosts[reader as usize];
            let place = host.asks.iter().position(|(other, _)| *other == dropped).expect("it was asked for");
            let (_, flow) = host.asks.remove(place);
            // Where the last byte was on its way all of it came in vain.
            self.tally.bytes_wasted += flow.map_or(0, |flow| self.give_up(flow));
            self.tally.doubled += 1;
        }
        let who = self.who(reader);
        self.after_latency(Event::Told { of: who, chunk });
        let host = &mut self.hosts[reader as usize];
        if host.swarm.is_complete() && host.done.is_none() {
            host.done = Some(self.now);
            self.tally.swarm_bytes_max = self.tally.swarm_bytes_max.max(host.swarm.memory_bytes());
            // Prepared, and committed.
            self.control.requests += 2;
            self.undone -= usize::from(self.roles[reader as usize].dies.is_none_or(|dies| nanos(dies) < self.now));
        }
        self.pump(reader);
    }

    fn told(&mut self, of: Who, chunk: u32) {
        if !self.lives(of) {
            return;
        }
        let now = self.time();
        let mut set = ChunkSet::empty(self.setup.chunks);
        set.insert(chunk);
        for watcher in self.hosts[of.0 as usize].watchers.clone() {
            let host = &mut self.hosts[watcher as usize];
            if host.done.is_none() {
                host.swarm.handle_have(key(of.0), &set, now);
                self.pump(watcher);
            }
        }
    }

    /// Asks what a host's swarm wants to ask.
    fn pump(&mut self, host: u32) {
        let now = self.time();
        let reader = self.who(host);
        while let Some(ask) = self.hosts[host as usize].swarm.poll(now) {
            self.tally.asks += 1;
            self.hosts[host as usize].asks.push((ask, None));
            let chunk = ask.chunk;
            self.after_latency(match ask.from {
                Holder::Source => Event::AskedSource { reader, chunk },
                Holder::Peer(PeerKey(server)) => Event::Asked { reader, server: self.who(server as u32), chunk },
            });
        }
        let at = self.hosts[host as usize].swarm.poll_timeout(now).map_or(u64::MAX, nanos);
        if at != self.hosts[host as usize].timer {
            self.hosts[host as usize].timer = at;
            if at < u64::MAX {
                self.at(at, Event::Timer(reader));
            }
        }
    }

    /// What those have that are alive.
    fn outcome(self) -> Outcome {
        let ends = self.hosts.iter().map(|host| host.done.map(Duration::from_nanos)).collect();
        Outcome::new(self.setup, &self.roles, ends, self.control.requests, self.tally)
    }
}

fn config(setup: &Setup, seed: u64) -> SwarmConfig {
    SwarmConfig {
        asks_max: setup.asks_max,
        asks_per_peer_max: setup.asks_per_peer_max,
        source_asks_max: setup.source_asks_max,
        ..SwarmConfig::new(setup.chunks, seed)
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
