//! `heartbeat`: an executor is alive; its leases run in full again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use staccato_dataplane::attempt::StopReason;

use crate::model::TransferId;

use super::{Ledger, change::POISON};

/// How often it is looked whether members of distributions are to be told something.
const SWARM_LOOK: Duration = Duration::from_millis(50);

/// An attempt that an executor runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Which transfer.
    pub transfer: TransferId,
    /// Which attempt.
    pub epoch: u64,
    /// The reason for which it is stopping already.
    pub stopping: Option<StopReason>,
    /// The distribution whose member it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<TransferId>,
}

/// What an executor still offers of a distribution, its own attempt being over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offered {
    /// Which distribution.
    pub distribution: TransferId,
    /// The transfer that wrote the copy.
    pub transfer: TransferId,
}

/// What an executor is to do about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directive {
    /// Which transfer.
    pub transfer: TransferId,
    /// Which attempt.
    pub epoch: u64,
    /// Stop it, for this reason.
    pub stop: StopReason,
}

impl Ledger {
    /// Renews the leases of the attempts that `executor` runs, from the moment of this call, and returns what it is to
    /// do. An attempt that has lost its lease is to stop with [`StopReason::LeaseLost`].
    pub fn heartbeat(&self, executor: &str, held: &[Held]) -> Vec<Directive> {
        let expires = self.inner.environment.monotonic() + self.inner.config.lease;
        let mut leases = self.inner.leases.lock().expect(POISON);
        if !self.is_gone(executor) {
            for attempt in held {
                leases.renew(attempt.transfer, executor, attempt.epoch, expires);
            }
        }
        drop(leases);
        self.directives(executor, held)
    }

    /// What `executor` is to do about the attempts it runs, as far as it does not do it already.
    pub fn directives(&self, executor: &str, held: &[Held]) -> Vec<Directive> {
        let leases = self.inner.leases.lock().expect(POISON);
        let directive = |attempt: &Held| {
            let lease =
                leases.get(attempt.transfer).filter(|lease| lease.epoch == attempt.epoch && lease.executor == executor);
            let stop = lease.map_or(Some(StopReason::LeaseLost), |lease| lease.stop)?;
            let news = attempt.stopping != Some(stop);
            news.then_some(Directive { transfer: attempt.transfer, epoch: attempt.epoch, stop })
        };
        held.iter().filter_map(directive).collect()
    }

    /// [`Ledger::heartbeat`], and if there is nothing to do, a wait for something, for at most `wait`.
    pub async fn heartbeat_wait(&self, executor: &str, held: &[Held], wait: Duration) -> Vec<Directive> {
        let mut bell = self.bell();
        let mut directives = self.heartbeat(executor, held);
        let deadline = tokio::time::sleep(wait.min(self.inner.config.heartbeat));
        tokio::pin!(deadline);
        while directives.is_empty() && !self.has_swarm_news(held) {
            tokio::select! {
                () = &mut deadline => break,
                () = tokio::time::sleep(SWARM_LOOK), if held.iter().any(|held| held.distribution.is_some()) => {}
                rung = bell.changed() => {
                    if rung.is_err() {
                        break;
                    }
                    directives = self.directives(executor, held);
                }
            }
        }
        directives
    }

    /// Rings whenever leases, the line of ready transfers or sweeps change.
    pub fn bell(&self) -> tokio::sync::watch::Receiver<u64> {
        self.inner.work.subscribe()
    }
}
