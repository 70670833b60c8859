//! What happens by itself as time passes.

use std::time::Duration;

use crate::model::{State, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, change::POISON, executors::Loss, gone_is, keys};

/// How often the ledger looks at its clocks.
const TICK: Duration = Duration::from_millis(200);
/// Waits that are ended in one tick; the rest follows in the next.
const DUE_MAX: usize = 1024;

impl Ledger {
    /// Ends leases, waits and times in the line as they run out, and does what is due to distributions, for ever. `serve`
    /// runs it beside everything else; a store that fails is logged and asked again.
    pub async fn run(&self) {
        tokio::join!(self.keep_time(), self.keep_distributions());
    }

    async fn keep_time(&self) {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if let Err(error) = self.tick().await {
                tracing::error!(%error, "the ledger could not do what is due; it will try again");
            }
        }
    }

    /// Does once what is due.
    pub async fn tick(&self) -> Result<(), LedgerError> {
        for process in self.executors() {
            if !self.inner.environment.is_alive(&process) {
                self.release_executor(&process.instance).await?;
            }
        }
        let monotonic = self.inner.environment.monotonic();
        let (expired, unclaimed) = {
            let leases = self.inner.leases.lock().expect(POISON);
            (leases.expired(monotonic), leases.unclaimed(monotonic))
        };
        for (id, epoch) in expired {
            self.lose(id, epoch, Loss::Expired).await?;
        }
        for id in unclaimed {
            let queued = self
                .change(id, |change| {
                    if change.record.state == State::Ready {
                        change.apply(Event::Unclaimed)?;
                        change.note(NoteKind::Unclaimed, "no executor took it in time");
                    }
                    Ok(())
                })
                .await;
            self.skip_unreadable(gone_is(queued, ()), ())?;
        }
        self.queue_what_waited().await?;
        self.heal_swarms().await?;
        if self.sweep_is_due().await? {
            self.ring();
        }
        Ok(())
    }

    /// Moves transfers whose wait is over into the queue.
    async fn queue_what_waited(&self) -> Result<(), LedgerError> {
        let now = self.inner.environment.now();
        let end = keys::due_end(keys::BACKOFF, now);
        let mut start = keys::BACKOFF.to_vec();
        loop {
            let due = self.inner.store.range(&start, &end, DUE_MAX, false).await?;
            let readable: Vec<_> = due.iter().filter_map(|(key, _)| self.indexed(key)).collect();
            for id in &readable {
                let queued = self
                    .change(*id, |change| {
                        if change.record.not_before.is_some_and(|time| time <= now) {
                            change.record.not_before = None;
                        }
                        Ok(())
                    })
                    .await;
                self.skip_unreadable(gone_is(queued, ()), ())?;
            }
            match due.last() {
                // None but those that were set aside, and they stay: what can be done lies behind them.
                Some((last, _)) if due.len() == DUE_MAX && readable.is_empty() => {
                    start.clone_from(last);
                    start.push(0);
                }
                _ => return Ok(()),
            }
        }
    }
}
