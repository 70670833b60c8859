//! Sweeps: removing what attempts of a transfer left beside its destination, when no attempt is there any more to do
//! it. A sweep survives the transfer it belongs to.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};
use staccato_protocols::{ObjectUrl, Options};

use crate::{
    model::{TransferId, TransferRecord, host::as_at_home, transfer::REDACTED},
    store::{Commit, CommitError},
};

use super::{Ledger, LedgerError, change::POISON, keys, seal::Secrets};

/// Most sweeps that are handed out at once.
pub const SWEEPS_MAX: usize = 16;
/// Longest wait between tries of one sweep.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Something to remove: see [`Protocol::sweep`](staccato_protocols::Protocol::sweep).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Whose leavings.
    pub transfer: TransferId,
    /// Beside which object.
    pub destination_url: ObjectUrl,
    /// The options of the destination, secrets included, where an upload is to be given up.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub destination_options: Options,
    /// The upload that its attempts had begun there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
}

/// A sweep as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SweepRecord {
    destination_url: String,
    /// The host it is on, where that is another than the service's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    host: String,
    /// Whose transfer it was: for the credential that the options name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
    /// The options of the destination as they may be shown, where an upload is to be given up.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    destination_options: Options,
    /// The upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
    /// Whether the destination is sealed with the transfer's secrets, which wait for this sweep.
    sealed: bool,
    /// The destination that is kept from other transfers until this sweep is done, by its digest.
    pub kept: Option<String>,
    failures: u32,
}

/// Sweeps that executors are at.
pub(crate) type SweepsOut = HashMap<TransferId, SweepOut>;

/// A sweep that an executor is at.
pub(crate) struct SweepOut {
    pub executor: String,
    /// Until when it is left to it, on the monotonic clock.
    until: Duration,
    /// Where it is stored.
    key: Vec<u8>,
}

impl SweepRecord {
    pub fn of(record: &TransferRecord) -> Self {
        let sealed = Self::needs_secrets(record);
        let kept = record.destination_digest.clone().filter(|_| record.may_commit_unseen());
        let host = record.destination_at().unwrap_or_default().to_owned();
        let upload = record.upload.clone();
        let destination_options = upload.as_ref().map(|_| record.destination_options.clone()).unwrap_or_default();
        let destination_url = record.destination_url.clone();
        let owner = if upload.is_some() { record.owner.clone() } else { String::new() };
        Self { destination_url, host, owner, destination_options, upload, sealed, kept, failures: 0 }
    }

    fn read(key: &[u8], value: &[u8]) -> Result<(TransferId, Self), LedgerError> {
        let id = keys::trailing_id(key).ok_or_else(|| LedgerError::unreadable(key, "no id at its end"))?;
        let record = serde_json::from_slice(value).map_err(|error| LedgerError::unreadable(key, error))?;
        Ok((id, record))
    }

    pub fn needs_secrets(record: &TransferRecord) -> bool {
        let signs = || record.upload.is_some() && record.destination_options.values().any(|value| value == REDACTED);
        record.sealed && (record.destination_url.ends_with(REDACTED) || signs())
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers")
    }
}

impl Ledger {
    /// Sweeps that are due, at most `SWEEPS_MAX`, for `executor` to do; they are offered again when it does not
    /// confirm them within four leases.
    pub async fn claim_sweeps(&self, executor: &str) -> Result<Vec<Sweep>, LedgerError> {
        if self.is_gone(executor) {
            return Ok(Vec::new());
        }
        let monotonic = self.inner.environment.monotonic();
        let mut sweeps = Vec::new();
        let host = self.inner.fleet.lock().expect(POISON).host_of(executor).to_owned();
        for (key, id, record) in self.due_sweeps(|of| of == host).await? {
            if sweeps.len() == SWEEPS_MAX {
                break;
            }
            {
                let mut out = self.inner.sweeps_out.lock().expect(POISON);
                if out.get(&id).is_some_and(|out| out.until > monotonic) {
                    continue;
                }
                let until = monotonic + self.inner.config.lease * 4;
                out.insert(id, SweepOut { executor: executor.to_owned(), until, key });
            }
            let secrets = if record.sealed { self.load_secrets(id).await } else { Ok(Secrets::default()) };
            let destination = secrets.map(|secrets| {
                let url = secrets.destination_url.or_else(|| ObjectUrl::parse(&record.destination_url).ok());
                let mut options = record.destination_options;
                options.extend(secrets.destination_options);
                url.map(|url| (url, options))
            });
            match destination {
                Ok(Some((url, options))) => {
                    let options = if record.upload.is_some() { options } else { Options::new() };
                    match self.complete_options(&url, options, &record.owner).await? {
                        Ok(destination_options) => sweeps.push(Sweep {
                            transfer: id,
                            destination_url: as_at_home(url),
                            destination_options,
                            upload: record.upload,
                        }),
                        Err(unusable) => {
                            tracing::warn!(transfer = %id, error = %unusable.error, "a sweep waits for its credential");
                            self.sweep_done(id, false).await?;
                        }
                    }
                }
                Err(LedgerError::Store(error)) => return Err(error.into()),
                _ => {
                    tracing::error!(transfer = %id, "a sweep cannot be read and is dropped");
                    self.sweep_done(id, true).await?;
                }
            }
        }
        Ok(sweeps)
    }

