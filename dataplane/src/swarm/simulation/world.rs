//! A distribution, its events and blows, and what must hold at each of them.

mod blows;

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;

use super::{
    Sabotage,
    scenario::{Character, Scenario},
};
use crate::swarm::{
    Allotment, Answer, Ask, ChunkSet, Failure, Holder, Nearness, PeerKey, Swarm, SwarmConfig, Uploads,
    seeds::{Seeds, Share},
};

const SECOND: Duration = Duration::from_secs(1);
/// From then on the days are good.
const BAD_DAYS: Duration = Duration::from_secs(30);
/// By then everything must be over.
const END: Duration = Duration::from_secs(300);
/// A host that died is noticed after so many seconds.
const SILENCE: Duration = Duration::from_secs(3);
/// More events are none that anything waits for.
const EVENTS_MAX: usize = 400_000;

/// What became of a distribution.
pub(super) struct Life {
    pub verdict: Result<(), String>,
    pub trace: Vec<String>,
}

pub(super) struct World {
    scenario: Scenario,
    sabotage: Option<Sabotage>,
    rng: Rng,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    hosts: Vec<Host>,
    seeds: Seeds,
    /// Reads of the source that succeeded, or whose reader died meanwhile.
    reads: u64,
    trace: Vec<String>,
}

struct Host {
    character: Character,
    life: u32,
    alive: bool,
    /// The control plane has not heard that it has died.
    is_believed: bool,
    /// What it was told that it may read of the source.
    share: Share,
    /// For so many seconds it has missed what nobody is known to have.
    starves: u32,
    swarm: Swarm,
    uploads: Uploads,
    /// Chunks whose right bytes are here.
    good: ChunkSet,
    /// Chunks that were read of the source, or are being read.
    read: ChunkSet,
    under_way: Vec<Ask>,
    /// When the swarm wants to be polled.
    timer: Option<Duration>,
}

#[derive(Debug)]
enum Event {
    Second,
    Timer { host: usize, life: u32 },
    Answer { host: usize, life: u32, server_life: Option<u32>, ask: Ask, result: Result<(), Failure> },
    Told { of: usize, life: u32, to: usize, chunk: u32 },
    Noticed { host: usize, life: u32 },
}

