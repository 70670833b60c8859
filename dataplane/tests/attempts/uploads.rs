//! Destinations that take parts, or one stream, and the spool before them.

use std::time::Duration;

use staccato_dataplane::{
    Dataplane,
    attempt::{AttemptSpec, Checksum, LaneChoice, Outcome, StopReason},
};
use staccato_protocols::{
    Code, ObjectUrl, Registry,
    contract::Writes,
    file::{FileProtocol, Root, RootAccess, Roots},
    http::HttpProtocol,
    spool::{SpoolConfig, WhenFull},
    testing::http_server::{Framing, HttpServer, Page, Trick},
    web::Web,
};

use crate::{
    keeper::{Told, World, bytes, next},
    shelf::{MIB, PARTS, STREAMED_PARTS, Shelf},
};

/// A world in which `shelf` can be written to, through a spool of so many bytes (none with 0).
fn world(shelf: &Shelf, spool_bytes: u64) -> World {
    let world = World::new(LaneChoice::TokioUring);
    let root = Root::new(world.folder.path(), RootAccess::ReadWrite).unwrap();
    let files = FileProtocol::new(Roots::new(vec![root]));
    let registry = Registry::new().with(files).with(HttpProtocol::new(Web::new())).with(shelf.clone());
    let folder = world.elsewhere.path().join("spool");
    let spool = SpoolConfig { folder, bytes_max: spool_bytes, when_full: WhenFull::Fail };
    let config =
        staccato_dataplane::DataplaneConfig { spool: (spool_bytes > 0).then_some(spool), ..world.config.clone() };
    let dataplane = Dataplane::start(config, registry).unwrap();
    World { dataplane, ..world }
}

fn to_shelf(world: &World, source: &str) -> AttemptSpec {
    AttemptSpec { destination_url: Shelf::url(), ..world.spec(source, "d") }
}

fn from_server(world: &World, server: &HttpServer) -> AttemptSpec {
    AttemptSpec { source_url: ObjectUrl::parse(&server.url("/s")).unwrap(), ..to_shelf(world, "s") }
}

fn sha256(bytes: &[u8]) -> Checksum {
    use sha2::{Digest, Sha256};
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))).parse().unwrap()
}

#[test]
fn objects_are_written_in_parts_of_the_right_length_whatever_their_own() {
    let lengths = [0, 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 11 * MIB];
    for (len, writes) in lengths.into_iter().flat_map(|len| [(len, PARTS), (len, STREAMED_PARTS)]) {
        let shelf = Shelf::new(writes);
        let world = world(&shelf, 0);
        let content = bytes(len, len as usize);
        world.write("s", &content);
        let spec = AttemptSpec { checksum: Some(sha256(&content)), ..to_shelf(&world, "s") };
        let (outcome, told) = world.run(spec);
        assert!(matches!(outcome, Outcome::Committed(_)), "{len}: {outcome:?}");
        assert!(shelf.with(|state| state.object.as_ref() == Some(&content)), "{len}");
        assert!(shelf.with(|state| state.written.iter().all(|offset| offset % (2 * MIB) == 0)));
        let Told::Checkpoint(first) = &told[0] else { panic!("the ledger hears of the upload first: {told:?}") };
        assert!(first.upload.is_some() && first.ranges.is_empty(), "{first:?}");
    }
}

/// In pieces of the attempt's own chunk size, of which two are in memory.
#[test]
fn streamed_parts_may_be_longer_than_what_there_is_of_memory() {
    let shelf = Shelf::new(Writes::Parts { bytes: 256 * MIB, streamed: true });
    let world = world(&shelf, 0);
    let content = bytes(7, 160 << 20);
    world.write("s", &content);
    assert!(world.config.memory_bytes < content.len() as u64);
    let spec = AttemptSpec { chunk_size: Some(MIB), checksum: Some(sha256(&content)), ..to_shelf(&world, "s") };
    let (outcome, _) = world.run(spec);
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
    assert_eq!(shelf.with(|state| (state.written.clone(), state.longest_piece)), (vec![0], MIB as usize));
}

#[test]
fn a_later_attempt_sends_no_part_again_that_the_ledger_knows() {
    a_later_attempt_sends_no_part_again(PARTS);
}

#[test]
fn a_later_attempt_sends_no_streamed_part_again_that_the_ledger_knows() {
    a_later_attempt_sends_no_part_again(STREAMED_PARTS);
}

