//! The commands of the bench, one file each.

mod compare;
mod distribute;
mod install;
mod link;
mod local;
mod matrix;
mod measuring;
mod output;
mod report;
mod rest;
mod storage;
mod swarm;

use std::{io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::worker::{Program, Work};

/// Measures Staccato beside its rivals and the limits of the hardware.
#[derive(Debug, Parser)]
#[command(name = "staccato-bench", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What the bench can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How fast this machine is, how fast Staccato is on it, and what limits it
    Local(local::Local),
    /// How fast Staccato carries an object from one host to another, and who is faster
    Link(Box<link::Link>),
    /// How fast Staccato reads from real storage servers and writes to them, and who is faster
    Storage(storage::Storage),
    /// How fast the service answers: submissions, reads and lists under load, and its return after a kill
    Rest(rest::Rest),
    /// How fast one object comes to many hosts that feed one another, and who is faster (as root)
    Distribute(distribute::Distribute),
    /// The same in a simulated network, of many more hosts
    Swarm(swarm::Swarm),
    /// Every combination of lists of settings, as a file names them
    Matrix(matrix::Sweep),
    /// One page of results, for a browser
    Report(report::Report),
    /// What changed between two files of results, and whether it is more than noise
    Compare(compare::Compare),
    /// Work of the bench's own processes
    #[command(hide = true, subcommand)]
    Worker(Work),
}

impl Cli {
    /// Runs the command of this process's arguments.
    pub fn main() -> ExitCode {
        exit(Self::parse().command.run(&[], Vec::new()))
    }
}

impl Command {
    /// Runs it. `prefix`: the arguments that lead to the bench within the executable; `service`: those of `staccato` that say
    /// which service it talks to.
    pub fn run(self, prefix: &[&str], service: Vec<String>) -> io::Result<()> {
        let program = Program::of_this_process(prefix)?;
        match self {
            Self::Local(command) => command.run(&program),
            Self::Link(command) => command.run(&program, service),
            Self::Storage(command) => command.run(&program),
            Self::Rest(command) => command.run(),
            Self::Distribute(command) => command.run(&program),
            Self::Swarm(command) => command.run(),
            Self::Matrix(command) => command.run(&program),
            Self::Report(command) => command.run(),
            Self::Compare(command) => command.run(),
            Self::Worker(work) => {
                // As an executor does; and who is measured beside it, for they are processes of ours.
                staccato_dataplane::copies::spare_slow_ones();
                work.run()
            }
        }
    }
}

fn exit(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("staccato-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
