//! Objects that are written with PUT: to rclone's WebDAV, and to a plain server that breaks down.

use data_encoding::BASE64;
use rustix::process::Signal;
use serde_json::{Value, json};
use staccato_bench::servers::rclone::{self, Rclone};
use staccato_protocols::testing::http_server::{HttpServer, Page};
use staccato_tests::{
    bytes::{MIB, random, sha256},
    process::{eventually, signal},
    service::{PATIENCE, Service, names},
};

fn service() -> Service {
    Service::start(&["--slots", "8"])
}

/// `PATH` below a WebDAV server, and what lets one in.
fn to(webdav: &Rclone, path: &str, more: Value) -> (String, Value) {
    let user = BASE64.encode(format!("{}:{}", rclone::USER, rclone::SECRET).as_bytes());
    let mut options = json!({"destination_options": {"header.Authorization": format!("Basic {user}")}});
    for (name, value) in more.as_object().expect("options are an object") {
        options[name] = value.clone();
    }
    (format!("{}/{path}", webdav.url()), options)
}

#[test]
fn files_of_any_size_are_put_and_nothing_else_stays_behind() {
    let (service, webdav) = (service(), Rclone::shared_webdav());
    webdav.create("sizes");
    let ids: Vec<_> = [0, 1, MIB, 9 * MIB + 5]
        .into_iter()
        .map(|size| {
            let (name, content) = (size.to_string(), random(size as u64, size));
            service.write(&name, &content);
            let checksum = json!({"checksum": format!("sha256:{}", sha256(&content))});
            let (url, options) = to(webdav, &format!("sizes/{name}"), checksum);
            (service.submit(&service.file(&name), &url, options), name, content)
        })
        .collect();
    for (id, name, content) in ids {
        let document = service.complete(&id);
        assert_eq!(document["progress"], content.len());
        assert!(std::fs::read(webdav.path(&format!("sizes/{name}"))).unwrap() == content, "{name}");
        assert!(!document.to_string().contains(rclone::SECRET) && !service.log().contains(rclone::SECRET));
    }
    assert_eq!(names(&webdav.path("sizes")).len(), 4);
}

#[test]
fn what_is_there_is_kept_or_replaced_as_the_request_says() {
    let (service, webdav) = (service(), Rclone::shared_webdav());
    webdav.create("there");
    std::fs::write(webdav.path("there/d"), b"mine").unwrap();
    service.write("s", &random(1, 2 * MIB));
    let (url, options) = to(webdav, "there/d", json!({}));
    let id = service.submit(&service.file("s"), &url, options);
    assert_eq!(service.failure(&id), "destination_exists");
    assert_eq!(std::fs::read(webdav.path("there/d")).unwrap(), b"mine");
    let (url, options) = to(webdav, "there/d", json!({"overwrite": "always"}));
    let id = service.submit(&service.file("s"), &url, options);
    service.complete(&id);
    assert!(std::fs::read(webdav.path("there/d")).unwrap() == service.read("s"));
    assert_eq!(names(&webdav.path("there")), ["d"]);
}

#[test]
fn what_the_server_refuses_is_said_with_what_to_do() {
    let (service, webdav) = (service(), Rclone::shared_webdav());
    service.write("s", &random(2, MIB));
    let (url, options) = to(webdav, "no folder/d", json!({"retries": 0}));
    let folder = service.submit(&service.file("s"), &url, options);
    let password = service.submit(&service.file("s"), &format!("{url}2"), json!({"retries": 0}));
    let document = service.wait_for(&folder, "STATE_ERROR");
    let message = document["error"]["message"].as_str().unwrap();
    assert!(document["error"]["code"] == "destination_folder_missing" && message.contains("create it"), "{message}");
    assert_eq!(service.failure(&password), "permission_denied");
}

#[test]
fn a_checksum_that_does_not_match_and_a_cancel_leave_nothing_at_the_server() {
    let (service, webdav) = (service(), Rclone::shared_webdav());
    webdav.create("clean");
    service.write("s", &random(3, 12 * MIB));
    let (url, options) = to(webdav, "clean/wrong", json!({"checksum": format!("sha256:{}", sha256(b"other"))}));
    let wrong = service.submit(&service.file("s"), &url, options);
    let (url, options) = to(webdav, "clean/canceled", json!({"rate_limit": MIB}));
    let canceled = service.submit(&service.file("s"), &url, options);
    assert_eq!(service.failure(&wrong), "checksum_mismatch");
    eventually(PATIENCE, "it is being sent", || (service.show(&canceled)["state"] == "STATE_RUNNING").then_some(()));
    assert!([202, 204].contains(&service.action(&canceled, "cancel").status));
    service.wait_for(&canceled, "STATE_CANCELED");
    eventually(PATIENCE, "nothing is left of either", || names(&webdav.path("clean")).is_empty().then_some(()));
}

#[test]
fn a_server_that_is_killed_in_the_middle_gets_the_object_again_and_the_source_is_not_asked_again() {
    let (service, mut webdav, source) = (service(), Rclone::start_webdav(), HttpServer::start());
    webdav.create("up");
    let content = random(4, 24 * MIB);
    source.put("/s", Page::new(content.clone()));
    let (url, options) = to(&webdav, "up/d", json!({}));
    let id = service.submit(&source.url("/s"), &url, options);
    let aside = || names(&webdav.path("up")).iter().any(|name| name.contains("staccato"));
    eventually(PATIENCE, "it is being sent", || aside().then_some(()));
    webdav.kill();
    webdav.launch();
    service.complete(&id);
    assert!(std::fs::read(webdav.path("up/d")).unwrap() == content);
    assert_eq!(names(&webdav.path("up")), ["d"]);
    assert!(source.bytes_sent() < 26 * MIB as u64, "once: {} bytes", source.bytes_sent());
}

#[test]
fn an_executor_that_is_killed_in_the_middle_does_not_fetch_again_what_is_in_the_spool() {
    let (service, webdav, source) = (service(), Rclone::shared_webdav(), HttpServer::start());
    webdav.create("killed");
    let content = random(5, 24 * MIB);
    source.put("/s", Page::new(content.clone()).pace(8 << 20));
    let (url, options) = to(webdav, "killed/d", json!({}));
    let id = service.submit(&source.url("/s"), &url, options);
    eventually(PATIENCE, "much has been fetched", || (source.bytes_sent() > 16 << 20).then_some(()));
    signal(service.executor(), Signal::KILL);
    service.complete(&id);
    assert!(std::fs::read(webdav.path("killed/d")).unwrap() == content);
    assert!(source.bytes_sent() < 44 << 20, "most of it once: {} bytes", source.bytes_sent());
}
