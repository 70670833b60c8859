//! What crosses a link: two processes, one at each end, in hosts of a [`Testbed`].
//!
//! [`pair`] starts both ends of a contestant and measures each; [`ends`] has our own two, [`memory`] what they serve where no
//! disk is wanted, [`pki`] how they know one another. [`fleet`] is a service with an executor at each end, [`client`] how a
//! service is asked, this one or one that was there before, and [`through`] a transfer by it.

pub mod client;
pub mod ends;
pub mod fleet;
pub mod memory;
pub mod pair;
pub mod pki;
mod testbed;
pub mod through;

pub use testbed::Testbed;
