//! SIGKILL at random moments: of the executor, of `serve`, of both.
//!
//! After each kill the destination is absent (or the object that it shall replace), or whole and right, and progress
//! has not fallen; in the end the transfer is complete. The object comes from a file, or from an HTTP server that
//! counts what it sends: what it sent twice stays within what can have been in flight since the last checkpoint. (The
//! document cannot tell that: what a killed attempt fetched after its last checkpoint it told nobody.) `TEST_KILLS`
//! sets how many kills (20), `TEST_SEED` repeats a run.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;
use staccato_protocols::testing::http_server::{HttpServer, Page};
use staccato_tests::{
    bytes::{MIB, random},
    process::{eventually, is_alive, signal},
    service::{PATIENCE, Service},
};

const LEN: usize = 48 * MIB + 4097;
/// Bytes per second that the server sends, to all its connections together.
const SERVER_RATE: usize = 8 * MIB;
/// Bytes per second from a file, faster: more of the kills meet a beginning or a commit.
const FILE_RATE: usize = 24 * MIB;
const CHUNK: usize = MIB;

/// Chunks on their way at once: one for each of the four connections of the one lane.
const WINDOW: usize = 4 * CHUNK;
/// Bytes are gathered this long before they are synced and reported.
const CHECKPOINT_EVERY_S: usize = 1;
/// What a busy disk and a busy machine may add until the report is acknowledged.
const SLACK_S: usize = 1;
/// Most bytes that the server may have to send again for one attempt that was cut short.
const SENT_AGAIN_MAX: usize = WINDOW + SERVER_RATE * (CHECKPOINT_EVERY_S + SLACK_S);
const _: () = assert!(SENT_AGAIN_MAX * 2 < LEN, "starting over is told from resuming");

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    // A quarter of the kills: with a fast source they meet every phase soon.
    kill_at_random_moments(variable("TEST_KILLS", 20).div_ceil(4), Source::File, Before::Absent);
}

#[test]
fn kills_at_random_moments_leave_the_old_object_or_the_new_one_whole() {
    kill_at_random_moments(variable("TEST_KILLS", 20).div_ceil(4), Source::File, Before::Old);
}

#[test]
fn kills_at_random_moments_lose_nothing_and_fetch_little_again() {
    let server = HttpServer::start();
    kill_at_random_moments(variable("TEST_KILLS", 20), Source::Server(&server), Before::Absent);
}

/// Moves the same object again and again until there have been so many kills.
fn kill_at_random_moments(kills: u64, source: Source<'_>, before: Before) {
    let seed = variable("TEST_SEED", fastrand::u64(..));
    eprintln!("seed: TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut service = Service::start(&["--lanes", "1", "--heartbeat", "300ms", "--lease", "1s"]);
    let content = random(seed, LEN);
    source.put(&service, &content);
    let mut id = source.submit(&service, before);
    let mut sent_before = 0;
    for kill in 0..kills {
        sleep(Duration::from_millis(rng.u64(50..1500)));
        let progress_before = progress(&service, &id);
        let executor = service.executor();
        match rng.u8(0..3) {
            0 => signal(executor, Signal::KILL),
            1 => {
                service.kill();
                service.launch();
            }
            _ => {
                signal(executor, Signal::KILL);
                service.kill();
                service.launch();
            }
        }
        eventually(PATIENCE, "the old executor is gone", || (!is_alive(executor)).then_some(()));
        match fs::read(service.path("d")) {
            Ok(found) => assert!(
                found == content || before == Before::Old && found == OLD,
                "kill {kill}: what has its name is whole and right"
            ),
            Err(error) => assert!(before == Before::Absent, "kill {kill}: the old object is gone ({error})"),
        }
        let progress_after = progress(&service, &id);
        assert!(progress_after >= progress_before, "kill {kill}: {progress_after} after {progress_before}");
        if service.show(&id)["state"] == "STATE_COMPLETE" {
            check_complete(&service, &id, &content, source, sent_before);
            sent_before = source.bytes_sent();
            id = source.submit(&service, before);
        }
    }
    check_complete(&service, &id, &content, source, sent_before);
}

/// What is at the destination before.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Absent,
    /// [`OLD`], to be replaced.
    Old,
}