fn a_later_attempt_sends_no_part_again(writes: Writes) {
    let shelf = Shelf::new(writes);
    let mut world = world(&shelf, 0);
    let content = bytes(1, 24 << 20);
    world.write("s", &content);
    world.stop_at = Some((4, StopReason::Shutdown));
    let spec = AttemptSpec { rate_limit: Some(40 << 20), ..to_shelf(&world, "s") };
    let (outcome, told) = world.run(spec.clone());
    assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Shutdown });
    let before = shelf.with(|state| std::mem::take(&mut state.written));
    assert!(before.len() >= 2, "{before:?}");
    world.stop_at = None;
    let (outcome, _) = world.run(AttemptSpec { rate_limit: None, ..next(spec, &told) });
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
    let after = shelf.with(|state| state.written.clone());
    assert!(after.iter().all(|offset| !before.contains(offset)), "{before:?} and again {after:?}");
}

#[test]
fn an_upload_that_somebody_gave_up_is_begun_anew() {
    let shelf = Shelf::new(PARTS);
    let mut world = world(&shelf, 0);
    let content = bytes(2, 12 << 20);
    world.write("s", &content);
    world.stop_at = Some((3, StopReason::Shutdown));
    let spec = AttemptSpec { rate_limit: Some(40 << 20), ..to_shelf(&world, "s") };
    let (_, told) = world.run(spec.clone());
    shelf.with(|state| state.uploads.clear());
    world.stop_at = None;
    let (outcome, _) = world.run(next(spec, &told));
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
}

#[test]
fn a_part_that_failed_is_sent_again_and_a_canceled_upload_is_given_up() {
    a_part_that_failed_is_sent_again(PARTS);
    a_part_that_failed_is_sent_again(STREAMED_PARTS);
}

fn a_part_that_failed_is_sent_again(writes: Writes) {
    let shelf = Shelf::new(writes);
    let mut world = world(&shelf, 0);
    let content = bytes(3, 12 << 20);
    world.write("s", &content);
    shelf.with(|state| state.fails_at = vec![1, 3]);
    let (outcome, _) = world.run(to_shelf(&world, "s"));
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.take() == Some(content)));

    world.stop_at = Some((2, StopReason::Cancel));
    let (outcome, _) = world.run(AttemptSpec { rate_limit: Some(8 << 20), ..to_shelf(&world, "s") });
    assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Cancel });
    assert!(shelf.with(|state| state.uploads.is_empty() && state.object.is_none()));
}

#[test]
fn one_stream_is_written_in_order_and_hashed_on_the_way() {
    for len in [0, 1, 4 * MIB, 30 * MIB + 5] {
        let shelf = Shelf::new(Writes::InOrder);
        let world = world(&shelf, 0);
        let content = bytes(len, len as usize);
        world.write("s", &content);
        let spec = AttemptSpec { checksum: Some(sha256(&content)), ..to_shelf(&world, "s") };
        let (outcome, told) = world.run(spec);
        assert!(matches!(outcome, Outcome::Committed(_)), "{len}: {outcome:?}");
        assert!(shelf.with(|state| state.object.as_ref() == Some(&content)), "{len}");
        assert!(shelf.with(|state| state.written.is_sorted()));
        assert!(!told.iter().any(|told| matches!(told, Told::Checkpoint(_))), "nothing lasts: {told:?}");
    }
}

#[test]
fn what_has_another_checksum_is_not_committed_to_any_kind_of_destination() {
    for writes in [PARTS, Writes::InOrder] {
        let shelf = Shelf::new(writes);
        let world = world(&shelf, 0);
        world.write("s", &bytes(4, 5 << 20));
        let (outcome, _) = world.run(AttemptSpec { checksum: Some(sha256(b"other")), ..to_shelf(&world, "s") });
        let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.code, Code::ChecksumMismatch);
        assert!(shelf.with(|state| state.object.is_none() && state.uploads.is_empty()));
    }
}

#[test]
fn a_stream_that_breaks_ends_the_attempt_and_keeps_nobody_waiting() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 0);
    let content = bytes(5, 40 << 20);
    world.write("s", &content);
    shelf.with(|state| state.fails_at = vec![3]);
    let (outcome, _) = world.run(to_shelf(&world, "s"));
    let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
    assert!(error.code == Code::ConnectionLost && error.is_retryable(), "{error}");
    assert_eq!(shelf.with(|state| state.written.len()), 4, "nothing follows what broke");
    let (outcome, _) = world.run(AttemptSpec { epoch: 2, ..to_shelf(&world, "s") });
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
}

