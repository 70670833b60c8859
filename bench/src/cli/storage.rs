//! `storage`: real storage servers.

use std::{io, path::PathBuf};

use clap::Args;

use super::measuring::{Lines, Measuring};
use crate::{
    cases::{self, Workplace},
    storage::SYSTEMS,
    worker::Program,
};

/// Arguments of `storage`.
#[derive(Debug, Args)]
pub struct Storage {
    /// Folder on the disk of the files; needs four times the object free
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object
    #[arg(long, default_value_t = 256)]
    mib: u64,
    #[command(flatten)]
    measuring: Measuring,
}

impl Storage {
    /// Measures, and prints a table for each case.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let all = SYSTEMS.into_iter().flat_map(|system| [(system, true), (system, false)]).collect();
        let wanted = self.measuring.wanted(all, |(system, to_file)| cases::storage::name(system, *to_file))?;
        let mut results = self.measuring.begin(&self.folder)?;
        for system in SYSTEMS {
            let ways: Vec<bool> =
                wanted.iter().filter(|(name, _)| *name == system).map(|(_, to_file)| *to_file).collect();
            if ways.is_empty() {
                continue;
            }
            let place = Workplace::new(&self.folder)?;
            for mut case in cases::storage::both(program, &place, system, self.mib << 20)? {
                if !ways.iter().any(|to_file| cases::storage::name(system, *to_file) == case.name) {
                    continue;
                }
                case.keep(&self.measuring.contestants);
                let effort = self.measuring.effort(1.0 / wanted.len() as f64, false)?;
                results.take(case.run(effort, &mut Lines)?)?;
            }
        }
        results.finish()
    }
}
