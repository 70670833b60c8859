//! A keeper of the ledger that says yes to everything and remembers it.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptHandle, AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Reply, Reporter,
        StopReason,
    },
};
use staccato_protocols::{
    ObjectUrl, Registry,
    contract::Overwrite,
    file::{FileProtocol, Root, RootAccess, Roots},
};
use tempfile::TempDir;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Checkpoint(CheckpointReport),
    Prepare(Completion),
    Finished(Outcome),
}

struct Keeper {
    handle: AttemptHandle,
    told: Sender<Told>,
    /// Stop with this reason at the n-th checkpoint.
    stop_at: Option<(usize, StopReason)>,
    checkpoints: usize,
    lease: Duration,
}

impl Reporter for Keeper {
    fn checkpoint(&mut self, report: CheckpointReport) {
        self.told.send(Told::Checkpoint(report)).unwrap();
        self.checkpoints += 1;
        if let Some((at, reason)) = self.stop_at
            && self.checkpoints == at
        {
            self.handle.stop(reason);
        }
        self.handle.reply(Reply::Checkpointed);
    }

    fn prepare(&mut self, completion: Completion) {
        self.told.send(Told::Prepare(completion)).unwrap();
        self.handle.reply(Reply::Prepared { lease_until: self.lease });
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        self.told.send(Told::Finished(outcome)).unwrap();
    }
}

/// A folder on a disk, another one in memory, and a dataplane that may use both.
pub struct World {
    pub folder: TempDir,
    /// On another file system: from here to the folder nothing can be cloned.
    pub elsewhere: TempDir,
    pub config: DataplaneConfig,
    pub dataplane: Dataplane,
    pub stop_at: Option<(usize, StopReason)>,
    pub lease: Duration,
}

impl World {
    pub fn new(lane_choice: LaneChoice) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = |folder: &TempDir| Root::new(folder.path(), RootAccess::ReadWrite).unwrap();
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root(&folder), root(&elsewhere)])));
        let config = DataplaneConfig {
            memory_bytes: 128 << 20,
            lanes: 2,
            lane_choice,
            chunk_bytes: 4 << 20,
            attempts_max: 1,
            spool: None,
            among_others: false,
        };
        let dataplane = Dataplane::start(config.clone(), registry).unwrap();
        Self { folder, elsewhere, config, dataplane, stop_at: None, lease: Duration::MAX }
    }

    pub fn url(&self, name: &str) -> ObjectUrl {
        ObjectUrl::parse(&format!("file://{}/{name}", self.folder.path().display())).unwrap()
    }

    pub fn spec(&self, source: &str, destination: &str) -> AttemptSpec {
        AttemptSpec {
            transfer: "t".into(),
            epoch: 1,
            source_url: self.url(source),
            destination_url: self.url(destination),
            source_options: Default::default(),
            destination_options: Default::default(),
            part: Part::default(),
            overwrite: Overwrite::Never,
            checksum: None,
            rate_limit: None,
            chunk_size: None,
            connections: None,
            validator: None,
            checkpoint: Vec::new(),
            upload: None,
            prepared: None,
            owner: None,
            swarm: None,
            transport: Default::default(),
            window: None,
        }
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    /// Names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn start(&self, spec: AttemptSpec) -> (AttemptHandle, Receiver<Told>) {
        let (told, hear) = channel();
        let (stop_at, lease) = (self.stop_at, self.lease);
        let handle =
            self.dataplane.attempt(spec, |handle| Box::new(Keeper { handle, told, stop_at, checkpoints: 0, lease }));
        (handle, hear)
    }

    /// Runs an attempt to its end.
    pub fn run(&self, spec: AttemptSpec) -> (Outcome, Vec<Told>) {
        let (_handle, hear) = self.start(spec);
        let mut all: Vec<Told> = Vec::new();
        loop {
            match hear.recv_timeout(Duration::from_secs(180)).expect("an attempt ends") {
                Told::Finished(outcome) => return (outcome, all),
                told => all.push(told),
            }
        }
    }
}

/// What the ledger would give the next attempt.
pub fn next(spec: AttemptSpec, told: &[Told]) -> AttemptSpec {
    let last = told.iter().rev().find_map(|told| match told {
        Told::Checkpoint(report) => Some(report.clone()),
        _ => None,
    });
    let Some(last) = last else { return AttemptSpec { epoch: spec.epoch + 1, ..spec } };
    AttemptSpec {
        epoch: spec.epoch + 1,
        checkpoint: last.ranges,
        validator: last.validator,
        upload: last.upload,
        ..spec
    }
}

/// Bytes that look random and are the same every time.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// Runs a test on both kinds of lane.
pub fn on_both_lanes(test: impl Fn(World)) {
    for choice in [LaneChoice::TokioUring, LaneChoice::Glommio] {
        eprintln!("lane: {choice:?}");
        test(World::new(choice));
    }
}
