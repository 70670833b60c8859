//! The contract between the scheduler and a policy.

use uuid::Uuid;

/// Most waiting transfers in a snapshot, unless the service is configured otherwise.
pub const WINDOW_DEFAULT: usize = 1024;
/// Longest reason, in bytes; longer ones are cut where they are recorded.
pub const REASON_BYTES_MAX: usize = 200;
/// Highest priority.
pub const PRIORITY_MAX: u8 = 9;

/// A scheduling policy.
///
/// What every policy promises (checked by [`crate::conformance`]):
///
/// - It decides by the snapshot alone: the same snapshot gives the same decisions.
/// - It starts only transfers that wait in the snapshot, each at most once, each with a reason.
/// - It does not starve: when transfers run to their end and no new ones come, each waiting one is started at some
///   time.
///
/// Decisions may come too late (a client was faster); the ledger ignores those.
pub trait Plugin: Send + Sync + 'static {
    /// What it is called in logs, in small letters and `_`.
    fn name(&self) -> &str;

    /// Which waiting transfers shall be started now, in this order.
    fn decide(&self, snapshot: &Snapshot) -> Vec<Decision>;
}

/// What a policy sees. Bounded: however many transfers wait, only the first of them are in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// The first of the transfers that wait: highest priority first, within a priority in the order of submission.
    pub waiting: Vec<Waiting>,
    /// Whether more wait than are shown.
    pub more_waiting: bool,
    /// Transfers that were started and have not ended: also those that no executor has taken yet and those that are
    /// stopping.
    pub running: Vec<Running>,
    /// Executors that can be given something.
    pub executors: Vec<Executor>,
}

/// A transfer that waits. Ids sort in the order of submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The transfer.
    pub id: Uuid,
    /// 0 to [`PRIORITY_MAX`], which goes first.
    pub priority: u8,
    /// Whose it is.
    pub owner: String,
    /// When it was submitted, in milliseconds since 1970.
    pub submitted_ms: u64,
    /// Between which hosts it goes.
    pub link: Link,
    /// The executor that will run it, which is one of the snapshot's; none: any.
    pub at: Option<String>,
}

/// A transfer that was started and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The transfer.
    pub id: Uuid,
    /// Its priority.
    pub priority: u8,
    /// Whose it is.
    pub owner: String,
    /// Between which hosts it goes.
    pub link: Link,
    /// The executor that runs it; none: any of them.
    pub at: Option<String>,
}

/// A pair of hosts; an empty name is the service's own host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// Where the bytes come from.
    pub source: String,
    /// Where they go.
    pub destination: String,
}

/// An executor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executor {
    /// Its host; an empty name is the service's own.
    pub name: String,
    /// Transfers that it runs at a time, where it says that.
    pub slots: Option<usize>,
}

/// Start this transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub id: Uuid,
    /// Why now, in words for people; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}
