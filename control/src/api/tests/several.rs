//! `POST /v1/transfers` with an array.

use serde_json::{Value, json};

use super::driver::{Answer, Driver, transfer};
use crate::api::{
    body::{LARGE_BODIES_MAX, LARGE_BODY_BYTES},
    transfers::SUBMISSION_ITEMS_MAX,
};

async fn post(driver: &Driver, items: &[Value], key: Option<&str>) -> Answer {
    let key: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
    driver.post_with("/v1/transfers", Value::from(items).to_string(), &key).await
}

#[track_caller]
fn results(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (207, Some("application/json")), "{}", answer.text());
    answer.json().as_array().unwrap().clone()
}

async fn listed(driver: &Driver) -> Vec<Value> {
    driver.get("/v1/transfers").await.json().as_array().unwrap().clone()
}

#[tokio::test]
async fn each_of_several_has_its_own_result_in_order_and_one_bad_one_spoils_no_other() {
    let driver = Driver::new().await;
    let busy = driver.submit("busy").await;
    let mut unknown = transfer("unknown");
    unknown["prio"] = json!(1);
    let items = [transfer("a"), unknown, json!(5), transfer("busy"), transfer("b"), transfer("a"), json!({})];
    let results = results(&post(&driver, &items, None).await);
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 400, 400, 409, 201, 409, 400]);
    let codes: Vec<_> = results.iter().map(|result| result["problem"]["code"].as_str().unwrap_or("-")).collect();
    let expected =
        ["-", "unknown_field", "invalid_field", "destination_busy", "-", "destination_busy", "missing_field"];
    assert_eq!(codes, expected);
    assert_eq!(results[1]["problem"]["field"], "prio");
    for result in &results {
        assert_ne!(result["transfer"].is_null(), result["problem"].is_null(), "one of both: {result:#}");
        assert!(result["problem"].is_null() || result["problem"]["status"] == result["status"]);
    }
    // The first of two that write to one destination has it, and the other names it.
    let first = results[0]["transfer"]["id"].as_str().unwrap();
    assert!(results[5]["problem"]["detail"].as_str().unwrap().contains(first), "{:#}", results[5]);
    let accepted = [&results[0]["transfer"], &results[4]["transfer"]];
    let listed = listed(&driver).await;
    assert_eq!(listed[0]["id"], busy.as_str());
    assert!(listed[1..].iter().eq(accepted), "in the order of the array, as they were shown");
}

#[tokio::test]
async fn the_number_of_several_is_bounded() {
    let driver = Driver::new().await;
    post(&driver, &[], None).await.problem(400, "invalid_field", None);
    let many: Vec<_> = (0..=SUBMISSION_ITEMS_MAX).map(|number| transfer(&format!("d{number}"))).collect();
    let detail = post(&driver, &many, None).await.problem(400, "invalid_field", None);
    assert!(detail.contains("1 to 1000"), "{detail}");
    assert_eq!(listed(&driver).await, Vec::<Value>::new(), "none of them");
    let results = results(&post(&driver, &many[..SUBMISSION_ITEMS_MAX], None).await);
    assert!(results.len() == SUBMISSION_ITEMS_MAX && results.iter().all(|result| result["status"] == 201));
    let ids: Vec<_> = results.iter().map(|result| result["transfer"]["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted());
    let large = format!("[{}]", " ".repeat(1 << 20));
    driver.post_with("/v1/transfers", large, &[]).await.problem(413, "body_too_large", None);
}

#[tokio::test]
async fn an_idempotency_key_counts_for_each_of_several_at_its_place() {
    let driver = Driver::new().await;
    let items = |names: [&str; 3]| names.map(transfer);
    let mut wrong = items(["a", "b", "c"]);
    wrong[1]["priority"] = json!(99);
    let first = results(&post(&driver, &wrong, Some("k")).await);
    assert_eq!(
        (&first[0]["status"], &first[1]["status"], &first[2]["status"]),
        (&json!(201), &json!(400), &json!(201))
    );
    // Sent again, put right: what is missing is made, what is there is shown.
    let again = results(&post(&driver, &items(["a", "b", "c"]), Some("k")).await);
    for (place, replayed) in [(0, true), (1, false), (2, true)] {
        assert_eq!(again[place]["status"], 201, "{:#}", again[place]);
        assert_eq!(again[place]["replayed"] == true, replayed);
        assert!(!replayed || again[place]["transfer"] == first[place]["transfer"]);
    }
    let other = results(&post(&driver, &items(["a", "x", "c"]), Some("k")).await);
    assert_eq!(other[1]["problem"]["code"], "idempotency_key_reused");
    assert_eq!((&other[0]["replayed"], &other[2]["replayed"]), (&json!(true), &json!(true)));
    // The key of one transfer is another one.
    let one = driver.post_with("/v1/transfers", transfer("y").to_string(), &[("idempotency-key", "k")]).await;
    assert_eq!((one.status, one.header("idempotency-replayed")), (201, None));
    assert_eq!(listed(&driver).await.len(), 4);
}

#[tokio::test]
async fn secrets_of_several_are_shown_nowhere() {
    let driver = Driver::new().await;
    let mut secret = transfer("a");
    secret["source_url"] = json!("https://example.org/o?sig=s3cr3t");
    let answer = post(&driver, &[secret], None).await;
    assert_eq!(results(&answer)[0]["status"], 201, "{}", answer.text());
    assert!(!answer.text().contains("s3cr3t"));
}

#[tokio::test]
async fn large_bodies_wait_for_one_another_and_small_ones_do_not() {
    let driver = Driver::new().await;
    let places = (0..LARGE_BODIES_MAX).map(|_| driver.large_bodies.clone().try_acquire_owned().unwrap());
    let places: Vec<_> = places.collect();
    let items = |count: usize| Value::from((0..count).map(|n| transfer(&format!("{count}-{n}"))).collect::<Vec<_>>());
    let large = items(SUBMISSION_ITEMS_MAX);
    assert!(large.to_string().len() > LARGE_BODY_BYTES);

    let large = driver.post("/v1/transfers", &large);
    tokio::pin!(large);
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut large).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(driver.post("/v1/transfers", &items(1)).await.status, 207);
    drop(places);
    assert_eq!(large.await.status, 207);
    assert_eq!(driver.large_bodies.available_permits(), LARGE_BODIES_MAX);
}
