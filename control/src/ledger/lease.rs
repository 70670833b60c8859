//! Leases and the line of ready transfers: what the ledger keeps in memory, rebuilt from the records at start. Pure:
//! time is an argument, a duration on the process's monotonic clock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use staccato_dataplane::attempt::StopReason;

use crate::model::{State, TransferId, TransferRecord};

/// Who holds what until when, and what is ready to be taken.
#[derive(Debug, Default)]
pub struct Leases {
    held: HashMap<TransferId, Lease>,
    /// Ready transfers in the order in which they became ready.
    ready: BTreeMap<u64, Ready>,
    /// The places of those that one host runs, by its name, and of those that any does.
    lines: HashMap<Option<String>, BTreeSet<u64>>,
    ready_at: HashMap<TransferId, u64>,
    next_ready: u64,
}

/// One executor's right to run one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which executor.
    pub executor: String,
    /// Which attempt.
    pub epoch: u64,
    /// When it ends.
    pub expires: Duration,
    /// What the executor is to do.
    pub stop: Option<StopReason>,
    /// It ran out, and is being taken away: too late to renew it.
    ending: bool,
}

#[derive(Debug)]
struct Ready {
    id: TransferId,
    expires: Duration,
    /// The host that runs it; none: any.
    runs_at: Option<String>,
    /// The host whose executor must show its source.
    reads_from: Option<String>,
}

impl Leases {
    /// Follows a record that was just written (or is no more, when `after` is nothing): grants and ends leases, and
    /// puts transfers into the line or takes them out.
    pub fn follow(&mut self, id: TransferId, after: Option<&TransferRecord>, until: Until) {
        match after {
            Some(record) if record.state.is_leased() => {
                let executor = record.executor.clone().unwrap_or_default();
                let stop = match record.state {
                    State::Canceling => Some(StopReason::Cancel),
                    // What an attempt fetched stays for whoever resumes the transfer.
                    State::Erroring => Some(StopReason::Pause),
                    _ if record.pause_asked => Some(StopReason::Pause),
                    _ => None,
                };
                match self.held.get_mut(&id) {
                    Some(lease) if lease.epoch == record.epoch && lease.executor == executor => lease.stop = stop,
                    _ => {
                        let lease = Lease { executor, epoch: record.epoch, expires: until.lease, stop, ending: false };
                        self.held.insert(id, lease);
                    }
                }
            }
            _ => {
                self.held.remove(&id);
            }
        }
        match after.filter(|record| record.state == State::Ready) {
            Some(_) if self.ready_at.contains_key(&id) => {}
            Some(record) => {
                let [runs_at, reads_from] = [record.runs_at(), record.reads_from()].map(|host| host.map(str::to_owned));
                self.lines.entry(runs_at.clone()).or_default().insert(self.next_ready);
                self.ready.insert(self.next_ready, Ready { id, expires: until.ready, runs_at, reads_from });
                self.ready_at.insert(id, self.next_ready);
                self.next_ready += 1;
            }
            None => self.leave_line(id),
        }
    }

    fn leave_line(&mut self, id: TransferId) {
        let Some(place) = self.ready_at.remove(&id) else { return };
        let Some(ready) = self.ready.remove(&place) else { return };
        if let Some(line) = self.lines.get_mut(&ready.runs_at) {
            line.remove(&place);
            if line.is_empty() {
                self.lines.remove(&ready.runs_at);
            }
        }
    }

    /// Ends the lease on a transfer, and takes it out of the line.
    pub fn forget(&mut self, id: TransferId) {
        self.held.remove(&id);
        self.leave_line(id);
    }

    /// The lease on a transfer, unless it is being taken away.
    pub fn get(&self, id: TransferId) -> Option<&Lease> {
        self.held.get(&id).filter(|lease| !lease.ending)
    }

    /// Renews the lease if this executor holds it with this epoch; `false` if not.
    pub fn renew(&mut self, id: TransferId, executor: &str, epoch: u64, expires: Duration) -> bool {
        match self.held.get_mut(&id) {
            Some(lease) if lease.epoch == epoch && lease.executor == executor && !lease.ending => {
                lease.expires = lease.expires.max(expires);
                true
            }
            _ => false,
        }
    }

    /// Leases that have ended, with their epochs.
    pub fn expired(&self, now: Duration) -> Vec<(TransferId, u64)> {
        self.held.iter().filter(|(_, lease)| lease.expires <= now).map(|(id, lease)| (*id, lease.epoch)).collect()
    }

    /// Begins to take away a lease that ran out: from here on it cannot be renewed. `false` when it did not, because a
    /// renewal came in time.
    pub fn end_expired(&mut self, id: TransferId, epoch: u64, now: Duration) -> bool {
        match self.held.get_mut(&id) {
            Some(lease) if lease.epoch == epoch && lease.expires <= now => {
                lease.ending = true;
                true
            }
            _ => false,
        }
    }

    /// What an executor holds, with the epochs.
    pub fn of_executor(&self, executor: &str) -> Vec<(TransferId, u64)> {
        let own = self.held.iter().filter(|(_, lease)| lease.executor == executor);
        own.map(|(id, lease)| (*id, lease.epoch)).collect()
    }

    /// Of the transfers that `host` may run, those that have been ready for longest, at most so many: only such whose
    /// source is not on another host, or on one that shows it now.
    pub fn ready(&self, host: &str, limit: usize, shows: impl Fn(&str) -> bool) -> Vec<TransferId> {
        let mut lines =
            [Some(host.to_owned()), None].map(|line| self.lines.get(&line).into_iter().flatten().copied().peekable());
        let merged = std::iter::from_fn(|| {
            let [own, any] = &mut lines;
            match (own.peek(), any.peek()) {
                (Some(first), Some(second)) if second < first => any.next(),
                (Some(_), _) => own.next(),
                (None, _) => any.next(),
            }
        });
        let shown = |ready: &&Ready| ready.reads_from.as_deref().filter(|from| *from != host).is_none_or(&shows);
        merged.filter_map(|place| self.ready.get(&place)).filter(shown).take(limit).map(|ready| ready.id).collect()
    }

    /// Ready transfers that nobody took in time.
    pub fn unclaimed(&self, now: Duration) -> Vec<TransferId> {
        self.ready.values().take_while(|ready| ready.expires <= now).map(|ready| ready.id).collect()
    }

    /// Leases held.
    pub fn held_count(&self) -> usize {
        self.held.len()
    }
}

/// When what [`Leases::follow`] begins will end.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// A lease.
    pub lease: Duration,
    /// The time in the line.
    pub ready: Duration,
}
