//! Does: lanes, each one pinned thread with one io_uring runtime.
//!
//! A lane reads, checksums and writes chunks for every attempt that uses it, and shares nothing with other lanes.
//! `service` is what a lane does, whatever drives it; `tokio_uring` and `glommio` are thin shells around the two
//! runtimes; `coordinator` joins an engine to the lanes of one attempt, `checksums` hashes what these move, and `follow`
//! has read back for it what passed unseen; [`preflight`] says before anything starts whether the kernel offers what
//! lanes need; [`placement`] gives each lane a core.

pub(crate) mod checksums;
pub(crate) mod coordinator;
pub(crate) mod feed;
pub(crate) mod feeding;
pub(crate) mod follow;
mod glommio;
pub(crate) mod message;
mod order;
mod peers;
pub mod placement;
pub mod preflight;
mod repair;
mod service;
pub(crate) mod stream;
mod tokio_uring;

use std::{
    sync::{Mutex, OnceLock},
    thread::JoinHandle,
};

use message::Command;
use staccato_protocols::{Code, Error, Runtime};

use crate::DataplaneConfig;

/// Entries of a ring's submission queue: more than a lane's window of chunks with its reads, writes and syncs.
const RING_ENTRIES: u32 = 256;

/// How to talk to a lane. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    commands: flume::Sender<Command>,
}

impl LaneHandle {
    /// Hands over a command.
    pub fn send(&self, command: Command) {
        self.commands.send(command).expect("a lane lives as long as its dataplane");
    }
}

/// What a lane is built from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneConfig {
    pub index: usize,
    pub core: Option<usize>,
    pub memory_bytes: usize,
    /// Of the memory, what is kept for other executors that read.
    pub serving_bytes: usize,
    pub registered_bytes: usize,
    pub chunk_bytes: usize,
}

/// The error of a lane that cannot be started.
fn failed_to_start(why: &dyn std::fmt::Display) -> Error {
    Error::fatal(Code::IoUringUnavailable, format!("a lane cannot be started: {why}"))
}

/// Says whether a lane has started.
type Ready = flume::Sender<Result<(), Error>>;

/// The lanes of a process: those of a kind are started when they are first asked for.
pub(crate) struct Lanes {
    config: DataplaneConfig,
    tokio_uring: OnceLock<Vec<LaneHandle>>,
    glommio: OnceLock<Vec<LaneHandle>>,
    starting: Mutex<Vec<JoinHandle<()>>>,
}

impl Lanes {
    pub fn new(config: DataplaneConfig) -> Self {
        Self { config, tokio_uring: OnceLock::new(), glommio: OnceLock::new(), starting: Mutex::default() }
    }

    /// The lanes of one kind.
    pub fn of(&self, runtime: Runtime) -> Result<&[LaneHandle], Error> {
        let cell = match runtime {
            Runtime::TokioUring => &self.tokio_uring,
            Runtime::Glommio => &self.glommio,
        };
        // One at a time: whoever comes second finds them started.
        let mut threads = self.starting.lock().expect("starting a lane does not panic");
        if let Some(lanes) = cell.get() {
            return Ok(lanes);
        }
        let mut handles = Vec::new();
        for config in self.lane_configs() {
            let (commands, inbox) = flume::unbounded();
            let (ready, is_ready) = flume::bounded(1);
            threads.push(match runtime {
                Runtime::TokioUring => tokio_uring::start(config, ready, inbox)?,
                Runtime::Glommio => glommio::start(config, ready, inbox)?,
            });
            // A thread that dies before it says anything drops the sender.
            is_ready.recv().unwrap_or_else(|_| Err(failed_to_start(&"its thread has died; the log says why")))?;
            handles.push(LaneHandle { commands });
        }
        Ok(cell.get_or_init(|| handles))
    }

    fn lane_configs(&self) -> impl Iterator<Item = LaneConfig> {
        let lanes = self.config.lanes.max(1);
        let memory = self.config.lane_memory_bytes();
        let cores = placement::cores();
        let chunk_bytes = self.config.chunk_bytes as usize;
        (0..lanes).map(move |index| LaneConfig {
            index,
            core: (lanes <= cores.len()).then(|| cores[index]),
            memory_bytes: memory as usize,
            serving_bytes: self.config.serving_bytes() as usize,
            registered_bytes: self.config.registered_bytes() as usize,
            chunk_bytes,
        })
    }
}
