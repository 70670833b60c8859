//! Our own contestants: the dataplane on each kind of lane, with checksums, sidecar and checkpoints.

use std::{io, path::Path, sync::mpsc};

use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{AttemptHandle, AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Reply, Reporter},
};
use staccato_protocols::{
    ObjectUrl, Options, Registry,
    contract::Overwrite,
    file::{FileProtocol, Root, RootAccess, Roots},
};

use crate::cases::{Contestant, Kind, cpu_seconds_of_self};

/// One for each kind of lane.
pub fn contestants(root: &Path) -> io::Result<Vec<Box<dyn Contestant>>> {
    [("staccato tokio-uring", LaneChoice::TokioUring), ("staccato glommio", LaneChoice::Glommio)]
        .into_iter()
        .map(|(name, lane_choice)| {
            let root = Root::new(root, RootAccess::ReadWrite).map_err(io::Error::other)?;
            let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root])));
            let config = DataplaneConfig {
                memory_bytes: 256 << 20,
                lanes: 2,
                lane_choice,
                chunk_bytes: 4 << 20,
                attempts_max: 1,
            };
            let dataplane = Dataplane::start(config, registry).map_err(io::Error::other)?;
            Ok(Box::new(Lane { name, dataplane }) as Box<dyn Contestant>)
        })
        .collect()
}

struct Lane {
    name: &'static str,
    dataplane: Dataplane,
}

impl Contestant for Lane {
    fn name(&self) -> String {
        self.name.into()
    }

    fn kind(&self) -> Kind {
        Kind::Ours
    }

    fn copy(&mut self, from: &Path, to: &Path) -> io::Result<f64> {
        let url = |path: &Path| ObjectUrl::parse(&format!("file://{}", path.display())).map_err(io::Error::other);
        let spec = AttemptSpec {
            transfer: "bench".into(),
            epoch: 1,
            source_url: url(from)?,
            destination_url: url(to)?,
            source_options: Options::new(),
            destination_options: Options::new(),
            part: Part::default(),
            overwrite: Overwrite::Never,
            checksum: None,
            rate_limit: None,
            chunk_size: None,
            validator: None,
            checkpoint: Vec::new(),
            prepared: None,
        };
        let before = cpu_seconds_of_self();
        let (ended, end) = mpsc::channel();
        self.dataplane.attempt(spec, |handle| Box::new(Keeper { handle, ended }));
        match end.recv().map_err(io::Error::other)? {
            Outcome::Committed(_) => Ok(cpu_seconds_of_self() - before),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
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
        self.handle.reply(Reply::Prepared { lease_until: std::time::Duration::MAX });
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        // Whoever measures is waiting; if it is gone, nobody wants to know.
        let _ = self.ended.send(outcome);
    }
}
