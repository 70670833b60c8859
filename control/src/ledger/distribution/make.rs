//! Plans become members.

use std::collections::BTreeSet;

use staccato_protocols::Code;

use crate::{
    model::{
        Failure, State, Timestamp, TransferId, TransferRecord,
        distribution::{DistributionRecord, Target},
        transfer::NoteKind,
    },
    store::{Commit, CommitError, Revision},
};

use super::follow;
use crate::ledger::{
    Ledger, LedgerError, Scope, add,
    change::{POISON, encode_record, insert},
    create::destination_name,
    keys,
    seal::Secrets,
};

const BUSY: &str = "another transfer was writing to this destination; resume this one when that has ended";

impl Ledger {
    /// Makes the members that are planned. A plan becomes its members, or stays as it is.
    pub(super) async fn make_members(&self, id: TransferId) -> Result<(), LedgerError> {
        let plans = self.plans(id).await?;
        if plans.is_empty() {
            return Ok(());
        }
        let sealed = self.distribution(id, &Scope::All, |known| known.record.pattern.sealed)?;
        let secrets = if sealed { self.load_secrets(id).await? } else { Secrets::default() };
        for (key, revision, targets) in plans {
            self.make_plan(id, &key, revision, &targets, &secrets).await?;
        }
        self.ring();
        Ok(())
    }

    async fn make_plan(
        &self,
        distribution: TransferId,
        key: &[u8],
        revision: Revision,
        targets: &[Target],
        secrets: &Secrets,
    ) -> Result<(), LedgerError> {
        let mut busy = self.busy(targets).await?;
        loop {
            let now = self.inner.environment.now();
            // As late as can be: it may have been paused or canceled since.
            let like = self.distribution(distribution, &Scope::All, |known| known.record.clone())?;
            let mut members: Vec<TransferRecord> =
                targets.iter().map(|target| self.member(&like, target, &busy, now)).collect();
            let make = |ids: &[TransferId]| {
                let mut commit = Commit::new().require(key, revision).delete(key);
                for (record, id) in members.iter_mut().zip(ids) {
                    record.id = *id;
                    let made = insert(record, encode_record(record));
                    commit.preconditions.extend(made.preconditions);
                    commit.writes.extend(made.writes);
                    if record.sealed {
                        commit = commit.put(keys::secrets(*id), self.inner.seal.seal(*id, secrets));
                    }
                }
                // Before anybody else can see and change them.
                self.count(distribution, &members, true);
                vec![commit]
            };
            let (_, mut committed) = self.commit_in_order(targets.len(), now, make).await;
            let committed = committed.pop().expect("one was committed");
            if committed.is_err() {
                self.count(distribution, &members, false);
            }
            match committed {
                Ok(_) => {
                    add(&self.inner.counters.created, members.len() as u64);
                    return Ok(());
                }
                Err(CommitError::Conflict(key)) if key.starts_with(b"d/") => drop(busy.insert(key)),
                // Somebody else has made them, or they are not to be made any more.
                Err(CommitError::Conflict(_)) => return Ok(()),
                Err(CommitError::Failed(error)) => return Err(error.into()),
            }
        }
    }

    /// Takes in that hosts which were to become members are some, or (`made` is false) are none after all.
    fn count(&self, distribution: TransferId, members: &[TransferRecord], made: bool) {
        let mut known = self.inner.distributions.lock().expect(POISON);
        for member in members {
            let (before, after) = if made { (None, Some(member)) } else { (Some(member), None) };
            follow(&mut known, before, after);
        }
        if let Some(known) = known.get_mut(&distribution) {
            let number = members.len() as u64;
            known.pending = if made { known.pending.saturating_sub(number) } else { known.pending + number };
        }
    }

    /// Of these destinations, those that live transfers keep, by their keys.
    async fn busy(&self, targets: &[Target]) -> Result<BTreeSet<Vec<u8>>, LedgerError> {
        let keys: Vec<Vec<u8>> = targets
            .iter()
            .filter_map(|target| self.destination_digest(target))
            .map(|digest| keys::destination(digest.as_bytes()))
            .collect();
        let found = self.inner.store.get_each(keys.clone()).await?;
        Ok(keys.into_iter().zip(found).filter_map(|(key, found)| found.map(|_| key)).collect())
    }

    fn destination_digest(&self, target: &Target) -> Option<String> {
        let name = destination_name(&target.url, Some(&target.host))?;
        Some(self.inner.seal.digest("destination", &name))
    }

    /// A member as it is before it has an id.
    fn member(
        &self,
        like: &DistributionRecord,
        target: &Target,
        busy: &BTreeSet<Vec<u8>>,
        now: Timestamp,
    ) -> TransferRecord {
        let digest = self.destination_digest(target);
        let is_busy = digest.as_ref().is_some_and(|digest| busy.contains(&keys::destination(digest.as_bytes())));
        let mut record = TransferRecord {
            destination_url: target.url.as_str().to_owned(),
            destination_host: target.host.clone(),
            destination_digest: digest,
            distribution: Some(like.id),
            created_at: now,
            updated_at: now,
            ..like.pattern.clone()
        };
        if like.canceled {
            record.state = State::Canceled;
            record.sealed = false;
            record.finished_at = Some(now);
            record.note(now, NoteKind::Canceled, "its distribution was canceled");
        } else if is_busy {
            let error = staccato_protocols::Error::fatal(Code::DestinationBusy, BUSY);
            record.state = State::Error;
            record.finished_at = Some(now);
            record.error = Some(Failure::from_error(&error));
        } else if like.paused {
            record.state = State::Paused;
            record.note(now, NoteKind::Paused, "its distribution was paused");
        }
        record
    }
}
