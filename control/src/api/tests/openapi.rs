//! The document against the service: each documented operation is there and answers as documented; each route that is
//! there is documented; the bodies that really come are what the schemas say.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::driver::{Answer, Driver, OWNER, transfer};
use crate::model::State;

const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];

/// Requests that together reach every operation, most of its statuses, and transfers in every state.
async fn exchanges(driver: &Driver) -> Vec<(Method, &'static str, Answer)> {
    let mut all = Vec::new();
    for (path, real) in [
        ("/", "/"),
        ("/v1", "/v1"),
        ("/v1/protocols", "/v1/protocols"),
        ("/healthz", "/healthz"),
        ("/readyz", "/readyz"),
        ("/metrics", "/metrics"),
        ("/openapi.json", "/openapi.json"),
        ("/v1/transfers", "/v1/transfers"),
        ("/v1/transfers", "/v1/transfers?limit=0"),
        ("/v1/transfers/{id}", "/v1/transfers/0"),
        ("/v1/transfers/{id}", "/v1/transfers/0?x=1"),
    ] {
        all.push((Method::GET, path, driver.get(real).await));
    }
    let submitted = |answer| (Method::POST, "/v1/transfers", answer);
    let mut body = transfer("options");
    body["source_options"] = json!({"seed": "7"});
    body["checksum"] = json!("crc32:00000000");
    all.push(submitted(driver.post("/v1/transfers", &body).await));
    all.push(submitted(driver.post("/v1/transfers", &body).await));
    all.push(submitted(driver.post("/v1/transfers", &json!({})).await));
    all.push(submitted(driver.post("/v1/transfers", &json!([transfer("several"), transfer("several"), {}])).await));
    all.push(submitted(driver.post_with("/v1/transfers", " ".repeat(2 << 20), &[]).await));
    all.push(submitted(driver.post_with("/v1/transfers", "{}", &[("content-type", "text/plain")]).await));
    for body in [transfer("key"), transfer("other")] {
        let key = [("idempotency-key", "k")];
        all.push(submitted(driver.post_with("/v1/transfers", body.to_string(), &key).await));
    }
    for state in State::ALL {
        let real = format!("/v1/transfers/{}", driver.transfer_in(state).await);
        all.push((Method::GET, "/v1/transfers/{id}", driver.get(&real).await));
        let cancel = driver.post(&format!("{real}/action"), &json!({"xferaction": "cancel"})).await;
        all.push((Method::POST, "/v1/transfers/{id}/action", cancel));
        all.push((Method::DELETE, "/v1/transfers/{id}", driver.delete(&real).await));
        all.push((Method::DELETE, "/v1/transfers/{id}", driver.delete("/v1/transfers/0").await));
    }
    let body = json!({"owner": "bob", "scope": "read", "expires_in_seconds": 60});
    for body in [&body, &json!({})] {
        let made = driver.at_admin_socket(Method::POST, "/v1/tokens", Some(body)).await;
        all.push((Method::POST, "/v1/tokens", made));
    }
    let tokens = driver.at_admin_socket(Method::GET, "/v1/tokens", None).await;
    let token = format!("/v1/tokens/{}", tokens.json()[0]["id"].as_str().unwrap());
    all.push((Method::GET, "/v1/tokens", tokens));
    all.push((Method::GET, "/v1/tokens", driver.get("/v1/tokens").await));
    for _ in 0..2 {
        all.push((Method::DELETE, "/v1/tokens/{id}", driver.at_admin_socket(Method::DELETE, &token, None).await));
    }
    let credential = json!({"schemes": ["http"], "urls": ["http://h/"], "options": {"header.x": "y"}});
    for body in [&credential, &credential, &json!({})] {
        let set = driver.as_user(OWNER, Method::PUT, "/v1/credentials/web", Some(body)).await;
        all.push((Method::PUT, "/v1/credentials/{name}", set));
    }
    all.push((Method::GET, "/v1/credentials", driver.get("/v1/credentials").await));
    for _ in 0..2 {
        all.push((Method::GET, "/v1/credentials/{name}", driver.get("/v1/credentials/web").await));
        all.push((Method::DELETE, "/v1/credentials/{name}", driver.delete("/v1/credentials/web").await));
    }
    for body in [&json!({"name": "h1"}), &json!({"name": "H 1"})] {
        let invited = driver.at_admin_socket(Method::POST, "/v1/executors", Some(body)).await;
        all.push((Method::POST, "/v1/executors", invited));
    }
    let (name, ledger) = ("h2".parse().unwrap(), &driver.ledger);
    let invitation = ledger.invite(&name, None).await.unwrap().token;
    ledger.enrol(&name, &invitation, &[1; 32]).await.unwrap();
    all.push((Method::GET, "/v1/executors", driver.get("/v1/executors").await));
    for _ in 0..2 {
        let forgotten = driver.at_admin_socket(Method::DELETE, "/v1/executors/h2", None).await;
        all.push((Method::DELETE, "/v1/executors/{name}", forgotten));
    }
    all.extend(of_distributions(driver).await);
    let action = driver.post("/v1/transfers/0/action", &json!({"xferaction": "cancel"})).await;
    all.push((Method::POST, "/v1/transfers/{id}/action", action));
    all.push((Method::GET, "/v1/transfers", driver.get("/v1/transfers").await));
    all
}

