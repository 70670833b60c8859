//! How fast the service's REST interface is: a closed loop of clients against a `serve` of the bench's own.
//!
//! Services (`--executors none`: nothing is moved) are started on fresh data folders: one that is filled with idle
//! transfers, killed, and timed until it is back ([`fill`]), and one with little stored for each round. In a round every
//! operation is measured on the fresh service and at once on the full one ([`rounds`]), so that machines that drift do so
//! under both. A *client* is one connection that is kept alive and has one request under way. All clients share one
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
pub use series::{of_filling, of_rounds, with_more_stored};

use crate::{cases::Workplace, service::Service};
use client::{Until, measure};
use operation::Names;

/// What every service has before anything is measured: something must be there to be read.
const STORED_FIRST: (Operation, u64) = (Operation::Bulk(10), 1000);
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
    /// Transfers to store in the service that everything is measured on once more; none when 0.
    pub stored: u64,
    /// Operations, in this order.
    pub operations: Vec<Operation>,
    /// How often the service is killed and started again when so many are stored.
    pub restarts: usize,
}

/// How a service was filled, and what that cost.
#[derive(Clone, Debug)]
pub struct Filling {
    /// Transfers stored.
    pub stored: u64,
    /// How they were stored.
    pub fill: Measured,
    /// Most memory of the service at a time, until it was filled.
    pub rss_bytes_max: u64,
    /// Restarts after SIGKILL.
    pub restarts: Vec<Restart>,
    /// Anonymous memory that the service has more than one with little stored.
    pub bytes_filled: u64,
    /// The same after the last restart.
    pub bytes_restarted: Option<u64>,
}

/// A return after SIGKILL.
#[derive(Clone, Copy, Debug)]
pub struct Restart {
    /// From the start of the process to its word that it is ready.
    pub time: Duration,
    /// Most memory at a time, until then.
    pub rss_bytes_max: u64,
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
        let mut names = Names::new(&root);
        measure(&service, &mut names, STORED_FIRST.0, 1, 0, Until::Submitted(STORED_FIRST.1))?;
        Ok(Self { service, names, _place: place })
    }

    fn ask(&mut self, operation: Operation, config: &Config, round: usize, stored: u64) -> io::Result<Measured> {
        let until = Until::Elapsed(config.time);
        let measured = measure(&self.service, &mut self.names, operation, config.clients, round, until)?;
        Ok(Measured { stored, ..measured })
    }
}

/// A service with everything stored.
pub struct Full {
    subject: Subject,
    /// How it came to that.
    pub filling: Filling,
}

/// Fills a service, and kills it and starts it again as often as it is told.
pub fn fill(config: &Config, told: impl Fn(&str)) -> io::Result<Full> {
    let mut subject = Subject::start(&config.binary, &config.folder)?;
    let bytes_first = subject.service.anonymous_bytes()?;
    told(&format!("storing {} transfers", config.stored));
    let (operation, clients) = FILL;
    let Subject { service, names, .. } = &mut subject;
    let fill = measure(service, names, operation, clients, 0, Until::Submitted(config.stored))?;
    let bytes = |service: &Service| Ok::<u64, io::Error>(service.anonymous_bytes()?.saturating_sub(bytes_first));
    let (bytes_filled, rss_bytes_max) = (bytes(service)?, service.rss_bytes_max()?);
    let mut restarts = Vec::new();
    for _ in 0..config.restarts {
        told("killing it and starting it again");
        let time = service.kill_and_restart()?;
        restarts.push(Restart { time, rss_bytes_max: service.rss_bytes_max()? });
    }
    let bytes_restarted = if restarts.is_empty() { None } else { Some(bytes(service)?) };
    let filling = Filling { stored: names.submitted(), fill, rss_bytes_max, restarts, bytes_filled, bytes_restarted };
    Ok(Full { subject, filling })
}

/// Measures every operation in rounds, each with a fresh service, and the full one beside it.
pub fn rounds(config: &Config, mut full: Option<&mut Full>, told: impl Fn(&str)) -> io::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for round in 0..config.rounds {
        let mut fresh = Subject::start(&config.binary, &config.folder)?;
        for operation in &config.operations {
            told(&format!("round {} of {}: {operation}, {} clients", round + 1, config.rounds, config.clients));
            measured.push(fresh.ask(*operation, config, round, STORED_FIRST.1)?);
            if let Some(Full { subject, filling }) = full.as_deref_mut() {
                measured.push(subject.ask(*operation, config, round, filling.stored)?);
            }
        }
    }
    Ok(measured)
}
