//! Our own contestants: an attempt of the dataplane, with checksums, sidecar and checkpoints.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    contest::{Contestant, Told},
    measure::Ended,
    record::Kind,
    service,
    worker::{AttemptTold, CostTold, Program},
};

/// An attempt from a source to the target of the case, in a process of its own.
#[derive(Clone, Debug)]
pub struct Attempt {
    program: Program,
    name: String,
    source: String,
    destination: Option<String>,
    arguments: Vec<String>,
    work_alone: bool,
}

impl Attempt {
    /// From the source with this URL.
    pub fn new(program: &Program, name: &str, source: impl Into<String>) -> Self {
        Self {
            program: program.clone(),
            name: name.into(),
            source: source.into(),
            destination: None,
            arguments: Vec::new(),
            work_alone: false,
        }
    }

    /// With an argument of the worker, for instance `--chunk-mib=8`.
    pub fn with(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Without what lanes take to start and to end, in wall time and CPU seconds: a service has them already.
    pub fn work_alone(mut self) -> Self {
        self.work_alone = true;
        self
    }

    /// To this URL and not to the case's target.
    pub fn to(mut self, destination: impl Into<String>) -> Self {
        self.destination = Some(destination.into());
        self
    }
}

impl Contestant for Attempt {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn command(&self, target: &Path) -> Command {
        let mut command = self.program.command("attempt");
        let destination = self.destination.clone().unwrap_or_else(|| format!("file://{}", target.display()));
        command.args(&self.arguments).arg(&self.source).arg(destination);
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: AttemptTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        let seconds = told.stages.named().into_iter().filter(|(_, micros)| *micros > 0);
        let mut stages: BTreeMap<String, f64> =
            seconds.map(|(stage, micros)| (stage.to_owned(), micros as f64 / 1e6)).collect();
        if self.work_alone {
            let (seconds, cpu_seconds) = (Some(told.seconds), Some(told.cpu_seconds));
            return Ok(Told { seconds, cpu_seconds, stages, ..Told::default() });
        }
        stages.insert("start".to_owned(), told.start_seconds);
        Ok(Told { stages, ..Told::default() })
    }
}

/// The I/O of an attempt by itself: what everything else about one is held against.
#[derive(Clone, Debug)]
pub struct Bare {
    /// Ourselves.
    pub program: Program,
    /// From where.
    pub source: String,
    /// How many bytes.
    pub bytes: u64,
    /// Whether CRCs are computed all the same.
    pub checksums: bool,
}

impl Contestant for Bare {
    fn name(&self) -> String {
        if self.checksums { "bare lanes with CRC".into() } else { "bare lanes".into() }
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn command(&self, target: &Path) -> Command {
        let mut command = self.program.command("bare");
        command.arg(&self.source).arg(format!("file://{}", target.display())).arg(self.bytes.to_string());
        command.args(self.checksums.then_some("--checksums"));
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        cost(ended)
    }
}

/// A transfer by a whole service: REST, ledger, scheduler, executor, leases, checkpoints.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Ourselves.
    pub program: Program,
    /// From where.
    pub source: String,
    /// Folder in which services keep their data.
    pub data: PathBuf,
}

impl Contestant for Transfer {
    fn name(&self) -> String {
        "staccato service".into()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn absent(&self) -> Option<String> {
        service::binary().err().map(|error| error.to_string())
    }

    fn command(&self, target: &Path) -> Command {
        let mut command = self.program.command("transfer");
        // Each service begins with no data.
        let _ = std::fs::remove_dir_all(&self.data);
        command.arg("--data").arg(&self.data).arg(&self.source).arg(format!("file://{}", target.display()));
        command
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        cost(ended)
    }
}

fn cost(ended: &Ended) -> io::Result<Told> {
    let told: CostTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
    Ok(Told { seconds: Some(told.seconds), cpu_seconds: Some(told.cpu_seconds), ..Told::default() })
}
