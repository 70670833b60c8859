//! SIGKILL at random moments: of the executor, of `serve`, of both.
//!
//! After each kill the destination is absent, or whole and right; in the end the transfer is complete, and what was
//! fetched twice stays within what can have been in flight since the last checkpoint. `TEST_KILLS` sets how many
//! kills (20), `TEST_SEED` repeats a run.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    process::{eventually, is_alive, signal},
    service::{PATIENCE, Service},
};

const RATE: usize = 24 * MIB;
/// A checkpoint comes at least every second; with what is in the windows of the lanes and a slow machine's delay.
const FETCHED_TWICE_MAX: u64 = 3 * RATE as u64 + 64 * MIB as u64;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let seed = variable("TEST_SEED", fastrand::u64(..));
    let kills = variable("TEST_KILLS", 20);
    eprintln!("seed: TEST_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut service = Service::start(&["--heartbeat", "500ms", "--lease", "3s"]);
    let content = random(seed, 96 * MIB + 4097);
    service.write("s", &content);
    let mut id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": RATE}));
    let mut killed_since_start = 0;
    for kill in 0..kills {
        sleep(Duration::from_millis(rng.u64(50..900)));
        let executor = service.executor();
        killed_since_start += 1;
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
        if service.path("d").exists() {
            assert!(service.read("d") == content, "kill {kill}: what has its name is whole and right");
        }
        if service.show(&id)["state"] == "STATE_COMPLETE" {
            check_complete(&service, &id, &content, killed_since_start);
            id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": RATE}));
            killed_since_start = 0;
        }
    }
    check_complete(&service, &id, &content, killed_since_start);
}

/// Waits for the end, and removes the copy for the next one.
fn check_complete(service: &Service, id: &str, content: &[u8], kills: u64) {
    let document = service.complete(id);
    assert!(service.read("d") == content);
    assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(content)));
    assert_eq!(service.names(), ["d", "s"], "nothing is left beside the destination");
    // What a killed attempt had fetched after its last checkpoint is told by nobody; what was told must be bounded.
    let fetched = document["bytes_fetched"].as_u64().unwrap();
    let twice = fetched.saturating_sub(content.len() as u64);
    assert!(twice <= kills * FETCHED_TWICE_MAX, "{twice} bytes fetched twice after {kills} kills: {document:#}");
    std::fs::remove_file(service.path("d")).unwrap();
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
fn a_killed_executor_is_replaced_within_a_second_or_so() {
    let service = Service::start(&[]);
    let first = service.executor();
    signal(first, Signal::KILL);
    eventually(Duration::from_secs(3), "another executor runs", || (service.executor() != first).then_some(()));
}

#[test]
fn an_executor_ends_when_serve_is_gone() {
    let mut service = Service::start(&[]);
    let executor = service.executor();
    service.kill();
    eventually(Duration::from_secs(10), "the executor ends by itself", || (!is_alive(executor)).then_some(()));
}
