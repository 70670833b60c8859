//! Asks the hardware itself.

pub mod compute;
pub mod disk;
pub mod quinn;
pub mod rustls;
