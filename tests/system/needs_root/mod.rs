//! Tests that mount file systems of their own, trace processes, act as other users, or make devices or networks: root's
//! rights.

mod acknowledged;
mod bad_days;
mod broken_disk;
mod devices;
mod distributions;
mod full_disk;
mod late_rename;
mod link;
mod link_figures;
mod many_hosts;
mod no_direct_io;
mod outside;
mod path;
mod power_cuts;
mod repairs;
mod scheduler;
mod shared_extents;
mod spread;
mod two_hosts;
mod users;