impl World {
    pub fn live(seed: u64, sabotage: Option<Sabotage>) -> Life {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut rng);
        let mut seeds = Seeds::new(scenario.seeds, scenario.budget_milli);
        seeds.know(scenario.chunks);
        let none = ChunkSet::empty(scenario.chunks);
        let host = |character: &Character| Host {
            character: *character,
            life: 0,
            alive: false,
            is_believed: false,
            share: Share::default(),
            starves: 0,
            swarm: Swarm::new(SwarmConfig::new(scenario.chunks, 0), none.clone(), Allotment::none(scenario.chunks)),
            uploads: Uploads::new(scenario.slots),
            good: none.clone(),
            read: none.clone(),
            under_way: Vec::new(),
            timer: None,
        };
        let hosts = scenario.hosts.iter().map(host).collect();
        let trace = vec![format!("{scenario:?}")];
        let (now, events, sequence, reads) = (Duration::ZERO, BTreeMap::new(), 0, 0);
        let mut world = Self { scenario, sabotage, rng, now, events, sequence, hosts, seeds, reads, trace };
        let verdict = world.play();
        Life { verdict, trace: world.trace }
    }

    fn play(&mut self) -> Result<(), String> {
        for host in 0..self.hosts.len() {
            self.begin(host);
        }
        for host in 0..self.hosts.len() {
            self.pump(host)?;
        }
        self.after(SECOND, Event::Second);
        for _ in 0..EVENTS_MAX {
            let ((at, _), event) = self.events.pop_first().expect("seconds never end");
            self.now = at;
            if at > END || at > BAD_DAYS && self.honest().all(|host| host.alive && host.swarm.is_complete()) {
                return self.judge();
            }
            self.handle(event)?;
        }
        Err("it never ends".to_owned())
    }

    /// What is not there can be nowhere, and cannot be read.
    fn judge(&self) -> Result<(), String> {
        let held = self.held();
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.character == Character::Honest) {
            let mut missing = ChunkSet::full(self.scenario.chunks);
            missing.subtract(host.swarm.have());
            for chunk in missing.iter() {
                let (class, classes) = (chunk % self.seeds.classes(), self.seeds.classes());
                let affords = self.seeds.left() >= Some(Seeds::size_of(class, classes, self.scenario.chunks).into());
                let readable = affords || self.honest().any(|host| host.alive && host.swarm.may_read(chunk));
                if held.contains(chunk) || readable {
                    return Err(format!("{index} misses {chunk}, which is to be had"));
                }
                if !host.swarm.wants_source_budget().contains(chunk) {
                    return Err(format!("{index} misses {chunk}, and does not say that it needs the source"));
                }
            }
        }
        Ok(())
    }

    fn honest(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.character == Character::Honest)
    }

    fn held(&self) -> ChunkSet {
        let mut held = ChunkSet::empty(self.scenario.chunks);
        self.honest().filter(|host| host.alive).for_each(|host| held.add(&host.good));
        held
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn say(&mut self, what: String) {
        self.trace.push(format!("{:?} {what}", self.now));
    }

    fn trouble(&mut self, likely: f64) -> bool {
        self.now < BAD_DAYS && self.rng.f64() < likely
    }

    fn delay(&mut self) -> Duration {
        let slow = self.trouble(self.scenario.trouble.answer_is_slow);
        Duration::from_micros(if slow { self.rng.u64(..15_000_000) } else { self.rng.u64(1_000..300_000) })
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Second => self.second(),
            Event::Timer { host, life } if self.lives(host, life) && self.hosts[host].timer == Some(self.now) => {
                self.hosts[host].timer = None;
                self.pump(host)
            }
            Event::Answer { host, life, server_life, ask, result } => {
                match self.ended(host, server_life, ask, result) {
                    Some(result) if self.lives(host, life) => self.answered(host, ask, result),
                    _ => Ok(()),
                }
            }
            Event::Told { of, life, to, chunk } if self.lives(of, life) && self.hosts[to].alive => {
                let set = ChunkSet::from_ranges(self.scenario.chunks, std::iter::once(chunk..chunk + 1)).unwrap();
                self.hosts[to].swarm.handle_have(PeerKey(of as u64), &set, self.now);
                self.pump(to)
            }
            Event::Noticed { host, life } if self.hosts[host].life == life && !self.hosts[host].alive => {
                self.lost(host)
            }
            _ => Ok(()),
        }
    }

    fn lives(&self, host: usize, life: u32) -> bool {
        self.hosts[host].alive && self.hosts[host].life == life
    }

    /// A host begins one of its lives, with what is good there.
    fn begin(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let (key, now) = (PeerKey(host as u64), self.now);
        let config = SwarmConfig { asks_max: self.scenario.asks_max, ..SwarmConfig::new(self.scenario.chunks, seed) };
        let missing = missing_of(&self.hosts[host], self.seeds.classes());
        self.hosts[host].is_believed = true;
        let lives = believed(&self.hosts);
        self.seeds.begin(key.0, missing, lives);
        let share = self.seeds.share(key.0);
        let allotment = share.allotment(self.scenario.chunks);
        let this = &mut self.hosts[host];
        this.life += 1;
        this.alive = true;
        this.share = share;
        this.starves = 0;
        this.read = ChunkSet::empty(self.scenario.chunks);
        this.under_way.clear();
        this.timer = None;
        this.uploads = Uploads::new(self.scenario.slots);
        this.swarm = Swarm::new(config, this.good.clone(), allotment);
        for other in 0..self.hosts.len() {
            if other != host && self.hosts[other].alive {
                self.meet(host, other, now);
                self.meet(other, host, now);
            }
        }
    }

    fn meet(&mut self, host: usize, peer: usize, now: Duration) {
        let nearness = if host % 2 == peer % 2 { Nearness::SameRack } else { Nearness::Elsewhere };
        let shows = match self.hosts[peer].character {
            Character::Honest => self.hosts[peer].swarm.have().clone(),
            Character::Liar | Character::Poisoner => ChunkSet::full(self.scenario.chunks),
        };
        let this = &mut self.hosts[host];
        this.swarm.handle_met(PeerKey(peer as u64), nearness, now);
        this.swarm.handle_have(PeerKey(peer as u64), &shows, now);
        this.under_way.retain(|ask| ask.from != Holder::Peer(PeerKey(peer as u64)));
    }

    /// Asks what the swarm wants to ask, and holds it against what it may.
    fn pump(&mut self, host: usize) -> Result<(), String> {
        if self.hosts[host].character != Character::Honest || !self.hosts[host].alive {
            return Ok(());
        }
        // Those to peers, and those of a seed that reads what is another one's.
        let asks_max = 2 * self.scenario.asks_max + 4;
        let allotment = self.hosts[host].share.allotment(self.scenario.chunks);
        while let Some(ask) = self.hosts[host].swarm.poll(self.now) {
            self.say(format!("{host} asks {ask:?}"));
            let this = &mut self.hosts[host];
            let holders: Vec<Holder> =
                this.under_way.iter().filter(|other| other.chunk == ask.chunk).map(|other| other.from).collect();
            let peers = holders.iter().chain([&ask.from]).filter(|holder| **holder != Holder::Source).count();
            if this.swarm.have().contains(ask.chunk) || peers > 3 || holders.contains(&ask.from) {
                return Err(format!("{host} asks {ask:?} in vain: {holders:?}"));
            }
            this.under_way.push(ask);
            if this.under_way.len() > asks_max {
                return Err(format!("{host} asks too much at a time: {}", this.under_way.len()));
            }
            match ask.from {
                Holder::Source => {
                    if !allotment.contains(ask.chunk) || this.read.contains(ask.chunk) {
                        return Err(format!("{host} may not read {}", ask.chunk));
                    }
                    this.read.insert(ask.chunk);
                    self.reads += 1;
                }
                Holder::Peer(peer) if this.swarm.is_distrusted(peer) => {
                    return Err(format!("{host} asks {peer:?} again"));
                }
                Holder::Peer(_) => {}
            }
            if self.reads > self.scenario.reads_max() {
                return Err(format!("{} reads of the source, of {}", self.reads, self.scenario.reads_max()));
            }
            self.send(host, ask);
        }
        let this = &mut self.hosts[host];
        let (life, timer) = (this.life, this.swarm.poll_timeout(self.now));
        if timer.is_some_and(|at| at <= self.now) {
            return Err(format!("{host} wants to be polled at {timer:?}"));
        }
        if timer != this.timer && self.sabotage != Some(Sabotage::NoTimer) {
            this.timer = timer;
            if let Some(at) = timer {
                self.after(at - self.now, Event::Timer { host, life });
            }
        }
        Ok(())
    }

    /// What will be answered, and when.
    fn send(&mut self, host: usize, ask: Ask) {
        let fails = self.trouble(self.scenario.trouble.answer_fails);
        let mut result = if fails { Err(Failure::Retry) } else { Ok(()) };
        let mut server_life = None;
        if let Holder::Peer(PeerKey(server)) = ask.from {
            let server = &mut self.hosts[server as usize];
            server_life = Some(server.life);
            result = match server.character {
                _ if !server.alive || fails => result,
                Character::Liar => Err(Failure::Absent),
                Character::Poisoner => Err(Failure::Wrong),
                Character::Honest if !server.good.contains(ask.chunk) => Err(Failure::Absent),
                Character::Honest => match server.uploads.handle_asked(PeerKey(host as u64), self.now) {
                    Answer::Serve => Ok(()),
                    Answer::Busy { after } => Err(Failure::Busy { after }),
                },
            };
        }
        let life = self.hosts[host].life;
        let delay = self.delay();
        self.after(delay, Event::Answer { host, life, server_life, ask, result });
    }

    /// The server has nothing more to do with a question. What it sent is nothing if it died meanwhile; where it lives again
    /// the question was taken back.
    fn ended(
        &mut self,
        host: usize,
        server_life: Option<u32>,
        ask: Ask,
        result: Result<(), Failure>,
    ) -> Option<Result<(), Failure>> {
        let (Holder::Peer(PeerKey(server)), Some(life)) = (ask.from, server_life) else { return Some(result) };
        if !self.lives(server as usize, life) {
            return (self.hosts[server as usize].life == life).then_some(Err(Failure::Gone));
        }
        if result.is_ok() {
            let took = Duration::from_millis(100);
            self.hosts[server as usize].uploads.handle_ended(PeerKey(host as u64), Some(took));
        }
        Some(result)
    }

    fn answered(&mut self, host: usize, ask: Ask, mut result: Result<(), Failure>) -> Result<(), String> {
        let this = &mut self.hosts[host];
        let Some(place) = this.under_way.iter().position(|other| *other == ask) else { return Ok(()) };
        this.under_way.remove(place);
        let wrong = matches!(result, Err(Failure::Wrong));
        if wrong && self.sabotage == Some(Sabotage::WrongBytesAreTaken) {
            result = Ok(());
        }
        self.trace.push(format!("{:?} {host} has {ask:?}: {result:?}", self.now));
        let this = &mut self.hosts[host];
        match result {
            Ok(()) => {
                if !wrong {
                    this.good.insert(ask.chunk);
                }
                for dropped in this.swarm.handle_arrived(ask, self.now) {
                    if dropped.chunk != ask.chunk || dropped.from == Holder::Source {
                        return Err(format!("{host} drops {dropped:?}"));
                    }
                    self.hosts[host].under_way.retain(|other| *other != dropped);
                    self.say(format!("{host} drops {dropped:?}"));
                }
                self.announce(host, ask.chunk);
            }
            Err(failure) => {
                if ask.from == Holder::Source {
                    // What failed was not read.
                    self.reads -= 1;
                    this.read.remove(ask.chunk);
                }
                this.swarm.handle_failed(ask, failure, self.now);
                if matches!(failure, Failure::Gone | Failure::Wrong | Failure::Absent) {
                    // Its other questions are taken back where it counts as gone.
                    let Holder::Peer(peer) = ask.from else { panic!("the source is always there") };
                    if failure != Failure::Absent || this.swarm.is_distrusted(peer) {
                        this.under_way.retain(|other| other.from != ask.from);
                    }
                }
            }
        }
        let this = &self.hosts[host];
        if *this.swarm.have() != this.good {
            return Err(format!("{host} announces what it has not"));
        }
        self.pump(host)
    }

    fn announce(&mut self, of: usize, chunk: u32) {
        let life = self.hosts[of].life;
        for to in (0..self.hosts.len()).filter(|to| *to != of) {
            let delay = Duration::from_micros(self.rng.u64(100..50_000));
            self.after(delay, Event::Told { of, life, to, chunk });
        }
    }
}

/// How many chunks of each class a host has not got.
fn missing_of(host: &Host, classes: u32) -> impl Fn(u32) -> u64 + use<> {
    let (good, chunks) = (host.good.clone(), host.good.chunks());
    move |class| (class..chunks).step_by(classes as usize).filter(|chunk| !good.contains(*chunk)).count() as u64
}

/// Who lives as far as the control plane knows.
fn believed(hosts: &[Host]) -> impl Fn(u64) -> bool + Copy + '_ {
    |host| hosts[host as usize].is_believed
}
