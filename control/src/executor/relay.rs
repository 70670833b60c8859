//! Between one attempt, on its own thread, and the ledger: says what the attempt reports, again and again while the
//! service is not reached, and brings back the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use staccato_dataplane::attempt::{AttemptHandle, CheckpointReport, Completion, Outcome, Reply, Reporter, StopReason};
use staccato_protocols::{Code, Error};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use crate::{ledger::Prepared, model::TransferId};

use super::{
    client::{CallError, Client},
    contract::{About, Checkpoint, Committed, Message, Prepare, Release},
};

/// First and longest wait before a message is said again.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What an attempt reports. At most one checkpoint, one prepare and one end are ever in the channel.
pub(super) enum Told {
    Checkpoint(CheckpointReport),
    Prepare(Completion),
    Finished(Outcome),
}

/// The attempt's end of the channel.
pub(super) struct ChannelReporter {
    sender: UnboundedSender<Told>,
}

impl ChannelReporter {
    pub fn new() -> (Self, UnboundedReceiver<Told>) {
        let (sender, receiver) = unbounded_channel();
        (Self { sender }, receiver)
    }

    fn tell(&self, told: Told) {
        // When the relay is gone the process is ending, and nobody is left to be told.
        let _ = self.sender.send(told);
    }
}

impl Reporter for ChannelReporter {
    fn checkpoint(&mut self, report: CheckpointReport) {
        self.tell(Told::Checkpoint(report));
    }

    fn prepare(&mut self, completion: Completion) {
        self.tell(Told::Prepare(completion));
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        self.tell(Told::Finished(outcome));
    }
}

/// One attempt's line to the ledger.
pub(super) struct Relay {
    pub client: Client,
    pub executor: String,
    pub transfer: TransferId,
    pub epoch: u64,
    pub handle: AttemptHandle,
    /// How long the service may be unreachable before the attempt is given up.
    pub outage_max: Duration,
    /// Set when the attempt has ended and only the ledger has to hear of it.
    pub ended: Arc<AtomicBool>,
}

impl Relay {
    /// Relays until the attempt has ended and the ledger knows it (or does not want to).
    pub async fn run(self, mut told: UnboundedReceiver<Told>) {
        // Once refused, the attempt is not ours: only its end is waited for.
        let mut refused = false;
        loop {
            let message = told.recv().await.unwrap_or_else(|| {
                // Its thread died without a word; with it, all its I/O. How far it had come, nobody knows.
                let error =
                    Error::retry(Code::Internal, "the attempt ended without saying why; see the executor's log");
                Told::Finished(Outcome::CommitUnknown { error })
            });
            match message {
                Told::Finished(outcome) => {
                    self.ended.store(true, Ordering::Relaxed);
                    if !refused {
                        self.end(outcome).await;
                    }
                    return;
                }
                _ if refused => {}
                Told::Checkpoint(report) => match self.say(|| Checkpoint(report.clone())).await {
                    Ok(_) => self.handle.reply(Reply::Checkpointed),
                    Err(error) => refused = self.lost(&error),
                },
                Told::Prepare(completion) => match self.say(|| Prepare(completion)).await {
                    Ok((answer, asked)) => match answer.prepared {
                        Prepared::Allowed => {
                            let lease_until = asked + Duration::from_millis(answer.lease_ms);
                            self.handle.reply(Reply::Prepared { lease_until });
                        }
                        Prepared::Stop(reason) => self.handle.stop(reason),
                    },
                    Err(error) => refused = self.lost(&error),
                },
            }
        }
    }

    async fn end(&self, outcome: Outcome) {
        let (transfer, epoch) = (self.transfer, self.epoch);
        match &outcome {
            Outcome::Committed(Completion { bytes_total, bytes_fetched, .. }) => {
                tracing::info!(%transfer, epoch, bytes_total, bytes_fetched, "attempt committed");
            }
            Outcome::Stopped { reason } => tracing::info!(%transfer, epoch, ?reason, "attempt stopped"),
            Outcome::Failed { error } | Outcome::CommitUnknown { error } => {
                tracing::warn!(%transfer, epoch, code = %error.code, %error, "attempt failed");
            }
        }
        let ended = match outcome {
            // It knows already that nobody listens.
            Outcome::Stopped { reason: StopReason::LeaseLost } => return,
            Outcome::Committed(completion) => self.say(|| Committed(completion)).await.map(|_| ()),
            other => self.say(|| Release(other.clone())).await.map(|_| ()),
        };
        if let Err(error) = ended {
            tracing::warn!(transfer = %self.transfer, epoch = self.epoch, %error, "the end of an attempt was not recorded");
        }
    }

    fn lost(&self, error: &CallError) -> bool {
        tracing::warn!(transfer = %self.transfer, epoch = self.epoch, %error, "an attempt stops");
        self.handle.stop(StopReason::LeaseLost);
        true
    }

    /// Says something until it is answered, with the time on CLOCK_BOOTTIME before it was said.
    async fn say<T>(&self, body: impl Fn() -> T) -> Result<(<About<T> as Message>::Answer, Duration), CallError>
    where
        About<T>: Message,
    {
        let first = Instant::now();
        let mut wait = RETRY_WAIT.0;
        loop {
            let message =
                About { executor: self.executor.clone(), transfer: self.transfer, epoch: self.epoch, body: body() };
            let asked = boottime();
            match self.client.call(&message, Duration::ZERO).await {
                Ok(answer) => return Ok((answer, asked)),
                Err(CallError::Unreachable(_) | CallError::Expired | CallError::Unknown)
                    if first.elapsed() < self.outage_max =>
                {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(RETRY_WAIT.1);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Time on CLOCK_BOOTTIME: goes on while the machine sleeps, and is the same in every process.
pub(super) fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).expect("boot was not in the future"),
        u32::try_from(now.tv_nsec).expect("nanoseconds of a second"),
    )
}
