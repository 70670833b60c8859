//! Callers whom a real Keystone vouches for.

use std::{thread, time::Duration};

use serde_json::{Value, json};
use staccato_bench::servers::{
    exchange,
    keystone::{ADMIN, DEMO, Keystone, OTHER},
};
use staccato_tests::service::Service;

/// Asks for a page with a token of Keystone's; status and document.
fn ask(service: &Service, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (url, body) = (format!("{}{path}", service.url()), body.to_string());
    let headers = [("x-auth-token", token), ("content-type", "application/json")];
    let reply = match method {
        "GET" => exchange(method, &url, &headers[..1], &[]),
        _ => exchange(method, &url, &headers, body.as_bytes()),
    };
    (reply.status, reply.json())
}

#[test]
fn a_project_owns_its_transfers_and_an_admin_sees_all() {
    let keystone = Keystone::shared();
    let service = Service::start(&["--auth", "keystone", "--keystone-url", &keystone.url()]);
    let (demo, other, admin) = (keystone.token(DEMO), keystone.token(OTHER), keystone.token(ADMIN));
    let request = json!({"source_url": "zero:///5", "destination_url": "null:///"});
    let (status, made) = ask(&service, &demo, "POST", "/v1/transfers", &request);
    assert_eq!((status, &made["owner"]), (201, &json!(keystone.project_id(DEMO))), "{made:#}");
    let path = format!("/v1/transfers/{}", made["id"].as_str().unwrap());
    let shown = |token: &str| ask(&service, token, "GET", &path, &Value::Null).0;
    assert_eq!((shown(&demo), shown(&other), shown(&admin)), (200, 404, 200));
    let (status, problem) = ask(&service, "no-such-token", "GET", &path, &Value::Null);
    assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")));
    assert!(!service.log().contains(&demo), "a token is logged");
}

#[test]
fn a_revoked_token_stops_working_and_keystone_may_be_away_for_known_ones() {
    const CACHE: Duration = Duration::from_secs(2);
    let mut keystone = Keystone::start();
    let arguments = ["--auth", "keystone", "--keystone-url", &keystone.url(), "--keystone-cache", "2s"];
    let service = Service::start(&arguments);
    let (revoked, unknown) = (keystone.token(DEMO), keystone.token(DEMO));
    let list = |token: &str| ask(&service, token, "GET", "/v1/transfers", &Value::Null).0;
    assert_eq!(list(&revoked), 200);
    keystone.revoke(&revoked);
    thread::sleep(CACHE);
    assert_eq!(list(&revoked), 401);
    let known = keystone.token(DEMO);
    assert_eq!(list(&known), 200);
    keystone.kill();
    assert_eq!((list(&known), list(&unknown)), (200, 503));
}
