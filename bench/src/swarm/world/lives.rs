//! Hosts begin, learn of one another, die, and come back.

use std::time::Duration;

use staccato_dataplane::swarm::{ChunkSet, Holder, Nearness, Swarm, Uploads};

use super::{Event, FlowId, Sending, Who, World, config, key, nanos};

/// What is older is in a checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(1);

impl World<'_> {
    pub(super) fn begins(&mut self, host: u32) {
        let comes_back = self.hosts[host as usize].life > 0;
        let kept = {
            let state = &self.hosts[host as usize];
            let mut kept = state.swarm.have().clone();
            let checkpoint = self.roles[host as usize].dies.map_or(0, nanos).saturating_sub(nanos(CHECKPOINT));
            for (_, chunk) in state.recent.iter().filter(|(at, _)| *at > checkpoint) {
                kept.remove(*chunk);
            }
            kept
        };
        let seed = self.rng.u64(..);
        let share = self.control.claim(host, comes_back, &kept);
        let allotment = share.allotment(self.setup.chunks);
        let state = &mut self.hosts[host as usize];
        state.life += 1;
        state.alive = true;
        state.swarm = Swarm::new(config(self.setup, seed), kept, allotment);
        state.share = share;
        state.read = ChunkSet::empty(self.setup.chunks);
        state.uploads = Uploads::new(self.setup.slots);
        state.timer = u64::MAX;
        state.recent.clear();
        let who = self.who(host);
        let first = self.rng.u64(..nanos(self.setup.heartbeat));
        self.at(self.now + first + 2, Event::Heartbeat(who));
        if self.now == 0 {
            // Those that begin together hear of one another once all have claimed.
            return self.at(1, Event::Met(who));
        }
        // To those that have not noticed that it was away it is another one.
        let watchers = std::mem::take(&mut self.hosts[host as usize].watchers);
        for watcher in watchers {
            self.part(watcher, host);
            self.meet(watcher, host);
            self.pump(watcher);
        }
        self.refresh(host);
        self.pump(host);
    }

    pub(super) fn heartbeat(&mut self, who: Who) {
        let host = who.0;
        if self.hosts[host as usize].done.is_some() {
            return;
        }
        let state = &self.hosts[host as usize];
        let share = self.control.heartbeat(host, state.swarm.have(), state.read.len());
        if share != state.share {
            let (now, chunks) = (self.time(), self.setup.chunks);
            let state = &mut self.hosts[host as usize];
            state.swarm.handle_allotted(share.allotment(chunks), now);
            state.share = share;
        }
        self.refresh(host);
        self.pump(host);
        self.at(self.now + nanos(self.setup.heartbeat), Event::Heartbeat(who));
    }

    /// A host learns who its peers are, and what they have.
    pub(super) fn refresh(&mut self, host: u32) {
        let before = std::mem::take(&mut self.hosts[host as usize].peers);
        let peers = self.control.peers(self.setup, host, &before, &mut self.rng);
        for gone in before.iter().filter(|peer| !peers.contains(peer)) {
            self.part(host, *gone);
        }
        for met in peers.iter().filter(|peer| !before.contains(peer)) {
            self.meet(host, *met);
        }
        self.hosts[host as usize].peers = peers;
    }

    /// A host begins to watch what a peer has.
    fn meet(&mut self, host: u32, peer: u32) {
        let near = self.setup.rack(peer) == self.setup.rack(host);
        let nearness = if near { Nearness::SameRack } else { Nearness::Elsewhere };
        self.hosts[peer as usize].watchers.push(host);
        let has = self.hosts[peer as usize].swarm.have().clone();
        let now = self.time();
        let swarm = &mut self.hosts[host as usize].swarm;
        swarm.handle_met(key(peer), nearness, now);
        swarm.handle_have(key(peer), &has, now);
    }

    /// A host has nothing more to do with a peer.
    fn part(&mut self, host: u32, peer: u32) {
        let now = self.time();
        self.hosts[peer as usize].watchers.retain(|watcher| *watcher != host);
        let state = &mut self.hosts[host as usize];
        if !state.alive {
            return;
        }
        state.swarm.handle_gone(key(peer), now);
        let from = Holder::Peer(key(peer));
        let flows: Vec<_> =
            state.asks.extract_if(.., |(ask, _)| ask.from == from).filter_map(|(_, flow)| flow).collect();
        for flow in flows {
            self.tally.bytes_lost += self.give_up(flow);
        }
    }

    pub(super) fn dies(&mut self, host: u32) {
        let who = self.who(host);
        self.hosts[host as usize].alive = false;
        self.hosts[host as usize].done = None;
        for (_, flow) in std::mem::take(&mut self.hosts[host as usize].asks) {
            let Some(flow) = flow else { continue };
            let sending = self.flows[flow as usize].take().expect("it is being sent");
            let bytes = self.network.give_up(flow);
            match sending.server {
                None => self.tally.bytes_source += bytes,
                Some(server) if self.lives(server) => self.hosts[server.0 as usize].stuck.push(host),
                Some(_) => {}
            }
        }
        let from_it = |sending: &Sending| sending.server == Some(who);
        let stopped: Vec<_> =
            (0..self.flows.len()).filter(|flow| self.flows[*flow].as_ref().is_some_and(from_it)).collect();
        for flow in stopped {
            let Sending { reader, .. } = self.flows[flow].take().expect("it was just seen");
            self.network.give_up(flow as FlowId);
            let asks = &mut self.hosts[reader.0 as usize].asks;
            asks.iter_mut().filter(|(_, sent)| *sent == Some(flow as FlowId)).for_each(|(_, sent)| *sent = None);
        }
        self.at(self.now + nanos(self.setup.silence), Event::Noticed(who));
        let peers = std::mem::take(&mut self.hosts[host as usize].peers);
        for peer in peers {
            self.hosts[peer as usize].watchers.retain(|watcher| *watcher != host);
        }
    }

    pub(super) fn noticed(&mut self, (host, life): Who) {
        for server in 0..self.hosts.len() {
            while let Some(place) = self.hosts[server].stuck.iter().position(|reader| *reader == host) {
                self.hosts[server].stuck.remove(place);
                self.hosts[server].uploads.handle_ended(key(host), None);
            }
        }
        // Another life of it has been met anew.
        if self.hosts[host as usize].life != life || self.hosts[host as usize].alive {
            return;
        }
        self.control.lost(host);
        for watcher in self.hosts[host as usize].watchers.clone() {
            self.part(watcher, host);
            self.hosts[watcher as usize].peers.retain(|peer| *peer != host);
            if self.hosts[watcher as usize].alive {
                self.pump(watcher);
            }
        }
    }
}
