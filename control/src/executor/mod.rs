//! Executors: the processes that move bytes, and how they talk to the ledger.
//!
//! `serve` runs a [`host`] that keeps one executor alive as its child, and [`routes`] on a Unix socket of its own,
//! through which executors claim transfers, renew leases and report. [`process`] is the executor's side. Both speak
//! the [`contract`].

pub mod client;
pub mod contract;
pub mod host;
pub mod process;
pub mod relay;
pub mod routes;
