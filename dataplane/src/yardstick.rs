//! What the I/O of a copy costs by itself, to hold an attempt against: the same modules, lanes, buffers, depth and
//! chunks, but no engine, no CRC (unless asked for), no sidecar, no checkpoint and no ledger.

pub mod link;

use std::{
    rc::Rc,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
};

use staccato_protocols::{
    BufferPool, ByteRange, Code, Destination, Error, Interrupt, Lane, ObjectUrl, Options, Registry, Runtime, Source,
    contract::{CommitError, DestinationRequest, Overwrite, SharedProtocol, SourceRequest, WriteShape},
};

use crate::{
    DataplaneConfig,
    attempt::run::WINDOW_CHUNKS_PER_LANE,
    lane::{placement, preflight},
};

/// Copies the first `length` bytes of an object on tokio-uring lanes, and commits them. `begin` is called when the
/// lanes are there, with their memory, and nothing has moved.
pub fn copy(
    config: &DataplaneConfig,
    registry: &Registry,
    source_url: &ObjectUrl,
    destination_url: &ObjectUrl,
    length: u64,
    checksums: bool,
    begin: impl FnOnce(),
) -> Result<(), Error> {
    preflight::check_io_uring(config)?;
    let source = registry.source(source_url, &Options::new())?;
    let mut session = registry.destination(destination_url, &Options::new())?.begin(&DestinationRequest {
        url: destination_url.clone(),
        options: Options::new(),
        transfer: "yardstick".into(),
        epoch: 1,
        overwrite: Overwrite::Never,
        resume: false,
        upload: None,
        prepared: None,
        interrupt: Interrupt::default(),
    })?;
    let request = SourceRequest {
        url: source_url.clone(),
        options: Options::new(),
        pinned: None,
        aligned: true,
        interrupt: Interrupt::default(),
    };
    let lanes = config.lanes.max(1);
    let chunk_bytes = config.chunk_bytes_of(None);
    // The lanes, and whoever calls `begin`: twice, before it and behind it.
    let begins = Barrier::new(lanes + 1);
    let work = Work { length, chunk_bytes, next: AtomicU64::new(0), checksums };
    let cores = placement::cores();
    let opens =
        (0..lanes).map(|_| session.open_on_lane(WriteShape { aligned: true })).collect::<Result<Vec<_>, _>>()?;
    session.set_length(length)?;
    std::thread::scope(|scope| {
        let running: Vec<_> = opens
            .into_iter()
            .enumerate()
            .map(|(index, open)| {
                let (work, request, begins, core) = (&work, &request, &begins, cores.get(index).copied());
                scope.spawn(move || {
                    placement::pin(core);
                    let runtime = tokio_uring::Runtime::new(&tokio_uring::builder());
                    let lane = runtime.as_ref().map(|runtime| runtime.block_on(async { lane(config, index) }));
                    begins.wait();
                    begins.wait();
                    let (runtime, lane) = (runtime.as_ref().map_err(|e| internal(e))?, lane.map_err(|e| internal(e))?);
                    runtime.block_on(async {
                        let destination = open(&lane).await?;
                        move_bytes(work, &lane, source, request, destination).await
                    })
                })
            })
            .collect();
        begins.wait();
        begin();
        begins.wait();
        let ended = running.into_iter().map(|lane| lane.join().unwrap_or_else(|_| Err(internal(&"a lane panicked"))));
        ended.collect::<Result<(), Error>>()
    })?;
    session.set_length(length)?;
    session.commit().map_err(|error| match error {
        CommitError::NotDone(error) | CommitError::Unknown(error) => error,
    })
}

/// What the lanes share.
struct Work {
    length: u64,
    chunk_bytes: u64,
    /// Index of the next chunk.
    next: AtomicU64,
    checksums: bool,
}

fn lane(config: &DataplaneConfig, index: usize) -> Lane {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (pool, refusal) = BufferPool::new(
        Runtime::TokioUring,
        bytes(config.lane_memory_bytes()),
        bytes(config.registered_bytes()),
        bytes(config.chunk_bytes),
    );
    if let Some(error) = refusal {
        tracing::warn!(%error, "the yardstick's buffers are not registered");
    }
    Lane { index, runtime: Runtime::TokioUring, pool }
}

async fn move_bytes(
    work: &Work,
    lane: &Lane,
    module: &SharedProtocol,
    request: &SourceRequest,
    destination: Rc<dyn Destination>,
) -> Result<(), Error> {
    let source = module.open_source(request, lane).await;
    let moved: Result<(), Error> = match &source {
        // To their ends, all of them: what is in flight must not be dropped.
        Ok(source) => {
            let places = (0..WINDOW_CHUNKS_PER_LANE).map(|_| move_chunks(work, lane, &**source, &*destination));
            futures_util::future::join_all(places).await.into_iter().collect()
        }
        Err(error) => Err(error.clone()),
    };
    // What this lane has written is complete, whatever others are at.
    let synced = destination.sync().await;
    if let Ok(source) = source {
        source.close().await;
    }
    destination.close().await;
    moved.and(synced)
}

/// One place of the window: chunk after chunk.
async fn move_chunks(
    work: &Work,
    lane: &Lane,
    source: &dyn Source,
    destination: &dyn Destination,
) -> Result<(), Error> {
    loop {
        let start = work.next.fetch_add(1, Ordering::Relaxed) * work.chunk_bytes;
        let end = work.length.min(start.saturating_add(work.chunk_bytes));
        let Some(range) = ByteRange::new(start, end).filter(|range| !range.is_empty()) else { return Ok(()) };
        let chunk = source.read(range, &lane.pool).await?;
        if work.checksums {
            std::hint::black_box(chunk.block_crcs());
        }
        destination.write(range.start(), chunk).await?;
    }
}

fn internal(why: &dyn std::fmt::Display) -> Error {
    Error::fatal(Code::Internal, format!("the yardstick broke: {why}"))
}

#[cfg(test)]
mod tests {
    use staccato_protocols::file::{FileProtocol, Root, RootAccess, Roots};

    use super::*;
    use crate::attempt::LaneChoice;

    #[test]
    fn the_yardstick_copies_what_an_attempt_copies() {
        let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let root = Root::new(folder.path(), RootAccess::ReadWrite).unwrap();
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root])));
        let config = DataplaneConfig {
            memory_bytes: 64 << 20,
            lanes: 2,
            lane_choice: LaneChoice::TokioUring,
            chunk_bytes: 1 << 20,
            attempts_max: 1,
            spool: None,
            among_others: false,
        };
        let bytes: Vec<u8> = (0..(9 << 20) + 77).map(|at: u32| (at % 251) as u8).collect();
        std::fs::write(folder.path().join("s"), &bytes).unwrap();
        let url = |name: &str| ObjectUrl::parse(&format!("file://{}/{name}", folder.path().display())).unwrap();
        for checksums in [false, true] {
            let target = format!("d{checksums}");
            let mut begun = 0;
            copy(&config, &registry, &url("s"), &url(&target), bytes.len() as u64, checksums, || begun += 1).unwrap();
            assert_eq!(begun, 1);
            assert!(std::fs::read(folder.path().join(target)).unwrap() == bytes);
        }
        let missing = copy(&config, &registry, &url("gone"), &url("d"), 1, false, || ()).unwrap_err();
        assert_eq!(missing.code, Code::SourceMissing);
    }
}
