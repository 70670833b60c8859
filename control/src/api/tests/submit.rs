use serde_json::{Value, json};

use super::driver::{Driver, OWNER, transfer};

#[tokio::test]
async fn a_transfer_is_created_with_every_field_old_clients_know() {
    let driver = Driver::new().await;
    let answer = driver.post("/v1/transfers", &transfer("a")).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let document = answer.json();
    let id = document["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/v1/transfers/{id}").as_str()));
    let expected = json!({
        "source_url": "zero:///5", "destination_url": "file:///data/a", "state": "STATE_NEW", "progress": 0,
        "start_offset": 0, "end_offset": -1, "source_options": {}, "destination_options": {}, "owner": OWNER,
        "priority": 5, "retries": 5, "overwrite": "never", "attempts": 0, "error": null,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&document[field], value, "{field}");
    }
    assert_eq!(driver.get(&format!("/v1/transfers/{id}")).await.json(), document, "it is found again as it was");
}

#[tokio::test]
async fn every_option_is_taken_and_shown() {
    let driver = Driver::new().await;
    let mut body = transfer("a");
    let options = json!({
        "start_offset": 1, "end_offset": 4, "source_options": {"seed": "7"}, "overwrite": "always",
        "checksum": "crc32:00000000", "priority": 9, "retries": 10_000, "rate_limit": 1, "chunk_size": 1 << 20,
        "connections": 1024,
    });
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let answer = driver.post("/v1/transfers", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    for (field, value) in options.as_object().unwrap() {
        assert_eq!(&answer.json()[field], value, "{field}");
    }
}

#[tokio::test]
async fn null_counts_as_absent() {
    let driver = Driver::new().await;
    let mut body = transfer("a");
    for field in
        ["priority", "retries", "rate_limit", "chunk_size", "connections", "checksum", "end_offset", "source_options"]
    {
        body[field] = Value::Null;
    }
    assert_eq!(driver.post("/v1/transfers", &body).await.status, 201);
}

#[tokio::test]
async fn an_unknown_field_is_named_with_what_it_probably_meant() {
    let driver = Driver::new().await;
    for (field, meant) in [("sorce_options", "source_options"), ("ratelimit", "rate_limit"), ("Priority", "priority")] {
        let mut body = transfer("a");
        body[field] = json!(1);
        let detail = driver.post("/v1/transfers", &body).await.problem(400, "unknown_field", Some(field));
        assert!(detail.contains(&format!("did you mean {meant}?")), "{detail}");
    }
}

#[tokio::test]
async fn a_missing_field_is_named() {
    let driver = Driver::new().await;
    for field in ["source_url", "destination_url"] {
        let mut body = transfer("a");
        body.as_object_mut().unwrap().remove(field);
        driver.post("/v1/transfers", &body).await.problem(400, "missing_field", Some(field));
    }
}

#[tokio::test]
async fn wrong_types_and_values_are_refused_at_their_field() {
    let driver = Driver::new().await;
    for (field, value) in [
        ("source_url", json!(5)),
        ("destination_url", json!(["x"])),
        ("priority", json!("high")),
        ("priority", json!(10)),
        ("priority", json!(1.5)),
        ("priority", json!(-1)),
        ("retries", json!(-1)),
        ("retries", json!(10_001)),
        ("retries", json!(true)),
        ("rate_limit", json!(0)),
        ("rate_limit", json!("5M")),
        ("chunk_size", json!(1000)),
        ("chunk_size", json!((1 << 20) + 1)),
        ("chunk_size", json!(128 << 20)),
        ("connections", json!(0)),
        ("connections", json!(1025)),
        ("start_offset", json!(-1)),
        ("start_offset", json!(u64::MAX)),
        ("end_offset", json!(-2)),
        ("end_offset", json!("end")),
        ("overwrite", json!("maybe")),
        ("overwrite", json!(true)),
        ("checksum", json!("sha256:12")),
        ("checksum", json!("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")),
        ("source_options", json!([])),
        ("destination_options", json!("x")),
    ] {
        let mut body = transfer("a");
        body[field] = value.clone();
        let answer = driver.post("/v1/transfers", &body).await;
        let detail = answer.problem(400, "invalid_field", Some(field));
        assert!(!detail.is_empty(), "{field}={value}");
    }
    let mut body = transfer("a");
    body["source_options"] = json!({"seed": 7});
    driver.post("/v1/transfers", &body).await.problem(400, "invalid_field", Some("source_options.seed"));
    let mut body = transfer("a");
    (body["start_offset"], body["end_offset"]) = (json!(5), json!(4));
    driver.post("/v1/transfers", &body).await.problem(400, "invalid_field", Some("end_offset"));
    assert_eq!(driver.get("/v1/transfers").await.json(), json!([]), "nothing was made");
}

#[tokio::test]
async fn urls_are_checked_for_syntax_and_policy_only() {
    let driver = Driver::new().await;
    for (source, code) in [
        ("", "invalid_url"),
        ("/no/scheme", "invalid_url"),
        ("relative", "invalid_url"),
        ("http://", "invalid_url"),
        ("file:///data/../etc/passwd", "invalid_url"),
        ("file://elsewhere/data/x", "unknown_host"),
        ("gopher://host/x", "unsupported_scheme"),
        ("null:///", "unsupported_scheme"),
        ("file:///etc/passwd", "path_outside_roots"),
    ] {
        let body = json!({"source_url": source, "destination_url": "file:///data/d"});
        driver.post("/v1/transfers", &body).await.problem(400, code, Some("source_url"));
    }
    for (destination, code) in [
        ("zero:///5", "unsupported_scheme"),
        ("http://host/x/", "invalid_url"),
        ("file:///etc/new", "path_outside_roots"),
    ] {
        let body = json!({"source_url": "zero:///5", "destination_url": destination});
        driver.post("/v1/transfers", &body).await.problem(400, code, Some("destination_url"));
    }
    // Whether it is there shows later.
    let body = json!({"source_url": "file:///data/missing", "destination_url": "file:///data/no/folder/x"});
    assert_eq!(driver.post("/v1/transfers", &body).await.status, 201);
    let body = json!({"source_url": "file:///data/same", "destination_url": "file:///data/same"});
    driver.post("/v1/transfers", &body).await.problem(400, "invalid_field", Some("destination_url"));
}

#[tokio::test]
async fn unknown_options_of_a_protocol_are_refused_with_the_known_ones() {
    let driver = Driver::new().await;
    let mut body = transfer("a");
    body["source_options"] = json!({"sed": "7"});
    let detail = driver.post("/v1/transfers", &body).await.problem(400, "invalid_option", Some("source_options"));
    assert!(detail.contains("sed") && detail.contains("seed"), "{detail}");
}

#[tokio::test]
async fn what_is_no_json_object_is_refused() {
    let driver = Driver::new().await;
    for body in ["{", "{\"source_url\": ", "nonsense", "\u{0}", "{} {}", "{'a': 1}", "\u{feff}{}"] {
        driver.post_with("/v1/transfers", body, &[]).await.problem(400, "invalid_json", None);
    }
    driver.post_with("/v1/transfers", "", &[]).await.problem(400, "invalid_json", None);
    driver.post_with("/v1/transfers", vec![b'"', 0xff, b'"'], &[]).await.problem(400, "invalid_json", None);
    let deep = "[".repeat(100_000);
    driver.post_with("/v1/transfers", deep, &[]).await.problem(400, "invalid_json", None);
    for body in ["[]", "\"text\"", "5", "null"] {
        driver.post_with("/v1/transfers", body, &[]).await.problem(400, "invalid_field", None);
    }
}

#[tokio::test]
async fn a_destination_has_one_live_transfer() {
    let driver = Driver::new().await;
    let first = driver.submit("a").await;
    driver.post("/v1/transfers", &transfer("a")).await.problem(409, "destination_busy", Some("destination_url"));
    driver.act(&first, "cancel", 204).await;
    driver.submit("a").await;
}

#[tokio::test]
async fn an_idempotency_key_names_one_transfer() {
    let driver = Driver::new().await;
    let key = [("idempotency-key", "order-1")];
    let post = |body: Value| driver.post_with("/v1/transfers", body.to_string(), &key);
    let first = post(transfer("a")).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    let again = post(transfer("a")).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(again.header("location"), first.header("location"));
    // The same request, written otherwise.
    let spaced = serde_json::to_string_pretty(&transfer("a")).unwrap();
    assert_eq!(driver.post_with("/v1/transfers", spaced, &key).await.json()["id"], first.json()["id"]);
    post(transfer("b")).await.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
    assert_eq!(driver.get("/v1/transfers").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_is_one_short_visible_text() {
    let driver = Driver::new().await;
    let long = "x".repeat(256);
    for key in ["", "a b", "ü", &long] {
        let answer = driver.post_with("/v1/transfers", transfer("a").to_string(), &[("idempotency-key", key)]).await;
        answer.problem(400, "invalid_field", Some("Idempotency-Key"));
    }
    let two = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = driver.post_with("/v1/transfers", transfer("a").to_string(), &two).await;
    answer.problem(400, "invalid_field", Some("Idempotency-Key"));
    let longest = "x".repeat(255);
    let answer = driver.post_with("/v1/transfers", transfer("a").to_string(), &[("idempotency-key", &longest)]).await;
    assert_eq!(answer.status, 201);
}
