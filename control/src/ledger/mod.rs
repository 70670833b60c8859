//! The ledger: the only writer of transfers, and the only place where REST, scheduler and executors meet.
//!
//! Every command reads a record, decides with the pure tables of [`crate::model`], and commits the record, its indexes
//! and what belongs to them in one atomic write that fails if the record was written in between; then it tries again.
//! One command at a time works on one transfer. What commands promise:
//!
//! - What is acknowledged is durable.
//! - Epochs only grow. Whatever an executor sends with another epoch than the record's, or without holding its lease,
//!   is [`Refused`], and changes nothing.
//! - A final state stays. `progress` falls only with an event that says why.
//! - No command touches a committed destination.
//! - Leases are durations on this process's monotonic clock, in memory; after a restart they run in full again.
//!
//! Keys of the store are listed in `keys`; the commands have a file each.

pub mod config;
pub mod error;
pub(crate) mod keys;
pub mod lease;
pub mod seal;

mod cancel;
mod change;
mod checkpoint;
mod claim;
mod committed;
mod create;
mod credentials;
mod delete;
mod distribution;
mod executors;
mod fleet;
mod heartbeat;
mod hosts;
mod index;
mod open;
mod pause;
mod prepare;
mod query;
mod release;
mod resume;
mod schedule;
mod swarm;
mod sweep;
#[cfg(test)]
mod tests;
mod tick;
mod tokens;
mod unreadable;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ring::signature::Ed25519KeyPair;
use staccato_protocols::Registry;

pub(crate) use claim::CLAIMED_BYTES_MAX;
pub use config::{Backoff, Environment, LedgerConfig, SystemEnvironment};
pub use create::{CREATE_MAX, Created};
pub use credentials::{NamedCredentials, no_credential};
pub use distribution::{DISTRIBUTIONS_MAX, Distributed, DistributionKey, MemberPage, MembersQuery};
pub use error::{LedgerError, Refused};
pub use executors::ExecutorProcess;
pub(crate) use fleet::Files;
pub use heartbeat::{Directive, Held, Offered};
pub use hosts::{INVITATION_LIFE_DEFAULT, Invitation, JoinRefused, NotEnrolled};
pub(crate) use hosts::{reachable, write_key};
pub use index::INDEXES;
pub(crate) use index::WorkEntry;
pub use prepare::Prepared;
pub use query::{ListQuery, Page};
pub use seal::Seal;
pub use swarm::SwarmNews;
pub use sweep::Sweep;
pub use tokens::TokenRefused;

use crate::{
    model::{ProblemCode, TransferId},
    store::SharedStore,
};
use fleet::Fleet;
use lease::Leases;

/// The ledger. Cheap to clone.
///
/// For the REST API: [`Ledger::create`], [`Ledger::create_each`], [`Ledger::get`], [`Ledger::list`],
/// [`Ledger::cancel`], [`Ledger::pause`], [`Ledger::resume`], [`Ledger::delete`], [`Ledger::token`],
/// [`Ledger::create_token`], [`Ledger::tokens`], [`Ledger::revoke_token`], [`Ledger::set_credential`],
/// [`Ledger::credentials`], [`Ledger::find_credential`], [`Ledger::named_credentials`], [`Ledger::delete_credential`], [`Ledger::invite`],
/// [`Ledger::executor_documents`], [`Ledger::forget_host`]; of distributions [`Ledger::distribute`],
/// [`Ledger::distribution_document`], [`Ledger::distribution_documents`], [`Ledger::distribution_members`],
/// [`Ledger::act_on_distribution`], [`Ledger::add_to_distribution`], [`Ledger::remove_from_distribution`],
/// [`Ledger::delete_distribution`]. For the scheduler: [`Ledger::mark_ready`]. For executors:
/// [`Ledger::enrol`], [`Ledger::join`], [`Ledger::heard`], [`Ledger::leave`], [`Ledger::claim`], [`Ledger::heartbeat`], [`Ledger::checkpoint`],
/// [`Ledger::prepare`], [`Ledger::committed`], [`Ledger::release`], [`Ledger::claim_sweeps`], [`Ledger::sweep_done`].
/// For `serve`: [`Ledger::open`], [`Ledger::run`], [`Ledger::register_executor`], [`Ledger::release_executor`].
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

/// Whose transfers a client sees. Others do not exist for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// One owner's.
    Owner(String),
}

