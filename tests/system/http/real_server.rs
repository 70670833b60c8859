//! From a real nginx.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random, sha256},
    process::eventually,
    service::{PATIENCE, Service},
};

use super::{nginx::Nginx, submit, tells};

/// A service and the nginx that it reads from.
fn pair() -> (Service, Nginx) {
    (Service::start(&["--slots", "8"]), Nginx::start())
}

#[test]
fn an_object_of_nginx_moves_to_a_file_in_ranges() {
    let (service, nginx) = pair();
    let content = random(1, 12 * MIB + 5);
    nginx.put("s", &content);
    let id = submit(&service, &nginx.url("s"), "d", json!({"checksum": format!("sha256:{}", sha256(&content))}));
    let document = service.complete(&id);
    assert!(service.read("d") == content);
    assert_eq!((&document["progress"], &document["bytes_total"]), (&json!(content.len()), &json!(content.len())));
    assert_eq!(document["crc32"], format!("{:08x}", crc32fast::hash(&content)));
    assert_eq!(document["attempts"], 1);
    let answers = nginx.answers("s");
    let len = |answer: &String| {
        let (start, end) = answer.strip_prefix("206 bytes=")?.split_once('-')?;
        Some(end.parse::<usize>().ok()? + 1 - start.parse::<usize>().ok()?)
    };
    // Opening it and looking behind take the first byte.
    let parts = answers.iter().filter(|answer| *answer != "206 bytes=0-0");
    let asked_for: Option<usize> = parts.map(len).sum();
    assert_eq!(asked_for, Some(content.len()), "parts, and nothing twice: {answers:?}");
    assert_eq!(service.names(), ["d"]);
}

#[test]
fn objects_of_0_bytes_1_byte_and_around_blocks_and_chunks() {
    let (service, nginx) = pair();
    let sizes = [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1];
    // Every size as nginx likes to send it, without ranges, and without even a length.
    let cases: Vec<_> = sizes.iter().flat_map(|size| ["", "whole/", "chunked/"].map(|how| (*size, how))).collect();
    let name = |(size, how): (usize, &str)| format!("{}{size}", how.trim_end_matches('/'));
    // All before the first is fetched: while it is written, a file is an object of another length.
    sizes.iter().for_each(|size| nginx.put(&size.to_string(), &random(*size as u64, *size)));
    let ids: Vec<_> = cases
        .iter()
        .map(|&(size, how)| {
            let chunk_size = if size < 2 * MIB { MIB } else { 4 * MIB };
            let url = nginx.url(&format!("{how}{size}"));
            submit(&service, &url, &name((size, how)), json!({"chunk_size": chunk_size}))
        })
        .collect();
    for (case, id) in cases.into_iter().zip(ids) {
        assert_eq!(service.complete(&id)["progress"], case.0, "{case:?}");
        assert!(service.read(&name(case)) == random(case.0 as u64, case.0), "{case:?}: the bytes differ");
    }
}

#[test]
fn names_with_spaces_unicode_and_percent_signs() {
    let (service, nginx) = pair();
    for (name, path) in [("with space", "with%20space"), ("100%", "100%25"), ("größe 你好", "größe%20你好")] {
        nginx.put(name, name.as_bytes());
        let id = submit(&service, &nginx.url(path), name, json!({}));
        service.complete(&id);
        assert_eq!(service.read(name), name.as_bytes());
    }
}

#[test]
fn a_part_of_an_http_object_is_moved_to_offset_0() {
    let (service, nginx) = pair();
    let content = random(2, 5 * MIB);
    nginx.put("s", &content);
    let part = json!({"start_offset": 1000, "end_offset": 3_000_000});
    let ids = ["", "whole/", "chunked/"].map(|how| {
        let name = format!("d{}", how.trim_end_matches('/'));
        (submit(&service, &nginx.url(&format!("{how}s")), &name, part.clone()), name)
    });
    for (id, name) in ids {
        assert_eq!(service.complete(&id)["progress"], 2_999_000, "{name}");
        assert!(service.read(&name) == content[1000..3_000_000], "{name}");
    }
    let beyond = json!({"start_offset": 10, "end_offset": 5 * MIB + 1, "retries": 0});
    let id = submit(&service, &nginx.url("s"), "beyond", beyond);
    assert_eq!(service.failure(&id), "range_outside_object");
}

#[test]
fn a_server_without_ranges_is_read_as_one_stream() {
    let (service, nginx) = pair();
    let content = random(3, 9 * MIB + 1);
    nginx.put("s", &content);
    let id = submit(&service, &nginx.url("whole/s"), "d", json!({}));
    let document = service.complete(&id);
    assert!(service.read("d") == content);
    assert_eq!(document["bytes_total"], content.len());
    let streams = nginx.answers("whole/s").iter().filter(|answer| answer.starts_with("200")).count();
    assert!((1..=2).contains(&streams), "one to read and at most one to compare: {streams}");
}

