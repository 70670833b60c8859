//! `distribute`: one object from one host to many.

use std::{io, path::PathBuf};

use clap::{Args, builder::PossibleValuesParser};

use super::measuring::{Lines, Measuring};
use crate::{cases, contestants::service::TRANSPORTS, relay::parse_rate, spread::site::Plan, worker::Program};

/// Arguments of `distribute`.
#[derive(Debug, Args)]
pub struct Distribute {
    /// Folder on the disk of all hosts; needs room for the object at each of them, and once more
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Hosts that get it
    #[arg(long, value_delimiter = ',', default_value = "2,4,8")]
    hosts: Vec<usize>,
    /// Bits per second of every host's link, in each direction
    #[arg(long, value_name = "RATE", value_parser = parse_rate, default_value = "200mbit")]
    rate: u64,
    /// The source is an HTTP server, whose link has so many bits per second; without, it is a file on a host
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    origin: Option<u64>,
    /// How ours crosses from host to host: auto, quic or tcp. All are measured beside the first one
    #[arg(long = "transport", value_name = "NAME", value_delimiter = ',', default_value = "auto")]
    #[arg(value_parser = PossibleValuesParser::new(TRANSPORTS))]
    transports: Vec<String>,
    /// Seconds after which a contestant's sample is given up
    #[arg(long, default_value_t = 300.0)]
    patience: f64,
    #[command(flatten)]
    measuring: Measuring,
}

impl Distribute {
    /// Measures, and prints a table for each number of hosts.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let plans = self.measuring.wanted(self.plans(), |plan| cases::distribute::name(plan).to_owned())?;
        let mut results = self.measuring.begin(&self.folder)?;
        let effort = self.measuring.effort(1.0 / plans.len().max(1) as f64, false)?;
        for plan in &plans {
            let (mut case, _place) =
                cases::distribute::spread(program, &self.folder, plan, &self.transports, self.patience)?;
            case.keep(&self.measuring.contestants);
            results.take(case.run(effort, &mut Lines)?)?;
        }
        results.finish()
    }

    fn plans(&self) -> Vec<Plan> {
        let plan = |hosts: &usize| Plan { hosts: *hosts, bytes: self.mib << 20, rate: self.rate, origin: self.origin };
        self.hosts.iter().map(plan).collect()
    }
}
