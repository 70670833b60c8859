//! The life of one transfer: attempts, and what happens between them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;

use super::{
    Sabotage,
    attempt::{Around, Attempt, Outcome},
    checker::{Verdict, ensure},
    disk::Disk,
    ledger::{Ledger, Sidecar},
    present::PresentObject,
    scenario::{Scenario, Trouble},
    source::Source,
    trace::Trace,
};
use staccato_protocols::contract::{Present, Writes};

use crate::{
    attempt::StopReason,
    engine::{Ending, EngineConfig},
};

/// A transfer and everything it touches.
pub(super) struct World {
    rng: Rng,
    scenario: Scenario,
    source: Source,
    /// The version that the last attempt opened.
    opened: Source,
    disk: Option<Disk>,
    /// What is at the destination.
    present: Option<PresentObject>,
    inodes: u32,
    ledger: Ledger,
    sidecar: Sidecar,
    trace: Trace,
    sabotage: Option<Sabotage>,
}

/// How a life went.
pub(super) struct Life {
    pub trace: Trace,
    /// Nothing, or what did not hold.
    pub verdict: Verdict,
}

impl World {
    /// Lives the life that `seed` stands for.
    pub fn live(seed: u64, sabotage: Option<Sabotage>) -> Life {
        let mut rng = Rng::with_seed(seed);
        let scenario = Scenario::draw(&mut rng);
        Self::live_in(scenario, rng, sabotage)
    }

    /// Lives in a given scenario.
    pub fn live_in(scenario: Scenario, mut rng: Rng, sabotage: Option<Sabotage>) -> Life {
        let source = Source { version: 1, length: scenario.length, holes: scenario.holes };
        let present = scenario.present.map(|present| PresentObject::draw(&mut rng, present, &source));
        let mut world = Self {
            rng,
            present,
            opened: source.clone(),
            source,
            scenario,
            disk: None,
            inodes: 0,
            ledger: Ledger::default(),
            sidecar: Sidecar::default(),
            trace: Trace::default(),
            sabotage,
        };
        world.trace.headline(&world.scenario);
        // The engine's own assertions are part of what must hold.
        let lived = catch_unwind(AssertUnwindSafe(|| world.attempts()));
        let verdict = lived.unwrap_or_else(|panic| {
            let why = panic.downcast_ref::<String>().cloned();
            Err(why.or(panic.downcast_ref::<&str>().map(|why| (*why).to_owned())).unwrap_or_default())
        });
        if let Err(why) = &verdict {
            world.trace.headline(&why);
        }
        Life { trace: world.trace, verdict }
    }

    fn attempts(&mut self) -> Verdict {
        for attempt in 0.. {
            let bad = attempt < self.scenario.bad_attempts;
            let trouble = if bad { self.scenario.trouble.clone() } else { Trouble::default() };
            if attempt > 0 {
                self.between_attempts(&trouble);
            }
            let outcome = self.attempt(&trouble)?;
            self.trace.headline(&outcome);
            match outcome {
                Outcome::Finished { kept } if self.rng.f64() < trouble.crash => {
                    self.cut_power();
                    let disk = self.disk.as_ref().expect("an attempt has one");
                    ensure!(kept || disk.is_whole(&self.opened), "a power cut before the commit lost something");
                }
                Outcome::Finished { .. } if self.source.version == self.opened.version => return Ok(()),
                Outcome::Finished { .. } => (), // The last look at the source shows that it changed.
                Outcome::Ended(Ending::Stopped(StopReason::Cancel)) => return Ok(()),
                Outcome::Ended(_) => ensure!(bad, "it ended on a good day"),
                Outcome::PowerCut => self.cut_power(),
                Outcome::Killed => self.disk.as_mut().expect("an attempt has one").kill_process(),
            }
        }
        unreachable!("a good day comes, and an attempt ends on it")
    }

    fn cut_power(&mut self) {
        self.disk.as_mut().expect("an attempt has one").cut_power(&mut self.rng);
        self.sidecar.cut_power(&mut self.rng);
    }

    fn between_attempts(&mut self, trouble: &Trouble) {
        let mut happens = |likely: f64| self.rng.f64() < likely;
        let (rots, is_lost) = (happens(trouble.disk_rots), happens(trouble.partial_is_lost));
        let (no_sidecar, stale_sidecar) = (happens(trouble.sidecar_is_lost), happens(trouble.sidecar_is_stale));
        self.source.version += u32::from(happens(trouble.source_changes));
        if rots && let Some(disk) = &mut self.disk {
            disk.rot(&mut self.rng);
        }
        if is_lost {
            self.disk = None;
        }
        if no_sidecar {
            self.sidecar = Sidecar::default();
        }
        if stale_sidecar && let Some(disk) = &self.disk {
            self.sidecar.go_stale(&mut self.rng, disk);
        }
        self.trace.headline(&(rots, is_lost, no_sidecar, stale_sidecar));
    }

    /// Opens both ends as an attempt does, and runs it.
    fn attempt(&mut self, trouble: &Trouble) -> Result<Outcome, String> {
        if self.source.version != self.opened.version {
            self.source.length = Scenario::draw_length(&mut self.rng);
            self.opened = self.source.clone();
        }
        let recorded = &mut self.ledger.recorded;
        let resumable = recorded.version == self.source.version && !recorded.ranges.is_empty();
        let found = self.disk.take().filter(|_| resumable);
        let resumed = found.is_some();
        // Streams and sources of unknown length tell no CRCs.
        let tells_sums = self.scenario.tells_length && !self.scenario.sequential;
        let present = self.present.as_ref().filter(|_| tells_sums);
        let clones = !resumed && self.scenario.present.is_some_and(|present| present.clones);
        let present = present.map(|present| (present, Present { length: present.length, in_place: clones }));
        let mut disk = found.unwrap_or_else(|| {
            self.inodes += 1;
            self.sidecar = Sidecar::default();
            match present {
                Some((present, Present { in_place: true, .. })) => {
                    Disk::clone_of(self.inodes, Scenario::bytes_max(), present)
                }
                _ => Disk::new(self.inodes, Scenario::bytes_max()),
            }
        });
        let present = present.map(|(_, present)| present);
        if resumed && recorded.inode != disk.inode {
            disk.excuse_what_is_not_there(&self.source);
            recorded.inode = disk.inode;
        }
        let config = EngineConfig {
            length: self.scenario.tells_length.then_some(self.source.length),
            chunk_bytes: self.scenario.chunk_bytes,
            window_chunks_max: self.scenario.window_chunks_max,
            connections: self.scenario.connections(),
            request_cost: self.scenario.request_cost,
            chosen: false,
            sequential: self.scenario.sequential,
            writes: Writes::Anywhere,
            fresh: !resumed && !present.is_some_and(|present| present.in_place),
            started_over: !resumed && !recorded.ranges.is_empty(),
            rate_limit: self.scenario.rate_limit,
            sync_bytes_max: self.scenario.sync_bytes_max,
            checkpoint: if resumed { recorded.ranges.clone() } else { Vec::new() },
            sidecar: self.sidecar.load(),
            present,
        };
        self.trace.headline(&(&config.length, &config.checkpoint, config.started_over));
        self.trace.headline(&config.present);
        let around = Around {
            rng: &mut self.rng,
            trouble,
            source: &mut self.source,
            disk: self.disk.insert(disk),
            present: &mut self.present,
            ledger: &mut self.ledger,
            sidecar: &mut self.sidecar,
            trace: &mut self.trace,
            sabotage: self.sabotage,
        };
        Attempt::new(config, around).run()
    }
}
