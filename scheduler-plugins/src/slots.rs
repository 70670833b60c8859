//! N at a time on each executor, first come first served within a priority.

use std::{cmp::Reverse, collections::HashMap};

use crate::{Decision, Plugin, Snapshot};

/// Runs at most a fixed number of transfers at a time on each executor. Higher priorities go first; within one, whoever was
/// submitted first. A transfer that runs is never stopped for another, and one whose executor is busy lets others pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: usize,
}

impl Slots {
    /// A policy with this many slots on each executor that does not say how many it has; with none, nothing is ever started
    /// there.
    pub fn new(slots: usize) -> Self {
        Self { slots }
    }
}

impl Plugin for Slots {
    fn name(&self) -> &'static str {
        "slots"
    }

    fn decide(&self, snapshot: &Snapshot) -> Vec<Decision> {
        let slots_of = |slots: Option<usize>| slots.unwrap_or(self.slots);
        let all: usize = snapshot.executors.iter().map(|executor| slots_of(executor.slots)).sum();
        let mut taken_in_all = snapshot.running.len();
        let mut taken: HashMap<&str, usize> = HashMap::new();
        for at in snapshot.running.iter().filter_map(|transfer| transfer.at.as_deref()) {
            *taken.entry(at).or_default() += 1;
        }
        let slots: HashMap<&str, usize> =
            snapshot.executors.iter().map(|executor| (executor.name.as_str(), slots_of(executor.slots))).collect();
        let mut waiting: Vec<_> = snapshot.waiting.iter().collect();
        waiting.sort_by_key(|transfer| (Reverse(transfer.priority), transfer.id));
        let mut decisions = Vec::new();
        for transfer in waiting {
            // Those that any executor may run take a slot that nobody has named yet.
            if taken_in_all >= all {
                break;
            }
            let place = match transfer.at.as_deref() {
                None => format!("slot {} of {all}", taken_in_all + 1),
                Some(at) => {
                    let (slots, taken) = (slots.get(at).copied().unwrap_or(0), taken.entry(at).or_default());
                    if *taken >= slots {
                        continue;
                    }
                    *taken += 1;
                    let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
                    format!("slot {taken} of {slots}{at}")
                }
            };
            taken_in_all += 1;
            let reason = format!("{place}; first in line with priority {}", transfer.priority);
            decisions.push(Decision { id: transfer.id, reason });
        }
        decisions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Executor, Link, Running, Waiting, conformance};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn snapshot(priorities: &[u8], running: usize) -> Snapshot {
        let waiting = priorities.iter().enumerate().map(|(index, priority)| Waiting {
            id: Uuid::from_u128(1000 + index as u128),
            priority: *priority,
            owner: "o".into(),
            submitted_ms: index as u64,
            link: Link::default(),
            at: (index % 2 == 0).then(String::new),
        });
        let running = (0..running).map(|index| Running {
            id: Uuid::from_u128(index as u128),
            priority: 5,
            owner: "o".into(),
            link: Link::default(),
            at: (index % 3 == 0).then(String::new),
        });
        let executors = vec![Executor::default()];
        Snapshot { waiting: waiting.collect(), running: running.collect(), executors, ..Snapshot::default() }
    }

    proptest! {
        #[test]
        fn fills_the_slots_and_never_more(
            priorities in prop::collection::vec(0u8..=9, 0..40), running in 0usize..10, slots in 0usize..12,
        ) {
            let snapshot = snapshot(&priorities, running);
            let decisions = Slots::new(slots).decide(&snapshot);
            prop_assert_eq!(decisions.len(), slots.saturating_sub(running).min(priorities.len()));
            // Nobody who stays behind should have gone before anybody who was chosen.
            let rank = |transfer: &&Waiting| (9 - transfer.priority, transfer.id);
            let chosen = |transfer: &&Waiting| decisions.iter().any(|decision| decision.id == transfer.id);
            let worst = snapshot.waiting.iter().filter(chosen).map(|transfer| rank(&transfer)).max();
            let best_left =
                snapshot.waiting.iter().filter(|transfer| !chosen(transfer)).map(|transfer| rank(&transfer)).min();
            if let (Some(worst), Some(best_left)) = (worst, best_left) {
                prop_assert!(worst < best_left);
            }
        }
    }

    #[test]
    fn conforms() {
        for slots in [1, 2, 7, 5000] {
            conformance::check(&Slots::new(slots), 0x51075 + slots as u64);
        }
    }

    #[test]
    fn first_come_first_served_within_a_priority() {
        let ids = |decisions: Vec<Decision>| decisions.iter().map(|one| one.id.as_u128() - 1000).collect::<Vec<_>>();
        assert_eq!(ids(Slots::new(4).decide(&snapshot(&[5, 9, 5, 0, 9], 0))), [1, 4, 0, 2]);
        assert_eq!(ids(Slots::new(4).decide(&snapshot(&[5, 9, 5, 0, 9], 3))), [1]);
        assert!(Slots::new(0).decide(&snapshot(&[5], 0)).is_empty());
    }

    #[test]
    fn who_waits_for_a_busy_executor_lets_others_pass() {
        let executors = ["a", "b"].map(|name| Executor { name: name.into(), slots: Some(1) }).into();
        let mut snapshot = Snapshot { executors, ..snapshot(&[9, 9, 5, 5, 0], 0) };
        for (transfer, at) in snapshot.waiting.iter_mut().zip([Some("a"), Some("a"), Some("b"), None, Some("b")]) {
            transfer.at = at.map(str::to_owned);
        }
        let started = |snapshot: &Snapshot| {
            let decisions = Slots::new(7).decide(snapshot);
            decisions.iter().map(|one| (one.id.as_u128() - 1000, one.reason.clone())).collect::<Vec<_>>()
        };
        let reason = |at, priority| format!("slot 1 of 1 at {at}; first in line with priority {priority}");
        assert_eq!(started(&snapshot), [(0, reason("a", 9)), (2, reason("b", 5))]);
        // One that any executor may run takes the last free slot, whose ever it is.
        let (id, owner, link) = (Uuid::from_u128(1), "o".into(), Link::default());
        snapshot.running.push(Running { id, priority: 5, owner, link, at: Some("a".into()) });
        snapshot.waiting.remove(2);
        assert_eq!(started(&snapshot), [(3, "slot 2 of 2; first in line with priority 5".to_owned())]);
    }
}
