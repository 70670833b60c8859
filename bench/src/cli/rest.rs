//! `rest`: the service's REST interface under load.

use std::{io, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    output::Output,
    report::{print_tables, write_page},
};
use crate::{
    host,
    load::{self, Config, Full, Operation},
    record::Record,
    service,
    statistics::Spread,
};

/// Arguments of `rest`.
#[derive(Debug, Args)]
pub struct Rest {
    /// The binary to measure; `staccato` beside this one when absent
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Folder for the service's data
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Clients at a time: connections with one request under way
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How often each operation is measured, in turns with the others
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each operation, each time
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Transfers to store in a second service; everything is measured on both
    #[arg(long, default_value_t = 0)]
    stored: u64,
    /// Operations, in this order: read, list-marker, list-state, submit, bulk-N
    #[arg(long = "operation", value_name = "NAME", default_values = ["read", "list-marker", "list-state", "submit", "bulk-1000"])]
    operations: Vec<Operation>,
    /// How often to kill the service that has everything stored, and to time its return
    #[arg(long, default_value_t = 3)]
    restarts: usize,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a page of this run's results goes
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Rest {
    /// Measures, and prints tables.
    pub fn run(self) -> io::Result<()> {
        let config = Config {
            binary: self.binary.map_or_else(service::binary, Ok)?,
            folder: self.folder,
            clients: self.clients.max(1),
            rounds: self.rounds.max(1),
            time: Duration::try_from_secs_f64(self.seconds).map_err(io::Error::other)?,
            stored: self.stored,
            operations: self.operations,
            restarts: self.restarts,
        };
        let mut output = Output::open(self.output.as_deref(), Vec::new())?;
        let binary = config.binary.display().to_string();
        let run = host::this_run(&config.folder, [(binary.as_str(), "--version")]);
        output.write(Record::Run(Box::new(run)))?;
        let told = |what: &str| eprintln!("{what}");
        let mut full = if config.stored > 0 { Some(load::fill(&config, told)?) } else { None };
        for series in full.iter().flat_map(|full| load::of_filling(&full.filling)) {
            output.write(Record::Series(series))?;
        }
        let measured = load::rounds(&config, full.as_mut(), told)?;
        for series in load::of_rounds(&measured) {
            output.write(Record::Series(series))?;
        }
        print_tables(output.records.clone());
        if let Some(Full { filling, .. }) = &full {
            println!("with {} stored, beside the fresh service of the same round:", filling.stored);
            for (operation, Spread { median, min, max, count }) in load::with_more_stored(&measured) {
                let name = operation.to_string();
                println!("  {name:<12} {median:.2} times as fast ({min:.2} to {max:.2}, N {count})");
            }
            for (when, bytes) in [("filled", Some(filling.bytes_filled)), ("restarted", filling.bytes_restarted)] {
                if let Some(bytes) = bytes {
                    println!("memory for each stored transfer, {when}: {} bytes", bytes / filling.stored.max(1));
                }
            }
        }
        self.html.as_deref().map_or(Ok(()), |page| write_page(page, output.records))
    }
}
