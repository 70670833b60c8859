//! `create`: a request becomes a transfer.

use std::{borrow::Cow, future::poll_fn, sync::PoisonError, task::Poll};

use serde::{Deserialize, Serialize};
use staccato_dataplane::attempt::StageTimes;

use crate::{
    model::{
        CreateRequest, Problem, ProblemCode, State, Timestamp, TransferDocument, TransferId, TransferRecord,
        transfer::{RECORD_VERSION, known_length},
    },
    store::{
        Commit, CommitError, Record, Revision, StoreError,
        contract::{COMMIT_WRITES_MAX, COMMITS_MAX},
    },
};

use super::{
    Ledger, LedgerError, add,
    change::{encode_record, insert},
    keys,
    seal::{Secrets, redact},
};

/// Most transfers that are created together.
pub const CREATE_MAX: usize = COMMITS_MAX;
/// Each writes its record, its secrets, and its idempotency key.
const _: () = assert!(3 * CREATE_MAX <= COMMIT_WRITES_MAX);

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

/// An idempotency key, and the body that came with it, by their digests.
#[derive(Clone)]
struct Keyed {
    key: String,
    body: String,
}

/// A transfer to be, as far as it can be made before it has an id: that is given while nobody else may take one.
struct Draft {
    record: TransferRecord,
    /// The record as it is stored: its id is in the key.
    encoded: Vec<u8>,
    secrets: Secrets,
    keyed: Option<Keyed>,
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
        let keyed = idempotency_key.map(|key| self.keyed(&[owner, key], request));
        self.create_keyed(request, owner, keyed).await
    }

    /// Records new transfers, each as [`Ledger::create`] does, in their order and with nothing between, and says what
    /// became of each. An idempotency key counts for each of them by its number. At most [`CREATE_MAX`].
    pub async fn create_each(
        &self,
        requests: &[(usize, CreateRequest)],
        owner: &str,
        idempotency_key: Option<&str>,
    ) -> Vec<Result<Created, LedgerError>> {
        let keyed: Vec<Option<Keyed>> = (requests.iter())
            .map(|(number, request)| idempotency_key.map(|key| self.keyed(&[owner, key, &number.to_string()], request)))
            .collect();
        let mut results = match self.replay_each(&keyed).await {
            Ok(results) => results,
            Err(error) => return requests.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let new: Vec<usize> = (0..requests.len()).filter(|place| results[*place].is_none()).collect();
        let submissions = new.iter().map(|place| (&requests[*place].1, keyed[*place].clone())).collect();
        for (place, (record, committed)) in new.into_iter().zip(self.submit(submissions, owner).await) {
            let created = self.created(&record, committed, owner, keyed[place].as_ref()).await;
            results[place] = match created.transpose() {
                // Somebody else has used the key at this very moment.
                None => Some(self.create_keyed(&requests[place].1, owner, keyed[place].clone()).await),
                created => created,
            };
        }
        results.into_iter().map(|result| result.expect("each was replayed or created")).collect()
    }

    async fn create_keyed(
        &self,
        request: &CreateRequest,
        owner: &str,
        keyed: Option<Keyed>,
    ) -> Result<Created, LedgerError> {
        loop {
            if let Some(keyed) = &keyed
                && let Some(created) = self.replay(keyed).await?
            {
                return Ok(created);
            }
            let submitted = self.submit(vec![(request, keyed.clone())], owner).await.pop();
            let (record, committed) = submitted.expect("one was submitted");
            if let Some(created) = self.created(&record, committed, owner, keyed.as_ref()).await? {
                return Ok(created);
            }
        }
    }

    fn keyed(&self, key: &[&str], request: &CreateRequest) -> Keyed {
        let body = serde_json::to_string(request).expect("a request is strings and numbers");
        let seal = &self.inner.seal;
        Keyed { key: seal.digest("idempotency", key), body: seal.digest("body", &[&body]) }
    }

    /// What came of a submission; nothing when it has to be tried again.
    async fn created(
        &self,
        record: &TransferRecord,
        committed: Result<Revision, CommitError>,
        owner: &str,
        keyed: Option<&Keyed>,
    ) -> Result<Option<Created>, LedgerError> {
        match committed {
            Ok(_) => {
                add(&self.inner.counters.created, 1);
                Ok(Some(Created { document: record.document(), replayed: false }))
            }
            Err(CommitError::Failed(error)) => Err(error.into()),
            Err(CommitError::Conflict(key)) if key.starts_with(b"d/") => {
                // The holder may be what the same key made a moment ago: then that is the answer.
                if let Some(keyed) = keyed
                    && let Some(created) = self.replay(keyed).await?
                {
                    return Ok(Some(created));
                }
                Err(self.destination_busy(&key, owner).await)
            }
            Err(CommitError::Conflict(_)) => Ok(None),
        }
    }

    /// The transfer that an idempotency key made, if it made one.
    async fn replay(&self, keyed: &Keyed) -> Result<Option<Created>, LedgerError> {
        let key = keys::idempotency(&keyed.key);
        match self.inner.store.get(&key).await? {
            Some(found) => self.replay_found(keyed, &found).await,
            None => Ok(None),
        }
    }

    /// Of each idempotency key, the transfer that it made, if it made one; what is new is found out with one question.
    async fn replay_each(
        &self,
        keyed: &[Option<Keyed>],
    ) -> Result<Vec<Option<Result<Created, LedgerError>>>, StoreError> {
        let asked: Vec<&Keyed> = keyed.iter().flatten().collect();
        let found =
            self.inner.store.get_each(asked.iter().map(|keyed| keys::idempotency(&keyed.key)).collect()).await?;
        let mut found = found.into_iter();
        let mut results = Vec::with_capacity(keyed.len());
        for keyed in keyed {
            let Some(keyed) = keyed else {
                results.push(None);
                continue;
            };
            results.push(match found.next().expect("each key has an answer") {
                Some(found) => self.replay_found(keyed, &found).await.transpose(),
                None => None,
            });
        }
        Ok(results)
    }

    async fn replay_found(&self, keyed: &Keyed, found: &Record) -> Result<Option<Created>, LedgerError> {
        let key = keys::idempotency(&keyed.key);
        let made: Made = serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error))?;
        if made.body != keyed.body {
            let detail = "this key came with another body before; use a new key for a new transfer";
            return Err(Problem::new(ProblemCode::IdempotencyKeyReused, detail).at("Idempotency-Key").into());
        }
        let found = self.load(made.id).await?;
        Ok(found.map(|(record, _)| Created { document: record.document(), replayed: true }))
    }

    /// Gives the next ids to new records and commits them, each with its idempotency key and the digest of its body.
    async fn submit(
        &self,
        requests: Vec<(&CreateRequest, Option<Keyed>)>,
        owner: &str,
    ) -> Vec<(TransferRecord, Result<Revision, CommitError>)> {
        let now = self.inner.environment.now();
        let mut drafts: Vec<Draft> =
            requests.into_iter().map(|(request, keyed)| self.draft(request, owner, keyed, now)).collect();
        let count = drafts.len();
        let make =
            |ids: &[TransferId]| drafts.iter_mut().zip(ids).map(|(draft, id)| self.commit_of(draft, *id)).collect();
        let (_, committed) = self.commit_in_order(count, now, make).await;
        drafts.into_iter().map(|draft| draft.record).zip(committed).collect()
    }

    /// Gives out the next ids and commits what is made with them. Ids are given in the same turn in which the store is
    /// handed the commits, so that transfers become visible in the order of their ids: a client that follows the list from
    /// marker to marker misses none.
    pub(super) async fn commit_in_order(
        &self,
        count: usize,
        now: Timestamp,
        make: impl FnOnce(&[TransferId]) -> Vec<Commit>,
    ) -> (Vec<TransferId>, Vec<Result<Revision, CommitError>>) {
        let (mut make, mut ids, mut committing) = (Some(make), Vec::with_capacity(count), None);
        let first = poll_fn(|context| {
            // A commit that panics leaves no more behind than ids that nobody has.
            let mut last = self.inner.last_id.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..count {
                let id = TransferId::following(*last, now, self.inner.environment.random());
                *last = Some(id);
                ids.push(id);
            }
            let make = make.take().expect("it is polled once");
            Poll::Ready(committing.insert(self.inner.store.commit_each(make(&ids))).as_mut().poll(context))
        })
        .await;
        let committed = match first {
            Poll::Ready(committed) => committed,
            Poll::Pending => committing.expect("it was just put there").await,
        };
        (ids, committed)
    }

    fn draft(&self, request: &CreateRequest, owner: &str, keyed: Option<Keyed>, now: Timestamp) -> Draft {
        let (record, secrets) = self.new_record(now, request, owner, keyed.as_ref().map(|keyed| keyed.key.clone()));
        Draft { encoded: encode_record(&record), record, secrets, keyed }
    }

    /// A record with its id, and everything that is committed with it.
    fn commit_of(&self, draft: &mut Draft, id: TransferId) -> Commit {
        draft.record.id = id;
        let mut commit = insert(&draft.record, std::mem::take(&mut draft.encoded));
        if !draft.secrets.is_empty() {
            commit = commit.put(keys::secrets(id), self.inner.seal.seal(id, &draft.secrets));
        }
        if let Some(Keyed { key, body }) = &draft.keyed {
            let value = serde_json::to_vec(&Made { id, body: body.clone() }).expect("an id and a digest");
            commit = commit.require_absent(keys::idempotency(key)).put(keys::idempotency(key), value);
        }
        commit
    }

    pub(super) fn new_record(
        &self,
        now: Timestamp,
        request: &CreateRequest,
        owner: &str,
        idempotency_digest: Option<String>,
    ) -> (TransferRecord, Secrets) {
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
            id: TransferId::nil(),
            owner: owner.to_owned(),
            state: State::New,
            source_url,
            destination_url,
            source_host: request.source_place.host().unwrap_or_default().to_owned(),
            destination_host: request.destination_place.host().unwrap_or_default().to_owned(),
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
            transport: request.transport,
            window: request.window,
            distribution: None,
            destination_digest: destination_name(&request.destination_url, request.destination_place.host())
                .map(|name| self.inner.seal.digest("destination", &name)),
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
            bytes_from_peers: 0,
            peers_before: 0,
            peers_now: 0,
            stages: StageTimes::default(),
            upload: None,
            prepared: None,
            error: None,
            throughput: None,
            checkpoint_at: None,
            events: Vec::new(),
        };
        (record, secrets)
    }
}

