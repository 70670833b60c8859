//! Where the time of an attempt went.

use std::time::{Duration, Instant};

use staccato_dataplane::attempt::{AttemptSpec, Outcome, StageTimes, StopReason};

use crate::keeper::{Told, World, bytes, on_both_lanes};

const MIB: usize = 1 << 20;

fn run(world: &World, spec: AttemptSpec) -> (StageTimes, Duration) {
    let began = Instant::now();
    match world.run(spec).0 {
        Outcome::Committed(completion) => (completion.stages, began.elapsed()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_stage_that_was_passed_has_its_time() {
    on_both_lanes(|world| {
        world.write("s", &bytes(1, 40 * MIB));
        let (stages, wall) = run(&world, world.spec("s", "d"));
        for (stage, time) in stages.named() {
            let passed = !["idle", "read_back", "verify", "memory", "ledger"].contains(&stage);
            assert!(!passed || time > 0, "{stage}: {stages:?}");
        }
        // At most so many chunks are in a stage at a time.
        let window = u128::from(stages.read_us + stages.checksum_us + stages.write_us) / wall.as_micros().max(1);
        assert!(window <= 16, "{stages:?} in {wall:?}");
    });
}

#[test]
fn a_rate_limit_shows_as_idle_places() {
    on_both_lanes(|world| {
        world.write("s", &bytes(1, 16 * MIB));
        let spec = AttemptSpec { rate_limit: Some(16 << 20), ..world.spec("s", "d") };
        let (stages, wall) = run(&world, spec);
        let others = stages.queue_us + stages.memory_us + stages.read_us + stages.checksum_us + stages.write_us;
        assert!(stages.idle_us > 2 * others, "{stages:?} in {wall:?}");
    });
}

#[test]
fn checkpoints_tell_the_times_too_and_reading_back_is_one_of_them() {
    on_both_lanes(|mut world| {
        world.write("s", &bytes(1, 24 * MIB));
        world.stop_at = Some((1, StopReason::Pause));
        let spec = AttemptSpec { rate_limit: Some(8 << 20), ..world.spec("s", "d") };
        let (_, told) = world.run(spec);
        let report = told.iter().rev().find_map(|told| match told {
            Told::Checkpoint(report) => Some(report.clone()),
            _ => None,
        });
        let report = report.expect("it was stopped at a checkpoint");
        assert!(report.stages.read_us > 0 && report.stages.sync_us > 0, "{report:?}");
        world.stop_at = None;
        let spec =
            AttemptSpec { epoch: 2, validator: report.validator, checkpoint: report.ranges, ..world.spec("s", "d") };
        let (stages, _) = run(&world, spec);
        assert!(stages.read_back_us > 0, "{stages:?}");
    });
}
