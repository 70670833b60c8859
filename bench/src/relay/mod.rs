//! Delay, loss and a bounded rate between two ends, for a kernel that has no `netem`.
//!
//! [`Conditions`] say what a path is like; a [`OneWay`] is one direction of it: pure, without a clock, the same for the same
//! seed. [`tun`] is the shell around two of them: two TUN devices and a thread; [`weather`] is what changes meanwhile.

mod conditions;
mod one_way;
pub mod tun;
pub mod weather;

pub use conditions::{Conditions, QUEUE_BYTES_MIN, parse_rate, parse_share};
pub use one_way::{Counts, HELD_BYTES_MAX, LATE_MIN, OneWay};

#[cfg(test)]
mod tests;
