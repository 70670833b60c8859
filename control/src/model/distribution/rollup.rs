//! What the members of a distribution come to together. Pure: it is told of every change of a member, and never looks
//! at all of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{State, TransferId, TransferRecord};

/// What counts of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Where it stands.
    pub state: State,
    /// The host it is for; the service's own has no name here.
    pub host: String,
    /// Bytes that survive a power cut at its host.
    pub progress: u64,
    /// Length of the object, where the member knows it.
    pub bytes_total: Option<u64>,
    /// Bytes that it has read from the source.
    pub bytes_fetched: u64,
    /// Bytes that it has read from other members.
    pub bytes_from_peers: u64,
    /// Its bytes per second.
    pub throughput: Option<u64>,
}

impl Figures {
    /// The distribution that a transfer is a member of, and what counts of it there; nothing for other transfers, and for
    /// members that are being deleted.
    pub fn of(record: &TransferRecord) -> Option<(TransferId, Self)> {
        let distribution = record.distribution.filter(|_| !record.delete_asked)?;
        let figures = Self {
            state: record.state,
            host: record.destination_host.clone(),
            progress: record.progress,
            bytes_total: record.bytes_total,
            bytes_fetched: record.bytes_fetched(),
            bytes_from_peers: record.bytes_from_peers,
            throughput: record.throughput,
        };
        Some((distribution, figures))
    }

    /// Seconds until it is complete, at its throughput.
    fn eta(&self) -> Option<u64> {
        let left = self.bytes_total?.saturating_sub(self.progress);
        self.throughput.filter(|rate| *rate > 0).map(|rate| left.div_ceil(rate))
    }
}

/// Sums over members. Changes may be told in any order: each takes back what the one before it has added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    hosts: [u64; State::ALL.len()],
    progress: [u64; State::ALL.len()],
    bytes_fetched: u64,
    bytes_from_peers: u64,
    /// How long the object is, and how many members know that.
    bytes_total: (u64, u64),
    running: BTreeMap<TransferId, Figures>,
}

/// How many hosts of a distribution are how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DistributionHosts)]
pub struct HostCounts {
    /// All hosts.
    pub total: u64,
    /// Those that have the object.
    pub done: u64,
    /// Those that have failed for good.
    pub failed: u64,
    /// Those whose executor is at it.
    pub running: u64,
    /// Those that wait for their turn, or for the next attempt.
    pub waiting: u64,
    /// Those that wait for a client to resume them.
    pub paused: u64,
    /// Those that were canceled.
    pub canceled: u64,
}

impl Rollup {
    /// Takes in that a member has changed: nothing before it was made, nothing after it is gone.
    pub fn follow(&mut self, id: TransferId, before: Option<&Figures>, after: Option<Figures>) {
        if let Some(before) = before {
            let at = before.state as usize;
            self.hosts[at] = self.hosts[at].wrapping_sub(1);
            self.progress[at] = self.progress[at].wrapping_sub(before.progress);
            self.bytes_fetched = self.bytes_fetched.wrapping_sub(before.bytes_fetched);
            self.bytes_from_peers = self.bytes_from_peers.wrapping_sub(before.bytes_from_peers);
            if before.bytes_total.is_some() {
                self.bytes_total.1 = self.bytes_total.1.wrapping_sub(1);
            }
            if before.state == State::Running {
                self.running.remove(&id);
            }
        }
        if let Some(after) = after {
            let at = after.state as usize;
            self.hosts[at] = self.hosts[at].wrapping_add(1);
            self.progress[at] = self.progress[at].wrapping_add(after.progress);
            self.bytes_fetched = self.bytes_fetched.wrapping_add(after.bytes_fetched);
            self.bytes_from_peers = self.bytes_from_peers.wrapping_add(after.bytes_from_peers);
            if let Some(bytes) = after.bytes_total {
                self.bytes_total = (bytes, self.bytes_total.1.wrapping_add(1));
            }
            if after.state == State::Running {
                self.running.insert(id, after);
            }
        }
    }

    /// Hosts in this state.
    pub fn of(&self, state: State) -> u64 {
        self.hosts[state as usize]
    }

    fn sum(&self, states: &[State]) -> u64 {
        states.iter().fold(0, |sum: u64, state| sum.saturating_add(self.of(*state)))
    }

    /// All hosts.
    pub fn total(&self) -> u64 {
        self.sum(&State::ALL)
    }

    /// Hosts of which more is to come without a client's doing, or that are paused.
    pub fn unended(&self) -> u64 {
        State::ALL
            .into_iter()
            .filter(|state| !state.is_ended())
            .map(|state| self.of(state))
            .fold(0, u64::saturating_add)
    }

    /// Hosts that failed for good, or are about to.
    pub fn failed(&self) -> u64 {
        self.sum(&[State::Error, State::Erroring])
    }

    /// How many hosts are how far, with those that are still to become members.
    pub fn counts(&self, pending: u64) -> HostCounts {
        HostCounts {
            total: self.total() + pending,
            done: self.of(State::Complete),
            failed: self.failed(),
            running: self.of(State::Running),
            waiting: self.sum(&[State::New, State::Ready]) + pending,
            paused: self.of(State::Paused),
            canceled: self.sum(&[State::Canceled, State::Canceling]),
        }
    }

    /// Length of the object, once a member knows it.
    pub fn bytes_total(&self) -> Option<u64> {
        (self.bytes_total.1 > 0).then_some(self.bytes_total.0)
    }

