//! `create`: a request becomes a transfer.

use std::{future::poll_fn, sync::PoisonError, task::Poll};

use serde::{Deserialize, Serialize};
use staccato_dataplane::attempt::StageTimes;

use crate::{
    model::{
        CreateRequest, Problem, ProblemCode, State, TransferDocument, TransferId, TransferRecord,
        transfer::{RECORD_VERSION, known_length},
    },
    store::{Commit, CommitError, Revision},
};

use super::{
    Ledger, LedgerError, add,
    change::insert,
    keys,
    seal::{Secrets, redact},
};

/// What came of [`Ledger::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The transfer.
    pub document: TransferDocument,
    /// Whether it is that of an earlier request with the same idempotency key.
    pub replayed: bool,
}

/// What an idempotency key stands for.
#[derive(Serialize, Deserialize)]
struct Made {
    id: TransferId,
    body: String,
}

impl Ledger {
    /// Records a new transfer. With an idempotency key that this owner used before: the original transfer when the
    /// request is the same, else `idempotency_key_reused`. `destination_busy` when a live transfer writes to the same
    /// destination. A key lives as long as the transfer it made.
    pub async fn create(
        &self,
        request: &CreateRequest,
        owner: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Created, LedgerError> {
        let seal = &self.inner.seal;
        let key_digest = idempotency_key.map(|key| seal.digest("idempotency", &[owner, key]));
        let body_digest = || {
            let body = serde_json::to_string(request).expect("a request is strings and numbers");
            seal.digest("body", &[&body])
        };
        loop {
            if let Some(digest) = &key_digest
                && let Some(created) = self.replay(digest, &body_digest()).await?
            {
                return Ok(created);
            }
            let made = key_digest.as_ref().map(|digest| (digest.clone(), body_digest()));
            let (record, committed) = self.submit(request, owner, made).await;
            match committed {
                Ok(_) => {
                    add(&self.inner.counters.created, 1);
                    return Ok(Created { document: record.document(), replayed: false });
                }
                Err(CommitError::Failed(error)) => return Err(error.into()),
                Err(CommitError::Conflict(key)) if key.starts_with(b"d/") => {
                    // The holder may be what the same key made a moment ago: then that is the answer.
                    if let Some(digest) = &key_digest
                        && let Some(created) = self.replay(digest, &body_digest()).await?
                    {
                        return Ok(created);
                    }
                    return Err(self.destination_busy(&key, owner).await);
                }
                Err(CommitError::Conflict(_)) => {}
            }
        }
    }

    /// The transfer that an idempotency key made, if it made one.
    async fn replay(&self, key_digest: &str, body_digest: &str) -> Result<Option<Created>, LedgerError> {
        let key = keys::idempotency(key_digest);
        let Some(found) = self.inner.store.get(&key).await? else { return Ok(None) };
        let made: Made = serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error))?;
        if made.body != body_digest {
            let detail = "this key came with another body before; use a new key for a new transfer";
            return Err(Problem::new(ProblemCode::IdempotencyKeyReused, detail).at("Idempotency-Key").into());
        }
        let found = self.load(made.id).await?;
        Ok(found.map(|(record, _)| Created { document: record.document(), replayed: true }))
    }

    /// Gives the next id to a record and commits it, with its idempotency key and the digest of its body. The id is
    /// given in the same turn in which the store is handed the commit, so that transfers become visible in the order of
    /// their ids: a client that follows the list from marker to marker misses none.
    async fn submit(
        &self,
        request: &CreateRequest,
        owner: &str,
        made: Option<(String, String)>,
    ) -> (TransferRecord, Result<Revision, CommitError>) {
        let mut submitted = None;
        let first = poll_fn(|context| {
            // A commit that panics leaves no more behind than an id that nobody has.
            let mut last = self.inner.last_id.lock().unwrap_or_else(PoisonError::into_inner);
            let id = TransferId::following(*last, self.inner.environment.now(), self.inner.environment.random());
            *last = Some(id);
            let (record, commit) = self.new_transfer(id, request, owner, made.as_ref());
            let mut committing = self.inner.store.commit(commit);
            let first = committing.as_mut().poll(context);
            submitted = Some((record, committing));
            Poll::Ready(first)
        })
        .await;
        let (record, committing) = submitted.expect("it was just put there");
        let committed = match first {
            Poll::Ready(committed) => committed,
            Poll::Pending => committing.await,
        };
        (record, committed)
    }

    /// A record and everything that is committed with it.
    fn new_transfer(
        &self,
        id: TransferId,
        request: &CreateRequest,
        owner: &str,
        made: Option<&(String, String)>,
    ) -> (TransferRecord, Commit) {
        let (record, secrets) = self.new_record(id, request, owner, made.map(|(digest, _)| digest.clone()));
        let mut commit = insert(&record);
        if !secrets.is_empty() {
            commit = commit.put(keys::secrets(id), self.inner.seal.seal(id, &secrets));
        }
        if let Some((digest, body)) = made {
            let value = serde_json::to_vec(&Made { id, body: body.clone() }).expect("an id and a digest");
            commit = commit.require_absent(keys::idempotency(digest)).put(keys::idempotency(digest), value);
        }
        (record, commit)
    }

    fn new_record(
        &self,
        id: TransferId,
        request: &CreateRequest,
        owner: &str,
        idempotency_digest: Option<String>,
    ) -> (TransferRecord, Secrets) {
        let now = self.inner.environment.now();
        let registry = &self.inner.registry;
        let (source_url, source_options, secret_source_url, secret_source_options) =
            redact(registry, &request.source_url, &request.source_options);
        let (destination_url, destination_options, secret_destination_url, secret_destination_options) =
            redact(registry, &request.destination_url, &request.destination_options);
        let secrets = Secrets {
            source_url: secret_source_url,
            destination_url: secret_destination_url,
            source_options: secret_source_options,
            destination_options: secret_destination_options,
        };
        let record = TransferRecord {
            version: RECORD_VERSION,
            id,
            owner: owner.to_owned(),
            state: State::New,
            source_url,
            destination_url,
            source_options,
            destination_options,
            sealed: !secrets.is_empty(),
            part: request.part,
            overwrite: request.overwrite,
            checksum: request.checksum.clone(),
            priority: request.priority,
            retries: request.retries,
            rate_limit: request.rate_limit,
            chunk_size: request.chunk_size,
            connections: request.connections,
            destination_digest: destination_name(&request.destination_url)
                .map(|name| self.inner.seal.digest("destination", &[&name])),
            idempotency_digest,
            created_at: now,
            updated_at: now,
            ready_at: None,
            started_at: None,
            finished_at: None,
            not_before: None,
            epoch: 0,
            failures: 0,
            executor: None,
            pause_asked: false,
            delete_asked: false,
            stray_attempts: false,
            validator: None,
            bytes_total: known_length(request.part),
            progress: 0,
            range_pieces: 0,
            crc32: None,
            fetched_before: 0,
            fetched_now: 0,
            stages: StageTimes::default(),
            prepared: None,
            error: None,
            throughput: None,
            checkpoint_at: None,
            events: Vec::new(),
        };
        (record, secrets)
    }
}