#[test]
fn a_chunked_body_without_length_is_read_to_its_end() {
    let (service, nginx) = pair();
    let content = random(4, 9 * MIB + 1);
    nginx.put("s", &content);
    let id = submit(&service, &nginx.url("chunked/s"), "d", json!({}));
    let document = service.complete(&id);
    assert!(service.read("d") == content);
    assert_eq!((&document["bytes_total"], &document["progress"]), (&json!(content.len()), &json!(content.len())));
}

#[test]
fn https_with_a_ca_of_the_clients_own() {
    let (service, nginx) = pair();
    let content = random(5, 6 * MIB);
    nginx.put("s", &content);
    // As openssl writes it, and in one line, as it is easily typed.
    for (name, ca) in [("d", nginx.root.clone()), ("one-line", nginx.root.replace('\n', " "))] {
        let id = submit(&service, &nginx.https("s"), name, json!({"source_options": {"ca": ca}}));
        service.complete(&id);
        assert!(service.read(name) == content);
    }
    let id = submit(&service, &nginx.https("s"), "untrusted", json!({}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!((&document["error"]["code"], &document["error"]["retryable"]), (&json!("tls_failed"), &json!(false)));
    assert!(!service.path("untrusted").exists());
}

#[test]
fn redirects_are_followed_but_never_to_a_weaker_scheme_or_another_kind() {
    let (service, nginx) = pair();
    let content = random(6, 3 * MIB);
    nginx.put("s", &content);
    let trust = json!({"source_options": {"ca": nginx.root}});
    let id = submit(&service, &nginx.url("moved/s"), "d", json!({}));
    let secure = submit(&service, &nginx.https("moved/s"), "secure", trust.clone());
    service.complete(&id);
    service.complete(&secure);
    assert!(service.read("d") == content && service.read("secure") == content);
    let asked = nginx.answers("s").len();
    for (source, name) in [(nginx.https("weaker/s"), "weaker"), (nginx.url("file/etc/passwd"), "file")] {
        let id = submit(&service, &source, name, trust.clone());
        let document = service.wait_for(&id, "STATE_ERROR");
        assert_eq!(document["error"]["code"], "redirect_refused", "{document:#}");
        assert_eq!(document["error"]["retryable"], false);
        assert!(!service.path(name).exists());
    }
    assert_eq!(nginx.answers("s").len(), asked, "nobody asked over the weaker scheme");
}

#[test]
fn headers_in_source_options_are_sent_and_never_shown() {
    let (service, nginx) = pair();
    let content = random(7, 3 * MIB);
    nginx.put("s", &content);
    let options = json!({"source_options": {"header.Authorization": "Bearer hush"}});
    let id = submit(&service, &nginx.url("guarded/s"), "d", options);
    let document = service.complete(&id);
    assert!(service.read("d") == content);
    assert!(!document.to_string().contains("hush") && !service.log().contains("hush"), "{document:#}");
    let id = submit(&service, &nginx.url("guarded/s"), "denied", json!({}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!(document["error"]["code"], "permission_denied");
    assert_eq!(document["error"]["retryable"], false);
}

#[test]
fn an_object_that_is_replaced_on_nginx_is_moved_as_one_version() {
    let (service, nginx) = pair();
    nginx.put("s", &random(8, 24 * MIB));
    let id = submit(&service, &nginx.url("s"), "d", json!({"rate_limit": 8 * MIB}));
    service.wait_for_progress(&id, 1);
    let other = random(9, 10 * MIB);
    nginx.put("new", &other);
    std::fs::rename(nginx.path("new"), nginx.path("s")).unwrap();
    let document = service.complete(&id);
    assert!(service.read("d") == other, "one version, whole");
    assert!(tells(&document, "started_over"), "the document says so: {document:#}");
}

#[test]
fn a_server_that_is_killed_and_comes_back_is_read_on_from_the_checkpoint() {
    let (service, mut nginx) = pair();
    let content = random(10, 24 * MIB);
    nginx.put("s", &content);
    let id = submit(&service, &nginx.url("s"), "d", json!({"rate_limit": 8 * MIB}));
    service.wait_for_progress(&id, 4 * MIB as u64);
    nginx.kill();
    eventually(PATIENCE, "the attempt has failed", || {
        let document = service.show(&id);
        document["error"]["code"].as_str().map(|code| {
            assert!(["connect_failed", "connection_lost"].contains(&code), "{document:#}");
            assert!(document["progress"].as_u64() >= Some(4 * MIB as u64), "progress is kept: {document:#}");
        })
    });
    assert!(nginx.launch(), "nginx starts again on its port");
    let document = service.complete(&id);
    assert!(service.read("d") == content);
    assert!(!tells(&document, "started_over"), "{document:#}");
}
