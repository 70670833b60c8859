//! Many small objects.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::Workplace;
use crate::{
    contest::{Case, Contestant, Told},
    measure::Ended,
    record::Kind,
    service,
    small::SmallTold,
    worker::Program,
};

/// The name of this case in results.
pub const NAME: &str = "small";

/// So many objects of so many bytes as so many transfers, from the first submission to the last commit. Each sample has
/// a service, and files, of its own; making them is not counted. They stay until the case has ended: ext4 without a
/// journal passes over inodes that were deleted within the last minutes, one by one, whenever a file is made, so that
/// removing one sample's files would slow the next.
pub fn transfers(program: &Program, place: &Workplace, objects: usize, bytes: usize, slots: usize) -> Case {
    let (program, folder) = (program.clone(), place.path("small"));
    let small = Small { program, folder, samples: AtomicUsize::new(0), objects, bytes, slots };
    Case {
        settings: BTreeMap::from([
            ("objects".into(), objects.to_string()),
            ("size".into(), bytes.to_string()),
            ("slots".into(), slots.to_string()),
        ]),
        operations: objects as u64,
        ..Case::new(NAME, 0, vec![Box::new(small)])
    }
}

struct Small {
    program: Program,
    folder: PathBuf,
    /// Samples that were begun.
    samples: AtomicUsize,
    objects: usize,
    bytes: usize,
    slots: usize,
}

impl Contestant for Small {
    fn name(&self) -> String {
        "staccato service".into()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn absent(&self) -> Option<String> {
        service::binary().err().map(|error| error.to_string())
    }

    fn command(&self, _target: &Path) -> Command {
        let folder = self.folder.join(self.samples.fetch_add(1, Ordering::Relaxed).to_string());
        // Where that fails, the command says so.
        let _ = std::fs::create_dir_all(&folder);
        let mut command = self.program.command("small");
        command.arg(&folder).arg(format!("--objects={}", self.objects));
        command.arg(format!("--bytes={}", self.bytes)).arg(format!("--slots={}", self.slots));
        command
    }

    fn interpret(&self, ended: &Ended) -> io::Result<Told> {
        let told: SmallTold = serde_json::from_slice(&ended.output).map_err(io::Error::other)?;
        Ok(Told {
            seconds: Some(told.seconds),
            cpu_seconds: Some(told.cpu_seconds),
            stages: told.stages,
            ..Told::default()
        })
    }
}
