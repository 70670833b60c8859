//! A request becomes a distribution.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    model::{
        Problem, ProblemCode, TransferId,
        distribution::{DistributionDocument, DistributionRecord, DistributionRequest, RECORD_VERSION},
    },
    store::{Commit, CommitError, Write},
};

use super::{DISTRIBUTIONS_MAX, Distribution, encode, plan_writes};
use crate::ledger::{Ledger, LedgerError, change::POISON, keys};

/// What came of [`Ledger::distribute`].
#[derive(Clone, Debug, PartialEq)]
pub struct Distributed {
    /// The distribution.
    pub document: DistributionDocument,
    /// Whether it is that of an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// An idempotency key, and the body that came with it, by their digests.
#[derive(Clone, Debug)]
pub struct DistributionKey {
    key: String,
    body: String,
}

/// What an idempotency key stands for.
#[derive(Serialize, Deserialize)]
struct Made {
    id: TransferId,
    body: String,
}

impl Ledger {
    /// An idempotency key of this owner, with the body that it came with: that is what counts, and not which hosts a
    /// selector in it means now.
    pub fn distribution_key(&self, owner: &str, key: &str, body: &Value) -> DistributionKey {
        let seal = &self.inner.seal;
        DistributionKey {
            key: seal.digest("idempotency", &[owner, key, "distribution"]),
            body: seal.digest("body", &[&body.to_string()]),
        }
    }

    /// The distribution that an idempotency key made, if it made one; `idempotency_key_reused` when it came with another
    /// body.
    pub async fn replay_distribution(&self, keyed: &DistributionKey) -> Result<Option<Distributed>, LedgerError> {
        let key = keys::idempotency(&keyed.key);
        let Some(found) = self.inner.store.get(&key).await? else { return Ok(None) };
        let made: Made = serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error))?;
        if made.body != keyed.body {
            let detail = "this key came with another body before; use a new key for a new distribution";
            return Err(Problem::new(ProblemCode::IdempotencyKeyReused, detail).at("Idempotency-Key").into());
        }
        let known = self.inner.distributions.lock().expect(POISON);
        let document = known.get(&made.id).map(|known| known.document(self.inner.config.own_host.as_str()));
        Ok(document.map(|document| Distributed { document, replayed: true }))
    }

    /// Records a new distribution, which is durable when this returns; its members are made at once, but behind this
    /// call's back. A host whose destination is busy becomes a member that has failed.
    pub async fn distribute(
        &self,
        request: &DistributionRequest,
        owner: &str,
        keyed: Option<DistributionKey>,
    ) -> Result<Distributed, LedgerError> {
        loop {
            if let Some(keyed) = &keyed
                && let Some(replayed) = self.replay_distribution(keyed).await?
            {
                return Ok(replayed);
            }
            if let Some(id) = self.record_distribution(request, owner, keyed.as_ref()).await? {
                let known = self.inner.distributions.lock().expect(POISON);
                let found = known.get(&id).ok_or_else(|| super::no_distribution(id))?;
                let document = found.document(self.inner.config.own_host.as_str());
                drop(known);
                self.keep_soon(id);
                return Ok(Distributed { document, replayed: false });
            }
        }
    }

    /// The id of the new distribution; none when somebody else has used the idempotency key at this very moment.
    async fn record_distribution(
        &self,
        request: &DistributionRequest,
        owner: &str,
        keyed: Option<&DistributionKey>,
    ) -> Result<Option<TransferId>, LedgerError> {
        let now = self.inner.environment.now();
        let (mut pattern, mut secrets) = self.new_record(now, &request.first, owner, None);
        pattern.destination_url = String::new();
        pattern.destination_host = String::new();
        pattern.destination_digest = None;
        secrets.destination_url = None;
        pattern.sealed = !secrets.is_empty();
        let (options, chunk) = (serde_json::to_string(&request.first.source_options), pattern.chunk_size);
        // Whose it is, too: the names of credentials mean something else for others.
        let source = [owner, request.first.source_url.as_str(), &options.expect("texts"), &format!("{chunk:?}")];
        let content = self.inner.seal.digest("copies", &source);
        let mut record = DistributionRecord {
            version: RECORD_VERSION,
            id: TransferId::nil(),
            name: request.name.clone(),
            pattern,
            content,
            template: request.template.clone(),
            source_budget: request.source_budget,
            max_failures: request.max_failures,
            deadline: request.deadline,
            preheat: request.preheat,
            uploads: request.uploads,
            created_at: now,
            finished_at: None,
            plans: 0,
            asked: None,
            asks: 0,
            paused: false,
            canceled: false,
            stopped: None,
            idempotency_digest: keyed.map(|keyed| keyed.key.clone()),
        };
        if self.inner.distributions.lock().expect(POISON).len() >= DISTRIBUTIONS_MAX {
            let detail = format!("there are {DISTRIBUTIONS_MAX} distributions; delete some that have ended");
            return Err(Problem::new(ProblemCode::Forbidden, detail).into());
        }
        let make = |ids: &[TransferId]| {
            let id = ids[0];
            let plans = plan_writes(id, 0, &request.targets);
            (record.id, record.plans) = (id, plans.len() as u64);
            let mut commit = Commit::new().require_absent(keys::distribution(id));
            commit.writes = plans;
            commit.writes.push(Write::Put(keys::distribution(id), encode(&record)));
            if !secrets.is_empty() {
                commit = commit.put(keys::secrets(id), self.inner.seal.seal(id, &secrets));
            }
            if let Some(DistributionKey { key, body }) = keyed {
                let value = serde_json::to_vec(&Made { id, body: body.clone() }).expect("an id and a digest");
                commit = commit.require_absent(keys::idempotency(key)).put(keys::idempotency(key), value);
            }
            // In memory first: nobody sees it in the store who does not find it here.
            let known = Distribution::new(record.clone(), request.targets.len() as u64);
            self.inner.distributions.lock().expect(POISON).insert(id, known);
            vec![commit]
        };
        let (ids, mut committed) = self.commit_in_order(1, now, make).await;
        let forget = || self.inner.distributions.lock().expect(POISON).remove(&ids[0]);
        match committed.pop().expect("one was committed") {
            Ok(_) => Ok(Some(ids[0])),
            Err(CommitError::Conflict(_)) => {
                forget();
                Ok(None)
            }
            Err(CommitError::Failed(error)) => {
                forget();
                Err(error.into())
            }
        }
    }
}
