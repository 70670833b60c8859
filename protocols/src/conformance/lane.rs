//! A lane for a test.

use std::rc::Rc;

use crate::{BufferPool, CRC_BLOCK, Lane, Runtime};

/// Budget of the pool of a test's lane.
pub const LANE_MEMORY_BYTES: usize = 64 << 20;

/// Runs `body` on a lane of the given kind in the calling thread, with a pool of [`LANE_MEMORY_BYTES`].
///
/// # Panics
/// When the runtime cannot be started: a host without io_uring cannot run these tests.
pub fn on_lane<T>(runtime: Runtime, body: impl AsyncFnOnce(Rc<Lane>) -> T) -> T {
    let run = async move || {
        // A few registered buffers, so that both kinds are met; where the kernel refuses them, the heap serves.
        let chunk = 4 * CRC_BLOCK as usize;
        let (pool, _refusal) = BufferPool::new(runtime, LANE_MEMORY_BYTES, chunk, chunk);
        body(Rc::new(Lane { index: 0, runtime, pool })).await
    };
    match runtime {
        Runtime::TokioUring => tokio_uring::start(run()),
        Runtime::Glommio => glommio::LocalExecutorBuilder::default()
            .name("conformance")
            .make()
            .expect("glommio starts: io_uring is there and RLIMIT_MEMLOCK is at least 512 KiB")
            .run(run()),
    }
}
