use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};

use super::driver::{Answer, Driver, transfer};
use crate::api::access::Peer;

/// Sends a request from `peer`, with this token.
async fn ask(driver: &Driver, peer: Peer, token: Option<&str>, method: Method, path: &str, body: Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path).extension(peer).header("host", "staccato.example");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if !body.is_null() {
        request = request.header("content-type", "application/json");
    }
    let body = if body.is_null() { Body::empty() } else { body.to_string().into() };
    driver.send(request.body(body).unwrap()).await
}

async fn remote(driver: &Driver, token: &str, method: Method, path: &str, body: Value) -> Answer {
    ask(driver, Peer::Remote, Some(token), method, path, body).await
}

/// Makes a token at the admin socket; its text and its id.
async fn make(driver: &Driver, owner: &str, scope: &str) -> (String, String) {
    let body = json!({"owner": owner, "scope": scope});
    let answer = driver.at_admin_socket(Method::POST, "/v1/tokens", Some(&body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    assert!(text("token").starts_with("staccato_"));
    (text("token"), text("id"))
}

#[tokio::test]
async fn over_tls_only_a_token_says_who_asks() {
    let driver = Driver::new().await;
    let (token, id) = make(&driver, "bob", "submit").await;
    for path in ["/v1/transfers", "/metrics"] {
        let answer = ask(&driver, Peer::Remote, None, Method::GET, path, Value::Null).await;
        answer.problem(401, "unauthorized", Some("authorization"));
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(remote(&driver, &token, Method::GET, path, Value::Null).await.status, 200, "{path}");
    }
    for shown in ["", "x", &token[1..], &format!("{token}0"), "staccato_"] {
        let answer = remote(&driver, shown, Method::GET, "/v1/transfers", Value::Null).await;
        answer.problem(401, "unauthorized", Some("authorization"));
    }
    for path in ["/", "/v1/protocols", "/healthz", "/readyz", "/openapi.json"] {
        let open = ask(&driver, Peer::Remote, None, Method::GET, path, Value::Null).await;
        assert!(open.status < 400, "{path} needs no token: {}", open.text());
    }
    // A token counts on this host, too, and outweighs the user.
    let request = Request::get("/v1/transfers").header("authorization", "Basic eDp5").body(Body::empty()).unwrap();
    driver.send(request).await.problem(401, "unauthorized", Some("authorization"));
    assert_eq!(driver.at_admin_socket(Method::DELETE, &format!("/v1/tokens/{id}"), None).await.status, 204);
    let revoked = remote(&driver, &token, Method::GET, "/v1/transfers", Value::Null).await;
    revoked.problem(401, "unauthorized", Some("authorization"));
}

#[tokio::test]
async fn scopes_say_what_a_token_may_and_owners_see_their_own() {
    let driver = Driver::new().await;
    let (read, _) = make(&driver, "bob", "read").await;
    let (submit, _) = make(&driver, "bob", "submit").await;
    let (admin, _) = make(&driver, "carol", "admin").await;
    let body = json!({"source_url": "zero:///5", "destination_url": "null:///"});
    let refused = remote(&driver, &read, Method::POST, "/v1/transfers", body.clone()).await;
    assert!(refused.problem(403, "forbidden", None).contains("submit"));
    let made = remote(&driver, &submit, Method::POST, "/v1/transfers", body.clone()).await;
    assert_eq!((made.status, made.json()["owner"].as_str()), (201, Some("bob")));
    let path = format!("/v1/transfers/{}", made.json()["id"].as_str().unwrap());
    for token in [&read, &submit, &admin] {
        assert_eq!(remote(&driver, token, Method::GET, &path, Value::Null).await.status, 200);
    }
    let action = json!({"xferaction": "pause"});
    let act = |token: String, method: Method, path: String, body: Value| {
        let driver = &driver;
        async move { remote(driver, &token, method, &path, body).await }
    };
    act(read.clone(), Method::POST, format!("{path}/action"), action.clone()).await.problem(403, "forbidden", None);
    act(read, Method::DELETE, path.clone(), Value::Null).await.problem(403, "forbidden", None);
    // Somebody else's does not exist, but for an admin.
    let alices = format!("/v1/transfers/{}", driver.submit_null().await);
    act(submit.clone(), Method::GET, alices.clone(), Value::Null).await.problem(404, "transfer_not_found", None);
    act(submit, Method::POST, format!("{alices}/action"), action.clone()).await.problem(
        404,
        "transfer_not_found",
        None,
    );
    assert_eq!(act(admin.clone(), Method::POST, format!("{alices}/action"), action).await.status, 204);
    let all = act(admin, Method::GET, "/v1/transfers".into(), Value::Null).await;
    assert_eq!(all.json().as_array().unwrap().len(), 2);
    assert_eq!(driver.at_admin_socket(Method::GET, "/v1/transfers", None).await.json().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn roots_are_for_their_owners_and_without_one_for_admins_once_there_are_tokens() {
    let driver = Driver::new().await;
    let bobs = json!({"source_url": "zero:///5", "destination_url": "file:///data/bob/x"});
    let path = "/v1/transfers";
    // Shown, its query redacted, this source is longer than a URL may be.
    let source = format!("http://h/{}?x", "p".repeat(4096 - "http://h/?x".len()));
    let long = json!({"source_url": source, "destination_url": "file:///data/long"});
    let long = driver.post(path, &long).await.json()["id"].as_str().unwrap().to_owned();
    driver.act(&long, "pause", 204).await;
    driver.post(path, &bobs).await.problem(403, "forbidden", Some("destination_url"));
    assert_eq!(driver.post(path, &transfer("before")).await.status, 201);
    let (bob, id) = make(&driver, "bob", "submit").await;
    assert_eq!(remote(&driver, &bob, Method::POST, path, bobs).await.status, 201);
    let refused = remote(&driver, &bob, Method::POST, path, transfer("x")).await;
    refused.problem(403, "forbidden", Some("destination_url"));
    driver.post(path, &transfer("after")).await.problem(403, "forbidden", Some("destination_url"));
    // What waits is judged again when it is resumed.
    let paused = driver.get("/v1/transfers").await.json()[1]["id"].as_str().unwrap().to_owned();
    driver.act(&paused, "pause", 204).await;
    for waiting in [long, paused] {
        let resume = driver.post(&format!("/v1/transfers/{waiting}/action"), &json!({"xferaction": "resume"})).await;
        resume.problem(403, "forbidden", Some("destination_url"));
    }
    let several = driver.post(path, &json!([transfer("several")])).await;
    assert_eq!(several.json()[0]["problem"]["code"], "forbidden");
    let (admin, admin_id) = make(&driver, "carol", "admin").await;
    assert_eq!(remote(&driver, &admin, Method::POST, path, transfer("admin")).await.status, 201);
    let root = driver.as_user("root", Method::POST, path, Some(&transfer("root"))).await;
    assert_eq!(root.status, 201, "whoever could stop the service may use all of it");
    for id in [id, admin_id] {
        assert_eq!(driver.at_admin_socket(Method::DELETE, &format!("/v1/tokens/{id}"), None).await.status, 204);
    }
    assert_eq!(driver.post(path, &transfer("again")).await.status, 201, "there are no tokens any more");
}

#[tokio::test]
async fn tokens_are_made_and_seen_at_the_admin_socket_only() {
    let driver = Driver::new().await;
    let (admin, id) = make(&driver, "carol", "admin").await;
    let body = json!({"owner": "x", "scope": "read"});
    for (method, path, body) in [
        (Method::POST, "/v1/tokens".to_owned(), body),
        (Method::GET, "/v1/tokens".to_owned(), Value::Null),
        (Method::DELETE, format!("/v1/tokens/{id}"), Value::Null),
    ] {
        let local = driver.as_user("root", method.clone(), &path, Some(&body).filter(|body| !body.is_null())).await;
        local.problem(403, "forbidden", None);
        remote(&driver, &admin, method, &path, body).await.problem(403, "forbidden", None);
    }
    let listed = driver.at_admin_socket(Method::GET, "/v1/tokens", None).await;
    assert_eq!((listed.json().as_array().unwrap().len(), listed.json()[0]["owner"].as_str()), (1, Some("carol")));
    assert!(!listed.text().contains("staccato_"), "{}", listed.text());
    for (body, code, field) in [
        (json!({"scope": "read"}), "missing_field", "owner"),
        (json!({"owner": "x"}), "missing_field", "scope"),
        (json!({"owner": "a b", "scope": "read"}), "invalid_field", "owner"),
        (json!({"owner": 1, "scope": "read"}), "invalid_field", "owner"),
        (json!({"owner": "x", "scope": "write"}), "invalid_field", "scope"),
        (json!({"owner": "x", "scope": "read", "expires_in_seconds": -1}), "invalid_field", "expires_in_seconds"),
        (json!({"owner": "x", "scope": "read", "expires_in_seconds": 0}), "invalid_field", "expires_in_seconds"),
        (json!({"owner": "x", "scope": "read", "life": 1}), "unknown_field", "life"),
    ] {
        let answer = driver.at_admin_socket(Method::POST, "/v1/tokens", Some(&body)).await;
        answer.problem(400, code, Some(field));
    }
    for id in ["", "0", "zzzzzzzzzzzz", "000000000000"] {
        let answer = driver.at_admin_socket(Method::DELETE, &format!("/v1/tokens/{id}"), None).await;
        assert_eq!(answer.status, 404, "{id}: {}", answer.text());
    }
}
