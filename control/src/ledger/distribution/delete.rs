//! Forgetting a distribution, and its members with it.

use crate::{
    model::{Action, TransferId, distribution::DistributionRecord},
    store::Write,
};

use crate::ledger::{Ledger, LedgerError, Scope, change::POISON, keys};

impl Ledger {
    /// Forgets a distribution: its members are deleted as transfers are, those that run being canceled first, and it is
    /// gone once all of them are, or will be as soon as they are released. What is committed at a destination stays.
    pub async fn delete_distribution(&self, id: TransferId, scope: &Scope) -> Result<(), LedgerError> {
        self.change_distribution(id, scope, |record, _| {
            record.ask(Action::Delete);
            Ok(((), Vec::new()))
        })
        .await?;
        self.keep_soon(id);
        Ok(())
    }

    /// Deletes all members, and then the distribution.
    pub(super) async fn forget_distribution(&self, id: TransferId) -> Result<(), LedgerError> {
        let plans = self.plans(id).await?.into_iter().map(|(key, ..)| Write::Delete(key)).collect::<Vec<_>>();
        if !plans.is_empty() {
            self.write(plans).await?;
            self.distribution(id, &Scope::All, |known| known.pending = 0)?;
        }
        self.tell(id, Action::Delete, "").await?;
        if !self.members(id).await?.is_empty() {
            // Some cannot be read; they are left to a version that can.
            tracing::warn!(distribution = %id, "a distribution cannot be deleted before its members can");
            return Ok(());
        }
        let record: DistributionRecord = self.distribution(id, &Scope::All, |known| known.record.clone())?;
        let mut writes = vec![
            Write::Delete(keys::distribution(id)),
            Write::Delete(keys::secrets(id)),
            Write::Delete(keys::seeds(id)),
        ];
        writes.extend(record.idempotency_digest.map(|digest| Write::Delete(keys::idempotency(&digest))));
        self.write(writes).await?;
        self.inner.distributions.lock().expect(POISON).remove(&id);
        self.inner.swarms.lock().expect(POISON).forget(id);
        Ok(())
    }
}
