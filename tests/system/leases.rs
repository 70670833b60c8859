//! An executor that is stopped past its lease, and goes on when another one has taken over.

use std::{thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    process::{eventually, is_alive, signal},
    service::{PATIENCE, Service},
};

/// Stops the executor in the middle of a transfer until its lease is over.
fn stopped_past_its_lease() -> (Service, String, u32, Vec<u8>) {
    let service = Service::start(&["--heartbeat", "300ms", "--lease", "1s"]);
    let content = random(1, 48 * MIB);
    service.write("s", &content);
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": 12 * MIB}));
    service.wait_for_progress(&id, 1);
    let executor = service.executor();
    signal(executor, Signal::STOP);
    (service, id, executor, content)
}

#[test]
fn a_stopped_executor_loses_its_lease_and_touches_nothing_afterwards() {
    let (service, id, executor, content) = stopped_past_its_lease();
    // There is one executor: the transfer waits, ready for whoever comes.
    eventually(PATIENCE, "the lease expires", || (service.show(&id)["state"] != "STATE_RUNNING").then_some(()));
    let before = service.show(&id)["progress"].as_u64().unwrap();
    signal(executor, Signal::CONT);
    let document = service.complete(&id);
    assert!(document["attempts"].as_u64().unwrap() >= 2, "{document:#}");
    assert!(document["progress"].as_u64().unwrap() >= before);
    assert!(service.read("d") == content);
    assert_eq!(service.names(), ["d", "s"]);
    assert!(is_alive(executor), "losing a lease is no reason to die");
}

#[test]
fn a_transfer_canceled_meanwhile_stays_canceled() {
    let (service, id, executor, _) = stopped_past_its_lease();
    let status = service.action(&id, "cancel").status;
    assert!([202, 204].contains(&status), "{status}");
    let before = service.wait_for(&id, "STATE_CANCELED");
    signal(executor, Signal::CONT);
    sleep(Duration::from_secs(3));
    let document = service.show(&id);
    assert_eq!(document["state"], "STATE_CANCELED");
    assert_eq!(document["progress"], before["progress"], "whose lease is over writes no progress");
    assert!(!service.path("d").exists());
    eventually(PATIENCE, "the partial is swept", || (service.names() == ["s"]).then_some(()));
}

#[test]
fn a_transfer_finished_by_another_executor_meanwhile_stays_as_it_is() {
    let (service, id, stale, content) = stopped_past_its_lease();
    eventually(PATIENCE, "the lease expires", || (service.show(&id)["state"] != "STATE_RUNNING").then_some(()));
    // A second executor, as another host would have one.
    let second = service.second_executor();
    service.complete(&id);
    assert!(service.read("d") == content);
    let document = service.show(&id);
    signal(stale, Signal::CONT);
    sleep(Duration::from_secs(3));
    assert_eq!(service.show(&id)["progress"], document["progress"]);
    assert_eq!(service.show(&id)["state"], "STATE_COMPLETE");
    assert!(service.read("d") == content);
    eventually(PATIENCE, "nothing stays behind", || (service.names() == ["d", "s"]).then_some(()));
    drop(second);
}