/// What all URLs have in common that plainly name one destination: scheme, host (that of the place where it is only there,
/// else that of the URL), port, query, and the segments of the path. Nothing for `null`, which any number of transfers may
/// write to. Links and mounts that make two names one are the executor's to notice, at commit.
pub(super) fn destination_name<'a>(
    url: &'a staccato_protocols::ObjectUrl,
    place: Option<&'a str>,
) -> Option<Vec<Cow<'a, [u8]>>> {
    if url.scheme() == "null" {
        return None;
    }
    let parsed = url.url();
    let port = parsed.port_or_known_default().map(|port| port.to_string()).unwrap_or_default();
    let (host, query) = (place.or(parsed.host_str()).unwrap_or_default(), parsed.query().unwrap_or_default());
    let mut name: Vec<Cow<'_, [u8]>> =
        vec![url.scheme().as_bytes().into(), host.as_bytes().into(), port.into_bytes().into(), query.as_bytes().into()];
    let segments = parsed.path().split('/').filter(|segment| !segment.is_empty());
    // One by one: a decoded slash is not one that separates.
    name.extend(segments.map(|segment| Cow::from(percent_encoding::percent_decode_str(segment))));
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use staccato_protocols::ObjectUrl;

    #[test]
    fn one_destination_has_one_name() {
        let name = |text: &str| {
            let url = ObjectUrl::parse(text).unwrap();
            let name = destination_name(&url, (url.scheme() == "file").then_some(""))?;
            Some(name.into_iter().map(Cow::into_owned).collect::<Vec<_>>())
        };
        for other in ["file:///a//b%20c", "file:///a/b c", "file:///%61/b%20c", "file://localhost/a/b%20c"] {
            assert_eq!(name("file:///a/b%20c"), name(other), "{other}");
        }
        for other in ["file:///a/b", "file:///a%2Fb%20c", "file:///b%20c"] {
            assert_ne!(name("file:///a/b%20c"), name(other), "{other}");
        }
        assert_eq!(name("null:///"), None);
    }
}
