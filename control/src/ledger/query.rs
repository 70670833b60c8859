//! `get` and `list`: what clients may see.

use crate::{
    model::{State, TransferDocument, TransferId, TransferRecord},
    store::Record,
};

use super::{Ledger, LedgerError, MembersQuery, Scope, change::decode_record, keys};

/// Which transfers to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Whose.
    pub scope: Scope,
    /// Only members of this distribution.
    pub distribution: Option<TransferId>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those behind this one.
    pub marker: Option<TransferId>,
    /// At most so many; at least 1.
    pub limit: usize,
}

/// A page of transfers in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The transfers.
    pub transfers: Vec<TransferDocument>,
    /// The marker of the next page; none when this is the last one.
    pub next: Option<TransferId>,
}

impl Ledger {
    /// One transfer; `transfer_not_found` also when it is somebody else's.
    pub async fn get(&self, id: TransferId, scope: &Scope) -> Result<TransferDocument, LedgerError> {
        Ok(self.visible(id, scope).await?.document())
    }

    /// A page of transfers. A transfer that changes its state meanwhile may be missing from a page of one state, never
    /// from a page of all. One that cannot be read is on none; asked for by its id, it says so.
    pub async fn list(&self, query: &ListQuery) -> Result<Page, LedgerError> {
        let limit = query.limit.max(1);
        if let Some(distribution) = query.distribution {
            let ListQuery { scope, state, marker, .. } = query.clone();
            return self.list_members(MembersQuery { scope, distribution, state, marker, limit }).await;
        }
        let prefix = match (&query.scope, query.state) {
            (Scope::All, None) => keys::TRANSFERS.to_vec(),
            (Scope::All, Some(state)) => keys::by_state(state.as_str()),
            (Scope::Owner(owner), None) => keys::by_owner(owner),
            (Scope::Owner(owner), Some(state)) => keys::by_owner_and_state(owner, state.as_str()),
        };
        let start = match query.marker {
            None => prefix.clone(),
            Some(marker) => {
                let mut key = keys::with_id(&prefix, marker);
                key.push(0);
                key
            }
        };
        let mut found = self.inner.store.range(&start, &keys::end_of(&prefix), limit + 1, false).await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let next = if more { found.last().and_then(|(key, _)| keys::trailing_id(key)) } else { None };

        let found = if prefix == keys::TRANSFERS { found } else { self.load_indexed(found).await? };
        let mut transfers = Vec::with_capacity(found.len());
        for (key, value) in found {
            let record = self.skip_unreadable(decode_record(&key, &value.value).map(Some), None)?;
            let wanted = |record: &TransferRecord| query.state.is_none_or(|state| record.state == state);
            transfers.extend(record.filter(wanted).map(|record| record.document()));
        }
        Ok(Page { transfers, next })
    }

    async fn list_members(&self, query: MembersQuery) -> Result<Page, LedgerError> {
        self.distribution_document(query.distribution, &query.scope)?;
        let (ids, next) = self.member_ids(&query).await?;
        let records = self.load_each(ids).await?;
        let wanted = |record: &&TransferRecord| query.state.is_none_or(|state| record.state == state);
        Ok(Page { transfers: records.iter().filter(wanted).map(TransferRecord::document).collect(), next })
    }

    /// The records that entries of an index name, as far as they are still there.
    async fn load_indexed(&self, entries: Vec<(Vec<u8>, Record)>) -> Result<Vec<(Vec<u8>, Record)>, LedgerError> {
        let ids = entries.iter().filter_map(|(key, _)| self.indexed(key));
        let keys: Vec<Vec<u8>> = ids.map(keys::transfer).collect();
        let found = self.inner.store.get_each(keys.clone()).await?;
        Ok(keys.into_iter().zip(found).filter_map(|(key, found)| Some((key, found?))).collect())
    }

    pub(crate) async fn visible(&self, id: TransferId, scope: &Scope) -> Result<TransferRecord, LedgerError> {
        let found = self.load(id).await?.map(|(record, _)| record);
        found.filter(|record| scope.sees(&record.owner)).ok_or_else(|| LedgerError::not_found(id))
    }
}
