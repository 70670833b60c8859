//! What cannot succeed fails at once, with a code that says why; what can be seen in the request is refused at POST.

use std::net::TcpListener;

use serde_json::json;
use staccato_protocols::testing::http_server::{Page, Trick};
use staccato_tests::{
    bytes::{MIB, random, sha256},
    service::Service,
};

use super::{Pair, submit};

#[test]
fn statuses_become_clear_codes() {
    let pair = Pair::start();
    let cases = [
        (400, "http_status", false),
        (401, "permission_denied", false),
        (403, "permission_denied", false),
        (404, "source_missing", false),
        (410, "source_missing", false),
        (500, "http_status", true),
        (503, "http_status", true),
    ];
    let ids = cases.map(|(status, ..)| {
        let page = Page::new("some").trick(.., Trick::Status(status, vec![]));
        // Fatal ones are not tried again however many retries are allowed.
        let retries = if status < 500 { 5 } else { 0 };
        pair.submit(&status.to_string(), page, json!({"retries": retries}))
    });
    for ((status, code, retryable), id) in cases.into_iter().zip(ids) {
        let document = pair.failed(&id, &status.to_string(), code, retryable);
        assert_eq!(document["attempts"], 1);
        let message = document["error"]["message"].as_str().unwrap();
        assert!(message.contains(&status.to_string()), "{message}");
    }
    assert_eq!(pair.service.names(), Vec::<String>::new());
}

#[test]
fn redirects_beyond_ten_and_to_another_kind_are_refused() {
    let pair = Pair::start();
    let to = |location: &str| Page::new([]).trick(.., Trick::Status(302, vec![("Location", location.to_owned())]));
    for hop in 0..11 {
        pair.server.put(&format!("/hop{hop}"), to(&format!("/hop{}", hop + 1)));
    }
    pair.server.put("/hop11", Page::new("some"));
    let ten = submit(&pair.service, &pair.server.url("/hop1"), "ten", json!({}));
    pair.completed(&ten, "ten", b"some");
    let eleven = submit(&pair.service, &pair.server.url("/hop0"), "eleven", json!({}));
    pair.failed(&eleven, "eleven", "redirect_refused", false);
    for (name, location) in [("file", "file:///etc/passwd"), ("zero", "zero:///5"), ("round", "/round")] {
        let id = pair.submit(name, to(location), json!({}));
        pair.failed(&id, name, "redirect_refused", false);
    }
}

#[test]
fn nobody_listens() {
    let service = Service::start(&[]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let id = submit(&service, &format!("http://{free}/s"), "d", json!({"retries": 0}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!((&document["error"]["code"], &document["error"]["retryable"]), (&json!("connect_failed"), &json!(true)));
}

#[test]
fn checksum_mismatch_is_fatal_and_leaves_no_file() {
    let pair = Pair::start();
    let content = random(1, 3 * MIB + 1);
    let id =
        pair.submit("wrong", Page::new(content.clone()), json!({"checksum": format!("sha256:{}", "0".repeat(64))}));
    let document = pair.failed(&id, "wrong", "checksum_mismatch", false);
    assert_eq!(document["attempts"], 1, "the same bytes would come again");
    assert_eq!(pair.service.names(), Vec::<String>::new(), "not even a partial");
    let checksum = format!("sha256:{}", sha256(&content));
    let id = pair.submit("right", Page::new(content.clone()), json!({"checksum": checksum}));
    pair.completed(&id, "right", &content);
}

#[test]
fn options_and_urls_are_checked_before_anything_is_asked() {
    let pair = Pair::start();
    pair.server.put("/s", Page::new("some"));
    let url = pair.server.url("/s");
    let cases = [
        (url.clone(), json!({"stall_timeout": "soon"}), "invalid_option"),
        (url.clone(), json!({"timeout": "1s"}), "invalid_option"),
        (url.clone(), json!({"header.Range": "bytes=0-0"}), "invalid_option"),
        (url.clone(), json!({"ca": "not a certificate"}), "invalid_option"),
        ("http:///s".to_owned(), json!({}), "invalid_url"),
        (url.replace("http://", "http://user@"), json!({}), "invalid_url"),
    ];
    for (source, options, code) in cases {
        let body = json!({"source_url": source, "destination_url": pair.service.file("d"), "source_options": options});
        let answer = pair.service.post("/v1/transfers", &body);
        assert_eq!((answer.status, answer.code()), (400, code), "{:?}", answer.body);
    }
    let body = json!({"source_url": url, "destination_url": pair.server.url("/folder/")});
    assert_eq!(pair.service.post("/v1/transfers", &body).code(), "invalid_url", "a folder is no object");
    assert!(pair.server.seen().is_empty(), "nobody was asked");
}

#[test]
fn time_outs_headers_and_ca_are_documented_with_the_protocol() {
    let service = Service::start(&[]);
    let document = service.get("/v1/protocols").body;
    for scheme in ["http", "https"] {
        let protocols = document["protocols"].as_array().unwrap();
        let protocol = protocols.iter().find(|protocol| protocol["scheme"] == scheme).expect(scheme);
        assert_eq!((&protocol["source"], &protocol["destination"]), (&json!(true), &json!(true)));
        let options = protocol["options"].as_array().unwrap();
        for (name, secret) in [
            ("stall_timeout", false),
            ("connect_timeout", false),
            ("total_timeout", false),
            ("ca", false),
            ("header.*", true),
        ] {
            let option = options.iter().find(|option| option["name"] == name).expect(name);
            assert_eq!(option["secret"], secret, "{name}");
            assert!(!option["help"].as_str().unwrap().is_empty(), "{name}");
        }
    }
}
