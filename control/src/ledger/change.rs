//! The one way in which a record is changed: read, decide, commit everything that follows from it, try again when
//! somebody was faster.

use std::time::Duration;

use staccato_dataplane::attempt::VerifiedRange;

use crate::{
    model::{
        Action, Answer, Problem, ProblemCode, State, Timestamp, TransferId, TransferRecord,
        lifecycle::{self, Event},
        transfer::{NoteKind, RECORD_VERSION},
    },
    store::{Commit, CommitError, Revision, Write, contract::VALUE_BYTES_MAX},
};

use super::{
    Ledger, LedgerError, Refused, STRIPES, Scope, add, distribution,
    index::{self, kept_destination},
    keys,
    lease::Until,
    sweep::SweepRecord,
};

/// Most verified ranges in one key.
const RANGES_PER_PIECE: usize = 512;
/// Most keys that the verified ranges of a transfer take.
pub(crate) const RANGE_PIECES_MAX: usize = 64;
/// Most verified ranges that are kept; of more, the longest.
pub(crate) const RANGES_MAX: usize = RANGE_PIECES_MAX * RANGES_PER_PIECE;
/// The longest form of one range in a key: its names, two numbers of 20 digits, one of 10, and a comma.
const RANGE_BYTES_MAX: usize = r#"{"start":,"end":,"crc32":},"#.len() + 20 + 20 + 10;
const _: () = assert!(RANGES_PER_PIECE * RANGE_BYTES_MAX < VALUE_BYTES_MAX);
/// The longest form of all ranges of a transfer.
pub(crate) const RANGES_BYTES_MAX: usize = RANGE_PIECES_MAX * VALUE_BYTES_MAX;

/// A record being changed.
pub(crate) struct Change {
    /// As it was read.
    pub before: TransferRecord,
    /// As it shall be.
    pub record: TransferRecord,
    /// What happens to the verified ranges.
    pub ranges: Ranges,
    /// Whether the attempt removed its partial itself.
    pub discarded: bool,
    /// Whether the transfer is forgotten.
    pub forget: bool,
    /// The moment of the change.
    pub now: Timestamp,
}

/// What happens to the verified ranges.
pub(crate) enum Ranges {
    /// They stay.
    Keep,
    /// They are dropped.
    Drop,
    /// These replace them.
    Set(Vec<VerifiedRange>),
}

impl Ledger {
    /// Writes records that nobody else writes.
    pub(super) async fn write(&self, writes: Vec<Write>) -> Result<(), LedgerError> {
        match self.inner.store.commit(Commit { preconditions: Vec::new(), writes }).await {
            Ok(_) => Ok(()),
            Err(CommitError::Failed(error)) => Err(error.into()),
            Err(CommitError::Conflict(_)) => unreachable!("without preconditions there is no conflict"),
        }
    }

    /// Reads a record, lets `decide` change it, and commits it with its indexes. Nothing is written when nothing
    /// changed. `decide` may run more than once.
    pub(crate) async fn change<T>(
        &self,
        id: TransferId,
        mut decide: impl FnMut(&mut Change) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut turn = self.turn(id).await;
        loop {
            let (before, revision) = self.load(id).await?.ok_or_else(|| LedgerError::not_found(id))?;
            let mut change = Change {
                record: before.clone(),
                before,
                ranges: Ranges::Keep,
                discarded: false,
                forget: false,
                now: self.inner.environment.now(),
            };
            let decided = decide(&mut change)?;
            let Some(commit) = change.finish(revision, self.inner.config.lease) else { return Ok(decided) };
            let owner = change.record.owner.clone();
            // On a task of its own: whoever asked may go away (a request's connection closes), but memory follows the
            // store whatever happens, and until then nobody else has this transfer's turn.
            let ledger = self.clone();
            let committing = tokio::spawn(async move {
                let committed = ledger.inner.store.commit(commit).await;
                if committed.is_ok() {
                    ledger.follow(&change);
                }
                (committed, turn)
            });
            let (committed, own_turn) = committing.await.expect("a commit does not panic and is not aborted");
            turn = own_turn;
            match committed {
                Ok(_) => return Ok(decided),
                Err(CommitError::Failed(error)) => return Err(error.into()),
                Err(CommitError::Conflict(key)) if key.starts_with(b"d/") => {
                    return Err(self.destination_busy(&key, &owner).await);
                }
                Err(CommitError::Conflict(_)) => {}
            }
        }
    }

    /// Waits for one's turn at a transfer.
    async fn turn(&self, id: TransferId) -> tokio::sync::OwnedMutexGuard<()> {
        let stripe = (id.as_uuid().as_u128() % STRIPES as u128) as usize;
        self.inner.stripes[stripe].clone().lock_owned().await
    }

    pub(crate) async fn load(&self, id: TransferId) -> Result<Option<(TransferRecord, Revision)>, LedgerError> {
        let key = keys::transfer(id);
        let Some(found) = self.inner.store.get(&key).await? else { return Ok(None) };
        Ok(Some((decode_record(&key, &found.value)?, found.revision)))
    }