#[test]
fn a_stream_that_breaks_does_not_make_anybody_fetch_the_source_twice() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 64 << 20);
    let (server, content) = (HttpServer::start(), bytes(6, 20 << 20));
    server.put("/s", Page::new(content.clone()).etag(Some("\"v\"")));
    shelf.with(|state| (state.fails_at, state.commits_fail) = (vec![2], 1));
    let spec = AttemptSpec { checksum: Some(sha256(&content)), ..from_server(&world, &server) };
    let (outcome, told) = world.run(spec.clone());
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert!(server.bytes_sent() < 24 << 20);
    let second = next(spec, &told);
    let (outcome, _) = world.run(second.clone());
    assert!(matches!(outcome, Outcome::Failed { .. }), "the commit fails: {outcome:?}");
    let (outcome, _) = world.run(AttemptSpec { epoch: 3, ..second });
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
    assert!(server.bytes_sent() < 24 << 20, "every byte was fetched once: {}", server.bytes_sent());
}

#[test]
fn a_source_that_breaks_twice_is_read_on_into_the_spool() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 64 << 20);
    let (server, content) = (HttpServer::start(), bytes(7, 20 << 20));
    // Ranges, but every connection from the third on breaks for a while.
    server.put("/s", Page::new(content.clone()).etag(Some("\"v\"")).trick(3..20, Trick::CloseAfter(100_000)));
    let spec = from_server(&world, &server);
    let (outcome, told) = world.run(spec.clone());
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    let mut spec = next(spec, &told);
    let outcome = (0..8).find_map(|_| {
        let (outcome, told) = world.run(spec.clone());
        spec = next(spec.clone(), &told);
        matches!(outcome, Outcome::Committed(_)).then_some(outcome)
    });
    assert!(outcome.is_some(), "it gets there");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
}

#[test]
fn a_source_without_ranges_goes_through_the_spool_to_parts() {
    let shelf = Shelf::new(PARTS);
    let world = world(&shelf, 64 << 20);
    let (server, content) = (HttpServer::start(), bytes(8, 9 << 20));
    server.put("/s", Page::new(content.clone()).etag(Some("\"v\"")).without_ranges(Framing::Chunked));
    let (outcome, _) = world.run(from_server(&world, &server));
    assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
}

#[test]
fn transfers_of_one_object_share_what_is_in_the_spool() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 64 << 20);
    let (server, content) = (HttpServer::start(), bytes(9, 16 << 20));
    server.put("/s", Page::new(content.clone()).etag(Some("\"v\"")));
    let first = world.start(from_server(&world, &server));
    let second = world.start(AttemptSpec { transfer: "u".into(), ..from_server(&world, &server) });
    for (_handle, hear) in [first, second] {
        let outcome = std::iter::from_fn(|| hear.recv_timeout(Duration::from_secs(60)).ok())
            .find_map(|told| if let Told::Finished(outcome) = told { Some(outcome) } else { None });
        assert!(matches!(outcome, Some(Outcome::Committed(_))), "{outcome:?}");
    }
    assert!(shelf.with(|state| state.object.as_ref() == Some(&content)));
    assert!(server.bytes_sent() < 20 << 20, "each byte once: {}", server.bytes_sent());
}

#[test]
fn what_other_options_ask_for_is_another_object_in_the_spool() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 64 << 20);
    let (server, content) = (HttpServer::start(), bytes(11, 8 << 20));
    server.put("/s", Page::new(content).etag(Some("\"v\"")));
    for (epoch, wait) in [(1, "9s"), (2, "10s")] {
        let source_options = [("stall_timeout".to_owned(), wait.to_owned())].into();
        let (outcome, _) = world.run(AttemptSpec { epoch, source_options, ..from_server(&world, &server) });
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
    assert!(server.bytes_sent() > 16 << 20, "each for itself: {}", server.bytes_sent());
}

#[test]
fn an_object_that_does_not_fit_the_spool_fails_clearly() {
    let shelf = Shelf::new(Writes::InOrder);
    let world = world(&shelf, 4 << 20);
    let server = HttpServer::start();
    server.put("/s", Page::new(bytes(10, 5 << 20)).etag(Some("\"v\"")));
    let (outcome, _) = world.run(from_server(&world, &server));
    let Outcome::Failed { error } = outcome else { panic!("{outcome:?}") };
    assert!(error.code == Code::NoSpace && error.message.contains("--spool-size"), "{error}");
}
