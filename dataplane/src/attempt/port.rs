//! The door between an attempt and whoever keeps the ledger.
//!
//! An attempt runs on a thread of its own. It tells the keeper of the ledger what it has reached through a [`Reporter`]
//! and hears back through its [`AttemptHandle`]. Nothing here blocks: while an answer is outstanding (the keeper may be
//! unreachable for minutes) the attempt goes on filling its partial; it commits nothing before the answer is there.

use std::time::Duration;

use super::{CheckpointReport, Completion, Outcome, StopReason, swarm::SwarmSpec};

/// Where an attempt reports to. Methods return at once; answers come through [`AttemptHandle::reply`].
pub trait Reporter: Send {
    /// More is durable. At most one is outstanding: the next comes after [`Reply::Checkpointed`].
    fn checkpoint(&mut self, report: CheckpointReport);

    /// Everything is durable and verified: may it be given its name? Answered by [`Reply::Prepared`], or by a stop.
    fn prepare(&mut self, completion: Completion);

    /// The attempt has ended: no I/O of it is in flight, no descriptor open. The last call.
    fn finished(self: Box<Self>, outcome: Outcome);
}

/// The keeper's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The last checkpoint is recorded.
    Checkpointed,
    /// The commit is recorded as prepared and may be done before this time of CLOCK_BOOTTIME; later the lease may have
    /// gone to somebody else.
    Prepared {
        /// Time on CLOCK_BOOTTIME.
        lease_until: Duration,
    },
}

/// What comes in from outside while an attempt runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An answer of the keeper.
    Reply(Reply),
    /// Stop, and say so with [`Outcome::Stopped`].
    Stop(StopReason),
    /// Who the other members are, and what may be read of the source, from now on.
    Swarm(Box<SwarmSpec>),
}

/// Holds on to a running attempt. Cheap to clone; calls on an attempt that has ended do nothing.
#[derive(Clone)]
pub struct AttemptHandle {
    deliver: std::sync::Arc<dyn Fn(Notice) + Send + Sync>,
}

impl AttemptHandle {
    /// A handle that hands notices to `deliver`.
    pub fn new(deliver: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self { deliver: std::sync::Arc::new(deliver) }
    }

    /// Hands over an answer of the keeper.
    pub fn reply(&self, reply: Reply) {
        (self.deliver)(Notice::Reply(reply));
    }

    /// Tells who the other members of its distribution are, and what it may read of the source, from now on.
    pub fn refresh(&self, swarm: SwarmSpec) {
        (self.deliver)(Notice::Swarm(Box::new(swarm)));
    }

    /// Asks the attempt to stop. It waits for I/O in flight, then calls [`Reporter::finished`].
    pub fn stop(&self, reason: StopReason) {
        (self.deliver)(Notice::Stop(reason));
    }
}
