//! Objects that change while they are being read: one version is moved, whole, or none.

use serde_json::json;
use staccato_protocols::testing::http_server::{Framing, Page, Trick};
use staccato_tests::bytes::{MIB, random};

use super::{Pair, tells};

/// Read for four seconds: the first checkpoint, after one, comes long before the end.
const LEN: usize = 16 * MIB;
const RATE: usize = 4 * MIB;

#[test]
fn server_that_changes_its_etag_between_ranges_is_read_from_the_start_as_one_version() {
    let pair = Pair::start();
    let id = pair.submit("d", Page::new(random(1, LEN)), json!({"rate_limit": RATE}));
    pair.service.wait_for_progress(&id, 1);
    let other = random(2, LEN);
    pair.server.put("/d", Page::new(other.clone()));
    let document = pair.completed(&id, "d", &other);
    assert!(tells(&document, "started_over"), "the document says so: {document:#}");
    let event = document["events"].as_array().unwrap().iter().find(|event| event["kind"] == "started_over").unwrap();
    assert!(event["message"].as_str().unwrap().contains("the source changed"), "{event}");
    assert_eq!(pair.service.names(), ["d"], "nothing of the old version is left");
}

#[test]
fn server_that_ignores_if_range_and_changes_its_object_gives_no_mixture() {
    let pair = Pair::start();
    let page = |seed| Page::new(random(seed, LEN)).trick(.., Trick::IgnoreIfRange);
    let id = pair.submit("d", page(1), json!({"rate_limit": RATE}));
    pair.service.wait_for_progress(&id, 1);
    pair.server.put("/d", page(2));
    let document = pair.completed(&id, "d", &random(2, LEN));
    assert!(tells(&document, "started_over"), "{document:#}");
}

#[test]
fn object_without_ranges_that_changes_before_the_end_gives_no_mixture() {
    let pair = Pair::start();
    let page = |seed| Page::new(random(seed, LEN)).without_ranges(Framing::Length).pace(RATE as u64);
    let id = pair.submit("d", page(1), json!({}));
    pair.service.wait_for_progress(&id, 1);
    pair.server.put("/d", page(2));
    let document = pair.completed(&id, "d", &random(2, LEN));
    assert!(tells(&document, "started_over"), "{document:#}");
}

#[test]
fn servers_behind_one_name_that_never_agree_on_the_version_move_nothing() {
    let pair = Pair::start();
    let page = Page::new(random(1, LEN)).trick(1.., Trick::OtherEtag("\"another\""));
    let id = pair.submit("d", page, json!({"retries": 0}));
    pair.failed(&id, "d", "source_changed", true);
}

#[test]
fn object_that_shrinks_is_moved_as_it_is_then() {
    let pair = Pair::start();
    let id = pair.submit("d", Page::new(random(1, LEN)).etag(None), json!({"rate_limit": RATE}));
    pair.service.wait_for_progress(&id, 1);
    let shorter = random(1, LEN)[..LEN / 4].to_vec();
    pair.server.put("/d", Page::new(shorter.clone()).etag(None));
    let document = pair.completed(&id, "d", &shorter);
    assert_eq!(document["bytes_total"], shorter.len());
}
