//! Servers that break the protocol or break down, always or for a while. Always: the transfer fails with a code that
//! says so, and nothing gets the destination's name. For a while: it is complete, with equal bytes.

use std::time::{Duration, Instant};

use serde_json::json;
use staccato_protocols::testing::http_server::{Framing, Page, Trick};
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
    service::PATIENCE,
};

use super::{Pair, STALL, tells};

/// Few enough chunks for one lane: request 0 opens the object, the next ones are for its parts, the last one compares.
const LEN: usize = 6 * MIB;

/// A page whose server misbehaves from its second request on, for ever; and one where that passes.
fn two_pages(trick: &Trick) -> (Page, Page) {
    let page = Page::new(random(1, LEN));
    (page.clone().trick(1.., trick.clone()), Page::new(random(1, LEN)).trick(1..3, trick.clone()))
}

/// Runs a transfer from each of the two pages. Only where the server stalls is there little patience with that: a busy
/// machine must not look like a bad server.
fn for_ever_and_for_a_while(trick: &Trick, code: &str) {
    let pair = Pair::start();
    let (forever, passing) = two_pages(trick);
    let options = if code == "stalled" { json!({"stall_timeout": STALL}) } else { json!({}) };
    let failing = pair.submit("forever", forever, json!({"retries": 0, "source_options": options}));
    let id = pair.submit("passing", passing, json!({"source_options": options}));
    pair.completed(&id, "passing", &random(1, LEN));
    pair.failed(&failing, "forever", code, true);
}

#[test]
fn server_that_lies_about_length_then_hangs() {
    for_ever_and_for_a_while(&Trick::HangAfter(1000), "stalled");
}

#[test]
fn server_without_ranges_that_lies_about_length_then_hangs() {
    let pair = Pair::start();
    let page = || Page::new(random(1, LEN)).without_ranges(Framing::Length);
    let hang = Trick::HangAfter(LEN - 1);
    let options = json!({"stall_timeout": STALL});
    let once = json!({"retries": 0, "source_options": options});
    let failing = pair.submit("forever", page().trick(.., hang.clone()), once);
    let id = pair.submit("passing", page().trick(..1, hang), json!({"source_options": options}));
    pair.completed(&id, "passing", &random(1, LEN));
    pair.failed(&failing, "forever", "stalled", true);
}

#[test]
fn server_that_stalls_before_it_answers() {
    for_ever_and_for_a_while(&Trick::Silence, "stalled");
}

#[test]
fn server_that_sends_garbage() {
    for_ever_and_for_a_while(&Trick::Garbage, "protocol_violation");
}

#[test]
fn server_that_sends_garbage_as_chunks() {
    for_ever_and_for_a_while(&Trick::GarbageChunk, "protocol_violation");
}

#[test]
fn server_that_ignores_ranges_after_the_first() {
    for_ever_and_for_a_while(&Trick::IgnoreRange, "protocol_violation");
}

#[test]
fn server_that_sends_another_range_than_asked() {
    for_ever_and_for_a_while(&Trick::ShiftedRange, "protocol_violation");
}

#[test]
fn server_that_sends_more_than_the_range() {
    for_ever_and_for_a_while(&Trick::SurplusChunked(1), "protocol_violation");
}

#[test]
fn server_that_sends_less_than_the_range() {
    for_ever_and_for_a_while(&Trick::MissingChunked(1), "protocol_violation");
}

#[test]
fn server_that_closes_without_an_answer() {
    for_ever_and_for_a_while(&Trick::CloseUnanswered, "connection_lost");
}

#[test]
fn server_that_resets_in_the_middle() {
    const SENT: usize = 600_000;
    for_ever_and_for_a_while(&Trick::ResetAfter(SENT), "connection_lost");
    let pair = Pair::start();
    let id = pair.submit("d", Page::new(random(1, LEN)).trick(2..4, Trick::ResetAfter(SENT)), json!({}));
    let document = pair.completed(&id, "d", &random(1, LEN));
    assert_eq!((&document["attempts"], &document["bytes_fetched"]), (&json!(1), &json!(LEN)));
    // What the two broken answers had brought, and the bytes that open and compare.
    let twice = pair.server.bytes_sent() - LEN as u64;
    assert!(twice <= 2 * SENT as u64 + 2, "{twice} bytes were sent twice");
}

#[test]
fn server_without_ranges_that_resets_in_the_middle_is_read_again_from_the_front() {
    let pair = Pair::start();
    let page = Page::new(random(1, LEN)).without_ranges(Framing::Length).trick(..1, Trick::ResetAfter(LEN / 2));
    let id = pair.submit("d", page, json!({}));
    let document = pair.completed(&id, "d", &random(1, LEN));
    assert!(!tells(&document, "started_over"), "what was written stays: {document:#}");
    let sent = pair.server.bytes_sent();
    // The broken stream, a whole one, and at most another to compare.
    assert!(sent <= (LEN / 2 + 2 * LEN) as u64, "{sent} bytes were sent");
}

#[test]
fn chunked_stream_that_breaks_off_is_never_a_short_object() {
    let pair = Pair::start();
    let page = || Page::new(random(1, LEN)).without_ranges(Framing::Chunked);
    let cut = Trick::CloseAfter(LEN - 1);
    let failing = pair.submit("forever", page().trick(.., cut.clone()), json!({"retries": 0}));
    let id = pair.submit("passing", page().trick(..1, cut), json!({}));
    pair.completed(&id, "passing", &random(1, LEN));
    pair.failed(&failing, "forever", "connection_lost", true);
}

#[test]
fn server_that_trickles_meets_the_total_timeout() {
    let pair = Pair::start();
    let page = Page::new(random(1, LEN)).trick(1.., Trick::Trickle(Duration::from_millis(20)));
    let options = json!({"source_options": {"stall_timeout": "20s", "total_timeout": "0.7s"}});
    let id = pair.submit("d", page, options);
    pair.failed(&id, "d", "timed_out", false);
}

