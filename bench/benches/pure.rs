//! The pure parts that run for every chunk, every checkpoint and every decision, beside two yardsticks of the
//! processor.
//!
//! `cargo bench -p staccato-bench`; names after `--` choose. Figures stand in the register (bench/README.md).

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use staccato_dataplane::engine::{
    Action, Engine, EngineConfig, SYNC_BYTES_MAX, checkpoint::CrcRanges, window::Connections,
};
use staccato_protocols::{ByteRange, CRC_BLOCK, contract::Writes};
use staccato_scheduler_plugins::{Executor, Link, Plugin as _, Slots, Snapshot, Waiting};

fn main() {
    divan::main();
}

const CHUNK: u64 = 4 << 20;
const CHUNKS: u64 = 1024;
const WINDOW: usize = 8;

/// Everything that an engine does for 1,024 chunks of 4 MiB: handed out, read and written, synced and checkpointed.
#[divan::bench]
fn engine_step(bencher: Bencher<'_, '_>) {
    let crcs: Vec<u32> = (0..CHUNK / CRC_BLOCK).map(|block| block as u32).collect();
    bencher.counter(ItemsCount::new(CHUNKS)).with_inputs(engine).bench_local_values(|mut engine| {
        let mut under_way: Vec<ByteRange> = Vec::new();
        let mut now = Duration::ZERO;
        loop {
            while let Some(action) = engine.poll(now) {
                match action {
                    Action::Fetch { range, .. } => under_way.push(range),
                    Action::Sync { blocks } => {
                        black_box(blocks);
                        engine.handle_synced(Ok(()));
                    }
                    Action::Checkpoint(ranges) => {
                        black_box(ranges);
                        engine.handle_checkpointed();
                    }
                    Action::SetLength(_) => engine.handle_length_set(),
                    Action::Finish { .. } => return engine,
                    other => panic!("nothing goes wrong here: {other:?}"),
                }
            }
            now += Duration::from_millis(4);
            let range = under_way.swap_remove(under_way.len() / 2);
            engine.handle_read(range, now);
            engine.handle_chunk(range, range.len(), range.len(), &crcs, now);
        }
    });
}

fn engine() -> Engine {
    Engine::new(EngineConfig {
        length: Some(CHUNKS * CHUNK),
        chunk_bytes: CHUNK,
        window_chunks_max: WINDOW,
        connections: Connections::Unlimited,
        request_cost: Duration::ZERO,
        chosen: false,
        sequential: false,
        writes: Writes::Anywhere,
        fresh: true,
        started_over: false,
        rate_limit: None,
        sync_bytes_max: SYNC_BYTES_MAX,
        checkpoint: Vec::new(),
        sidecar: BTreeMap::new(),
        present: None,
    })
}

/// A set of ranges that grows by one block, out of order: the hole between two ranges is filled, and the three become
/// one.
#[divan::bench(args = [16, 1_024, 65_536])]
fn checkpoint_coalescing(bencher: Bencher<'_, '_>, blocks: u64) {
    bencher.counter(ItemsCount::new(blocks)).bench(|| {
        let mut ranges = CrcRanges::default();
        for block in (0..blocks).step_by(2).chain((1..blocks).step_by(2)) {
            let range = ByteRange::new(block * CRC_BLOCK, (block + 1) * CRC_BLOCK).expect("it is in order");
            ranges.insert(range, block as u32);
        }
        assert_eq!(ranges.iter().count(), 1);
        ranges
    });
}

/// One decision about two free slots.
#[divan::bench(args = [1_000, 10_000, 100_000, 1_000_000])]
fn scheduler_decision(bencher: Bencher<'_, '_>, waiting: u64) {
    let snapshot = snapshot(waiting);
    bencher.bench(|| Slots::new(2).decide(black_box(&snapshot)));
}

/// As the ledger shows them: highest priority first, within one in the order of submission.
fn snapshot(waiting: u64) -> Snapshot {
    let transfer = |index: u64| Waiting {
        id: uuid(index),
        priority: (9 - index * 10 / waiting) as u8,
        owner: "owner".to_owned(),
        submitted_ms: index,
        link: Link::default(),
        at: None,
    };
    let executors = vec![Executor::default()];
    Snapshot { waiting: (0..waiting).map(transfer).collect(), executors, ..Snapshot::default() }
}

fn uuid(index: u64) -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(index))
}

/// A yardstick: CRC-32 of a block that is in the cache.
#[divan::bench]
fn yardstick_crc32_of_a_block(bencher: Bencher<'_, '_>) {
    let block = vec![7_u8; CRC_BLOCK as usize];
    bencher.counter(BytesCount::new(CRC_BLOCK)).bench(|| crc32fast::hash(black_box(&block)));
}

/// A yardstick: the same block copied.
#[divan::bench]
fn yardstick_copy_of_a_block(bencher: Bencher<'_, '_>) {
    let block = vec![7_u8; CRC_BLOCK as usize];
    let mut target = vec![0_u8; CRC_BLOCK as usize];
    bencher
        .counter(BytesCount::new(CRC_BLOCK))
        .bench_local(|| black_box(&mut target).copy_from_slice(black_box(&block)));
}
