//! What the bench does in a process of its own, so that it can be measured like everybody else: one attempt of the
//! dataplane, and the probes of the hardware. Each prints one line of JSON.

use std::{io, path::PathBuf, process::Command, sync::mpsc, time::Duration};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptHandle, AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Reply, Reporter,
        StageTimes,
    },
};
use staccato_protocols::{
    ObjectUrl, Options, Registry,
    contract::Overwrite,
    file::{FileProtocol, Root, RootAccess, Roots},
    http::HttpProtocol,
    synthetic::{NullProtocol, ZeroProtocol},
};

use crate::probe;

/// The program that serves as its own worker, and the arguments that make it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What comes before a subcommand of the bench: `bench` where the executable is `staccato`.
    pub prefix: Vec<String>,
}

impl Program {
    /// This very executable.
    pub fn of_this_process(prefix: &[&str]) -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, prefix: prefix.iter().map(|part| (*part).to_owned()).collect() })
    }

    /// A command that makes it do this work.
    pub fn command(&self, work: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.prefix).args(["worker", work]);
        command
    }
}

/// The work of a worker.
#[derive(Clone, Debug, Subcommand)]
pub enum Work {
    /// One attempt of the dataplane
    Attempt(Attempt),
    /// Reads one file and writes another beside it, with a bare io_uring
    Disk(probe::disk::Disk),
}

impl Work {
    /// Does it, and prints what came of it.
    pub fn run(self) -> io::Result<()> {
        match self {
            Self::Attempt(attempt) => print(&attempt.run()?),
            Self::Disk(disk) => disk.run(),
        }
    }
}

fn print(told: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(told).map_err(io::Error::other)?;
    use io::Write as _;
    writeln!(io::stdout(), "{text}")
}

/// One attempt: everything but the service, with checksums, sidecar and checkpoints that are granted at once.
#[derive(Clone, Debug, Args)]
pub struct Attempt {
    /// Source URL
    source: String,
    /// Destination URL
    destination: String,
    /// Kind of lane
    #[arg(long, default_value = "auto")]
    lane: LaneChoice,
    /// Lanes
    #[arg(long, default_value_t = 2)]
    lanes: usize,
    /// MiB of memory for buffers
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// MiB of a chunk
    #[arg(long, default_value_t = 4)]
    chunk_mib: u64,
    /// Attempts that share the memory
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// Connections to a source behind a network; as many as bring something when absent
    #[arg(long)]
    connections: Option<u32>,
    /// An option of the source
    #[arg(long = "source-option", value_name = "NAME=VALUE")]
    source_options: Vec<String>,
}

/// What an attempt tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptTold {
    /// Length of the object.
    pub bytes_total: u64,
    /// Its CRC-32.
    pub crc32: Option<u32>,
    /// Where its time went.
    pub stages: StageTimes,
}

impl Attempt {
    fn run(self) -> io::Result<AttemptTold> {
        let config = DataplaneConfig {
            memory_bytes: self.memory_mib << 20,
            lanes: self.lanes,
            lane_choice: self.lane,
            chunk_bytes: self.chunk_mib << 20,
            attempts_max: self.slots,
        };
        let dataplane = Dataplane::start(config, registry()?).map_err(io::Error::other)?;
        let (ended, end) = mpsc::channel();
        dataplane.attempt(self.spec()?, |handle| Box::new(Keeper { handle, ended }));
        match end.recv().map_err(io::Error::other)? {
            Outcome::Committed(Completion { bytes_total, crc32, stages, .. }) => {
                Ok(AttemptTold { bytes_total, crc32, stages })
            }
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    fn spec(&self) -> io::Result<AttemptSpec> {
        let url = |text: &str| ObjectUrl::parse(text).map_err(io::Error::other);
        let pair = |text: &String| {
            let pair = text.split_once('=').ok_or_else(|| io::Error::other(format!("{text:?} is not NAME=VALUE")))?;
            Ok((pair.0.to_owned(), pair.1.to_owned()))
        };
        Ok(AttemptSpec {
            transfer: "bench".into(),
            epoch: 1,
            source_url: url(&self.source)?,
            destination_url: url(&self.destination)?,
            source_options: self.source_options.iter().map(pair).collect::<io::Result<Options>>()?,
            destination_options: Options::new(),
            part: Part::default(),
            overwrite: Overwrite::Never,
            checksum: None,
            rate_limit: None,
            chunk_size: None,
            connections: self.connections,
            validator: None,
            checkpoint: Vec::new(),
            prepared: None,
        })
    }
}

fn registry() -> io::Result<Registry> {
    let everything = Root::new("/", RootAccess::ReadWrite).map_err(io::Error::other)?;
    Ok(Registry::new()
        .with(FileProtocol::new(Roots::new(vec![everything])))
        .with(HttpProtocol::new())
        .with(ZeroProtocol)
        .with(NullProtocol))
}

/// Grants everything at once: the ledger is not what is measured here.
struct Keeper {
    handle: AttemptHandle,
    ended: mpsc::Sender<Outcome>,
}

impl Reporter for Keeper {
    fn checkpoint(&mut self, _report: CheckpointReport) {
        self.handle.reply(Reply::Checkpointed);
    }

    fn prepare(&mut self, _completion: Completion) {
        self.handle.reply(Reply::Prepared { lease_until: Duration::MAX });
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        // Whoever measures is waiting; if it is gone, nobody wants to know.
        let _ = self.ended.send(outcome);
    }
}
