use http::Method;
use serde_json::{Value, json};

use super::driver::{Answer, Driver, transfer};
use crate::{
    ledger::LedgerError,
    model::{Timestamp, TransferId},
};

const LIST: &str = "/v1/distributions";

/// A valid body to hosts `h0` to `h3`, with these fields more.
fn body(more: Value) -> Value {
    let mut body = json!({
        "source_url": "zero:///5", "destination_url": "file://{host}/data/x",
        "hosts": {"names": ["h0", "h1", "h2", "h3"]},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The path of a new distribution whose members are made.
async fn distribute(driver: &Driver, more: Value) -> String {
    let made = driver.post(LIST, &body(more)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = made.header("location").unwrap().to_owned();
    assert_eq!(path, format!("{LIST}/{}", made.json()["id"].as_str().unwrap()));
    let total = made.json()["hosts"]["total"].as_u64().unwrap() as usize;
    driver.look_until(&format!("{path}/members"), |members| members.as_array().unwrap().len() == total).await;
    path
}

fn members(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn one_request_sends_an_object_to_every_selected_host() {
    let driver = Driver::new().await;
    driver.join(6).await;
    let path =
        distribute(&driver, json!({"hosts": {"racks": ["r1", "r2"]}, "source_budget": 3, "preheat": true})).await;
    let document = driver.get(&path).await.json();
    assert_eq!(
        document["hosts"],
        json!({"total": 4, "done": 0, "failed": 0, "running": 0, "waiting": 4, "paused": 0,
        "canceled": 0})
    );
    assert_eq!((&document["state"], &document["owner"]), (&json!("STATE_NEW"), &json!("alice")));
    assert_eq!((&document["source_budget"], &document["priority"]), (&json!(3.0), &json!(1)));
    assert_eq!(document["destination_url"], "file://{host}/data/x");
    let members = members(&driver.get(&format!("{path}/members")).await);
    let hosts: Vec<_> = members.iter().map(|member| member["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["h2", "h3", "h4", "h5"]);
    // Members are ordinary transfers.
    let id = path.rsplit('/').next().unwrap();
    let filtered = driver.get(&format!("/v1/transfers?distribution={id}&limit=3")).await;
    assert_eq!(filtered.json().as_array().unwrap().len(), 3);
    let link = filtered.header("link").unwrap().to_owned();
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(driver.get(next).await.json()[0]["id"], members[3]["transfer"]);
    let transfer = driver.get(&format!("/v1/transfers/{}", members[0]["transfer"].as_str().unwrap())).await.json();
    assert_eq!((&transfer["distribution"], &transfer["bytes_from_peers"]), (&json!(id), &json!(0)));
    driver.act(transfer["id"].as_str().unwrap(), "cancel", 204).await;
    assert_eq!(driver.get(&path).await.json()["hosts"]["canceled"], 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_makes_nothing() {
    let driver = Driver::new().await;
    driver.join(4).await;
    for (more, status, code, field, says) in [
        (json!({"hosts": {"names": ["h1", "h9"]}}), 400, "unknown_host", "hosts.names", "h9"),
        (json!({"hosts": {"racks": ["r9"]}}), 400, "no_host_selected", "hosts", "staccato executors"),
        (json!({"destination_url": "file:///data/x"}), 400, "invalid_field", "destination_url", "{host}"),
        (
            json!({"destination_url": "file://{host}/etc/x"}),
            400,
            "path_outside_roots",
            "destination_url",
            "4 of 4 hosts",
        ),
        (json!({"source_budget": 0}), 400, "invalid_field", "source_budget", "1.0"),
        (json!({"hots": {}}), 400, "unknown_field", "hots", "did you mean hosts?"),
    ] {
        let answer = driver.post(LIST, &body(more.clone())).await;
        let detail = answer.problem(status, code, Some(field));
        assert!(detail.contains(says), "{more}: {detail}");
    }
    // The service's own host has a root of bob's.
    let own = driver.ledger.config().own_host.clone();
    let theirs = json!({"destination_url": "file://{host}/data/bob/x", "hosts": {"names": [own]}});
    driver.post(LIST, &body(theirs)).await.problem(403, "forbidden", Some("destination_url"));
    assert_eq!(driver.get(LIST).await.json(), json!([]));
    assert_eq!(driver.get("/v1/transfers").await.json(), json!([]));
}

#[tokio::test]
async fn a_busy_destination_is_that_members_failure_and_nobody_elses() {
    let driver = Driver::new().await;
    driver.join(4).await;
    let mut taken = transfer("x");
    taken["destination_url"] = json!("file://h1/data/x");
    assert_eq!(driver.post("/v1/transfers", &taken).await.status, 201);
    let path = distribute(&driver, json!({})).await;
    let document = driver.get(&path).await.json();
    assert_eq!((&document["hosts"]["failed"], &document["hosts"]["waiting"]), (&json!(1), &json!(3)));
    let failed = members(&driver.get(&format!("{path}/members?state=STATE_ERROR")).await);
    assert_eq!((failed.len(), &failed[0]["host"]), (1, &json!("h1")));
    assert_eq!(failed[0]["error"]["code"], "destination_busy");
}

#[tokio::test]
async fn what_is_asked_of_the_whole_reaches_every_member() {
    let driver = Driver::new().await;
    driver.join(5).await;
    let path = distribute(&driver, json!({})).await;
    let act = async |action: &str| driver.post(&format!("{path}/action"), &json!({"xferaction": action})).await;
    let state = async |state: &str| driver.look_until(&path, |document| document["state"] == state).await;
    act("resume").await.problem(409, "state_conflict", None);
    assert_eq!(act("pause").await.status, 202);
    assert_eq!(state("STATE_PAUSED").await["hosts"]["paused"], 4);
    let added = driver.post(&format!("{path}/hosts"), &json!({"hosts": {"names": ["h4"]}})).await;
    assert_eq!((added.status, &added.json()["hosts"]["total"]), (200, &json!(5)));
    assert_eq!(driver.delete(&format!("{path}/hosts/h0")).await.status, 204);
    driver.delete(&format!("{path}/hosts/h0")).await.problem(404, "member_not_found", None);
    assert_eq!(act("resume").await.status, 202);
    assert_eq!(state("STATE_NEW").await["hosts"]["waiting"], 4);
    assert_eq!(act("cancel").await.status, 202);
    assert_eq!(state("STATE_CANCELED").await["hosts"]["canceled"], 4);
    assert_eq!(act("cancel").await.status, 204);
    act("pause").await.problem(409, "state_conflict", None);
    act("stop").await.problem(400, "invalid_field", Some("xferaction"));
    let more = json!({"hosts": {"names": ["h0"]}});
    driver.post(&format!("{path}/hosts"), &more).await.problem(409, "state_conflict", None);
    assert_eq!(driver.delete(&path).await.status, 202);
    driver.look_until(&path, |document| document["code"] == "distribution_not_found").await;
    assert_eq!(driver.get("/v1/transfers").await.json(), json!([]));
}

#[tokio::test]
async fn others_distributions_do_not_exist() {
    let driver = Driver::new().await;
    driver.join(4).await;
    let path = distribute(&driver, json!({})).await;
    let (cancel, hosts) = (json!({"xferaction": "cancel"}), json!({"hosts": {"percent": 100}}));
    for (method, path, body) in [
        (Method::GET, path.clone(), None),
        (Method::GET, format!("{path}/members"), None),
        (Method::GET, format!("/v1/transfers?distribution={}", path.rsplit('/').next().unwrap()), None),
        (Method::POST, format!("{path}/action"), Some(&cancel)),
        (Method::POST, format!("{path}/hosts"), Some(&hosts)),
        (Method::DELETE, format!("{path}/hosts/h0"), None),
        (Method::DELETE, path.clone(), None),
    ] {
        let answer = driver.as_user("mallory", method, &path, body).await;
        answer.problem(404, "distribution_not_found", None);
    }
    assert_eq!(driver.as_user("mallory", Method::GET, LIST, None).await.json(), json!([]));
    assert_eq!(driver.at_admin_socket(Method::GET, LIST, None).await.json().as_array().unwrap().len(), 1);
    assert_eq!(driver.get(&path).await.json()["hosts"]["waiting"], 4);
}

#[tokio::test]
async fn a_request_that_is_sent_again_makes_no_second_distribution() {
    let driver = Driver::new().await;
    driver.join(4).await;
    let key = [("idempotency-key", "k")];
    let first = driver.post_with(LIST, body(json!({})).to_string(), &key).await;
    let again = driver.post_with(LIST, body(json!({})).to_string(), &key).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!((again.header("idempotency-replayed"), &again.json()["id"]), (Some("true"), &first.json()["id"]));
    let other = driver.post_with(LIST, body(json!({"name": "n"})).to_string(), &key).await;
    other.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
    // The same key of transfers is another one.
    assert_eq!(driver.post_with("/v1/transfers", transfer("k").to_string(), &key).await.status, 201);
}

#[tokio::test]
async fn distributions_are_listed_page_by_page() {
    let driver = Driver::new().await;
    driver.join(1).await;
    let mut made = Vec::new();
    for number in 0..3 {
        let more = json!({"hosts": {"names": ["h0"]}, "destination_url": format!("file://{{host}}/data/{number}")});
        made.push(driver.post(LIST, &body(more)).await.json()["id"].clone());
    }
    let first = driver.get(&format!("{LIST}?limit=2")).await;
    let next = first.header("link").unwrap().trim_start_matches('<').split('>').next().unwrap().to_owned();
    let second = driver.get(&next).await;
    let ids: Vec<_> = [members(&first), members(&second)].concat().iter().map(|one| one["id"].clone()).collect();
    assert_eq!((ids, second.header("link")), (made, None));
    driver.get(&format!("{LIST}?state=x")).await.problem(400, "unknown_field", Some("state"));
    let nobody = TransferId::following(None, Timestamp::from_millis(1), 1);
    for path in [format!("{LIST}/{nobody}"), format!("{LIST}/x")] {
        driver.get(&path).await.problem(404, "distribution_not_found", None);
    }
    assert!(matches!(driver.ledger.keep(nobody).await, Ok::<(), LedgerError>(())));
}
