//! Callers whom Keystone vouches for.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::json;
use staccato_protocols::{
    keystone::callers::Callers,
    testing::{
        http_server::Reply,
        keystone::{Keystone, PASSWORD},
    },
    web::Web,
};

use super::driver::{Answer, Driver, OWNER, transfer};
use crate::api::{access::Peer, keystone::Gate};

const KEEP: Duration = Duration::from_millis(300);

async fn driver(keystone: &Keystone, keep: Duration) -> Driver {
    let callers = Callers::new(Web::new(), &keystone.auth_url(), None).unwrap();
    Driver::new().await.with_keystone(Gate::new(callers, "admin", keep))
}

/// Asks from another host for the transfers that the token shows.
async fn list(driver: &Driver, token: &str) -> Answer {
    let request = Request::get("/v1/transfers").extension(Peer::Remote).header("X-Auth-Token", token);
    driver.send(request.body(Body::empty()).unwrap()).await
}

async fn submit(driver: &Driver, token: &str, body: serde_json::Value) -> Answer {
    let request = Request::post("/v1/transfers").extension(Peer::Remote).header("X-Auth-Token", token);
    let request = request.header("content-type", "application/json");
    driver.send(request.body(body.to_string().into()).unwrap()).await
}

fn to_nowhere() -> serde_json::Value {
    json!({"source_url": "zero:///5", "destination_url": "null:///"})
}

#[tokio::test]
async fn a_project_owns_what_its_users_submit_and_admins_see_all() {
    let keystone = Keystone::start();
    let driver = driver(&keystone, KEEP).await;
    let token = keystone.issue();
    let local = driver.submit_null().await;
    let submitted = submit(&driver, &token, to_nowhere()).await;
    assert_eq!(submitted.status, 201, "{}", submitted.text());
    assert_eq!(submitted.json()["owner"], Keystone::PROJECT);
    let own = submitted.json()["id"].as_str().unwrap().to_owned();
    let ids = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|found| found["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list(&driver, &token).await), std::slice::from_ref(&own), "{OWNER}'s does not exist for it");
    // A root without an owner is for nobody from elsewhere.
    submit(&driver, &token, transfer("x")).await.problem(403, "forbidden", Some("destination_url"));

    keystone.set_roles(&["member", "admin"]);
    let admin = keystone.issue();
    assert_eq!(ids(&list(&driver, &admin).await), [local, own]);
    assert_eq!(submit(&driver, &admin, transfer("x")).await.status, 201);

    keystone.set_roles(&["reader"]);
    let reader = keystone.issue();
    assert_eq!(list(&driver, &reader).await.status, 200);
    submit(&driver, &reader, to_nowhere()).await.problem(403, "forbidden", None);
}

#[tokio::test]
async fn keystone_is_asked_once_and_a_revoked_token_stops_working_after_a_while() {
    let keystone = Keystone::start();
    let driver = driver(&keystone, KEEP).await;
    let token = keystone.issue();
    for _ in 0..5 {
        assert_eq!(list(&driver, &token).await.status, 200);
    }
    assert_eq!(keystone.seen().len(), 1);
    keystone.tokens().revoke_all();
    assert_eq!(list(&driver, &token).await.status, 200, "it is believed for a while");
    tokio::time::sleep(KEEP).await;
    list(&driver, &token).await.problem(401, "unauthorized", Some("x-auth-token"));
}

#[tokio::test]
async fn a_token_is_not_believed_longer_than_it_lives() {
    let keystone = Keystone::start();
    keystone.set_life(Duration::from_millis(500));
    let driver = driver(&keystone, Duration::from_secs(3600)).await;
    let token = keystone.issue();
    assert_eq!(list(&driver, &token).await.status, 200);
    tokio::time::sleep(Duration::from_millis(600)).await;
    list(&driver, &token).await.problem(401, "unauthorized", Some("x-auth-token"));
}

#[tokio::test]
async fn while_keystone_is_away_known_tokens_work_and_others_shall_try_again() {
    let keystone = Keystone::start();
    let driver = driver(&keystone, Duration::from_secs(3600)).await;
    let (known, unknown) = (keystone.issue(), keystone.issue());
    assert_eq!(list(&driver, &known).await.status, 200);
    for trouble in [Reply::new(503), Reply::new(404), Reply::new(200)] {
        keystone.set_trouble(Some(trouble));
        assert_eq!(list(&driver, &known).await.status, 200);
        let answer = list(&driver, &unknown).await;
        let detail = answer.problem(503, "unavailable", None);
        assert!(answer.header("retry-after").is_some() && !detail.contains("hush"), "{detail}");
    }
    drop(keystone);
    list(&driver, &unknown).await.problem(503, "unavailable", None);
    assert_eq!(list(&driver, &known).await.status, 200);
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_other_callers_are_known_as_before() {
    let keystone = Keystone::start();
    let driver = driver(&keystone, KEEP).await;
    for shown in ["", "hush-invented", PASSWORD] {
        list(&driver, shown).await.problem(401, "unauthorized", Some("x-auth-token"));
    }
    let nobody = Request::get("/v1/transfers").extension(Peer::Remote).body(Body::empty()).unwrap();
    driver.send(nobody).await.problem(401, "unauthorized", Some("authorization"));
    let both =
        Request::get("/v1/transfers").header("X-Auth-Token", keystone.issue()).header("authorization", "Bearer x");
    driver.send(both.body(Body::empty()).unwrap()).await.problem(401, "unauthorized", Some("authorization"));
    assert_eq!(driver.get("/v1/transfers").await.status, 200, "a user of this host needs none");

    // Without Keystone the header says nothing.
    let plain = Driver::new().await;
    list(&plain, &keystone.issue()).await.problem(401, "unauthorized", Some("authorization"));
}
