//! Checksums of whole objects, computed while these move.

use staccato_dataplane::{
    Dataplane,
    attempt::{AttemptSpec, ChecksumKind, LaneChoice, Outcome, StopReason},
};
use staccato_protocols::{
    Code, Registry,
    checksum::{Checksum, Hasher},
    contract::Writes,
    file::{FileProtocol, Root, RootAccess, Roots},
};

use crate::{
    keeper::{World, bytes, next, on_both_lanes},
    shelf::{MIB, PARTS, STREAMED_PARTS, Shelf},
};

const CHUNK: u64 = 4 * MIB;

/// A world in which `shelf` can be written to.
fn world(shelf: &Shelf, lane_choice: LaneChoice) -> World {
    let world = World::new(lane_choice);
    let root = Root::new(world.folder.path(), RootAccess::ReadWrite).unwrap();
    let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root]))).with(shelf.clone());
    let dataplane = Dataplane::start(world.config.clone(), registry).unwrap();
    World { dataplane, ..world }
}

fn checksum(kind: ChecksumKind, bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::new(kind);
    hasher.update(bytes);
    hasher.finish()
}

/// An attempt that writes to the shelf, and must have the checksum of these bytes.
fn to_shelf(world: &World, content: &[u8]) -> AttemptSpec {
    world.write("s", content);
    AttemptSpec {
        destination_url: Shelf::url(),
        checksum: Some(checksum(ChecksumKind::Sha256, content)),
        ..world.spec("s", "d")
    }
}

fn assert_committed(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
}

#[test]
fn what_moves_in_order_is_hashed_on_its_way_and_never_read_again() {
    for choice in [LaneChoice::TokioUring, LaneChoice::Glommio] {
        let shelf = Shelf::new(Writes::Anywhere);
        let world = world(&shelf, choice);
        let content = bytes(1, 30 * MIB as usize + 5);
        // One chunk at a time, with the two lanes that an object of this length has: one at each.
        let spec = AttemptSpec { window: Some(CHUNK / 2), ..to_shelf(&world, &content) };
        let (outcome, _) = world.run(AttemptSpec { chunk_size: Some(CHUNK), ..spec });
        assert_committed(&outcome);
        assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
        let read = shelf.with(|state| state.read_back.clone());
        assert_eq!(read, [0; 0], "{choice:?}");
    }
}

#[test]
fn what_moves_in_any_order_is_read_back_once_at_most() {
    for seed in 0..2 {
        let shelf = Shelf::new(Writes::Anywhere);
        let world = world(&shelf, LaneChoice::TokioUring);
        let content = bytes(seed, 31 * MIB as usize + 5);
        let (outcome, _) = world.run(AttemptSpec { chunk_size: Some(MIB), ..to_shelf(&world, &content) });
        assert_committed(&outcome);
        let mut read = shelf.with(|state| state.read_back.clone());
        let count = read.len();
        read.sort();
        read.dedup();
        assert_eq!(read.len(), count);
    }
}

#[test]
fn what_was_hashed_and_could_not_be_written_is_hashed_as_it_was_written_in_the_end() {
    for writes in [Writes::Anywhere, PARTS, STREAMED_PARTS] {
        let shelf = Shelf::new(writes);
        let world = world(&shelf, LaneChoice::TokioUring);
        let content = bytes(2, 22 * MIB as usize);
        shelf.with(|state| state.fails_at = vec![0, 3, 4]);
        let (outcome, _) = world.run(to_shelf(&world, &content));
        assert_committed(&outcome);
        assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
    }
}

#[test]
fn what_an_earlier_attempt_had_written_is_part_of_the_checksum() {
    on_both_lanes(|mut world| {
        let content = bytes(3, 12 * MIB as usize + 17);
        world.write("s", &content);
        world.stop_at = Some((1, StopReason::Pause));
        let right = checksum(ChecksumKind::Sha512, &content);
        let wrong = checksum(ChecksumKind::Sha512, b"other");
        let spec = AttemptSpec { rate_limit: Some(8 << 20), ..world.spec("s", "d") };
        let (outcome, told) = world.run(spec.clone());
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Pause });
        world.stop_at = None;
        let spec = AttemptSpec { rate_limit: None, checksum: Some(right), ..next(spec, &told) };
        assert!(!spec.checkpoint.is_empty());
        assert_committed(&world.run(spec.clone()).0);
        assert!(world.read("d") == content);
        let spec = AttemptSpec { checksum: Some(wrong), destination_url: world.url("e"), ..spec };
        let Outcome::Failed { error } = world.run(spec).0 else { panic!("it has another checksum") };
        assert_eq!(error.code, Code::ChecksumMismatch);
    });
}

#[test]
fn a_session_that_wants_a_checksum_is_told_it_before_the_commit() {
    for writes in [Writes::Anywhere, PARTS, STREAMED_PARTS, Writes::InOrder] {
        for len in [0, 9 * MIB as usize + 1] {
            let shelf = Shelf::new(writes);
            let world = world(&shelf, LaneChoice::TokioUring);
            let content = bytes(4, len);
            shelf.with(|state| state.wants = Some(ChecksumKind::Md5));
            assert_committed(&world.run(to_shelf(&world, &content)).0);
            assert_eq!(shelf.with(|state| state.noted.take()), Some(checksum(ChecksumKind::Md5, &content)));
        }
    }
}
