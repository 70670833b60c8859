//! What befalls hosts: they die, leave, come back, part and lose chunks; and what the control plane makes of it.

use super::{BAD_DAYS, Character, Event, SECOND, SILENCE, Sabotage, World};
use crate::swarm::{ChunkSet, Holder, PeerKey, allot::Lost};

impl World {
    /// What happens in a second: blows, and heartbeats.
    pub(super) fn second(&mut self) -> Result<(), String> {
        self.after(SECOND, Event::Second);
        for host in 0..self.hosts.len() {
            if self.hosts[host].character != Character::Honest {
                continue;
            }
            let trouble = self.scenario.trouble.clone();
            if !self.hosts[host].alive {
                if self.now >= BAD_DAYS || self.trouble(trouble.returns) {
                    self.come_back(host)?;
                }
                continue;
            }
            if self.trouble(trouble.dies) {
                self.die(host)?;
                continue;
            }
            if self.trouble(trouble.loses_chunk) {
                let chunk = self.rng.u32(..self.scenario.chunks);
                if self.hosts[host].good.remove(chunk) {
                    self.say(format!("{host} loses {chunk}"));
                    self.hosts[host].swarm.handle_lost(chunk);
                    self.pump(host)?;
                }
            }
            if self.trouble(trouble.parts) {
                let peer = self.rng.usize(..self.hosts.len());
                if peer != host && self.hosts[peer].alive {
                    self.say(format!("{host} parts from {peer}, and meets it again"));
                    self.meet(host, peer, self.now);
                    self.pump(host)?;
                }
            }
            if !self.trouble(trouble.heartbeat_fails) {
                self.heartbeat(host)?;
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, host: usize) -> Result<(), String> {
        let (key, held) = (PeerKey(host as u64), self.held());
        let this = &mut self.hosts[host];
        let mut read = this.read.clone();
        for ask in this.under_way.iter().filter(|ask| ask.from == Holder::Source) {
            read.remove(ask.chunk);
        }
        self.allotments.handle_progress(key, &this.good, &read);
        self.allotments.spread(&held);
        if let Some(allotment) = self.allotments.of(key).filter(|allotment| *allotment != this.swarm.allotment()) {
            this.swarm.handle_allotted(allotment.clone(), self.now);
            self.pump(host)?;
        }
        Ok(())
    }

    fn die(&mut self, host: usize) -> Result<(), String> {
        let leaves = self.rng.f64() < self.scenario.trouble.leaves;
        self.say(format!("{host} {}", if leaves { "leaves" } else { "dies" }));
        let this = &mut self.hosts[host];
        this.alive = false;
        let life = this.life;
        if leaves {
            let key = PeerKey(host as u64);
            self.allotments.handle_progress(key, &this.good, &this.read);
            let held = self.held();
            self.allotments.handle_lost(key, Lost::Left, &held);
        }
        self.after(SILENCE, Event::Noticed { host, life });
        Ok(())
    }

    pub(super) fn lost(&mut self, host: usize) -> Result<(), String> {
        self.say(format!("{host} is lost"));
        self.forget(host);
        for other in 0..self.hosts.len() {
            if self.hosts[other].alive {
                self.hosts[other].swarm.handle_gone(PeerKey(host as u64), self.now);
                self.hosts[other].under_way.retain(|ask| ask.from != Holder::Peer(PeerKey(host as u64)));
                self.pump(other)?;
            }
        }
        Ok(())
    }

    /// The control plane counts no more on a host's last life.
    fn forget(&mut self, host: usize) {
        let believed = self.sabotage == Some(Sabotage::SilenceIsBelieved);
        let (lost, held) = (if believed { Lost::Left } else { Lost::Silent }, self.held());
        self.allotments.handle_lost(PeerKey(host as u64), lost, &held);
    }

    fn come_back(&mut self, host: usize) -> Result<(), String> {
        self.forget(host);
        let mut kept = self.hosts[host].good.clone();
        for chunk in self.hosts[host].good.iter() {
            if self.rng.u8(..4) == 0 {
                kept.remove(chunk);
            }
        }
        self.say(format!("{host} returns with {} chunks", kept.len()));
        self.hosts[host].good = kept;
        self.hosts[host].read = ChunkSet::empty(self.scenario.chunks);
        let held = self.held();
        if host < self.scenario.seeds {
            self.allotments.handle_joined(PeerKey(host as u64), &held);
        }
        self.begin(host);
        for other in 0..self.hosts.len() {
            self.pump(other)?;
        }
        Ok(())
    }
}