    /// Bytes that survive a power cut, at all hosts together.
    pub fn progress(&self) -> u64 {
        self.progress.iter().fold(0, |sum, progress| sum.wrapping_add(*progress))
    }

    /// Bytes that members have read from the source.
    pub fn bytes_from_source(&self) -> u64 {
        self.bytes_fetched.saturating_sub(self.bytes_from_peers)
    }

    /// Bytes that members have read from one another.
    pub fn bytes_between_peers(&self) -> u64 {
        self.bytes_from_peers
    }

    /// Bytes per second of all members together; nothing while none tells.
    pub fn throughput(&self) -> Option<u64> {
        self.running.values().filter_map(|figures| figures.throughput).reduce(u64::saturating_add)
    }

    /// The running member that will be complete last, as far as they tell; while none does, the one with the least bytes.
    pub fn slowest(&self) -> Option<(TransferId, &Figures, Option<u64>)> {
        let told = self.running.iter().map(|(id, figures)| (*id, figures, figures.eta()));
        told.max_by_key(|(id, figures, eta)| (*eta, std::cmp::Reverse((figures.progress, *id))))
    }

    /// Seconds until all hosts that are neither canceled nor failed have the object: as long as the slowest takes, and as
    /// all that is missing takes at the throughput of all.
    pub fn eta(&self, pending: u64) -> Option<u64> {
        let slowest = self.slowest().and_then(|(_, _, eta)| eta)?;
        let lacking: Vec<State> = State::ALL.into_iter().filter(|state| !state.is_ended()).collect();
        let progress = lacking.iter().fold(0, |sum: u64, state| sum.wrapping_add(self.progress[*state as usize]));
        let whole = self.bytes_total()?.saturating_mul(self.sum(&lacking) + pending);
        let together = whole.saturating_sub(progress).div_ceil(self.throughput()?.max(1));
        Some(slowest.max(together))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn figures(state: State, progress: u64, throughput: Option<u64>) -> Figures {
        Figures {
            state,
            host: "h".into(),
            progress,
            bytes_total: Some(100),
            bytes_fetched: progress,
            bytes_from_peers: 1,
            throughput,
        }
    }

    fn id(number: u64) -> TransferId {
        TransferId::following(None, Timestamp::from_millis(number), 0)
    }

    #[test]
    fn sums_are_those_of_the_members_in_whatever_order_they_are_told() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut changes = Vec::new();
        let mut members: BTreeMap<TransferId, Figures> = BTreeMap::new();
        for _ in 0..2_000 {
            let id = id(random.u64(..40));
            let before = members.get(&id).cloned();
            let state = State::ALL[random.usize(..State::ALL.len())];
            let after = random.bool().then(|| figures(state, random.u64(..=100), None));
            match &after {
                Some(after) => drop(members.insert(id, after.clone())),
                None => drop(members.remove(&id)),
            }
            changes.push((id, before, after));
        }
        let mut told = Rollup::default();
        for (id, before, after) in &changes {
            told.follow(*id, before.as_ref(), after.clone());
        }
        let mut anew = Rollup::default();
        for (id, figures) in &members {
            anew.follow(*id, None, Some(figures.clone()));
        }
        let sums = |rollup: &Rollup| (rollup.hosts, rollup.progress, rollup.bytes_fetched, rollup.bytes_from_peers);
        assert_eq!((sums(&told), &told.running), (sums(&anew), &anew.running));
        // Two transfers have no order between them.
        random.shuffle(&mut changes);
        let mut shuffled = Rollup::default();
        for (id, before, after) in &changes {
            shuffled.follow(*id, before.as_ref(), after.clone());
        }
        assert_eq!(sums(&shuffled), sums(&anew));
    }

    #[test]
    fn hosts_are_counted_by_what_operators_ask_for() {
        let mut rollup = Rollup::default();
        for (number, state) in State::ALL.into_iter().enumerate() {
            rollup.follow(id(number as u64), None, Some(figures(state, 10, None)));
        }
        let counts = HostCounts { total: 12, done: 1, failed: 2, running: 1, waiting: 5, paused: 1, canceled: 2 };
        assert_eq!(rollup.counts(3), counts);
        assert_eq!((rollup.total(), rollup.unended(), rollup.progress()), (9, 6, 90));
        assert_eq!((rollup.bytes_from_source(), rollup.bytes_between_peers()), (81, 9));
    }

    #[test]
    fn the_end_is_that_of_the_slowest_or_of_what_still_waits() {
        let mut rollup = Rollup::default();
        assert_eq!((rollup.slowest(), rollup.eta(0)), (None, None));
        rollup.follow(id(1), None, Some(figures(State::Running, 50, Some(10))));
        rollup.follow(id(2), None, Some(figures(State::Running, 80, None)));
        rollup.follow(id(3), None, Some(figures(State::Running, 10, Some(30))));
        rollup.follow(id(4), None, Some(figures(State::Complete, 100, Some(1))));
        let (slowest, _, eta) = rollup.slowest().unwrap();
        assert_eq!((slowest, eta), (id(1), Some(5)));
        assert_eq!((rollup.throughput(), rollup.eta(0)), (Some(40), Some(5)));
        // Ten more hosts: 1,160 bytes at 40 a second.
        assert_eq!(rollup.eta(10), Some(29));
    }
}
