//! Distributions: groups of transfers that send one object to many hosts.
//!
//! A distribution is stored as a record, and as *plans*: keys that list hosts which are to become members, some at a
//! time. Both are committed together, and so acknowledged; then each plan turns into its members in one commit that
//! also removes the plan. So after a kill there is either nothing, or a distribution that [`Ledger::keep`] completes.
//! A host whose destination is busy becomes a member that has failed, and stops none of the others.
//!
//! What a client asks of the whole (cancel, pause, resume, delete) is recorded, and then done to one member after the
//! other, which are transfers like all others. Whoever did part of it and died is followed by somebody who does the
//! rest: doing it twice is harmless.
//!
//! Records and what members come to (see [`Rollup`]) are in memory, so that looking at a distribution reads nothing;
//! the latter follows from the members' records, and is told of each of their changes.

mod action;
mod add;
mod create;
mod delete;
mod keep;
mod make;
mod query;
mod remove;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{
        Problem, ProblemCode, State, TransferId, TransferRecord,
        distribution::{DistributionDocument, DistributionRecord, Figures, RECORD_VERSION, Rollup, Target},
    },
    store::{Revision, Write},
};

use super::{Ledger, LedgerError, Scope, change::POISON, index, keys};

pub use create::{Distributed, DistributionKey};
pub use query::{MemberPage, MembersQuery};

/// Most distributions that there are at a time: what is known of each is in memory.
pub const DISTRIBUTIONS_MAX: usize = 10_000;
/// Keys that are read in one go.
const PAGE: usize = 1024;
/// Most bytes of a plan, unless a single host has more.
const PLAN_BYTES_MAX: usize = 3 << 10;

/// All distributions, in the order of their ids.
pub(crate) type Distributions = BTreeMap<TransferId, Distribution>;

/// What is in memory of a distribution.
pub(crate) struct Distribution {
    record: DistributionRecord,
    rollup: Rollup,
    /// Hosts that are to become members.
    pending: u64,
    /// One change of the record at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// One at a time who adds hosts: nobody becomes a member twice.
    adding: Arc<tokio::sync::Mutex<()>>,
    /// One at a time who does what is to be done.
    keeping: Arc<tokio::sync::Mutex<()>>,
}

impl Distribution {
    fn new(record: DistributionRecord, pending: u64) -> Self {
        let (turn, adding, keeping) = Default::default();
        Self { record, rollup: Rollup::default(), pending, turn, adding, keeping }
    }

    fn state(&self) -> State {
        self.record.state(&self.rollup, self.pending)
    }

    fn document(&self, own_host: &str) -> DistributionDocument {
        self.record.document(&self.rollup, self.pending, own_host)
    }
}

/// Takes in that a transfer has changed, if it is or was a member.
pub(crate) fn follow(known: &mut Distributions, before: Option<&TransferRecord>, after: Option<&TransferRecord>) {
    let Some(id) = before.or(after).map(|record| record.id) else { return };
    let (before, after) = (before.and_then(Figures::of), after.and_then(Figures::of));
    let member = before.as_ref().or(after.as_ref()).map(|(distribution, _)| *distribution);
    let Some(known) = member.and_then(|distribution| known.get_mut(&distribution)) else { return };
    known.rollup.follow(id, before.as_ref().map(|(_, figures)| figures), after.map(|(_, figures)| figures));
}

impl Ledger {
    /// Reads what is stored of distributions; what was not done before the end of the process before is done by
    /// [`Ledger::run`].
    pub(super) async fn load_distributions(&self) -> Result<(), LedgerError> {
        let (start, end) = (keys::DISTRIBUTIONS, keys::end_of(keys::DISTRIBUTIONS));
        for (key, value) in self.inner.store.range(start, &end, usize::MAX, false).await? {
            let read = decode(&key, &value.value).map(Some);
            if let Some(record) = self.skip_unreadable(read, None)? {
                let mut known = self.inner.distributions.lock().expect(POISON);
                known.insert(record.id, Distribution::new(record, 0));
            }
        }
        self.load_pages(keys::PLANS, |known, key, value| {
            let (Some(of), Ok(targets)) = (keys::distribution_of_plan(key), read_plan(key, value)) else { return };
            if let Some(known) = known.get_mut(&of) {
                known.pending += targets.len() as u64;
            }
        })
        .await?;
        self.load_pages(keys::MEMBERS, |known, key, value| {
            let (of, id) = (keys::distribution_of_member(key), keys::trailing_id(key));
            let (Some(of), Some(id), Some(figures)) = (of, id, index::figures_of(value)) else { return };
            if let Some(known) = known.get_mut(&of) {
                known.rollup.follow(id, None, Some(figures));
            }
        })
        .await
    }

