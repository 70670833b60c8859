//! The tokio-uring lane: registered buffers, read into and written from, and the tokio ecosystem beside them.

use std::thread::{self, JoinHandle};

use ::tokio_uring::Runtime;
use staccato_protocols::{BufferPool, Error, Lane, Runtime::TokioUring};

use super::{LaneConfig, RING_ENTRIES, Ready, failed_to_start, message::Command, placement, service};

pub(super) fn start(
    config: LaneConfig,
    ready: Ready,
    inbox: flume::Receiver<Command>,
) -> Result<JoinHandle<()>, Error> {
    let builder = thread::Builder::new().name(format!("lane-uring-{}", config.index));
    let started = builder.spawn(move || {
        placement::pin(config.core);
        let runtime = match Runtime::new(::tokio_uring::builder().entries(RING_ENTRIES)) {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(failed_to_start(&error)))),
        };
        runtime.block_on(async move {
            let (pool, refusal) =
                BufferPool::new(TokioUring, config.memory_bytes, config.registered_bytes, config.chunk_bytes);
            if let Some(error) = refusal {
                tracing::warn!(
                    %error,
                    bytes = config.registered_bytes,
                    "the kernel did not register the lane's buffers (raise RLIMIT_MEMLOCK): using plain memory, at more CPU"
                );
            }
            let _ = ready.send(Ok(()));
            let lane = || Lane { index: config.index, runtime: TokioUring, pool: pool.clone() };
            service::serve(lane(), lane(), inbox).await;
        });
    });
    started.map_err(|error| failed_to_start(&error))
}
