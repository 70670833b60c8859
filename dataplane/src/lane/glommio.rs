//! The glommio lane: O_DIRECT, registered memory, thread per core.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use ::glommio::{Latency, LocalExecutorBuilder, Placement, Shares, executor};
use staccato_protocols::{BufferPool, Code, Error, Lane, Runtime};

use super::{LaneConfig, message::Command, service};

/// What the queue of a lane's work is promised: a command from a coordinator is looked at within this time.
const MAILBOX_LATENCY: Duration = Duration::from_millis(1);

pub(super) fn start(
    config: LaneConfig,
    ready: flume::Sender<()>,
    inbox: flume::Receiver<Command>,
) -> Result<JoinHandle<()>, Error> {
    let placement = config.core.map_or(Placement::Unbound, Placement::Fixed);
    let failed = |error: &dyn std::fmt::Display| {
        Error::fatal(Code::IoUringUnavailable, format!("a glommio lane cannot be started: {error}"))
    };
    let builder = LocalExecutorBuilder::new(placement)
        .name(&format!("lane-glommio-{}", config.index))
        .io_memory(config.registered_bytes);
    let handle = builder
        .spawn(move || async move {
            let latency = Latency::Matters(MAILBOX_LATENCY);
            let queue = executor().create_task_queue(Shares::Static(1000), latency, "lane");
            let (pool, _) = BufferPool::new(Runtime::Glommio, config.memory_bytes, 0, 0);
            let lane = Lane { index: config.index, runtime: Runtime::Glommio, pool };
            match ::glommio::spawn_local_into(service::serve(lane, inbox), queue) {
                Ok(task) => {
                    let _ = ready.send(());
                    task.await;
                }
                Err(error) => tracing::error!(%error, "a glommio lane could not start its work"),
            }
        })
        .map_err(|error| failed(&error))?;
    let builder = thread::Builder::new().name(format!("join-glommio-{}", config.index));
    // glommio's handle is joined by a thread of ours, so that both kinds of lane end alike.
    builder
        .spawn(move || {
            if let Err(error) = handle.join() {
                tracing::error!(%error, "a glommio lane ended with an error");
            }
        })
        .map_err(|error| failed(&error))
}
