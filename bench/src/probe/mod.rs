//! Asks the hardware itself.

pub mod disk;
