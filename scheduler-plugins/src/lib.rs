//! Scheduling policies as pure functions: a [`Snapshot`] goes in, [`Decision`]s with reasons come out.
//!
//! Nothing here sees a clock, a file, a socket, a runtime or a global: what time it is stands in the snapshot, so that
//! a seeded simulation can drive a policy. [`slots`] is the first policy; [`conformance`] holds what every policy
//! promises, as a suite that anybody can run on their own.

#![warn(missing_docs)]

pub mod conformance;
pub mod contract;
pub mod slots;

pub use contract::{Decision, Executor, Link, Plugin, Running, Snapshot, Waiting};
pub use slots::Slots;
pub use uuid::Uuid;
