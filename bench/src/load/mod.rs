//! How fast the service's REST interface is: a closed loop of clients against a `serve` of the bench's own.
//!
//! [`run`] starts services (`--executors none`: nothing is moved) on fresh data folders: one for each round with
//! nothing stored, then one that is filled with idle transfers, killed and timed until it is back, and measured in as
//! many rounds. A *client* is one connection that is kept alive and has one request under way. All clients share one
//! thread, so that the generator costs the service as little as may be; it runs beside the service, on the same cores.

mod client;
mod operation;
mod series;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use client::Measured;
pub use operation::Operation;
pub use series::series;

use crate::{cases::Workplace, service::Service};
use client::{Until, measure};
use operation::Names;

/// Transfers in a request that fills the store, and clients that send such.
const FILL: (Operation, usize) = (Operation::Bulk(1000), 4);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Config {
    /// The binary `staccato`.
    pub binary: PathBuf,
    /// Where data folders are made.
    pub folder: PathBuf,
    /// Clients at a time.
    pub clients: usize,
    /// How often each operation is measured, in turns with the others.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
    /// Transfers to store before everything is measured once more; none when 0.
    pub stored: u64,
    /// Operations, in this order.
    pub operations: Vec<Operation>,
    /// How often the service is killed and started again when so many are stored.
    pub restarts: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Results {
    /// Operations, in the order in which they were measured.
    pub measured: Vec<Measured>,
    /// What was seen with everything stored.
    pub full: Option<Full>,
}

/// A service with everything stored.
#[derive(Clone, Debug)]
pub struct Full {
    /// Transfers stored.
    pub stored: u64,
    /// How they were stored.
    pub fill: Measured,
    /// From the start of the process to its word that it is ready, after SIGKILL.
    pub restarts: Vec<Duration>,
    /// Anonymous memory that the service has more than an empty one.
    pub bytes_filled: u64,
    /// The same after the last restart.
    pub bytes_restarted: Option<u64>,
}

/// A service of its own, and what it was asked so far.
struct Subject {
    service: Service,
    names: Names,
    // Dropped last: the service has its data there.
    _place: Workplace,
}

impl Subject {
    fn start(binary: &Path, folder: &Path) -> io::Result<Self> {
        let place = Workplace::new(folder)?;
        let root = place.path("root");
        fs::create_dir(&root)?;
        let arguments = ["--executors".into(), "none".into(), "--root".into(), root.display().to_string()];
        let service = Service::start(binary, &place.path("data"), &arguments)?;
        Ok(Self { service, names: Names::new(&root), _place: place })
    }

    fn round(&mut self, config: &Config, round: usize, told: &mut impl FnMut(&str)) -> io::Result<Vec<Measured>> {
        let mut all = Vec::new();
        for operation in &config.operations {
            told(&format!("{operation}, {} clients, {} stored", config.clients, self.names.submitted()));
            let until = Until::Elapsed(config.time);
            all.push(measure(&self.service, &mut self.names, *operation, config.clients, round, until)?);
        }
        Ok(all)
    }
}

/// Measures everything.
pub fn run(config: &Config, mut told: impl FnMut(&str)) -> io::Result<Results> {
    let mut results = Results { measured: Vec::new(), full: None };
    for round in 0..config.rounds {
        let mut empty = Subject::start(&config.binary, &config.folder)?;
        results.measured.extend(empty.round(config, round, &mut told)?);
    }
    if config.stored > 0 {
        let mut subject = Subject::start(&config.binary, &config.folder)?;
        let full = fill(&mut subject, config, &mut told)?;
        for round in 0..config.rounds {
            let measured = subject.round(config, round, &mut told)?;
            results.measured.extend(measured.into_iter().map(|one| Measured { stored: full.stored, ..one }));
        }
        results.full = Some(full);
    }
    Ok(results)
}

fn fill(subject: &mut Subject, config: &Config, told: &mut impl FnMut(&str)) -> io::Result<Full> {
    let Subject { service, names, .. } = subject;
    let bytes_empty = service.anonymous_bytes()?;
    told(&format!("storing {} transfers", config.stored));
    let (operation, clients) = FILL;
    let fill = measure(service, names, operation, clients, 0, Until::Submitted(config.stored))?;
    let bytes = |service: &Service| Ok::<u64, io::Error>(service.anonymous_bytes()?.saturating_sub(bytes_empty));
    let bytes_filled = bytes(service)?;
    let mut restarts = Vec::new();
    for _ in 0..config.restarts {
        told("killing it and starting it again");
        restarts.push(service.kill_and_restart()?);
    }
    let bytes_restarted = if restarts.is_empty() { None } else { Some(bytes(service)?) };
    Ok(Full { stored: names.submitted(), fill, restarts, bytes_filled, bytes_restarted })
}
