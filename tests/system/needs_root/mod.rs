//! Tests that mount file systems of their own, or need other rights that only root has.

mod acknowledged;
mod broken_disk;
mod devices;
mod full_disk;
mod late_rename;
mod no_direct_io;
mod shared_extents;
mod users;
