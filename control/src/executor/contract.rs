//! What executors and the ledger say to each other: JSON over HTTP, `POST /executor/v1/NAME`.
//!
//! | name | what it says |
//! | --- | --- |
//! | `enrol` | vouch for my key: with an invitation, or again before my certificate ends |
//! | `join` | I run, and this is what I have |
//! | `leave` | I end |
//! | `claim` | I have room for so many attempts: is there something to do? Waits for it (long poll). |
//! | `heartbeat` | I run these attempts: their leases run in full again from the receipt. Waits for directives. |
//! | `checkpoint` | this much is durable |
//! | `prepare` | everything is durable: may I give it its name? |
//! | `committed` | it has its name |
//! | `release` | an attempt is over |
//! | `swept` | a sweep is done, or failed |
//!
//! Answers: 200; 401 with [`Refusal`]: join first (the service has begun anew); 409: the attempt is not yours (any more),
//! stop and touch nothing; 410: you are not wanted (any more), end; 503: try again; any other status is a defect of the
//! executor. What is not answered was perhaps recorded: every message may be repeated.
//!
//! Leases are durations. The ledger counts from the receipt of what renewed them, the executor, on CLOCK_BOOTTIME, from
//! before it asked; so the executor's end never lies behind the ledger's.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use staccato_dataplane::{
    attempt::{AttemptSpec, CheckpointReport, Completion, Outcome},
    transport::peers::{LinkReport, Refusals},
};

use crate::{
    ledger::{CLAIMED_BYTES_MAX, Directive, Held, Offered, Prepared, SwarmNews, Sweep},
    model::{HostName, TransferId, host::Announcement},
};

/// Largest body, in bytes: attempts with long checkpoints, in an answer to `claim`.
pub const BODY_BYTES_MAX: usize = 20 << 20;
const _: () = assert!(CLAIMED_BYTES_MAX < BODY_BYTES_MAX);

/// A message of an executor and its answer.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {
    /// The last part of its path.
    const NAME: &'static str;
    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// Vouch for my key. Shown with an invitation (`Authorization: Bearer`), or over a connection with the certificate that is
/// to be renewed; on the service's own socket neither is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrol {
    /// What the executor's host is called; none where the service knows.
    pub name: Option<HostName>,
    /// A certificate signing request (RFC 2986, PEM), for the key; what else it asks for is not looked at.
    pub request: String,
}

/// The service vouches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// What the host is called.
    pub name: HostName,
    /// Its certificate (PEM).
    pub certificate: String,
    /// Those of the deployment's authority (PEM).
    pub ca: String,
    /// What verifies tickets (Ed25519), in hex.
    pub ticket_key: String,
    /// From when on the certificate is to be renewed, in milliseconds since 1970 on the service's clock.
    pub renew_after_ms: u64,
    /// The time on the service's clock.
    pub control_time_ms: u64,
}

/// I run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Who: a new name at every start.
    pub executor: String,
    /// What it has.
    pub announced: Announcement,
}

/// The service knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// How long leases run, in milliseconds.
    pub lease_ms: u64,
    /// Longest time between heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long to go on while the service is not reached, in milliseconds.
    pub outage_max_ms: u64,
    /// The time on the service's clock.
    pub control_time_ms: u64,
}

/// I end, and hold nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leave {
    /// Who.
    pub executor: String,
}

/// I have room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who asks.
    pub executor: String,
    /// Most attempts that are wanted; at 0 only sweeps are.
    pub attempts_max: usize,
    /// How long to wait for something, in milliseconds; the ledger may answer earlier.
    pub wait_ms: u64,
}

/// Something to do, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Attempts to run.
    pub attempts: Vec<AttemptSpec>,
    /// How long its lease runs, in milliseconds.
    pub lease_ms: u64,
    /// What is to be removed.
    pub sweeps: Vec<Sweep>,
}

/// I am alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Who.
    pub executor: String,
    /// What it runs.
    pub held: Vec<Held>,
    /// How long to wait for directives, in milliseconds; the ledger may answer earlier.
    pub wait_ms: u64,
    /// What it still offers of distributions.
    #[serde(default)]
    pub offers: Vec<Offered>,
    /// What it knows of its links to other hosts.
    #[serde(default)]
    pub links: Vec<LinkReport>,
    /// Whom it has turned away since it started.
    #[serde(default)]
    pub refusals: Refusals,
}

/// What to do about the attempts that run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directives {
    /// For each attempt at most one.
    pub directives: Vec<Directive>,
    /// What members of distributions are to know from now on.
    #[serde(default)]
    pub swarms: Vec<SwarmNews>,
    /// Transfers whose copies nobody wants any more.
    #[serde(default)]
    pub over: Vec<TransferId>,
    /// How long leases run, in milliseconds.
    pub lease_ms: u64,
    /// The time on the service's clock: milliseconds since 1970.
    pub control_time_ms: u64,
}

/// About one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About<T> {
    /// Who runs it.
    pub executor: String,
    /// Which transfer.
    pub transfer: TransferId,
    /// Which attempt.
    pub epoch: u64,
    /// What about it.
    pub body: T,
}

/// More is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint(pub CheckpointReport);

/// May it be given its name?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare(pub Completion);

/// The answer to [`Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareAnswer {
    /// Yes, or stop.
    pub prepared: Prepared,
    /// How long the lease runs, in milliseconds.
    pub lease_ms: u64,
}

/// It has its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed(pub Completion);

/// It is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release(pub Outcome);

/// A sweep has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swept {
    /// Whose leavings.
    pub transfer: TransferId,
    /// What went wrong, if something did.
    pub failure: Option<String>,
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {}

/// The body of a 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub refused: String,
}

impl Message for Enrol {
    const NAME: &'static str = "enrol";
    type Answer = Enrolled;
}

impl Message for Join {
    const NAME: &'static str = "join";
    type Answer = Joined;
}

impl Message for Leave {
    const NAME: &'static str = "leave";
    type Answer = Noted;
}

impl Message for Claim {
    const NAME: &'static str = "claim";
    type Answer = Claimed;
}

impl Message for Heartbeat {
    const NAME: &'static str = "heartbeat";
    type Answer = Directives;
}

impl Message for About<Checkpoint> {
    const NAME: &'static str = "checkpoint";
    type Answer = Noted;
}

impl Message for About<Prepare> {
    const NAME: &'static str = "prepare";
    type Answer = PrepareAnswer;
}

impl Message for About<Committed> {
    const NAME: &'static str = "committed";
    type Answer = Noted;
}

impl Message for About<Release> {
    const NAME: &'static str = "release";
    type Answer = Noted;
}

impl Message for Swept {
    const NAME: &'static str = "swept";
    type Answer = Noted;
}
