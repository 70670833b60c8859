//! What every policy promises, as a suite: run [`check`] in the tests of a policy.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    Executor, Link, Plugin, Running, Snapshot, Waiting,
    contract::{PRIORITY_MAX, REASON_BYTES_MAX},
};

/// Snapshots that are tried.
const SNAPSHOTS: usize = 300;
/// Transfers that are followed from submission to start.
const FOLLOWED: usize = 200;

/// Panics when `plugin` breaks a promise of [`Plugin`]; says the seed, from which the same run can be had again.
pub fn check(plugin: &dyn Plugin, seed: u64) {
    let name = plugin.name();
    eprintln!("conformance of {name}: seed {seed:#x}");
    assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name:?} is no plain name");
    let mut dice = Dice(seed | 1);
    assert!(plugin.decide(&Snapshot::default()).is_empty(), "nothing waits, so nothing can be started");
    for _ in 0..SNAPSHOTS {
        keeps_to_the_snapshot(plugin, &random_snapshot(&mut dice));
    }
    starves_nobody(plugin, &mut dice);
}

fn keeps_to_the_snapshot(plugin: &dyn Plugin, snapshot: &Snapshot) {
    let decisions = plugin.decide(snapshot);
    assert_eq!(decisions, plugin.decide(&snapshot.clone()), "the same snapshot must give the same decisions");
    let waiting: BTreeSet<Uuid> = snapshot.waiting.iter().map(|transfer| transfer.id).collect();
    let mut started = BTreeSet::new();
    for decision in &decisions {
        assert!(waiting.contains(&decision.id), "{} does not wait", decision.id);
        assert!(started.insert(decision.id), "{} is started twice", decision.id);
        let length = decision.reason.len();
        assert!((1..=REASON_BYTES_MAX).contains(&length), "a reason of {length} bytes");
    }
}

/// Runs a queue dry: in each round the policy decides and one running transfer ends.
fn starves_nobody(plugin: &dyn Plugin, dice: &mut Dice) {
    let window = 16;
    let mut queue: Vec<Waiting> = (0..FOLLOWED).map(|index| random_waiting(dice, index as u128 + 1)).collect();
    queue.iter_mut().for_each(|transfer| transfer.at = (dice.below(2) == 1).then(|| "one".to_owned()));
    queue.sort_by_key(|transfer| (std::cmp::Reverse(transfer.priority), transfer.id));
    let mut running: Vec<Running> = Vec::new();
    let mut now_ms = 0;
    for _round in 0..FOLLOWED * 20 {
        if queue.is_empty() {
            return;
        }
        // An hour, so that policies which look at the time of day see all of it.
        now_ms += 3_600_000;
        let snapshot = Snapshot {
            now_ms,
            waiting: queue.iter().take(window).cloned().collect(),
            more_waiting: queue.len() > window,
            running: running.clone(),
            executors: vec![Executor { name: "one".into(), slots: None }],
        };
        keeps_to_the_snapshot(plugin, &snapshot);
        for decision in plugin.decide(&snapshot) {
            let at = queue.iter().position(|transfer| transfer.id == decision.id).expect("checked above");
            let Waiting { id, priority, owner, link, at, .. } = queue.remove(at);
            running.push(Running { id, priority, owner, link, at });
        }
        if !running.is_empty() {
            let ended = dice.below(running.len() as u64) as usize;
            running.swap_remove(ended);
        }
    }
    panic!("{} of {FOLLOWED} transfers were never started", queue.len());
}

fn random_snapshot(dice: &mut Dice) -> Snapshot {
    let mut snapshot = Snapshot { now_ms: dice.next() >> 20, more_waiting: dice.below(2) == 1, ..Snapshot::default() };
    let waiting = dice.below(30);
    snapshot.waiting = (0..waiting).map(|index| random_waiting(dice, u128::from(index) + 1)).collect();
    snapshot.waiting.sort_by_key(|transfer| (std::cmp::Reverse(transfer.priority), transfer.id));
    for index in 0..dice.below(12) {
        let Waiting { id, priority, owner, link, at, .. } = random_waiting(dice, 1_000_000 + u128::from(index));
        snapshot.running.push(Running { id, priority, owner, link, at });
    }
    let slots = [None, Some(0), Some(3)];
    let executor = |index| Executor { name: format!("executor-{index}"), slots: slots[index as usize] };
    snapshot.executors = (0..dice.below(3)).map(executor).collect();
    let known = |at: &String| snapshot.executors.iter().any(|executor| executor.name == *at);
    snapshot.waiting.retain(|transfer| transfer.at.as_ref().is_none_or(known));
    snapshot
}

fn random_waiting(dice: &mut Dice, id: u128) -> Waiting {
    let host = |number| format!("host-{number}");
    Waiting {
        id: Uuid::from_u128(id),
        priority: dice.below(u64::from(PRIORITY_MAX) + 1) as u8,
        owner: format!("owner-{}", dice.below(4)),
        submitted_ms: dice.next() >> 20,
        link: Link { source: host(dice.below(3)), destination: host(dice.below(3)) },
        at: (dice.below(3) > 0).then(|| format!("executor-{}", dice.below(3))),
    }
}

/// xorshift64 (Marsaglia 2003): enough chance for a test, and none that is not in the seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decision;

    struct Broken(fn(&Snapshot) -> Vec<Decision>);

    impl Plugin for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn decide(&self, snapshot: &Snapshot) -> Vec<Decision> {
            (self.0)(snapshot)
        }
    }

    fn start(waiting: &Waiting, reason: &str) -> Decision {
        Decision { id: waiting.id, reason: reason.into() }
    }

    #[test]
    fn notices_broken_promises() {
        let broken: [fn(&Snapshot) -> Vec<Decision>; 5] = [
            |_| Vec::new(),
            |snapshot| snapshot.waiting.iter().map(|one| start(one, "")).collect(),
            |snapshot| snapshot.waiting.iter().chain(&snapshot.waiting).map(|one| start(one, "twice")).collect(),
            |snapshot| snapshot.running.iter().map(|one| Decision { id: one.id, reason: "runs".into() }).collect(),
            |snapshot| snapshot.waiting.iter().filter(|one| one.priority > 3).map(|one| start(one, "high")).collect(),
        ];
        for (index, decide) in broken.into_iter().enumerate() {
            let caught = std::panic::catch_unwind(|| check(&Broken(decide), 7));
            assert!(caught.is_err(), "case {index} was let through");
        }
    }
}
