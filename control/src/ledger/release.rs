//! `release`: an attempt has ended without a commit.

use staccato_dataplane::attempt::{Outcome, StopReason};
use staccato_protocols::{Code, Disposition, Error};

use crate::model::{Failure, State, TransferId, distribution::Stop, lifecycle::Event, transfer::NoteKind};

use super::{
    Ledger, LedgerError,
    change::{Change, Ranges},
    refused_if_gone,
};

impl Ledger {
    /// Ends an attempt: its I/O is over and its lease free. A failure that a later try may not meet is tried again
    /// after a wait, at most `retries` times; told stops, kills and lost leases do not count.
    pub async fn release(
        &self,
        executor: &str,
        id: TransferId,
        epoch: u64,
        outcome: &Outcome,
    ) -> Result<(), LedgerError> {
        if let Outcome::Committed(completion) = outcome {
            return self.committed(executor, id, epoch, completion).await;
        }
        if let Outcome::Failed { error } = outcome
            && is_of_another_version(error)
        {
            self.stop_what_changed(executor, id, epoch).await?;
        }
        let random = self.inner.environment.random();
        let released = self
            .change(id, |change| {
                change.held_by(executor, epoch)?;
                if !matches!(outcome, Outcome::CommitUnknown { .. }) {
                    change.has_not_committed(epoch);
                }
                match outcome {
                    Outcome::Failed { error } if error.disposition == Disposition::Canceled => change.stopped(None),
                    Outcome::Failed { error } | Outcome::CommitUnknown { error } => self.failed(change, error, random),
                    Outcome::Stopped { reason } => change.stopped(Some(*reason)),
                    Outcome::Committed(_) => unreachable!("handed on above"),
                }
            })
            .await;
        refused_if_gone(released, id, epoch)
    }

    /// A distribution is of one version of its object: once a member has met another one, all of it stops. That is recorded
    /// before the member's failure is: whoever dies in between hears of it again.
    async fn stop_what_changed(&self, executor: &str, id: TransferId, epoch: u64) -> Result<(), LedgerError> {
        let Some((record, _)) = self.load(id).await? else { return Ok(()) };
        let is_its_own = record.epoch == epoch && record.executor.as_deref() == Some(executor);
        match record.distribution.filter(|_| is_its_own) {
            Some(distribution) => self.stop_distribution(distribution, Stop::object_changed()).await,
            None => Ok(()),
        }
    }

    fn failed(&self, change: &mut Change, error: &Error, random: u64) -> Result<(), LedgerError> {
        if change.record.state != State::Running {
            // It was to stop anyway. Whether its partial is gone is not known: a sweep will see.
            return change.yielded();
        }
        let failure = Failure::from_error(error);
        change.note(NoteKind::AttemptFailed, format!("{}: {}", failure.code, failure.message));
        if error.code == Code::DestinationExists {
            // An object of somebody else is there: no attempt's rename was done.
            change.record.prepared = None;
        }
        match error.code {
            Code::ChecksumMismatch => change.drop_progress("the bytes have the wrong checksum"),
            _ if is_of_another_version(error) => change.drop_progress("the source changed"),
            _ => {}
        }
        let has_one_version = change.record.distribution.is_some() && is_of_another_version(error);
        let retry = error.is_retryable() && error.code != Code::ChecksumMismatch && !has_one_version;
        change.record.error = Some(Failure { retryable: retry, ..failure });
        if !retry || change.record.failures >= change.record.retries {
            return change.apply(Event::Failed);
        }
        change.record.failures += 1;
        if change.record.pause_asked {
            return change.yielded();
        }
        let asked = match error.disposition {
            Disposition::Retry { after } => after.unwrap_or_default(),
            _ => std::time::Duration::ZERO,
        };
        let wait = self.inner.config.backoff.wait(change.record.failures, random).max(asked);
        change.yielded()?;
        change.record.not_before = Some(change.now.after(wait));
        Ok(())
    }
}

fn is_of_another_version(error: &Error) -> bool {
    error.code == Code::SourceChanged || error.disposition == Disposition::SourceChanged
}

impl Change {
    /// The attempt says itself that it has not committed what it had prepared, nor will it. What an earlier one had
    /// prepared, it may never have looked at.
    fn has_not_committed(&mut self, epoch: u64) {
        self.record.prepared = self.record.prepared.filter(|prepared| prepared.epoch != epoch);
    }

    /// The attempt ended because it was told to.
    fn stopped(&mut self, reason: Option<StopReason>) -> Result<(), LedgerError> {
        self.discarded = self.record.state == State::Canceling && reason == Some(StopReason::Cancel);
        self.note(
            NoteKind::AttemptStopped,
            match reason {
                Some(StopReason::Cancel) => "stopped to be canceled",
                Some(StopReason::Pause) => "stopped to be paused",
                Some(StopReason::LeaseLost) => "stopped without a lease",
                Some(StopReason::Shutdown) => "stopped because its executor shuts down",
                None => "stopped",
            },
        );
        self.yielded()
    }

    /// The attempt is over and nobody is to blame.
    pub(crate) fn yielded(&mut self) -> Result<(), LedgerError> {
        self.apply(if self.record.pause_asked { Event::YieldedToPause } else { Event::Yielded })
    }

    /// The next attempt begins anew.
    fn drop_progress(&mut self, why: &str) {
        let before = self.record.progress;
        self.record.start_over();
        self.record.prepared = None;
        self.ranges = Ranges::Drop;
        self.note(NoteKind::StartedOver, format!("{why}: progress fell from {before} to 0"));
    }
}
