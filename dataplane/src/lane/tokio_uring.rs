//! The tokio-uring lane: registered buffers, read into and written from, and the tokio ecosystem beside them.

use std::thread::{self, JoinHandle};

use staccato_protocols::{BufferPool, Code, Error, Lane, Runtime};

use super::{LaneConfig, message::Command, placement, service};

/// Entries of the submission queue: more than a lane's window of chunks with its reads, writes and syncs.
const RING_ENTRIES: u32 = 256;

pub(super) fn start(
    config: LaneConfig,
    ready: flume::Sender<()>,
    inbox: flume::Receiver<Command>,
) -> Result<JoinHandle<()>, Error> {
    let builder = thread::Builder::new().name(format!("lane-uring-{}", config.index));
    let started = builder.spawn(move || {
        placement::pin(config.core);
        ::tokio_uring::builder().entries(RING_ENTRIES).start(async move {
            let (pool, refusal) =
                BufferPool::new(Runtime::TokioUring, config.memory_bytes, config.registered_bytes, config.chunk_bytes);
            if let Some(error) = refusal {
                tracing::warn!(
                    %error,
                    bytes = config.registered_bytes,
                    "the kernel did not register the lane's buffers (raise RLIMIT_MEMLOCK): using plain memory, at more CPU"
                );
            }
            let _ = ready.send(());
            service::serve(Lane { index: config.index, runtime: Runtime::TokioUring, pool }, inbox).await;
        });
    });
    started.map_err(|error| Error::fatal(Code::Internal, format!("a lane's thread cannot be started: {error}")))
}