    /// Ends a sweep that was done, or puts one off that failed. One that is at nobody's any more (this process has
    /// started since) is offered again: doing it twice is harmless.
    pub async fn sweep_done(&self, id: TransferId, done: bool) -> Result<(), LedgerError> {
        let out = self.inner.sweeps_out.lock().expect(POISON).get(&id).map(|out| out.key.clone());
        let Some(key) = out else { return Ok(()) };
        loop {
            let Some(found) = self.inner.store.get(&key).await? else { break };
            let (_, mut record) = SweepRecord::read(&key, &found.value)?;
            let mut commit = Commit::new().require(key.clone(), found.revision).delete(key.clone());
            if done {
                if record.sealed {
                    commit = commit.delete(keys::secrets(id));
                }
            } else {
                record.failures = record.failures.saturating_add(1);
                let wait = Duration::from_secs(1 << record.failures.min(12)).min(WAIT_MAX);
                commit = commit.put(keys::sweep(self.inner.environment.now().after(wait), id), record.encode());
            }
            match self.inner.store.commit(commit).await {
                Ok(_) => break,
                Err(CommitError::Failed(error)) => return Err(error.into()),
                Err(CommitError::Conflict(_)) => {}
            }
        }
        self.inner.sweeps_out.lock().expect(POISON).remove(&id);
        Ok(())
    }

    /// Whether an executor of this host (the service's own has no name) is at a sweep.
    pub fn sweeps_at(&self, host: &str, id: TransferId) -> bool {
        let fleet = self.inner.fleet.lock().expect(POISON);
        let out = self.inner.sweeps_out.lock().expect(POISON);
        out.get(&id).is_some_and(|out| fleet.host_of(&out.executor) == host)
    }

    /// Whether a sweep is due that nobody is at.
    pub(crate) async fn sweep_is_due(&self) -> Result<bool, LedgerError> {
        let due = self.due_sweeps(|host| self.is_up(host)).await?;
        let monotonic = self.inner.environment.monotonic();
        let out = self.inner.sweeps_out.lock().expect(POISON);
        Ok(due.iter().any(|(_, id, _)| out.get(id).is_none_or(|out| out.until <= monotonic)))
    }

    /// The sweeps that are due, those that wait for longest first; at most [`PAGE`]: what lies behind them comes when
    /// these are done. Only those on hosts that are `wanted`, and without those that cannot be read.
    async fn due_sweeps(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Vec<u8>, TransferId, SweepRecord)>, LedgerError> {
        let end = keys::due_end(keys::SWEEPS, self.inner.environment.now());
        let mut start = keys::SWEEPS.to_vec();
        loop {
            let page = self.inner.store.range(&start, &end, PAGE, false).await?;
            let last = page.last().filter(|_| page.len() == PAGE).map(|(last, _)| last.clone());
            let mut due = Vec::new();
            for (key, value) in page {
                let read = SweepRecord::read(&key, &value.value).map(Some);
                let read = self.skip_unreadable(read, None)?.filter(|(_, record)| wanted(&record.host));
                due.extend(read.map(|(id, record)| (key, id, record)));
            }
            match last {
                Some(last) if due.is_empty() => {
                    start = last;
                    start.push(0);
                }
                _ => return Ok(due),
            }
        }
    }
}

/// Sweeps that are looked at in one go.
const PAGE: usize = 256;
