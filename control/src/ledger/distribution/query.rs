//! Looking at distributions.

use std::{ops::Bound, time::Duration};

use crate::{
    model::{
        State, TransferId, TransferRecord,
        distribution::{Candidate, DistributionDocument, MemberDocument, UploadLimits},
        host::{Announcement, HostName},
    },
    store::Record,
};

use super::{Distribution, PAGE};
use crate::ledger::{
    Ledger, LedgerError, Scope,
    change::{POISON, decode_record},
    index, keys,
};

/// How long copies are offered that nobody may want any more: a host may be added.
const KEPT: Duration = Duration::from_secs(60);

/// Which members to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersQuery {
    /// Whose.
    pub scope: Scope,
    /// Of which distribution.
    pub distribution: TransferId,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those behind this one.
    pub marker: Option<TransferId>,
    /// At most so many; at least 1.
    pub limit: usize,
}

/// A page of members in the order of their transfers' ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPage {
    /// The members.
    pub members: Vec<MemberDocument>,
    /// The marker of the next page; none when this is the last one.
    pub next: Option<TransferId>,
}

impl Ledger {
    /// How many hosts a distribution is for, and how many thousandths of its source may be read.
    pub(crate) fn extent_of(&self, id: TransferId) -> Option<(usize, u32)> {
        let extent = |known: &mut Distribution| {
            let hosts = known.rollup.total() + known.pending;
            (usize::try_from(hosts).unwrap_or(usize::MAX), known.record.source_budget.milli())
        };
        self.distribution(id, &Scope::All, extent).ok()
    }

    /// Bytes per chunk that were asked for.
    pub(crate) fn chunk_size_of(&self, id: TransferId) -> Option<u64> {
        self.distribution(id, &Scope::All, |known| known.record.pattern.chunk_size).ok()?
    }

    /// What copies of its object are called, whether they are kept while it is there, and how fast they may be sent.
    pub(crate) fn copies_of(&self, id: TransferId) -> Option<(String, bool, UploadLimits)> {
        let copies = |known: &mut Distribution| {
            let record = &known.record;
            let content = if record.content.is_empty() { id.to_string() } else { record.content.clone() };
            (content, record.preheat, record.uploads)
        };
        self.distribution(id, &Scope::All, copies).ok()
    }

    /// Whether copies that were made for a distribution are still shown: members of it, or of another one of the same
    /// object, may want something of them.
    pub(crate) fn is_wanted(&self, id: TransferId) -> bool {
        let now = self.inner.environment.now();
        let known = self.inner.distributions.lock().expect(POISON);
        let Some(own) = known.get(&id) else { return false };
        let runs = |one: &Distribution| one.record.finished_at.is_none_or(|finished| now.since(finished) <= KEPT);
        own.record.preheat
            || runs(own)
            || known.values().any(|other| other.record.content == own.record.content && runs(other))
    }

    /// The hosts that a distribution may go to: those whose executor has ever joined, in the order of their names.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let (now, patience) = (self.inner.environment.monotonic(), self.inner.config.lease);
        let fleet = self.inner.fleet.lock().expect(POISON);
        let candidate = |name: &HostName, announced: &Announcement, is_up| Candidate {
            name: name.clone(),
            labels: announced.labels.clone(),
            rack: announced.rack.clone(),
            is_up,
        };
        let others = fleet.hosts().filter(|host| !host.record.announced.version.is_empty()).map(|host| {
            let is_up = host.live().is_some_and(|live| now < live.heard + patience);
            candidate(&host.record.name, &host.record.announced, is_up)
        });
        let config = &self.inner.config;
        let nothing = Announcement::default();
        let announced = fleet.own().map_or(&nothing, |live| &live.announced);
        // The service's own comes back within a second.
        let own = config.own_executor.then(|| candidate(&config.own_host, announced, true));
        others.chain(own).collect()
    }

    /// A distribution; `distribution_not_found` also when it is somebody else's.
    pub fn distribution_document(&self, id: TransferId, scope: &Scope) -> Result<DistributionDocument, LedgerError> {
        self.distribution(id, scope, |known| self.show(id, known))
    }

    fn show(&self, id: TransferId, known: &Distribution) -> DistributionDocument {
        let document = known.document(self.inner.config.own_host.as_str());
        let source_exhausted = !document.state.is_ended() && self.is_source_exhausted(id);
        DistributionDocument { source_exhausted, ..document }
    }

    /// At most `limit` distributions behind `marker`, in the order of their creation, and the marker of the next page.
    pub fn distribution_documents(
        &self,
        scope: &Scope,
        marker: Option<TransferId>,
        limit: usize,
    ) -> (Vec<DistributionDocument>, Option<TransferId>) {
        let known = self.inner.distributions.lock().expect(POISON);
        let from = marker.map_or(Bound::Unbounded, Bound::Excluded);
        let mut visible = known.range((from, Bound::Unbounded)).filter(|(_, one)| scope.sees(one.record.owner()));
        let page: Vec<_> = visible.by_ref().take(limit).collect();
        let next = visible.next().and(page.last()).map(|(id, _)| **id);
        (page.into_iter().map(|(id, one)| self.show(*id, one)).collect(), next)
    }

    /// A page of members. One that changes its state meanwhile may be missing from a page of one state.
    pub async fn distribution_members(&self, query: &MembersQuery) -> Result<MemberPage, LedgerError> {
        self.distribution(query.distribution, &query.scope, |_| ())?;
        let (ids, next) = self.member_ids(query).await?;
        let records = self.load_each(ids).await?;
        let wanted = |record: &&TransferRecord| query.state.is_none_or(|state| record.state == state);
        let own_host = self.inner.config.own_host.as_str();
        let members = records.iter().filter(wanted).map(|record| MemberDocument::of(record, own_host)).collect();
        Ok(MemberPage { members, next })
    }

    /// The ids of a page of members.
    pub(crate) async fn member_ids(
        &self,
        query: &MembersQuery,
    ) -> Result<(Vec<TransferId>, Option<TransferId>), LedgerError> {
        let prefix = keys::members_of(query.distribution);
        let mut start = prefix.clone();
        if let Some(marker) = query.marker {
            start = keys::with_id(&prefix, marker);
            start.push(0);
        }
        let limit = query.limit.max(1);
        let mut ids: Vec<TransferId> = Vec::new();
        loop {
            let page = self.inner.store.range(&start, &keys::end_of(&prefix), PAGE, false).await?;
            let is_wanted = |value: &Record| {
                query
                    .state
                    .is_none_or(|state| index::figures_of(&value.value).is_some_and(|figures| figures.state == state))
            };
            for (key, _) in page.iter().filter(|(_, value)| is_wanted(value)) {
                let Some(id) = keys::trailing_id(key) else { continue };
                if ids.len() == limit {
                    let last = ids.last().copied();
                    return Ok((ids, last));
                }
                ids.push(id);
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return Ok((ids, None)) };
            start.clone_from(last);
            start.push(0);
        }
    }

    /// The records of these transfers, as far as they are still there and can be read.
    pub(crate) async fn load_each(&self, ids: Vec<TransferId>) -> Result<Vec<TransferRecord>, LedgerError> {
        let keys: Vec<Vec<u8>> = ids.into_iter().map(keys::transfer).collect();
        let found = self.inner.store.get_each(keys.clone()).await?;
        let mut records = Vec::with_capacity(keys.len());
        for (key, found) in keys.iter().zip(found) {
            let Some(found) = found else { continue };
            records.extend(self.skip_unreadable(decode_record(key, &found.value).map(Some), None)?);
        }
        Ok(records)
    }
}
