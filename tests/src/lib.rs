//! What whole-system tests stand on: the built binary as a service, its processes, disks of their own.
//!
//! Every test starts its own [`service::Service`] on a free port of the loopback interface, with a data folder and a
//! root of its own, and ends what it started. Nothing here is a mock: the service is the binary that users run.

#![warn(missing_docs)]

pub mod binary;
pub mod bytes;
pub mod capabilities;
pub mod deployment;
pub mod disk;
pub mod fleet;
pub mod process;
pub mod seccomp;
pub mod service;
pub mod strace;
pub mod user;
pub mod wrong_clock;
