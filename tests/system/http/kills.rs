//! SIGKILL while an object comes over HTTP: it is complete in the end, and the server has sent again no more than what
//! can have been under way since the last checkpoint.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use staccato_protocols::testing::http_server::{Framing, HttpServer, Page};
use staccato_tests::{
    bytes::{MIB, random},
    process::signal,
    service::Service,
};

use super::submit;

const LEN: usize = 28 * MIB;
/// Bytes per second that the server sends.
const RATE: u64 = 4 * MIB as u64;
/// Where the kill comes: far enough that starting over would break the bound.
const KILL_AT: u64 = 18 * MIB as u64;

/// Chunks on their way at once: four connections on the one lane, each with a chunk of 1 MiB.
const WINDOW: u64 = 4 * MIB as u64;
/// Between two checkpoints: bytes are gathered for a second; the sync, the report and its acknowledgement come after,
/// for which a busy disk gets two more.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);
/// Most bytes that the server may have to send again for one kill.
const SENT_AGAIN_MAX: u64 = WINDOW + RATE * CHECKPOINT_EVERY.as_secs();
const _: () = assert!(SENT_AGAIN_MAX < KILL_AT, "starting over is told from resuming");

/// Moves the page, with `kill` in the middle. The bytes that the server sent beyond the object's must stay within
/// `sent_again_max` for each attempt after the first.
fn kill_in_the_middle(page: Page, kill: fn(&mut Service), sent_again_max: u64) {
    let mut service = Service::start(&["--lanes", "1", "--heartbeat", "500ms", "--lease", "3s"]);
    let server = HttpServer::start();
    server.put("/s", page.pace(RATE));
    let id = submit(&service, &server.url("/s"), "d", json!({"retries": 0}));
    service.wait_for_progress(&id, KILL_AT);
    kill(&mut service);
    let document = service.complete(&id);
    assert!(service.read("d") == random(1, LEN));
    assert_eq!(service.names(), ["d"]);
    // A machine so slow that a lease runs out adds an attempt of its own.
    let more_attempts = document["attempts"].as_u64().unwrap() - 1;
    assert!(more_attempts >= 1, "{document:#}");
    let again = server.bytes_sent() - LEN as u64;
    let most = more_attempts * sent_again_max;
    assert!(again <= most, "{again} bytes were sent again, more than {most}: {document:#}");
}

fn kill_executor(service: &mut Service) {
    signal(service.executor(), Signal::KILL);
}

fn kill_both(service: &mut Service) {
    signal(service.executor(), Signal::KILL);
    service.kill();
    service.launch();
}

#[test]
fn executor_killed_in_the_middle_fetches_little_again() {
    kill_in_the_middle(Page::new(random(1, LEN)), kill_executor, SENT_AGAIN_MAX);
}

#[test]
fn executor_and_service_killed_in_the_middle_fetch_little_again() {
    kill_in_the_middle(Page::new(random(1, LEN)), kill_both, SENT_AGAIN_MAX);
}

#[test]
fn executor_killed_in_the_middle_of_a_stream_without_ranges_reads_it_again_from_the_front() {
    // What came before the kill; and the answer that compares in the end, of which sockets take what they hold.
    let page = Page::new(random(1, LEN)).without_ranges(Framing::Length);
    kill_in_the_middle(page, kill_executor, 2 * LEN as u64);
}