    async fn load_pages(
        &self,
        prefix: &[u8],
        mut take_in: impl FnMut(&mut Distributions, &[u8], &[u8]),
    ) -> Result<(), LedgerError> {
        let (mut start, end) = (prefix.to_vec(), keys::end_of(prefix));
        loop {
            let page = self.inner.store.range(&start, &end, PAGE, false).await?;
            let mut known = self.inner.distributions.lock().expect(POISON);
            for (key, value) in &page {
                take_in(&mut known, key, &value.value);
            }
            drop(known);
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return Ok(()) };
            start.clone_from(last);
            start.push(0);
        }
    }

    /// What is known of a distribution that this scope sees.
    fn distribution<T>(
        &self,
        id: TransferId,
        scope: &Scope,
        look: impl FnOnce(&mut Distribution) -> T,
    ) -> Result<T, LedgerError> {
        let mut known = self.inner.distributions.lock().expect(POISON);
        let found = known.get_mut(&id).filter(|found| scope.sees(found.record.owner()));
        found.map(look).ok_or_else(|| no_distribution(id))
    }

    /// Lets `decide` change a record in its turn, and commits it with further writes. Nothing is written when nothing
    /// changed.
    async fn change_distribution<T>(
        &self,
        id: TransferId,
        scope: &Scope,
        decide: impl FnOnce(&mut DistributionRecord, &Distribution) -> Result<(T, Vec<Write>), LedgerError>,
    ) -> Result<T, LedgerError> {
        let turn = self.distribution(id, scope, |known| known.turn.clone())?;
        let _turn = turn.lock().await;
        let (before, decided, record) = self.distribution(id, scope, |known| {
            let mut record = known.record.clone();
            let decided = decide(&mut record, known);
            (known.record.clone(), decided, record)
        })?;
        let (decided, mut writes) = decided?;
        if record != before || !writes.is_empty() {
            writes.push(Write::Put(keys::distribution(id), encode(&record)));
            self.write(writes).await?;
            // Who deleted it meanwhile wins.
            let _ = self.distribution(id, &Scope::All, |known| known.record = record);
        }
        Ok(decided)
    }

    /// Its plans, with their keys and the commits that wrote them.
    async fn plans(&self, id: TransferId) -> Result<Vec<(Vec<u8>, Revision, Vec<Target>)>, LedgerError> {
        let prefix = keys::plans_of(id);
        let found = self.inner.store.range(&prefix, &keys::end_of(&prefix), usize::MAX, false).await?;
        let read = |(key, record): (Vec<u8>, crate::store::Record)| {
            let targets = read_plan(&key, &record.value)?;
            Ok((key, record.revision, targets))
        };
        found.into_iter().map(read).collect()
    }

    /// Its members, with what counts of them, in the order of their ids.
    async fn members(&self, id: TransferId) -> Result<Vec<(TransferId, Figures)>, LedgerError> {
        let prefix = keys::members_of(id);
        let found = self.inner.store.range(&prefix, &keys::end_of(&prefix), usize::MAX, false).await?;
        let read = |(key, value): &(Vec<u8>, crate::store::Record)| {
            Some((keys::trailing_id(key)?, index::figures_of(&value.value)?))
        };
        Ok(found.iter().filter_map(read).collect())
    }
}

fn no_distribution(id: TransferId) -> LedgerError {
    Problem::new(ProblemCode::DistributionNotFound, format!("there is no distribution {id}")).into()
}

fn encode(record: &DistributionRecord) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record is strings and numbers")
}

fn decode(key: &[u8], value: &[u8]) -> Result<DistributionRecord, LedgerError> {
    let mut record: DistributionRecord =
        serde_json::from_slice(value).map_err(|error| LedgerError::unreadable(key, error))?;
    record.id = keys::trailing_id(key).ok_or_else(|| LedgerError::unreadable(key, "no id at its end"))?;
    if record.version > RECORD_VERSION {
        return Err(LedgerError::unreadable(key, format!("its version {} is of a newer Staccato", record.version)));
    }
    Ok(record)
}

fn read_plan(key: &[u8], value: &[u8]) -> Result<Vec<Target>, LedgerError> {
    serde_json::from_slice(value).map_err(|error| LedgerError::unreadable(key, error))
}

/// The writes that plan these hosts, in keys from `first` on.
fn plan_writes(id: TransferId, first: u64, targets: &[Target]) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut number = first;
    let mut rest = targets;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|target| {
            bytes += target.host.len() + target.url.as_str().len() + r#"{"h":"","u":""},"#.len();
            bytes <= PLAN_BYTES_MAX
        });
        let (plan, others) = rest.split_at(fit.count().max(1));
        let value = serde_json::to_vec(plan).expect("a plan is strings");
        writes.push(Write::Put(keys::plan(id, number), value));
        number += 1;
        rest = others;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Timestamp, store::contract::COMMIT_WRITES_MAX};
    use staccato_protocols::ObjectUrl;

    #[test]
    fn plans_hold_every_host_once_and_fit_into_one_commit() {
        let id = TransferId::following(None, Timestamp::from_millis(1), 1);
        let url = |number: usize| format!("file://host-{number}/{}", "x".repeat(if number == 5 { 2_000 } else { 60 }));
        let targets: Vec<Target> = (0..crate::model::distribution::MEMBERS_MAX)
            .map(|number| Target {
                host: format!("host-{number}"),
                url: ObjectUrl::parse(&url(number)).expect("a URL"),
            })
            .collect();
        let writes = plan_writes(id, 7, &targets);
        assert!(writes.len() < COMMIT_WRITES_MAX / 2, "{}", writes.len());
        let mut found = Vec::new();
        for (number, write) in writes.iter().enumerate() {
            let Write::Put(key, value) = write else { panic!("a plan is put") };
            assert_eq!(*key, keys::plan(id, 7 + number as u64));
            assert!(value.len() <= 4 << 10, "{} bytes", value.len());
            assert_eq!(keys::distribution_of_plan(key), Some(id));
            found.extend(read_plan(key, value).unwrap());
        }
        assert_eq!(found, targets);
    }
}
