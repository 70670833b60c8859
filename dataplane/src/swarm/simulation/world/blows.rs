//! What befalls hosts: they die, leave, come back, part and lose chunks; and what the control plane makes of it.

use super::{BAD_DAYS, Character, Event, SECOND, SILENCE, Sabotage, World, believed, missing_of};
use crate::swarm::{Holder, PeerKey, seeds::Seeds};

/// A host begins anew that has missed for so many seconds what nobody is known to have.
const STARVES_MAX: u32 = 5;
/// From then on nobody is waited for who has never begun.
const ALL_HAVE_BEGUN: std::time::Duration = std::time::Duration::from_secs(5);

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
        let key = host as u64;
        let this = &self.hosts[host];
        let reading = this.under_way.iter().filter(|ask| ask.from == Holder::Source).count() as u64;
        let (read, missing) = (u64::from(this.read.len()) - reading, missing_of(this, self.seeds.classes()));
        self.seeds.note(key, read, missing);
        self.seeds.heal(self.now > ALL_HAVE_BEGUN, believed(&self.hosts));
        let (share, this) = (self.seeds.share(key), &mut self.hosts[host]);
        if share != this.share {
            this.swarm.handle_allotted(share.allotment(self.scenario.chunks), self.now);
            this.share = share;
            return self.pump(host);
        }
        // Whoever begins may read what the budget has left, and nobody else.
        let (chunks, classes, left) = (self.scenario.chunks, self.seeds.classes(), self.seeds.left());
        let is_left = |chunk: u32| left >= Some(Seeds::size_of(chunk % classes, classes, chunks).into());
        let starves = this.swarm.wants_source_budget().iter().any(is_left);
        this.starves = if starves { this.starves + 1 } else { 0 };
        if this.starves == STARVES_MAX {
            self.say(format!("{host} begins anew"));
            self.leave(host);
            self.begin(host);
            (0..self.hosts.len()).try_for_each(|other| self.pump(other))?;
        }
        Ok(())
    }

    /// An attempt ends, and tells what it has read.
    fn leave(&mut self, host: usize) {
        self.seeds.settle(host as u64, Some(self.hosts[host].read.len().into()));
        self.hosts[host].is_believed = false;
    }

    fn die(&mut self, host: usize) -> Result<(), String> {
        let leaves = self.rng.f64() < self.scenario.trouble.leaves;
        self.say(format!("{host} {}", if leaves { "leaves" } else { "dies" }));
        let this = &mut self.hosts[host];
        this.alive = false;
        let life = this.life;
        if leaves {
            self.leave(host);
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
        self.seeds.settle(host as u64, believed.then_some(0));
        self.hosts[host].is_believed = false;
        self.seeds.heal(false, super::believed(&self.hosts));
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
        self.begin(host);
        for other in 0..self.hosts.len() {
            self.pump(other)?;
        }
        Ok(())
    }
}