    pub(crate) async fn load_ranges(&self, record: &TransferRecord) -> Result<Vec<VerifiedRange>, LedgerError> {
        let mut ranges = Vec::new();
        for piece in 0..record.range_pieces {
            let key = keys::ranges_piece(record.id, piece);
            let found = self.inner.store.get(&key).await?;
            let value = found.ok_or_else(|| LedgerError::unreadable(&key, "a piece is missing"))?.value;
            let piece: Vec<VerifiedRange> =
                serde_json::from_slice(&value).map_err(|error| LedgerError::unreadable(&key, error))?;
            ranges.extend(piece);
        }
        Ok(ranges)
    }

    pub(crate) async fn destination_busy(&self, key: &[u8], owner: &str) -> LedgerError {
        let holder = match self.inner.store.get(key).await {
            Ok(found) => found.and_then(|found| TransferId::from_bytes(&found.value)),
            Err(error) => return error.into(),
        };
        let holder = match holder {
            Some(id) => self.load(id).await.map(|found| found.map(|(record, _)| record)),
            None => Ok(None),
        };
        let detail = match holder {
            Ok(None) => {
                "what a deleted transfer left at this destination is being removed; try again in a minute".into()
            }
            Ok(Some(record)) if record.owner == owner && record.state.is_ended() => {
                format!(
                    "a lost attempt of transfer {} may still write to this destination; resume or delete it",
                    record.id
                )
            }
            Ok(Some(record)) if record.owner == owner => {
                format!("transfer {} is writing to this destination; wait for it or cancel it", record.id)
            }
            _ => "another transfer is writing to this destination; wait for it or cancel it".to_owned(),
        };
        Problem::new(ProblemCode::DestinationBusy, detail).at("destination_url").into()
    }

    /// Brings what is in memory up to date with what was committed.
    pub(crate) fn follow(&self, change: &Change) {
        let monotonic = self.inner.environment.monotonic();
        let config = &self.inner.config;
        let until = Until { lease: monotonic + config.lease, ready: monotonic + config.ready_timeout };
        let after = (!change.forget).then_some(&change.record);
        self.inner.leases.lock().expect(POISON).follow(change.record.id, after, until);
        if change.record.distribution.is_some() {
            let mut known = self.inner.distributions.lock().expect(POISON);
            distribution::follow(&mut known, Some(&change.before), after);
            drop(known);
            self.inner.swarms.lock().expect(POISON).follow(&change.before, after);
        }
        self.ring();

        let (before, record, counters) = (&change.before, &change.record, &self.inner.counters);
        let fetched = record.bytes_fetched().saturating_sub(before.bytes_fetched());
        add(&counters.bytes_fetched, fetched);
        if record.state != before.state {
            match record.state {
                State::Running => add(&counters.attempts, 1),
                State::Complete => {
                    add(&counters.completed, 1);
                    add(&counters.bytes_completed, record.bytes_total.unwrap_or(0));
                }
                State::Error => add(&counters.failed, 1),
                State::Canceled => add(&counters.canceled, 1),
                State::New if record.failures > before.failures => add(&counters.retried, 1),
                _ => {}
            }
        }
    }

    /// Wakes whoever waits for work or for directives.
    pub(crate) fn ring(&self) {
        self.inner.work.send_modify(|count| *count += 1);
    }
}

pub(crate) const POISON: &str = "no code panics while it holds this lock";

impl Change {
    /// Applies an event; a pair that the table does not know is a conflict.
    pub fn apply(&mut self, event: Event) -> Result<(), LedgerError> {
        let state = self.record.state;
        if self.record.apply(event, self.now) {
            return Ok(());
        }
        Err(Problem::new(ProblemCode::StateConflict, format!("not possible in {state}")).into())
    }

