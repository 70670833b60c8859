//! One try at one transfer.

mod port;
pub(crate) mod run;
mod spec;
mod spool;
pub(crate) mod stages;
pub mod swarm;
mod wanted;

pub use port::{AttemptHandle, Notice, Reply, Reporter};
pub use spec::{
    AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Prepared, SignedTicket, SourceOwner,
    StartOver, StopReason, TransportChoice, VerifiedRange,
};
pub use staccato_protocols::checksum::{Checksum, ChecksumKind};
pub use stages::StageTimes;