async fn of_distributions(driver: &Driver) -> Vec<(Method, &'static str, Answer)> {
    driver.join(2).await;
    let mut all = Vec::new();
    let deadline = driver.ledger.now().after(std::time::Duration::from_secs(3_600)).to_string();
    let body = json!({
        "source_url": "zero:///5", "destination_url": "file://{host}/data/x", "hosts": {"names": ["h0"]},
        "deadline": deadline, "name": "n", "max_failures": 1,
    });
    let list = "/v1/distributions";
    for (body, key) in [(&body, "d"), (&body, "d"), (&json!({"hosts": 1}), "d"), (&json!({}), "e")] {
        let made = driver.post_with(list, body.to_string(), &[("idempotency-key", key)]).await;
        all.push((Method::POST, list, made));
    }
    let real = all[0].2.header("location").unwrap().to_owned();
    let pending = |document: &Value| document["hosts"]["waiting"] != 1;
    driver.look_until(&real, |document| !pending(document)).await;
    driver.look_until(&format!("{real}/members"), |members| members.as_array().unwrap().len() == 1).await;
    let one = "/v1/distributions/{id}";
    let (members, hosts) = ("/v1/distributions/{id}/members", "/v1/distributions/{id}/hosts");
    let (host, action) = ("/v1/distributions/{id}/hosts/{host}", "/v1/distributions/{id}/action");
    for query in ["", "?limit=0"] {
        all.push((Method::GET, list, driver.get(&format!("{list}{query}")).await));
        all.push((Method::GET, one, driver.get(&format!("{real}{query}")).await));
        all.push((Method::GET, members, driver.get(&format!("{real}/members{query}")).await));
    }
    all.push((Method::GET, one, driver.get("/v1/distributions/0").await));
    all.push((Method::GET, members, driver.get("/v1/distributions/0/members").await));
    for body in [json!({"hosts": {"names": ["h1"]}}), json!({"hosts": {}})] {
        all.push((Method::POST, hosts, driver.post(&format!("{real}/hosts"), &body).await));
        all.push((Method::POST, hosts, driver.post("/v1/distributions/0/hosts", &body).await));
    }
    for _ in 0..2 {
        all.push((Method::DELETE, host, driver.delete(&format!("{real}/hosts/h1")).await));
    }
    for body in [json!({"xferaction": "cancel"}), json!({"xferaction": "resume"}), json!({})] {
        all.push((Method::POST, action, driver.post(&format!("{real}/action"), &body).await));
    }
    all.push((Method::POST, action, driver.post("/v1/distributions/0/action", &json!({"xferaction": "cancel"})).await));
    driver.look_until(&real, |document| document["state"] == "STATE_CANCELED").await;
    all.push((Method::POST, action, driver.post(&format!("{real}/action"), &json!({"xferaction": "cancel"})).await));
    all.push((Method::POST, hosts, driver.post(&format!("{real}/hosts"), &json!({"hosts": {"names": ["h1"]}})).await));
    all.push((Method::DELETE, one, driver.delete(&real).await));
    driver.look_until(&real, |document| document["code"] == "distribution_not_found").await;
    all.push((Method::DELETE, one, driver.delete(&real).await));
    all
}

