//! How fast the service's REST interface is: a closed loop of clients against a `serve` of its own.
//!
//! [`run`] starts the service (`--executors none`: nothing is moved) on a fresh data folder, measures each operation with
//! nothing stored, fills it with idle transfers, measures again, and then stops it the hard way and times its return. A
//! *client* is one connection that is kept alive and has one request under way. All clients share one thread, so that
//! the generator costs the service as little as may be; it runs beside the service, on the same cores.

mod client;
mod operation;
mod series;
mod service;

use std::{io, path::PathBuf, time::Duration};

pub use client::Measured;
pub use operation::Operation;
pub use series::series;
pub use service::Service;

use operation::Names;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Config {
    /// The binary `staccato`.
    pub binary: PathBuf,
    /// Where data folders are made.
    pub folder: PathBuf,
    /// Clients at a time.
    pub clients: usize,
    /// How long each operation is measured.
    pub time: Duration,
    /// Transfers to store before everything is measured once more; none when 0.
    pub stored: u64,
    /// Operations, in this order.
    pub operations: Vec<Operation>,
    /// How often the service is killed and started again when everything is stored.
    pub restarts: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// Each operation with nothing stored but what was submitted before it.
    pub empty: Vec<Measured>,
    /// How the store was filled.
    pub fill: Option<Measured>,
    /// Each operation with everything stored.
    pub full: Vec<Measured>,
    /// From the start of the process to its first answer that it is ready, after SIGKILL.
    pub restarts: Vec<Duration>,
    /// Transfers that were stored when it was killed.
    pub stored: u64,
    /// Anonymous memory of the service for each stored transfer: what it has more than an empty one, after a restart.
    pub heap_bytes_each: Option<f64>,
    /// The same before the restart, with what was freed and kept.
    pub heap_bytes_each_filled: Option<f64>,
}

/// Measures everything.
pub fn run(config: &Config, mut told: impl FnMut(&str)) -> io::Result<Results> {
    let mut service = Service::start(&config.binary, &config.folder)?;
    let mut names = Names::new(&service);
    let empty_heap = service.heap_bytes()?;
    let empty = each(config, &service, &mut names, &mut told)?;
    let (mut fill, mut full) = (None, Vec::new());
    if config.stored > 0 {
        told(&format!("storing {} transfers", config.stored));
        let missing = config.stored.saturating_sub(names.submitted());
        fill = client::fill(&service, &mut names, config.clients.min(4), missing)?;
        full = each(config, &service, &mut names, &mut told)?;
    }
    let stored = names.submitted();
    let each_of = |bytes: u64| (stored > 0).then(|| bytes.saturating_sub(empty_heap) as f64 / stored as f64);
    let heap_bytes_each_filled = each_of(service.heap_bytes()?);
    let (mut restarts, mut heap_bytes_each) = (Vec::new(), None);
    for _ in 0..config.restarts {
        told("killing it and starting it again");
        restarts.push(service.kill_and_restart()?);
        heap_bytes_each = each_of(service.heap_bytes()?);
    }
    Ok(Results { empty, fill, full, restarts, stored, heap_bytes_each, heap_bytes_each_filled })
}

fn each(
    config: &Config,
    service: &Service,
    names: &mut Names,
    told: &mut impl FnMut(&str),
) -> io::Result<Vec<Measured>> {
    let mut all = Vec::new();
    for operation in &config.operations {
        told(&format!("{operation}, {} clients, {} stored", config.clients, names.submitted()));
        all.push(client::measure(service, names, *operation, config.clients, config.time)?);
    }
    Ok(all)
}
