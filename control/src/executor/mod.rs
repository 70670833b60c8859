//! Executors: the processes that move bytes, and how they talk to the ledger.
//!
//! `serve` runs a [`host`] that keeps one executor alive as its child, and [`routes`] on a Unix socket of its own,
//! through which executors claim transfers, renew leases and report. [`process`] is the executor's side. Both speak
//! the [`contract`].
//!
//! Executors of other hosts reach the same routes at the service's own address ([`door`]). What lets them in is a
//! certificate of the deployment's authority ([`membership`]), which also tells executors from strangers when they read
//! one another's objects. All of them go by the service's [`clock`]. On its own host, an executor can offer the service's API
//! ([`local_api`]).

pub mod client;
pub mod clock;
pub mod contract;
pub mod door;
pub mod host;
pub mod local_api;
pub mod membership;
pub mod process;
pub mod relay;
pub mod routes;
