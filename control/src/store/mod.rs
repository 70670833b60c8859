//! Where the ledger keeps its records.
//!
//! [`contract`] says what a store promises, [`conformance`] checks it on any store. [`SledStore`] is the embedded one,
//! [`MemoryStore`] is for tests and simulation.

pub mod conformance;
pub mod contract;

mod digest;
mod effects;
#[cfg(test)]
pub(crate) mod faulty;
mod journal;
mod memory;
mod sled;
mod table;
mod watch;

pub use contract::{
    Commit, CommitError, Derive, Event, Precondition, Record, Revision, SharedStore, Store, StoreError, Watch, Write,
};
pub use memory::MemoryStore;
pub use sled::{SledOptions, SledStore};