/// One spelling for all URLs that plainly name one destination; nothing for `null`, which any number of transfers may
/// write to. Links and mounts that make two names one are the executor's to notice, at commit.
fn destination_name(url: &staccato_protocols::ObjectUrl) -> Option<String> {
    if url.scheme() == "null" {
        return None;
    }
    let parsed = url.url();
    let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let segments = parsed.path().split('/').filter(|segment| !segment.is_empty());
    // Hex keeps a decoded slash apart from one that separates.
    let path: Vec<String> = segments.map(|segment| hex(&decode(segment))).collect();
    let port = parsed.port_or_known_default().map(|port| port.to_string()).unwrap_or_default();
    let (host, query) = (parsed.host_str().unwrap_or_default(), parsed.query().unwrap_or_default());
    Some(format!("{}://{host}:{port}/{}?{query}", url.scheme(), path.join("/")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use staccato_protocols::ObjectUrl;

    #[test]
    fn one_destination_has_one_name() {
        let name = |text: &str| destination_name(&ObjectUrl::parse(text).unwrap());
        for other in ["file:///a//b%20c", "file:///a/b c", "file:///%61/b%20c", "file://localhost/a/b%20c"] {
            assert_eq!(name("file:///a/b%20c"), name(other), "{other}");
        }
        for other in ["file:///a/b", "file:///a%2Fb%20c", "file:///b%20c"] {
            assert_ne!(name("file:///a/b%20c"), name(other), "{other}");
        }
        assert_eq!(name("null:///"), None);
    }
}
