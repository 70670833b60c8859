//! N at a time, first come first served within a priority.

use crate::{Decision, Plugin, Snapshot};

/// Runs at most a fixed number of transfers at a time. Higher priorities go first; within one, whoever was submitted
/// first. A transfer that runs is never stopped for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: usize,
}

impl Slots {
    /// A policy with this many slots; with none, nothing is ever started.
    pub fn new(slots: usize) -> Self {
        Self { slots }
    }
}

impl Plugin for Slots {
    fn name(&self) -> &'static str {
        "slots"
    }

    fn decide(&self, snapshot: &Snapshot) -> Vec<Decision> {
        let taken = snapshot.running.len();
        let free = self.slots.saturating_sub(taken);
        if free == 0 {
            return Vec::new();
        }
        let mut waiting: Vec<_> = snapshot.waiting.iter().collect();
        waiting.sort_by_key(|transfer| (std::cmp::Reverse(transfer.priority), transfer.id));
        waiting
            .iter()
            .take(free)
            .enumerate()
            .map(|(index, transfer)| Decision {
                id: transfer.id,
                reason: format!(
                    "slot {} of {}; first in line with priority {}",
                    taken + index + 1,
                    self.slots,
                    transfer.priority
                ),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Link, Running, Waiting, conformance};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn snapshot(priorities: &[u8], running: usize) -> Snapshot {
        let waiting = priorities.iter().enumerate().map(|(index, priority)| Waiting {
            id: Uuid::from_u128(1000 + index as u128),
            priority: *priority,
            owner: "o".into(),
            submitted_ms: index as u64,
            link: Link::default(),
        });
        let running = (0..running).map(|index| Running {
            id: Uuid::from_u128(index as u128),
            priority: 5,
            owner: "o".into(),
            link: Link::default(),
        });
        Snapshot { waiting: waiting.collect(), running: running.collect(), ..Snapshot::default() }
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
}
