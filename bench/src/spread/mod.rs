//! One object from one host to many, in a network of namespaces: who is where, and who does it.
//!
//! [`site`] has the hosts and the folders, [`ours`] is a distribution by a service of the bench's own, [`rivals`] are
//! everybody else, each as a [`cast`] of servers and of one client for each host, and [`torrent`] describes the object to
//! swarms. Whoever does it: the clock runs from the first word until the last host has a whole and durable file, and then
//! each file is compared with the object.

pub mod cast;
pub mod ours;
pub mod rivals;
pub mod site;
pub mod torrent;

use std::collections::BTreeMap;

use site::Site;

/// The figure of how long it took over what the links allow.
pub const OVER_BOUND: &str = "time/bound";
/// The figure of how many times the source's device has sent the object, headers and all.
pub const SENT: &str = "source sent";
/// The figure of how many times the object was read from its source, as who did it tells.
pub const READ: &str = "source read";

/// What every sample tells.
fn figures(site: &Site, seconds: f64, sent_bytes: u64) -> BTreeMap<String, f64> {
    let sent = sent_bytes as f64 / site.bytes as f64;
    [(OVER_BOUND.to_owned(), seconds / site.bound_seconds()), (SENT.to_owned(), sent)].into()
}
