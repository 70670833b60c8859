use std::{convert::Infallible, time::Duration};

use axum::body::{Body, Bytes};
use http::{Method, Request};
use serde_json::json;

use super::driver::{Driver, transfer};
use crate::api::{
    access::Peer,
    body::{BODY_BYTES_MAX, BODY_TIMEOUT},
};

#[tokio::test]
async fn foreign_hosts_are_refused_on_every_route() {
    let driver = Driver::new().await;
    for path in ["/", "/v1", "/v1/transfers", "/healthz", "/metrics", "/openapi.json", "/nowhere"] {
        for host in ["evil.example", "127.0.0.1.nip.io:5309", "10.0.0.1", "user@localhost", ""] {
            let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
            let detail = driver.send(request).await.problem(403, "forbidden_host", Some("host"));
            assert!(detail.contains("localhost"), "{detail}");
        }
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:5309", "LOCALHOST"] {
        let request = Request::get("/healthz").header("host", host).body(Body::empty()).unwrap();
        assert_eq!(driver.send(request).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn requests_through_proxies_are_refused() {
    let driver = Driver::new().await;
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "x-real-ip"] {
        let answer = driver.post_with("/v1/transfers", transfer("a").to_string(), &[(name, "x")]).await;
        answer.problem(403, "forbidden_host", Some(name));
    }
    assert_eq!(driver.get("/v1/transfers").await.json(), json!([]), "nothing was made");
}

#[tokio::test]
async fn a_peer_that_is_not_known_is_refused_with_the_reason() {
    let driver = Driver::new().await;
    let peer = Peer::Unknown("its end of the connection is closed".into());
    let ask = |path: &str| Request::get(path).extension(peer.clone()).body(Body::empty()).unwrap();
    let detail = driver.send(ask("/v1/transfers")).await.problem(403, "forbidden", None);
    assert!(detail.contains("its end of the connection is closed"), "{detail}");
    assert_eq!(driver.send(ask("/")).await.status, 300, "what has no owner is for everybody on this host");
}

#[tokio::test]
async fn bodies_that_are_not_declared_as_json_are_refused() {
    let driver = Driver::new().await;
    let types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"];
    for media_type in types.map(Some).into_iter().chain([None]) {
        let mut request = Request::post("/v1/transfers").header("content-length", "2");
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        let answer = driver.send(request.body("{}".into()).unwrap()).await;
        let detail = answer.problem(415, "unsupported_media_type", Some("content-type"));
        assert!(detail.contains("Content-Type: application/json"), "{detail}");
    }
    let answer = driver.post_with("/v1/transfers", "{}", &[("content-encoding", "gzip")]).await;
    answer.problem(415, "unsupported_media_type", Some("content-encoding"));
    let charset = Request::post("/v1/transfers").header("content-type", "application/json; charset=utf-8");
    let answer = driver.send(charset.body(transfer("a").to_string().into()).unwrap()).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn huge_bodies_are_refused_declared_or_not() {
    let driver = Driver::new().await;
    let path = format!("/v1/transfers/{}/action", driver.submit("a").await);
    let padded = |bytes: usize| format!("{}{}", json!({"xferaction": "pause"}), " ".repeat(bytes - 22));
    assert_eq!(driver.post_with(&path, padded(BODY_BYTES_MAX), &[]).await.status, 204, "the bound itself is allowed");
    for path in ["/v1/transfers", &path] {
        driver.post_with(path, padded(BODY_BYTES_MAX + 1), &[]).await.problem(413, "body_too_large", None);
        let pieces = padded(BODY_BYTES_MAX + 1).into_bytes();
        let pieces = pieces.chunks(64 << 10).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)));
        let chunked = Body::from_stream(futures_util::stream::iter(pieces.collect::<Vec<_>>()));
        driver.post_with(path, chunked, &[]).await.problem(413, "body_too_large", None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let driver = Driver::new().await;
    let begun = tokio::time::Instant::now();
    let silent = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    driver.post_with("/v1/transfers", silent, &[]).await.problem(408, "request_timeout", None);
    assert!(begun.elapsed() >= BODY_TIMEOUT && begun.elapsed() < BODY_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn a_header_section_beyond_its_bound_is_refused() {
    let driver = Driver::new().await;
    let request = Request::get("/").header("x-long", "x".repeat(17 << 10)).body(Body::empty()).unwrap();
    driver.send(request).await.problem(431, "headers_too_large", None);
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let driver = Driver::new().await;
    for path in ["/v2", "/v1/", "/v1/transfer", "/v1/transfers/", "/v1/transfers/a/b", "/favicon.ico", "//", "/v1//"] {
        let detail = driver.get(path).await.problem(404, "route_not_found", None);
        assert!(detail.contains("/openapi.json"), "{detail}");
    }
}

#[tokio::test]
async fn unknown_methods_are_answered_with_the_known_ones() {
    let driver = Driver::new().await;
    let transfer = format!("/v1/transfers/{}", driver.submit("a").await);
    let action = format!("{transfer}/action");
    for (method, path, allowed) in [
        (Method::DELETE, "/v1/transfers", "GET,HEAD,POST"),
        (Method::PUT, transfer.as_str(), "DELETE,GET,HEAD"),
        (Method::PATCH, &transfer, "DELETE,GET,HEAD"),
        (Method::GET, &action, "POST"),
        (Method::POST, "/", "GET,HEAD"),
        (Method::OPTIONS, "/v1/transfers", "GET,HEAD,POST"),
    ] {
        let answer = driver.send(Request::builder().method(&method).uri(path).body(Body::empty()).unwrap()).await;
        let detail = answer.problem(405, "method_not_allowed", None);
        assert!(detail.contains(method.as_str()), "{detail}");
        let mut listed: Vec<_> = answer.header("allow").expect("405 has Allow").split(',').collect();
        listed.sort_unstable();
        assert_eq!(listed.join(","), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_its_body() {
    let driver = Driver::new().await;
    let path = format!("/v1/transfers/{}", driver.submit("a").await);
    let answer = driver.send(Request::head(&path).body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.bytes.len()), (200, 0));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}