/// Another length than the new object's, so that no part of one passes for the other.
const OLD: [u8; 4097] = [7; 4097];

/// Where the object comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    File,
    Server(&'a HttpServer),
}

impl Source<'_> {
    fn put(self, service: &Service, content: &[u8]) {
        match self {
            Self::File => service.write("s", content),
            Self::Server(server) => server.put("/s", Page::new(content).pace(SERVER_RATE as u64)),
        }
    }

    fn submit(self, service: &Service, before: Before) -> String {
        let mut options = json!({"chunk_size": CHUNK});
        if before == Before::Old {
            service.write("d", &OLD);
            options["overwrite"] = json!("always");
        }
        let source = match self {
            Self::File => {
                options["rate_limit"] = json!(FILE_RATE);
                service.file("s")
            }
            Self::Server(server) => server.url("/s"),
        };
        service.submit(&source, &service.file("d"), options)
    }

    /// Bytes that a server has sent; none for a file, whose reads nobody but the executor counts.
    fn bytes_sent(self) -> u64 {
        match self {
            Self::File => 0,
            Self::Server(server) => server.bytes_sent(),
        }
    }
}

fn progress(service: &Service, id: &str) -> u64 {
    service.show(id)["progress"].as_u64().unwrap()
}

/// Waits for the end, after which `bytes_sent()` of a server is final; removes the copy for the next one.
fn check_complete(service: &Service, id: &str, content: &[u8], source: Source<'_>, sent_before: u64) {
    let document = service.complete(id);
    assert!(service.read("d") == content);
    assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(content)));
    fs::remove_file(service.path("d")).unwrap();
    assert!(service.names().iter().all(|name| name == "s"), "nothing is left beside the destination");
    // A kill that met no attempt cost nothing; a machine so slow that a lease runs out adds an attempt of its own.
    let cut_short = document["attempts"].as_u64().unwrap() - 1;
    let again = (source.bytes_sent() - sent_before).saturating_sub(content.len() as u64);
    let most = cut_short * SENT_AGAIN_MAX as u64;
    assert!(again <= most, "{again} bytes were sent again, more than {most}: {document:#}");
}

#[test]
fn kills_do_not_count_as_retries() {
    let service = Service::start(&[]);
    service.write("s", &random(1, 32 * MIB));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": 16 * MIB, "retries": 0}));
    for _ in 0..3 {
        service.wait_for(&id, "STATE_RUNNING");
        signal(service.executor(), Signal::KILL);
        sleep(Duration::from_millis(300));
    }
    let document = service.complete(&id);
    assert!(document["attempts"].as_u64().unwrap() >= 3, "{document:#}");
}

#[test]
fn a_killed_executor_is_replaced_within_a_second() {
    let service = Service::start(&[]);
    let replaced_after = || {
        let killed = service.executor();
        signal(killed, Signal::KILL);
        let began = Instant::now();
        eventually(PATIENCE, "another executor runs", || (service.executor() != killed).then_some(()));
        began.elapsed()
    };
    // Executors that die young are waited with for longer and longer; the last ones meet the longest wait.
    let took: Vec<Duration> = (0..8).map(|_| replaced_after()).collect();
    // The service promises this, a machine that is busy with other tests does not: so the best of the last three
    // counts.
    let best = took[5..].iter().min().unwrap();
    assert!(*best < Duration::from_secs(1), "{took:?}");
}

#[test]
fn an_executor_ends_when_serve_is_gone() {
    let mut service = Service::start(&[]);
    let executor = service.executor();
    service.kill();
    eventually(Duration::from_secs(10), "the executor ends by itself", || (!is_alive(executor)).then_some(()));
}
