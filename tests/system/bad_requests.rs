//! Requests that are refused, each with a code and a sentence.

use std::fs;

use serde_json::{Value, json};
use staccato_tests::service::{Answer, Service};

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{:#}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert!(answer.body["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{:#}", answer.body);
}

fn valid(service: &Service) -> Value {
    json!({"source_url": service.file("s"), "destination_url": service.file("d")})
}

#[test]
fn malformed_json() {
    let service = Service::start(&[]);
    for body in ["", "{", "{\"source_url\": ", "nonsense", "\u{0}"] {
        refused(&service.post_raw("/v1/transfers", "application/json", body.as_bytes(), &[]), 400, "invalid_json");
    }
    assert_eq!(service.get("/v1/transfers").body, json!([]), "nothing was made");
}

#[test]
fn wrong_types_and_unknown_or_missing_fields_are_named() {
    let service = Service::start(&[]);
    for (field, value) in [
        ("priority", json!("high")),
        ("priority", json!(10)),
        ("retries", json!(-1)),
        ("retries", json!(10_001)),
        ("rate_limit", json!(0)),
        ("chunk_size", json!(1000)),
        ("connections", json!(0)),
        ("start_offset", json!(-1)),
        ("overwrite", json!("maybe")),
        ("checksum", json!("sha256:12")),
        ("source_options", json!([])),
        ("source_url", json!(5)),
    ] {
        let mut body = valid(&service);
        body[field] = value.clone();
        let answer = service.post("/v1/transfers", &body);
        assert_eq!(answer.status, 400, "{field}: {value}: {:#}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        let field_at_fault = answer.body["field"].as_str().unwrap_or_default();
        assert!(field_at_fault.contains(field) || detail.contains(field), "{field}: {:#}", answer.body);
    }
    let mut body = valid(&service);
    body["sorce_options"] = json!({});
    let answer = service.post("/v1/transfers", &body);
    refused(&answer, 400, "unknown_field");
    assert!(answer.body["detail"].as_str().unwrap().contains("sorce_options"));
    refused(&service.post("/v1/transfers", &json!({"source_url": "zero:///5"})), 400, "missing_field");
}

#[test]
fn huge_bodies() {
    let service = Service::start(&[]);
    let body = format!("{{\"source_url\": \"{}\"}}", "x".repeat(4 << 20));
    let answer = service.post_raw("/v1/transfers", "application/json", body.as_bytes(), &[]);
    // The service may close the connection before everything is sent; then there is no answer to read.
    assert!(answer.status == 413 || answer.status == 0, "{:#}", answer.body);
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn unknown_schemes_and_malformed_urls_are_refused_at_once() {
    let service = Service::start(&[]);
    for (source, code) in [
        ("gopher://host/x", "unsupported_scheme"),
        ("", "invalid_url"),
        ("relative/path", "invalid_url"),
        ("/no/scheme", "invalid_url"),
        ("http://", "invalid_url"),
        ("http://user:password@host/x", "invalid_url"),
        ("file:///a/../b", "invalid_url"),
        ("file:///etc/passwd", "path_outside_roots"),
        ("file://elsewhere/x", "unknown_host"),
        ("null:///", "unsupported_scheme"),
    ] {
        let body = json!({"source_url": source, "destination_url": service.file("d")});
        refused(&service.post("/v1/transfers", &body), 400, code);
    }
    for destination in ["file:///etc/new", "file://../x", &format!("{}/../x", service.file("sub"))] {
        let body = json!({"source_url": "zero:///5", "destination_url": destination});
        assert_eq!(service.post("/v1/transfers", &body).status, 400, "{destination}");
    }
}

#[test]
fn paths_with_dot_dot_are_refused_however_they_are_written() {
    let service = Service::start(&[]);
    service.write("x", b"some");
    fs::create_dir(service.path("sub")).unwrap();
    for dots in ["..", "%2e%2e", ".%2E", "..%2Fsub%2F..", "..%2f"] {
        for path in [format!("sub/{dots}/x"), format!("{dots}/root/x")] {
            let url = format!("{}/{path}", service.file("x").trim_end_matches("/x"));
            for (source, destination) in [(url.clone(), service.file("d")), (service.file("x"), url)] {
                let body = json!({"source_url": source, "destination_url": destination});
                refused(&service.post("/v1/transfers", &body), 400, "invalid_url");
            }
        }
    }
    assert_eq!(service.get("/v1/transfers").body, json!([]), "nothing was made");
}

#[test]
fn relative_paths_are_refused() {
    let service = Service::start(&[]);
    service.write("x", b"some");
    for relative in ["file:tmp/x", "file:x", "tmp/x", "./x", "x"] {
        for (source, destination) in
            [(relative.to_owned(), service.file("d")), (service.file("x"), relative.to_owned())]
        {
            let body = json!({"source_url": source, "destination_url": destination});
            refused(&service.post("/v1/transfers", &body), 400, "invalid_url");
        }
    }
    assert_eq!(service.get("/v1/transfers").body, json!([]), "nothing was made");
}

#[test]
fn unknown_routes_methods_and_queries() {
    let service = Service::start(&[]);
    refused(&service.get("/v2"), 404, "route_not_found");
    refused(&service.delete("/v1/transfers"), 405, "method_not_allowed");
    for query in ["limit=0", "limit=10001", "limit=x", "state=STATE_ODD", "marker=zzz", "colour=red"] {
        assert_eq!(service.get(&format!("/v1/transfers?{query}")).status, 400, "{query}");
    }
    let answer = service.post("/v1/transfers/0/action", &json!({"xferaction": "cancel"}));
    refused(&answer, 404, "transfer_not_found");
}

#[test]
fn foreign_names_proxies_and_media_types() {
    let service = Service::start(&[]);
    let body = valid(&service).to_string();
    let post = |kind: &str, headers: &[(&str, &str)]| service.post_raw("/v1/transfers", kind, body.as_bytes(), headers);
    refused(&post("text/plain", &[]), 415, "unsupported_media_type");
    refused(&post("application/x-www-form-urlencoded", &[]), 415, "unsupported_media_type");
    for (name, value) in [
        ("host", "evil.example"),
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "evil.example"),
    ] {
        refused(&post("application/json", &[(name, value)]), 403, "forbidden_host");
    }
    assert_eq!(service.get("/v1/transfers").body, json!([]), "nothing was made");
}

#[test]
fn secrets_are_neither_shown_nor_stored_in_the_clear() {
    let service = Service::start(&["--slots", "1"]);
    let secret = "hunter2-hunter2";
    let id = service.submit(
        &format!("http://127.0.0.1:9/x?signature={secret}"),
        &service.file("d"),
        json!({"source_options": {"header.Authorization": secret}, "retries": 3}),
    );
    let document = service.show(&id).to_string();
    assert!(!document.contains(secret) && document.contains("<redacted>"), "{document}");
    let mut found = Vec::new();
    look_for(secret.as_bytes(), &service.data(), &mut found);
    assert_eq!(found, Vec::<std::path::PathBuf>::new(), "the secret is stored in the clear");
    assert!(!service.log().contains(secret), "the secret is logged");
}

fn look_for(needle: &[u8], folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            look_for(needle, &path, found);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path);
            }
        }
    }
}
