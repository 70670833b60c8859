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

/// Moves the page, with `kill` in the middle, and returns how many bytes the server sent beyond the object's.
fn killed_in_the_middle(page: Page, kill: fn(&mut Service)) -> u64 {
    let mut service = Service::start(&["--lanes", "1", "--heartbeat", "500ms", "--lease", "3s"]);
    let server = HttpServer::start();
    server.put("/s", page.pace(RATE));
    let id = submit(&service, &server.url("/s"), "d", json!({"retries": 0}));
    service.wait_for_progress(&id, KILL_AT);
    kill(&mut service);
    let document = service.complete(&id);
    assert!(service.read("d") == random(1, LEN));
    assert_eq!(document["attempts"], 2, "{document:#}");
    assert_eq!(service.names(), ["d"]);
    server.bytes_sent() - LEN as u64
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
    let again = killed_in_the_middle(Page::new(random(1, LEN)), kill_executor);
    assert!(again <= SENT_AGAIN_MAX, "{again} bytes were sent again, more than {SENT_AGAIN_MAX}");
}

#[test]
fn executor_and_service_killed_in_the_middle_fetch_little_again() {
    let again = killed_in_the_middle(Page::new(random(1, LEN)), kill_both);
    assert!(again <= SENT_AGAIN_MAX, "{again} bytes were sent again, more than {SENT_AGAIN_MAX}");
}

#[test]
fn executor_killed_in_the_middle_of_a_stream_without_ranges_reads_it_again_from_the_front() {
    let again = killed_in_the_middle(Page::new(random(1, LEN)).without_ranges(Framing::Length), kill_executor);
    // What came before the kill, and the beginning of the answer that compares; sockets took a little more.
    assert!(again < 2 * LEN as u64, "{again}");
}
