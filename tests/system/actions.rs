//! Every action in every state, through REST.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    service::Service,
};

/// A service with one slot, taken by a transfer that runs for long.
fn busy() -> (Service, String) {
    let service = Service::start(&["--slots", "1"]);
    service.write("big", &random(1, 64 * MIB));
    let id = slow(&service, "running");
    service.wait_for_progress(&id, 1);
    (service, id)
}

fn slow(service: &Service, name: &str) -> String {
    service.submit(&service.file("big"), &service.file(name), json!({"rate_limit": 4 * MIB}))
}

/// Whether the root holds nothing but these files, hidden ones included.
fn assert_only(service: &Service, expected: &[&str]) {
    staccato_tests::process::eventually(staccato_tests::service::PATIENCE, "the partial is swept", || {
        (service.names() == expected).then_some(())
    });
}

#[test]
fn actions_on_a_new_transfer() {
    let (service, _running) = busy();
    let new = slow(&service, "new");
    assert_eq!(service.show(&new)["state"], "STATE_NEW");
    assert_eq!(service.action(&new, "resume").status, 409, "nothing to resume");
    assert_eq!(service.action(&new, "pause").status, 204);
    assert_eq!(service.show(&new)["state"], "STATE_PAUSED");
    assert_eq!(service.action(&new, "pause").status, 204, "it is paused already");
    assert_eq!(service.action(&new, "resume").status, 204);
    assert_eq!(service.show(&new)["state"], "STATE_NEW");
    assert_eq!(service.action(&new, "cancel").status, 204);
    assert_eq!(service.show(&new)["state"], "STATE_CANCELED");
    for (action, status) in [("cancel", 204), ("pause", 409), ("resume", 409)] {
        assert_eq!(service.action(&new, action).status, status, "{action} when canceled");
    }
    assert_eq!(service.delete(&format!("/v1/transfers/{new}")).status, 204);
    assert_eq!(service.get(&format!("/v1/transfers/{new}")).status, 404);
    let waiting = slow(&service, "waiting");
    assert_eq!(service.delete(&format!("/v1/transfers/{waiting}")).status, 204);
    assert_eq!(service.action(&waiting, "cancel").status, 404);
}

#[test]
fn a_running_transfer_is_canceled_and_leaves_nothing() {
    let (service, running) = busy();
    assert_eq!(service.action(&running, "resume").status, 409);
    let answer = service.action(&running, "cancel");
    assert_eq!(answer.status, 202, "{:?}", answer.body);
    let document = service.wait_for(&running, "STATE_CANCELED");
    assert!(document["error"].is_null() || document["error"]["code"] == "canceled", "{document:#}");
    assert_only(&service, &["big"]);
}

#[test]
fn a_running_transfer_is_paused_and_goes_on_from_there() {
    let (service, running) = busy();
    assert_eq!(service.action(&running, "pause").status, 202);
    let paused = service.wait_for(&running, "STATE_PAUSED");
    let progress = paused["progress"].as_u64().unwrap();
    assert!(progress > 0);
    assert_eq!(service.action(&running, "resume").status, 204);
    let resumed = service.wait_for(&running, "STATE_RUNNING");
    assert!(resumed["progress"].as_u64().unwrap() >= progress);
    assert_eq!(service.action(&running, "pause").status, 202);
    service.wait_for(&running, "STATE_PAUSED");
    assert_eq!(service.action(&running, "cancel").status, 204);
    assert_only(&service, &["big"]);
}

#[test]
fn a_running_transfer_is_deleted_once_it_has_stopped() {
    let (service, running) = busy();
    assert_eq!(service.delete(&format!("/v1/transfers/{running}")).status, 202);
    staccato_tests::process::eventually(staccato_tests::service::PATIENCE, "the transfer is gone", || {
        (service.get(&format!("/v1/transfers/{running}")).status == 404).then_some(())
    });
    assert_only(&service, &["big"]);
}

#[test]
fn a_failed_transfer_can_be_resumed_after_the_cause_is_gone() {
    let service = Service::start(&[]);
    let id = service.submit(&service.file("later"), &service.file("copy"), json!({}));
    assert_eq!(service.failure(&id), "source_missing");
    for (action, status) in [("cancel", 409), ("pause", 409)] {
        assert_eq!(service.action(&id, action).status, status, "{action} when failed");
    }
    service.write("later", b"here now");
    assert_eq!(service.action(&id, "resume").status, 204);
    service.complete(&id);
    assert_eq!(service.read("copy"), b"here now");
}

#[test]
fn no_action_touches_what_is_complete() {
    let service = Service::start(&[]);
    service.write("s", b"content");
    let id = service.submit(&service.file("s"), &service.file("d"), json!({}));
    service.complete(&id);
    for action in ["cancel", "pause", "resume"] {
        let answer = service.action(&id, action);
        assert_eq!((answer.status, answer.code()), (409, "state_conflict"), "{action} when complete");
    }
    assert_eq!(service.delete(&format!("/v1/transfers/{id}")).status, 204);
    assert_eq!(service.get(&format!("/v1/transfers/{id}")).status, 404);
    assert_eq!(service.names(), ["d", "s"], "the destination stays");
}

#[test]
fn a_destination_has_one_live_transfer() {
    let (service, running) = busy();
    let body = json!({"source_url": service.file("big"), "destination_url": service.file("running")});
    let answer = service.post("/v1/transfers", &body);
    assert_eq!((answer.status, answer.code()), (409, "destination_busy"));
    assert_eq!(service.action(&running, "cancel").status, 202);
    service.wait_for(&running, "STATE_CANCELED");
    assert_eq!(service.post("/v1/transfers", &body).status, 201);
}

#[test]
fn an_idempotency_key_names_one_transfer() {
    let service = Service::start(&[]);
    service.write("s", b"x");
    let body = json!({"source_url": service.file("s"), "destination_url": service.file("d")}).to_string();
    let post = |body: &str| {
        service.post_raw("/v1/transfers", "application/json", body.as_bytes(), &[("idempotency-key", "k1")])
    };
    let first = post(&body);
    assert_eq!(first.status, 201);
    service.complete(first.body["id"].as_str().unwrap());
    let again = post(&body);
    assert_eq!((again.status, &again.body["id"]), (201, &first.body["id"]));
    let other = post(&body.replace("/d\"", "/other\""));
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
}