/// What the ledger has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerStats {
    /// Transfers created.
    pub created: u64,
    /// Attempts begun.
    pub attempts: u64,
    /// Attempts that failed with a further try left.
    pub retried: u64,
    /// Leases that expired or were released for a dead executor.
    pub leases_lost: u64,
    /// Transfers completed.
    pub completed: u64,
    /// Transfers failed for good.
    pub failed: u64,
    /// Transfers canceled.
    pub canceled: u64,
    /// Records found that this version cannot read.
    pub unreadable: u64,
    /// Bytes of completed transfers.
    pub bytes_completed: u64,
    /// Bytes that executors read from sources.
    pub bytes_fetched: u64,
}

impl Scope {
    pub(crate) fn sees(&self, owner: &str) -> bool {
        match self {
            Self::All => true,
            Self::Owner(own) => own == owner,
        }
    }
}

pub(crate) struct Inner {
    store: SharedStore,
    seal: Seal,
    /// What signs tickets.
    ticket_key: Ed25519KeyPair,
    registry: Registry,
    config: LedgerConfig,
    environment: Arc<dyn Environment>,
    last_id: Mutex<Option<TransferId>>,
    leases: Mutex<Leases>,
    sweeps_out: Mutex<sweep::SweepsOut>,
    distributions: Mutex<distribution::Distributions>,
    swarms: Mutex<swarm::Swarms>,
    /// One grant of a source at a time.
    swarms_turn: tokio::sync::Mutex<()>,
    executors: Mutex<HashMap<String, ExecutorProcess>>,
    /// Keys of the first [`UNREADABLE_MAX`] records that were found to be unreadable.
    unreadable: Mutex<BTreeSet<String>>,
    /// Hosts that have enrolled, and executors that have joined.
    fleet: Mutex<Fleet>,
    /// One change of hosts at a time.
    hosts_turn: tokio::sync::Mutex<()>,
    /// The last [`GONE_MAX`] executors that are known to have ended.
    gone: Mutex<BTreeSet<String>>,
    /// Whether there is a token.
    has_tokens: AtomicBool,
    /// One change of tokens at a time.
    tokens_turn: tokio::sync::Mutex<()>,
    /// One change of credentials at a time.
    credentials_turn: tokio::sync::Mutex<()>,
    /// Rings when a transfer becomes ready or a sweep is due: long polls of claims look again.
    work: tokio::sync::watch::Sender<u64>,
    /// One command at a time on one transfer; commands on different transfers rarely share a stripe.
    stripes: [Arc<tokio::sync::Mutex<()>>; STRIPES],
    counters: Counters,
}

const STRIPES: usize = 64;
/// Names of dead executors that are remembered. They begin with the time of their start, so the oldest are forgotten.
const GONE_MAX: usize = 1024;
/// Unreadable records that are remembered. Those that take a slot are found first; of further ones nothing is said.
const UNREADABLE_MAX: usize = 100_000;

#[derive(Default)]
struct Counters {
    created: AtomicU64,
    attempts: AtomicU64,
    retried: AtomicU64,
    leases_lost: AtomicU64,
    completed: AtomicU64,
    failed: AtomicU64,
    canceled: AtomicU64,
    bytes_completed: AtomicU64,
    bytes_fetched: AtomicU64,
}

impl Ledger {
    /// How it was configured.
    pub fn config(&self) -> &LedgerConfig {
        &self.inner.config
    }

    /// The protocols it knows.
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The store behind it, for whoever watches it. Only the ledger writes.
    pub fn store(&self) -> &SharedStore {
        &self.inner.store
    }

    /// What it has done since it was opened.
    pub fn stats(&self) -> LedgerStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.inner.counters;
        LedgerStats {
            created: of(&counters.created),
            attempts: of(&counters.attempts),
            retried: of(&counters.retried),
            leases_lost: of(&counters.leases_lost),
            completed: of(&counters.completed),
            failed: of(&counters.failed),
            canceled: of(&counters.canceled),
            unreadable: self.inner.unreadable.lock().expect(change::POISON).len() as u64,
            bytes_completed: of(&counters.bytes_completed),
            bytes_fetched: of(&counters.bytes_fetched),
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What a command found, or `otherwise` when the transfer is no more.
fn gone_is<T>(result: Result<T, LedgerError>, otherwise: T) -> Result<T, LedgerError> {
    match result {
        Err(LedgerError::Problem(problem)) if problem.code == ProblemCode::TransferNotFound => Ok(otherwise),
        other => other,
    }
}

/// What an executor hears: its transfer may be no more.
fn refused_if_gone<T>(result: Result<T, LedgerError>, id: TransferId, epoch: u64) -> Result<T, LedgerError> {
    match result {
        Err(LedgerError::Problem(problem)) if problem.code == ProblemCode::TransferNotFound => {
            Err(Refused { transfer: id, epoch, why: "the transfer was deleted" }.into())
        }
        other => other,
    }
}
