//! The service as somebody sees it who has nothing but curl.

use std::process::Command;

use serde_json::Value;
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
    service::{PATIENCE, Service},
};

use crate::http::nginx::Nginx;

fn curl(arguments: &[&str]) -> (u16, Value) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"]).args(arguments);
    let output = command.output().expect("curl is installed; tests/run does it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn submit(service: &Service, body: &str) -> (u16, Value) {
    curl(&[&format!("{}/v1/transfers", service.url()), "-H", "Content-Type: application/json", "-d", body])
}

fn show(service: &Service, id: &str) -> (u16, Value) {
    curl(&[&format!("{}/v1/transfers/{id}", service.url())])
}

fn wait_for(service: &Service, id: &str, state: &str) -> Value {
    eventually(PATIENCE, state, || {
        let (_, document) = show(service, id);
        assert_ne!(document["state"], "STATE_ERROR", "{document:#}");
        (document["state"] == state).then_some(document)
    })
}

fn wait_complete(service: &Service, id: &str) -> Value {
    wait_for(service, id, "STATE_COMPLETE")
}

fn act(service: &Service, id: &str, action: &str) -> (u16, Value) {
    let body = format!(r#"{{"xferaction": "{action}"}}"#);
    let url = format!("{}/v1/transfers/{id}/action", service.url());
    curl(&[&url, "-H", "Content-Type: application/json", "-d", &body])
}

fn delete(service: &Service, id: &str) -> (u16, Value) {
    curl(&["-X", "DELETE", &format!("{}/v1/transfers/{id}", service.url())])
}

#[test]
fn a_file_moves_to_a_file() {
    let service = Service::start(&[]);
    let content = random(1, 9 * MIB + 5);
    service.write("source", &content);
    let body =
        format!(r#"{{"source_url": "{}", "destination_url": "{}"}}"#, service.file("source"), service.file("copy"));
    let (status, document) = submit(&service, &body);
    assert_eq!(status, 201, "{document:#}");
    for field in [
        "id",
        "source_url",
        "destination_url",
        "state",
        "progress",
        "start_offset",
        "end_offset",
        "source_options",
        "destination_options",
    ] {
        assert!(!document[field].is_null(), "old clients know {field}: {document:#}");
    }
    let document = wait_complete(&service, document["id"].as_str().unwrap());
    assert_eq!(document["progress"], content.len());
    assert_eq!(document["bytes_total"], content.len());
    assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(&content)));
    assert!(service.read("copy") == content);
    assert_eq!(service.names(), ["copy", "source"]);
}

#[test]
fn an_object_of_nginx_moves_to_a_file() {
    let (service, nginx) = (Service::start(&[]), Nginx::start());
    let content = random(2, 9 * MIB + 5);
    nginx.put("source", &content);
    let body = format!(r#"{{"source_url": "{}", "destination_url": "{}"}}"#, nginx.url("source"), service.file("copy"));
    let (status, document) = submit(&service, &body);
    assert_eq!(status, 201, "{document:#}");
    wait_complete(&service, document["id"].as_str().unwrap());
    assert!(service.read("copy") == content);
}

#[test]
fn a_part_is_moved_to_offset_0() {
    let service = Service::start(&[]);
    let content = random(2, 5 * MIB);
    service.write("source", &content);
    let body = format!(
        r#"{{"source_url": "{}", "destination_url": "{}", "start_offset": 1000, "end_offset": 3000000}}"#,
        service.file("source"),
        service.file("part")
    );
    let (status, document) = submit(&service, &body);
    assert_eq!(status, 201, "{document:#}");
    let document = wait_complete(&service, document["id"].as_str().unwrap());
    assert_eq!((&document["start_offset"], &document["end_offset"]), (&1000.into(), &3_000_000.into()));
    assert_eq!(document["progress"], 2_999_000);
    assert!(service.read("part") == content[1000..3_000_000]);
}

#[test]
fn a_transfer_is_paused_resumed_canceled_and_deleted() {
    let service = Service::start(&[]);
    service.write("source", &random(3, 64 * MIB));
    let submit_slow = || {
        let (source, copy) = (service.file("source"), service.file("copy"));
        let body = format!(r#"{{"source_url": "{source}", "destination_url": "{copy}", "rate_limit": {}}}"#, 4 * MIB);
        let (status, document) = submit(&service, &body);
        assert_eq!(status, 201, "{document:#}");
        let id = document["id"].as_str().unwrap().to_owned();
        wait_for(&service, &id, "STATE_RUNNING");
        id
    };
    let id = submit_slow();
    assert_eq!(act(&service, &id, "pause").0, 202);
    wait_for(&service, &id, "STATE_PAUSED");
    assert_eq!(act(&service, &id, "resume").0, 204);
    wait_for(&service, &id, "STATE_RUNNING");
    assert_eq!(act(&service, &id, "cancel").0, 202);
    wait_for(&service, &id, "STATE_CANCELED");
    let (status, problem) = act(&service, &id, "resume");
    assert_eq!((status, &problem["code"]), (409, &"state_conflict".into()), "canceled is for ever");
    assert_eq!(delete(&service, &id).0, 204);
    assert_eq!(show(&service, &id).0, 404);

    let id = submit_slow();
    assert_eq!(delete(&service, &id).0, 202, "it has to stop first");
    eventually(PATIENCE, "the transfer is gone", || (show(&service, &id).0 == 404).then_some(()));
    eventually(PATIENCE, "the partial is swept", || (service.names() == ["source"]).then_some(()));
}

#[test]
fn nothing_can_be_done_to_unknown_ids() {
    let service = Service::start(&["--executors", "none"]);
    // No id at all, and one that could be.
    for id in ["0", "0190a6d0-0000-7000-8000-000000000000"] {
        let mut answers = vec![show(&service, id), delete(&service, id)];
        answers.extend(["cancel", "pause", "resume"].map(|action| act(&service, id, action)));
        for (status, problem) in answers {
            assert_eq!((status, &problem["code"]), (404, &"transfer_not_found".into()), "{id}: {problem:#}");
        }
    }
}

#[test]
fn the_first_page_names_the_versions_and_protocols() {
    let service = Service::start(&[]);
    let (status, document) = curl(&[&format!("{}/", service.url())]);
    assert_eq!(status, 300);
    let v1 = &document["versions"]["v1"];
    assert!(v1["id"].is_string() && v1["version"].is_string() && v1["status"].is_string(), "{document:#}");
    let protocols: Vec<&str> = v1["protocols"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for scheme in ["file", "http", "https"] {
        assert!(protocols.contains(&scheme), "{protocols:?}");
    }
}

#[test]
fn lists_are_in_order() {
    let service = Service::start(&[]);
    service.write("s", b"x");
    let ids: Vec<String> = (0..5)
        .map(|number| {
            let (source, copy) = (service.file("s"), service.file(&format!("d{number}")));
            let (_, document) =
                submit(&service, &format!(r#"{{"source_url": "{source}", "destination_url": "{copy}"}}"#));
            document["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let (_, list) = curl(&[&format!("{}/v1/transfers", service.url())]);
    let listed: Vec<&str> = list.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids);
    let (_, page) = curl(&[&format!("{}/v1/transfers?limit=2&marker={}", service.url(), ids[1])]);
    let listed: Vec<&str> = page.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids[2..4]);
    for id in &ids {
        wait_complete(&service, id);
    }
    let (_, list) = curl(&[&format!("{}/v1/transfers?state=STATE_COMPLETE", service.url())]);
    assert_eq!(list.as_array().unwrap().len(), 5);
}
