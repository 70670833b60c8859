//! What is to be done to distributions: making members, passing on what clients asked, stopping what must stop, noticing
//! ends.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::{
    model::{
        Action, ProblemCode, State, TransferId,
        distribution::{Figures, Stop},
    },
    store::Write,
};

use super::Distribution;
use crate::ledger::{Ledger, LedgerError, Scope, change::POISON, gone_is, keys};

/// How often distributions are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Members that are told something at a time: their commits share a group of the journal.
const TOLD_TOGETHER: usize = 64;

impl Ledger {
    /// Does what is to be done to distributions, for ever; a store that fails is logged and asked again.
    pub(crate) async fn keep_distributions(&self) {
        let mut timer = tokio::time::interval(LOOK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            for id in self.distributions_due() {
                if let Err(error) = self.keep(id).await {
                    tracing::error!(distribution = %id, %error, "what is due could not be done; it will be tried again");
                }
            }
        }
    }

    /// The distributions to which something is to be done.
    pub(crate) fn distributions_due(&self) -> Vec<TransferId> {
        let now = self.inner.environment.now();
        let is_due = |known: &Distribution| {
            let ended = known.state().is_ended();
            known.pending > 0
                || known.record.asked.is_some()
                || known.record.must_stop(&known.rollup, known.pending, false, now).is_some()
                || known.record.finished_at.is_some() != ended
        };
        let known = self.inner.distributions.lock().expect(POISON);
        known.iter().filter(|(_, known)| is_due(known)).map(|(id, _)| *id).collect()
    }

    /// Does what is to be done to a distribution behind the caller's back.
    pub(super) fn keep_soon(&self, id: TransferId) {
        let ledger = self.clone();
        tokio::spawn(async move {
            if let Err(error) = ledger.keep(id).await {
                tracing::warn!(distribution = %id, %error, "what is due could not be done; it will be tried again");
            }
        });
    }

    /// Does what is to be done to a distribution. One that is gone needs nothing.
    pub(crate) async fn keep(&self, id: TransferId) -> Result<(), LedgerError> {
        // On a task of its own: memory follows the store whatever becomes of the caller.
        let ledger = self.clone();
        let keeping = tokio::spawn(async move {
            match ledger.keep_in_turn(id).await {
                Err(LedgerError::Problem(problem)) if problem.code == ProblemCode::DistributionNotFound => Ok(()),
                kept => kept,
            }
        });
        keeping.await.expect("it does not panic and is not aborted")
    }

    async fn keep_in_turn(&self, id: TransferId) -> Result<(), LedgerError> {
        let keeping = self.distribution(id, &Scope::All, |known| known.keeping.clone())?;
        let _keeping = keeping.lock().await;
        if self.distribution(id, &Scope::All, |known| known.record.asked == Some(Action::Delete))? {
            return self.forget_distribution(id).await;
        }
        self.make_members(id).await?;
        self.stop_what_must(id).await?;
        self.pass_on(id).await?;
        self.note_end(id).await
    }

    /// Cancels what is not complete where too much has failed, or the deadline passed.
    async fn stop_what_must(&self, id: TransferId) -> Result<(), LedgerError> {
        let (now, exhausted) = (self.inner.environment.now(), self.is_source_exhausted(id));
        self.change_distribution(id, &Scope::All, |record, known| {
            if let Some(stop) = record.must_stop(&known.rollup, known.pending, exhausted, now) {
                tracing::info!(distribution = %id, code = stop.code.as_str(), "a distribution stops");
                record.stop(stop);
            }
            Ok(((), Vec::new()))
        })
        .await
    }

    /// Stops a distribution for this reason. One that is gone needs nothing.
    pub(in crate::ledger) async fn stop_distribution(&self, id: TransferId, stop: Stop) -> Result<(), LedgerError> {
        let stopped = self.change_distribution(id, &Scope::All, |record, _| {
            record.stop(stop);
            Ok(((), Vec::new()))
        });
        match stopped.await {
            Err(LedgerError::Problem(problem)) if problem.code == ProblemCode::DistributionNotFound => Ok(()),
            stopped => stopped,
        }
    }

    /// Tells all members what was asked. Some may not be able to do it now (a commit is being done): while these have not
    /// ended, a distribution that is to be canceled goes on asking.
    async fn pass_on(&self, id: TransferId) -> Result<(), LedgerError> {
        let record = self.distribution(id, &Scope::All, |known| known.record.clone())?;
        let (Some(action), asks) = (record.asked, record.asks) else { return Ok(()) };
        let why = record.stopped.map_or("canceled by a client with its distribution".to_owned(), |stop| {
            format!("its distribution has stopped: {}", stop.code.as_str())
        });
        self.tell(id, action, &why).await?;
        let asked_again = self
            .change_distribution(id, &Scope::All, |record, known| {
                let left = known.rollup.unended().saturating_sub(known.rollup.of(State::Canceling));
                let done = action != Action::Cancel || left == 0;
                if done && record.asks == asks {
                    record.asked = None;
                }
                Ok((record.asks != asks, Vec::new()))
            })
            .await?;
        if asked_again { Box::pin(self.pass_on(id)).await } else { Ok(()) }
    }

    pub(super) async fn tell(&self, id: TransferId, action: Action, why: &str) -> Result<(), LedgerError> {
        let concerns = |figures: &Figures| match action {
            Action::Cancel => !figures.state.is_ended() && figures.state != State::Canceling,
            Action::Pause => matches!(figures.state, State::New | State::Ready | State::Running),
            Action::Resume => matches!(figures.state, State::Paused | State::Error),
            Action::Delete => true,
        };
        let members = self.members(id).await?.into_iter().filter(|(_, figures)| concerns(figures));
        let mut told = stream::iter(members)
            .map(|(member, _)| async move {
                let all = Scope::All;
                let answer = match action {
                    Action::Cancel => self.cancel_because(member, &all, why).await.map(drop),
                    Action::Pause => self.pause(member, &all).await.map(drop),
                    Action::Resume => self.resume(member, &all).await.map(drop),
                    Action::Delete => self.delete(member, &all).await.map(drop),
                };
                match answer {
                    // It has ended meanwhile, its commit is being done, or its destination is somebody else's by now.
                    Err(LedgerError::Problem(problem))
                        if matches!(problem.code, ProblemCode::StateConflict | ProblemCode::DestinationBusy) =>
                    {
                        Ok(())
                    }
                    answer => self.skip_unreadable(gone_is(answer, ()), ()),
                }
            })
            .buffer_unordered(TOLD_TOGETHER);
        while let Some(answer) = told.next().await {
            answer?;
        }
        Ok(())
    }

    /// Notes when the last member has ended, and drops secrets that nobody can need any more.
    async fn note_end(&self, id: TransferId) -> Result<(), LedgerError> {
        let now = self.inner.environment.now();
        self.change_distribution(id, &Scope::All, |record, known| {
            let state = record.state(&known.rollup, known.pending);
            record.finished_at = if state.is_ended() { record.finished_at.or(Some(now)) } else { None };
            let mut writes = Vec::new();
            if state.is_final() && record.pattern.sealed {
                record.pattern.sealed = false;
                writes.push(Write::Delete(keys::secrets(id)));
            }
            Ok(((), writes))
        })
        .await
    }
}