async fn document(driver: &Driver) -> Value {
    let answer = driver.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

/// Method and path of every documented operation.
fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(|name| name.to_ascii_uppercase()).collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn every_documented_operation_is_there_and_answers_as_documented() {
    let driver = Driver::new().await;
    let document = document(&driver).await;
    let mut reached = BTreeSet::new();
    for (method, path, answer) in exchanges(&driver).await {
        let operation = &document["paths"][path][method.as_str().to_ascii_lowercase()];
        let described = &operation["responses"][answer.status.to_string()];
        assert!(!described.is_null(), "{method} {path} does not document {}: {}", answer.status, answer.text());
        if answer.status < 400 {
            reached.insert((method.to_string(), path.to_owned()));
        }
        let Some(media_type) = answer.header("content-type") else {
            assert!(answer.bytes.is_empty() && described["content"].is_null(), "{method} {path}: {described:#}");
            continue;
        };
        let essence = media_type.split(';').next().unwrap();
        let schema = &described["content"][essence]["schema"];
        assert!(!schema.is_null(), "{method} {path} {} does not document {essence}", answer.status);
        if essence.ends_with("json") {
            validate(&document, schema, &answer.json(), &format!("{method} {path} {}", answer.status));
        }
    }
    assert_eq!(reached, operations(&document), "each operation is asked in a way that succeeds");
}

#[tokio::test]
async fn every_route_is_documented() {
    let driver = Driver::new().await;
    let document = document(&driver).await;
    let operations = operations(&document);
    // axum shows its routes to debuggers only, and among them that of the fallback.
    let shown = format!("{:?}", driver.router);
    let is_route = |text: &&str| text.starts_with('/') && !text.contains("__private");
    let routed: BTreeSet<&str> = shown.split('"').filter(is_route).collect();
    let documented: BTreeSet<&str> = operations.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(routed, documented);
    let id = driver.submit("a").await;
    for path in documented {
        for method in METHODS {
            let real = path.replace("{id}", &id).replace("{host}", "h0");
            let request = Request::builder().method(&method).uri(real).body(Body::empty()).unwrap();
            let answer = driver.send(request).await;
            let is_documented = operations.contains(&(method.to_string(), path.to_owned()));
            assert_eq!(answer.status != 405, is_documented, "{method} {path}: {}", answer.text());
            assert!(answer.status != 404 || method == Method::DELETE || path.contains('{'), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_schema_of_a_submission_names_exactly_the_fields_that_are_taken() {
    let driver = Driver::new().await;
    let document = document(&driver).await;
    let schema = &document["components"]["schemas"]["TransferBody"];
    let fields: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let detail = driver.post("/v1/transfers", &json!({"?": 1})).await.problem(400, "unknown_field", Some("?"));
    let known: BTreeSet<&str> = detail.split("known are ").nth(1).unwrap().trim_end_matches(')').split(", ").collect();
    assert_eq!(fields, known);
    let schema = &document["components"]["schemas"]["DistributionBody"];
    let fields: BTreeSet<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let detail = driver.post("/v1/distributions", &json!({"?": 1})).await.problem(400, "unknown_field", Some("?"));
    let known: BTreeSet<&str> = detail.split("known are ").nth(1).unwrap().trim_end_matches(')').split(", ").collect();
    assert_eq!(fields, known);
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let document = json!({"components": {"schemas": {"Name": {"type": "string", "enum": ["a"]}}}});
    let schema = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"$ref": "#/components/schemas/Name"}, "size": {"type": ["integer", "null"], "minimum": 0},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    });
    let wrong = |value: Value| find_wrong(&document, &schema, &value, "it").is_some();
    assert!(!wrong(json!({"name": "a", "size": null, "tags": ["x"]})));
    for value in [
        json!([]),
        json!({}),
        json!({"name": "b"}),
        json!({"name": 1}),
        json!({"name": "a", "size": -1}),
        json!({"name": "a", "size": 1.5}),
        json!({"name": "a", "tags": [1]}),
        json!({"name": "a", "more": 1}),
    ] {
        assert!(wrong(value.clone()), "{value}");
    }
}

#[track_caller]
fn validate(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(wrong) = find_wrong(document, schema, value, at) {
        panic!("{wrong}");
    }
}

/// What keeps `value` from being what `schema` says: the part of JSON Schema that is used here, and stricter, in that
/// fields the schema does not name are wrong.
fn find_wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("no {reference}"));
        return find_wrong(document, target, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().any(|choice| find_wrong(document, choice, value, at).is_none());
        return (!fits).then(|| format!("{at}: {value} is none of {}", schema["oneOf"]));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let has_type = |name: &&str| match *name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: unknown type {other}"),
    };
    if !types.is_empty() && !types.iter().any(has_type) {
        return Some(format!("{at}: {value} is no {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
        return Some(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let (Some(number), Some(least)) = (value.as_f64(), schema["minimum"].as_f64())
        && number < least
    {
        return Some(format!("{at}: {value} is below {least}"));
    }
    if let Some(items) = value.as_array() {
        let mut items = items.iter().enumerate();
        return items.find_map(|(n, item)| find_wrong(document, &schema["items"], item, &format!("{at}[{n}]")));
    }
    let fields = value.as_object()?;
    let properties = schema["properties"].as_object();
    if properties.is_none() && schema["additionalProperties"].is_null() {
        return None;
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !fields.contains_key(name) {
            return Some(format!("{at}: {name} is missing"));
        }
    }
    fields.iter().find_map(|(name, field)| {
        let at = format!("{at}.{name}");
        match properties.and_then(|known| known.get(name)) {
            Some(known) => find_wrong(document, known, field, &at),
            None if schema["additionalProperties"].is_object() => {
                find_wrong(document, &schema["additionalProperties"], field, &at)
            }
            None => Some(format!("{at}: the schema does not know it")),
        }
    })
}
