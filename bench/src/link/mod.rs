//! What crosses a link: two processes, one at each end, in hosts of a [`Testbed`].
//!
//! [`pair`] starts both ends of a contestant and measures each; [`ends`] has our own two, [`memory`] what they serve where no
//! disk is wanted, [`pki`] how they know one another.

pub mod ends;
pub mod memory;
pub mod pair;
pub mod pki;
mod testbed;

pub use testbed::Testbed;
