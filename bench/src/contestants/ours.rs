//! Our own contestants: an attempt of the dataplane, with checksums, sidecar and checkpoints.

use std::{collections::BTreeMap, io, path::Path, process::Command};

use crate::{
    contest::{Contestant, Told},
    measure::Ended,
    record::Kind,
    worker::{AttemptTold, Program},
};

/// An attempt from a source to the target of the case, in a process of its own.
#[derive(Clone, Debug)]
pub struct Attempt {
    program: Program,
    name: String,
    source: String,
    destination: Option<String>,
    arguments: Vec<String>,
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
        }
    }

    /// With an argument of the worker, for instance `--chunk-mib=8`.
    pub fn with(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
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
        let stages: BTreeMap<String, f64> =
            seconds.map(|(stage, micros)| (stage.to_owned(), micros as f64 / 1e6)).collect();
        Ok(Told { seconds: None, stages })
    }
}