#[test]
fn a_server_that_trickles_counts_as_stalled() {
    for_ever_and_for_a_while(&Trick::Trickle(Duration::from_millis(20)), "stalled");
}

/// Neither the patience that the client asked for nor the server's own decides when a stop is done.
#[test]
fn cancel_pause_and_delete_of_a_trickling_server_are_done_at_once() {
    const AT_ONCE: Duration = Duration::from_secs(10);
    let pair = Pair::start();
    let trickling = || Page::new(random(1, LEN)).trick(1.., Trick::Trickle(Duration::from_millis(20)));
    let silent = || Page::new(random(1, LEN)).trick(.., Trick::Silence);
    let options = json!({"source_options": {"stall_timeout": "1h"}});
    // The silent one is stopped while it is being opened.
    for (kind, page, requests) in [("trickling", &trickling as &dyn Fn() -> Page, 2), ("silent", &silent, 1)] {
        let [canceled, paused, deleted] = ["cancel", "pause", "delete"].map(|action| {
            let name = format!("{kind}-{action}");
            let id = pair.submit(&name, page(), options.clone());
            eventually(PATIENCE, "the server is asked", || {
                let asked = pair.server.seen().iter().filter(|request| request.target == format!("/{name}")).count();
                (asked >= requests).then_some(())
            });
            id
        });
        let began = Instant::now();
        assert_eq!(pair.service.action(&canceled, "cancel").status, 202);
        assert_eq!(pair.service.action(&paused, "pause").status, 202);
        assert_eq!(pair.service.delete(&format!("/v1/transfers/{deleted}")).status, 202);
        pair.service.wait_for(&canceled, "STATE_CANCELED");
        let document = pair.service.wait_for(&paused, "STATE_PAUSED");
        assert!(document["error"].is_null(), "a stop is no failure: {document:#}");
        eventually(PATIENCE, "the transfer is gone", || {
            (pair.service.get(&format!("/v1/transfers/{deleted}")).status == 404).then_some(())
        });
        assert!(began.elapsed() < AT_ONCE, "{kind}: {:?}", began.elapsed());
        assert_eq!(pair.service.action(&paused, "cancel").status, 204);
    }
    eventually(PATIENCE, "the partials are swept", || pair.service.names().is_empty().then_some(()));
}

/// A later attempt that is stopped before it has looked beside the destination knows nothing of what earlier ones left.
#[test]
fn what_an_earlier_attempt_left_goes_when_a_later_one_is_canceled_while_it_opens_its_source() {
    let pair = Pair::start();
    let page = || Page::new(random(1, LEN));
    let actions = ["cancel", "delete"];
    for action in actions {
        let id = pair.submit(action, page(), json!({"rate_limit": MIB}));
        eventually(PATIENCE, "something is durable", || {
            (pair.service.show(&id)["progress"].as_u64() > Some(0)).then_some(())
        });
        pair.service.action(&id, "pause");
        pair.service.wait_for(&id, "STATE_PAUSED");
        let target = format!("/{action}");
        pair.server.put(&target, page().trick(.., Trick::Silence));
        let asked = || pair.server.seen().iter().filter(|request| request.target == target).count();
        let before = asked();
        pair.service.action(&id, "resume");
        eventually(PATIENCE, "the silent server is asked", || (asked() > before).then_some(()));
        let answer = match action {
            "cancel" => pair.service.action(&id, "cancel"),
            _ => pair.service.delete(&format!("/v1/transfers/{id}")),
        };
        assert_eq!(answer.status, 202);
    }
    eventually(PATIENCE, "nothing is left", || pair.service.names().is_empty().then_some(()));
}

#[test]
fn server_that_compresses_though_asked_not_to() {
    let pair = Pair::start();
    let id = pair.submit("d", Page::new(random(1, LEN)).trick(1.., Trick::Encoded), json!({}));
    pair.failed(&id, "d", "protocol_violation", false);
}

#[test]
fn retry_after_of_a_server_that_is_busy_is_honoured() {
    const WAIT: Duration = Duration::from_secs(2);
    let pair = Pair::start();
    let busy = Trick::Status(503, vec![("Retry-After", "2".into())]);
    let page = || Page::new(random(1, LEN));
    // Busy when the object is opened: the next attempt waits. Busy at a part: that part waits.
    let opened = pair.submit("opened", page().trick(..1, busy.clone()), json!({}));
    let part = pair.submit("part", page().trick(1..2, busy), json!({}));
    assert_eq!(pair.completed(&opened, "opened", &random(1, LEN))["attempts"], 2);
    assert_eq!(pair.completed(&part, "part", &random(1, LEN))["attempts"], 1);
    let seen = pair.server.seen();
    for (target, number) in [("/opened", 0), ("/part", 1)] {
        let asked: Vec<_> = seen.iter().filter(|request| request.target == target).collect();
        let range = |request: usize| asked[request].headers.get("range");
        let again = (number + 1..asked.len()).find(|later| range(*later) == range(number)).expect("it is asked again");
        let waited = asked[again].at - asked[number].at;
        assert!(waited >= WAIT, "{target}: asked again after {waited:?}");
    }
}

#[test]
fn server_that_asks_to_retry_for_ever_is_given_up_after_the_retries() {
    let pair = Pair::start();
    let page = Page::new(random(1, LEN)).trick(.., Trick::Status(429, vec![("Retry-After", "0".into())]));
    let id = pair.submit("d", page, json!({"retries": 1}));
    let document = pair.failed(&id, "d", "http_status", true);
    assert_eq!(document["attempts"], 2);
}
