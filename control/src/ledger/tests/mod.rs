//! What the ledger promises, by theme. Time and randomness are the fixture's, so that nothing waits and every failure
//! comes again.

mod actions;
mod asking;
mod attempts;
mod create;
mod credentials;
mod distributions;
mod fixture;
mod hosts;
mod invariants;
mod leases;
mod list;
mod pace;
mod random;
mod retries;
mod secrets;
mod sweeps;
mod tokens;
mod unreadable;

use fixture::{Fixture, completion, is_refused, problem, report};
