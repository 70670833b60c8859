//! The control plane: REST API, ledger, store, scheduler loop, executor host, and the commands of the binary
//! `staccato`.

#![warn(missing_docs)]

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod copy;
pub mod credentials;
pub mod demo;
pub mod executor;
pub mod folder;
pub mod ledger;
pub mod listeners;
pub mod model;
pub mod pki;
pub mod places;
pub mod policy;
pub mod scheduler;
pub mod serve;
pub mod signals;
pub mod store;
pub mod tls;
