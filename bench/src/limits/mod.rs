//! What the hardware can do, asked with as little in between as there can be: no checksums, no checkpoints, no names.
//!
//! A limit is a contestant like any other, so that it is taken again in every round: disks drift.

mod disk;
mod fio;

use crate::cases::Contestant;

/// The limits of moving a file on one disk.
pub fn of_copying() -> Vec<Box<dyn Contestant>> {
    vec![Box::new(disk::RawDisk), Box::new(fio::Fio)]
}