    /// Everything that has to be written, or nothing when nothing changed.
    fn finish(&mut self, revision: Revision, lease: Duration) -> Option<Commit> {
        let id = self.record.id;
        self.forget |= self.record.delete_asked && !self.record.state.is_leased();
        let mut commit = Commit::new().require(keys::transfer(id), revision);

        let pieces = match std::mem::replace(&mut self.ranges, Ranges::Keep) {
            Ranges::Keep if !self.forget => None,
            Ranges::Keep | Ranges::Drop => Some(Vec::new()),
            Ranges::Set(ranges) => Some(ranges),
        };
        if let Some(ranges) = pieces {
            let pieces: Vec<_> = ranges.chunks(RANGES_PER_PIECE).collect();
            for (index, piece) in pieces.iter().enumerate() {
                let value = serde_json::to_vec(piece).expect("ranges are numbers");
                commit = commit.put(keys::ranges_piece(id, index), value);
            }
            for index in pieces.len()..self.before.range_pieces {
                commit = commit.delete(keys::ranges_piece(id, index));
            }
            self.record.range_pieces = pieces.len();
        }

        let sweep = self.leaves_something();
        if sweep {
            // An attempt that was not seen to end gets the time to notice that it lost its lease.
            let due = self.now.after(if self.record.stray_attempts { lease } else { Duration::ZERO });
            commit = commit.put(keys::sweep(due, id), SweepRecord::of(&self.record).encode());
        }
        assert!(
            sweep || !self.forget || !self.record.may_commit_unseen(),
            "a sweep lets go of a destination that is kept"
        );
        if self.record.sealed && (self.forget || self.record.state.is_final()) {
            // A sweep needs the destination; it drops the secrets when it is done.
            if !(sweep && SweepRecord::needs_secrets(&self.record)) {
                commit = commit.delete(keys::secrets(id));
            }
            self.record.sealed = false;
        }

        if self.forget {
            commit = commit.delete(keys::transfer(id));
            if let Some(digest) = &self.record.idempotency_digest {
                commit = commit.delete(keys::idempotency(digest));
            }
        } else if self.record == self.before && commit.writes.is_empty() {
            return None;
        } else {
            self.record.version = RECORD_VERSION;
            commit = commit.put(keys::transfer(id), encode_record(&self.record));
        }
        let (before, now) = (kept_destination(&self.before), kept_destination(&self.record));
        // A destination that is newly claimed must be free.
        if !self.forget && before != now {
            commit =
                now.map(|digest| keys::destination(digest.as_bytes())).into_iter().fold(commit, Commit::require_absent);
        }
        Some(commit)
    }

    /// Whether the transfer ends here and something may lie beside its destination that no attempt of it will remove.
    fn leaves_something(&self) -> bool {
        let (record, before) = (&self.record, self.before.state);
        if record.state.is_final() && before.is_final() {
            return false;
        }
        match record.state {
            // The attempt that committed removed what was its own.
            State::Complete => record.stray_attempts,
            State::Canceled => record.epoch > 0 && (record.stray_attempts || !self.discarded),
            _ => self.forget && record.epoch > 0,
        }
    }
}

/// The commit that makes a new record, which is `encoded` so.
pub(crate) fn insert(record: &TransferRecord, encoded: Vec<u8>) -> Commit {
    let key = keys::transfer(record.id);
    let commit = Commit::new().require_absent(key.clone()).put(key, encoded);
    kept_destination(record)
        .map(|digest| keys::destination(digest.as_bytes()))
        .into_iter()
        .fold(commit, Commit::require_absent)
}

/// A record as it is stored: its index line, and the record.
pub(crate) fn encode_record(record: &TransferRecord) -> Vec<u8> {
    let mut value = index::line_of(record);
    value.push(b'\n');
    serde_json::to_writer(&mut value, record).expect("a record is strings and numbers");
    value
}

pub(crate) fn decode_record(key: &[u8], value: &[u8]) -> Result<TransferRecord, LedgerError> {
    let line = value.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let record = serde_json::from_slice(&value[line..]);
    let mut record: TransferRecord = record.map_err(|error| LedgerError::unreadable(key, error))?;
    record.id = keys::trailing_id(key).ok_or_else(|| LedgerError::unreadable(key, "no id at its end"))?;
    if record.version > RECORD_VERSION {
        return Err(LedgerError::unreadable(key, format!("its version {} is of a newer Staccato", record.version)));
    }
    Ok(record)
}

impl Change {
    /// The answer to a client's action; an error when the client may not see the transfer, or may not do this now.
    pub fn asked(&self, action: Action, scope: &Scope) -> Result<Answer, LedgerError> {
        let record = &self.record;
        if !scope.sees(&record.owner) {
            return Err(LedgerError::not_found(record.id));
        }
        let answer = lifecycle::answer(record.state, action, record.prepared.is_some());
        if answer == Answer::Conflict {
            let prepared = record.prepared.is_some() && action == Action::Cancel;
            let why = match record.state {
                State::Running if prepared => "its commit is being done; wait for its end".to_owned(),
                State::New | State::Ready if prepared => {
                    "an attempt that was lost may have committed it; wait for the next attempt, which finds out, or delete it".to_owned()
                }
                State::Paused if prepared => {
                    "an attempt that was lost may have committed it; resume it to find out, or delete it".to_owned()
                }
                state => format!("it is in {state}"),
            };
            let detail = format!("cannot {} transfer {}: {why}", action.as_str(), record.id);
            return Err(Problem::new(ProblemCode::StateConflict, detail).into());
        }
        Ok(answer)
    }

    /// Refuses an executor that does not hold this very attempt.
    pub fn held_by(&self, executor: &str, epoch: u64) -> Result<(), Refused> {
        let record = &self.record;
        let why = if record.epoch != epoch {
            "another attempt has begun"
        } else if !record.state.is_leased() || record.executor.as_deref() != Some(executor) {
            "the lease is lost"
        } else {
            return Ok(());
        };
        Err(Refused { transfer: record.id, epoch, why })
    }

    /// Remembers something in the record.
    pub fn note(&mut self, kind: NoteKind, message: impl Into<String>) {
        self.record.note(self.now, kind, message);
    }
}
