//! The command `staccato-bench`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use staccato_bench::{cases, report};

/// Measures Staccato's dataplane beside its rivals.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// File to file on one disk: our lanes, cp, rsync and dd, cold and synced, in interleaved rounds.
    File {
        /// Folder on the disk to measure; needs twice the size free.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        /// Size of the source in MiB.
        #[arg(long, default_value_t = 4096)]
        mib: u64,
        /// Rounds; each runs every contestant once.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// One JSON line for each contestant instead of a table.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let Command::File { folder, mib, rounds, json } = Arguments::parse().command;
    match cases::file_to_file(&folder, mib << 20, rounds.max(1)) {
        Ok(results) if json => print!("{}", report::json_lines(&results)),
        Ok(results) => print!("{}", report::table(&results)),
        Err(error) => {
            eprintln!("staccato-bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
