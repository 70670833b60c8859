//! Moves bytes: a pure [`engine`] that decides, io_uring [`lane`]s that do, and [`attempt`]s that join the two for one
//! try at one transfer.

#![warn(missing_docs)]

pub mod attempt;
pub mod engine;
pub mod lane;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use attempt::{
    AttemptHandle, AttemptSpec, LaneChoice, Reporter,
    run::{Bench, run},
};
use lane::{Lanes, message::Input, preflight};
use staccato_protocols::{Error, Registry, Runtime};

/// What a process gives its dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Most bytes of memory for buffers, over all lanes.
    pub memory_bytes: u64,
    /// Number of lanes of each kind; each is pinned to a core of its own while there are enough.
    pub lanes: usize,
    /// Which kind of lane moves files to files.
    pub lane_choice: LaneChoice,
    /// Bytes per chunk unless a transfer says otherwise: a multiple of the CRC block.
    pub chunk_bytes: u64,
}

impl DataplaneConfig {
    /// What one lane may use of the memory. With `glommio` chosen, modules that work on tokio-uring only have their lanes
    /// beside it, so that each kind gets half.
    pub(crate) fn lane_memory_bytes(&self) -> u64 {
        let kinds = if self.lane_choice == LaneChoice::Glommio { 2 } else { 1 };
        self.memory_bytes / kinds / self.lanes.max(1) as u64
    }
}

/// The lanes of one process. Cheap to clone; lanes end when the last clone is gone.
#[derive(Clone)]
pub struct Dataplane {
    inner: Arc<Inner>,
}

struct Inner {
    config: DataplaneConfig,
    registry: Registry,
    lanes: Lanes,
    attempts: AtomicU64,
}

impl Dataplane {
    /// Checks that the kernel offers what lanes need, and starts them.
    pub fn start(config: DataplaneConfig, registry: Registry) -> Result<Self, Error> {
        preflight::check_io_uring()?;
        preflight::warn_about_memlock(config.memory_bytes / 2);
        let lanes = Lanes::new(config.clone());
        lanes.of(match config.lane_choice {
            LaneChoice::Glommio => Runtime::Glommio,
            LaneChoice::Auto | LaneChoice::TokioUring => Runtime::TokioUring,
        })?;
        Ok(Self { inner: Arc::new(Inner { config, registry, lanes, attempts: AtomicU64::new(0) }) })
    }

    /// Begins an attempt on a thread of its own. `reporter` is made from the handle, so that it can answer.
    pub fn attempt(
        &self,
        spec: AttemptSpec,
        reporter: impl FnOnce(AttemptHandle) -> Box<dyn Reporter>,
    ) -> AttemptHandle {
        let (replies, inbox) = flume::unbounded();
        let notices = replies.clone();
        let handle = AttemptHandle::new(move |notice| drop(notices.send(Input::Notice(notice))));
        let mut reporter = reporter(handle.clone());
        let inner = self.inner.clone();
        let key = inner.attempts.fetch_add(1, Ordering::Relaxed);
        let work = move || {
            let bench =
                Bench { key, config: &inner.config, registry: &inner.registry, lanes: &inner.lanes, inbox, replies };
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&bench, &spec, reporter.as_mut())));
            // A broken invariant: what this process believes cannot be trusted, and another one goes on from the ledger.
            let Ok(outcome) = outcome else { std::process::abort() };
            reporter.finished(outcome);
        };
        std::thread::Builder::new()
            .name(format!("attempt-{key}"))
            .spawn(work)
            .expect("a process that cannot start a thread cannot go on");
        handle
    }
}
