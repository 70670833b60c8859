//! Bytes between two executors.
//!
//! The reader asks, the owner of the object answers, over whichever transport their link has. `frame` is what they
//! say to one another, `ticket` what allows the reader to ask: both pure. `connection` is one end of a stream of
//! frames, `serve` the owner's side, `remote` the reader's: a source like any other, on `lines`, each of which is one
//! `line`; a small object is there as a `whole`. `tcp` and `quic` make connections, `tls` says who is at their ends,
//! `choose` finds out which suits a link, on the `way`. `gauge` sees what a connection tells of its path, and `path`
//! (pure) makes a delay and a loss of it. `idle` keeps those that wait for the next question, and `seats` counts
//! those of readers. `offer` is what many fetch from one another, and `voucher`
//! (pure) says who has read it first. `peers` puts all together. `patience` says how long others are waited for, and `wire` has the
//! numbers and texts of frames and tickets.

pub mod choose;
pub mod connection;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gauge;
pub(crate) mod idle;
mod line;
mod lines;
pub mod offer;
pub mod path;
pub(crate) mod patience;
pub mod peers;
pub mod quic;
pub mod remote;
pub mod seats;
pub mod serve;
#[cfg(any(test, fuzzing))]
mod spoken;
pub mod tcp;
pub mod ticket;
pub mod tls;
pub mod voucher;
pub mod way;
mod whole;
mod wire;

#[cfg(test)]
mod authority;
#[cfg(test)]
mod tests;
