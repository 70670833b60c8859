//! Attempts that go on where others stopped.

use std::os::unix::fs::{FileExt, MetadataExt};

use staccato_dataplane::attempt::{AttemptSpec, CheckpointReport, Completion, Outcome, StartOver, StopReason};
use staccato_protocols::contract::{Identity, Overwrite};

use crate::keeper::{Told, World, bytes, on_both_lanes};

const MIB: usize = 1 << 20;

/// Runs a first attempt that is stopped at its first checkpoint; returns what the second one is told.
fn interrupted(world: &mut World, len: usize) -> (AttemptSpec, CheckpointReport) {
    let mut spec = world.spec("s", "d");
    spec.rate_limit = Some(len as u64 / 3);
    world.stop_at = Some((1, StopReason::Pause));
    let (outcome, told) = world.run(spec);
    assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Pause });
    world.stop_at = None;
    let Some(Told::Checkpoint(report)) = told.last().cloned() else { panic!("{told:?}") };
    let mut spec = world.spec("s", "d");
    spec.epoch = 2;
    spec.checkpoint = report.ranges.clone();
    spec.validator = report.validator.clone();
    (spec, report)
}

fn durable(report: &CheckpointReport) -> u64 {
    report.ranges.iter().map(|known| known.range.len()).sum()
}

#[test]
fn a_second_attempt_fetches_only_what_is_missing() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 48 * MIB + 17);
        world.write("s", &content);
        let (spec, report) = interrupted(&mut world, content.len());
        assert!(durable(&report) > 0);
        let Outcome::Committed(completion) = world.run(spec).0 else { panic!("not committed") };
        assert_eq!(completion.bytes_fetched, content.len() as u64 - durable(&report));
        assert_eq!(completion.crc32, Some(crc32fast::hash(&content)));
        assert!(world.read("d") == content);
    });
}

#[test]
fn a_damaged_block_and_only_it_is_fetched_again() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 48 * MIB);
        world.write("s", &content);
        let (spec, report) = interrupted(&mut world, content.len());
        let partial = world.folder.path().join(".d.staccato-t.1");
        let file = std::fs::OpenOptions::new().write(true).open(partial).unwrap();
        let at = report.ranges[0].range.start() + 5;
        file.write_all_at(&[content[at as usize] ^ 1], at).unwrap();
        let Outcome::Committed(completion) = world.run(spec).0 else { panic!("not committed") };
        assert_eq!(completion.bytes_fetched, content.len() as u64 - durable(&report) + MIB as u64);
        assert!(world.read("d") == content);
    });
}

#[test]
fn without_sidecar_or_partial_everything_still_arrives() {
    on_both_lanes(|mut world| {
        for lost in [".d.staccato-t.1.crc", ".d.staccato-t.1"] {
            let content = bytes(1, 24 * MIB);
            world.write("s", &content);
            let (mut spec, _) = interrupted(&mut world, content.len());
            std::fs::remove_file(world.folder.path().join(lost)).unwrap();
            spec.overwrite = Overwrite::Always;
            assert!(matches!(world.run(spec).0, Outcome::Committed(_)));
            assert!(world.read("d") == content);
            std::fs::remove_file(world.folder.path().join("d")).unwrap();
            assert_eq!(world.names(), ["s"]);
        }
    });
}

#[test]
fn what_is_gone_is_taken_back_from_the_ledger_before_anything_is_written() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 24 * MIB);
        world.write("s", &content);
        let (spec, _) = interrupted(&mut world, content.len());
        std::fs::remove_file(world.folder.path().join(".d.staccato-t.1")).unwrap();
        world.stop_at = Some((1, StopReason::LeaseLost));
        let (outcome, told) = world.run(spec);
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::LeaseLost });
        let [Told::Checkpoint(report)] = &told[..] else { panic!("{told:?}") };
        assert_eq!((report.started_over, report.ranges.len()), (Some(StartOver::PartialGone), 0));
        let partial = std::fs::metadata(world.folder.path().join(".d.staccato-t.2")).unwrap();
        assert_eq!(partial.blocks(), 0, "it has its length, and no byte");
    });
}

#[test]
fn a_source_that_changed_is_not_mixed_with_what_is_there() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 24 * MIB);
        world.write("s", &content);
        let (mut spec, _) = interrupted(&mut world, content.len());
        let changed = bytes(2, 24 * MIB);
        world.write("s", &changed);
        let Outcome::Failed { error } = world.run(spec.clone()).0 else { panic!("not noticed") };
        assert_eq!(error.code, staccato_protocols::Code::SourceChanged);
        // The ledger forgets the version and the checkpoint, and the next attempt begins anew.
        spec.epoch = 3;
        spec.validator = None;
        spec.checkpoint.clear();
        assert!(matches!(world.run(spec).0, Outcome::Committed(_)));
        assert!(world.read("d") == changed);
        assert_eq!(world.names(), ["d", "s"]);
    });
}

#[test]
fn a_prepared_commit_whose_partial_is_gone_starts_over_and_says_so() {
    on_both_lanes(|mut world| {
        let content = bytes(1, 24 * MIB);
        world.write("s", &content);
        let (mut spec, report) = interrupted(&mut world, content.len());
        let identity = Some(Identity { device: 0, inode: 0 });
        let bytes_total = content.len() as u64;
        spec.prepared = Some(Completion {
            bytes_total,
            crc32: None,
            bytes_fetched: durable(&report),
            bytes_from_peers: 0,
            identity,
            stages: report.stages,
        });
        std::fs::remove_file(world.folder.path().join(".d.staccato-t.1")).unwrap();
        let (outcome, told) = world.run(spec);
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        let Some(Told::Checkpoint(report)) = told.first() else { panic!("{told:?}") };
        assert_eq!(report.started_over, Some(StartOver::PartialGone));
        assert!(world.read("d") == content);
    });
}

#[test]
fn a_rename_that_was_done_is_recognised() {
    on_both_lanes(|world| {
        world.write("s", b"content");
        let (outcome, _) = world.run(world.spec("s", "d"));
        let Outcome::Committed(completion) = outcome else { panic!("{outcome:?}") };
        std::fs::remove_file(world.folder.path().join("s")).unwrap();
        let mut spec = world.spec("s", "d");
        spec.epoch = 2;
        spec.prepared = Some(completion);
        assert_eq!(world.run(spec).0, Outcome::Committed(completion));
    });
}

#[test]
fn a_prepared_commit_that_was_not_done_is_done_by_the_next_attempt() {
    on_both_lanes(|mut world| {
        let content = bytes(3, 9 * MIB);
        world.write("s", &content);
        world.lease = std::time::Duration::ZERO;
        let (outcome, told) = world.run(world.spec("s", "d"));
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::LeaseLost });
        let Some(Told::Prepare(prepared)) = told.last() else { panic!("{told:?}") };
        world.lease = std::time::Duration::MAX;
        let mut spec = world.spec("s", "d");
        spec.epoch = 2;
        spec.prepared = Some(*prepared);
        assert!(matches!(world.run(spec).0, Outcome::Committed(_)));
        assert!(world.read("d") == content);
        assert_eq!(world.names(), ["d", "s"]);
    });
}
