use http::Method;
use serde_json::{Value, json};

use super::driver::{Answer, Driver, transfer};
use crate::model::State;

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap().to_owned()).collect()
}

/// The target of `Link: <...>; rel="next"`.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (target, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(relation, "; rel=\"next\"");
    Some(target.to_owned())
}

#[tokio::test]
async fn links_lead_through_all_transfers_in_the_order_of_submission() {
    let driver = Driver::new().await;
    let mut submitted = Vec::new();
    for number in 0..7 {
        submitted.push(driver.submit(&number.to_string()).await);
    }
    assert_eq!(ids(&driver.get("/v1/transfers").await), submitted);
    for limit in [1, 2, 3, 6, 7, 8] {
        let (mut seen, mut path) = (Vec::new(), Some(format!("/v1/transfers?limit={limit}")));
        while let Some(page) = path {
            let answer = driver.get(&page).await;
            let found = ids(&answer);
            assert!(found.len() <= limit);
            seen.extend(found);
            path = next(&answer);
        }
        assert_eq!(seen, submitted, "limit={limit}");
    }
    let behind = driver.get(&format!("/v1/transfers?marker={}", submitted[4])).await;
    assert_eq!((ids(&behind), next(&behind)), (submitted[5..].to_vec(), None));
}

#[tokio::test]
async fn a_state_selects_and_stays_in_the_link() {
    let driver = Driver::new().await;
    let mut canceled = Vec::new();
    for number in 0..6 {
        let id = driver.submit(&number.to_string()).await;
        if number % 2 == 0 {
            driver.act(&id, "cancel", 204).await;
            canceled.push(id);
        }
    }
    let first = driver.get("/v1/transfers?state=STATE_CANCELED&limit=2").await;
    assert_eq!(ids(&first), canceled[..2]);
    let second = driver.get(&next(&first).unwrap()).await;
    assert_eq!((ids(&second), next(&second)), (canceled[2..].to_vec(), None));
    for state in State::ALL {
        assert_eq!(driver.get(&format!("/v1/transfers?state={state}")).await.status, 200, "{state}");
    }
}

#[tokio::test]
async fn bad_parameters_are_refused_with_what_is_allowed() {
    let driver = Driver::new().await;
    for (query, code, field, allowed) in [
        ("limit=0", "invalid_field", "limit", "from 1 to 10000"),
        ("limit=10001", "invalid_field", "limit", "from 1 to 10000"),
        ("limit=x", "invalid_field", "limit", "from 1 to 10000"),
        ("limit=", "invalid_field", "limit", "from 1 to 10000"),
        ("state=running", "invalid_field", "state", "STATE_RUNNING"),
        ("state=STATE_ODD", "invalid_field", "state", "STATE_NEW, STATE_READY"),
        ("marker=zzz", "invalid_field", "marker", "UUID"),
        ("limit=1&limit=2", "invalid_field", "limit", "twice"),
        ("distribution=x", "invalid_field", "distribution", "UUID"),
        ("colour=red", "unknown_field", "colour", "limit, marker, state, distribution"),
        ("stat=STATE_NEW", "unknown_field", "stat", "did you mean state?"),
    ] {
        let detail = driver.get(&format!("/v1/transfers?{query}")).await.problem(400, code, Some(field));
        assert!(detail.contains(allowed), "{query}: {detail}");
    }
}

#[tokio::test]
async fn what_takes_no_parameters_refuses_them() {
    let driver = Driver::new().await;
    let path = format!("/v1/transfers/{}", driver.submit("a").await);
    driver.get(&format!("{path}?verbose=1")).await.problem(400, "unknown_field", Some("verbose"));
    driver.delete(&format!("{path}?force=1")).await.problem(400, "unknown_field", Some("force"));
    let cancel = json!({"xferaction": "cancel"});
    let answer = driver.post(&format!("{path}/action?now=1"), &cancel).await;
    answer.problem(400, "unknown_field", Some("now"));
    driver.post("/v1/transfers?dry=1", &transfer("b")).await.problem(400, "unknown_field", Some("dry"));
    assert_eq!(driver.get(&path).await.json()["state"], "STATE_NEW", "nothing was done");
}

#[tokio::test]
async fn ids_that_are_unknown_or_no_ids_are_not_found() {
    let driver = Driver::new().await;
    let known = driver.submit("a").await;
    let cancel = json!({"xferaction": "cancel"});
    for id in [
        "0",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        &known.to_uppercase(),
        &known.replace('-', ""),
        "%ff",
        "..%2f..",
        "%00",
    ] {
        let path = format!("/v1/transfers/{id}");
        driver.get(&path).await.problem(404, "transfer_not_found", None);
        driver.delete(&path).await.problem(404, "transfer_not_found", None);
        driver.post(&format!("{path}/action"), &cancel).await.problem(404, "transfer_not_found", None);
    }
}

#[tokio::test]
async fn transfers_of_others_do_not_exist() {
    let driver = Driver::new().await;
    let path = format!("/v1/transfers/{}", driver.submit("a").await);
    let cancel = json!({"xferaction": "cancel"});
    driver.as_user("mallory", Method::GET, &path, None).await.problem(404, "transfer_not_found", None);
    driver.as_user("mallory", Method::DELETE, &path, None).await.problem(404, "transfer_not_found", None);
    let action = format!("{path}/action");
    let answer = driver.as_user("mallory", Method::POST, &action, Some(&cancel)).await;
    answer.problem(404, "transfer_not_found", None);
    assert_eq!(driver.as_user("mallory", Method::GET, "/v1/transfers", None).await.json(), json!([]));
    let busy = driver.as_user("mallory", Method::POST, "/v1/transfers", Some(&transfer("a"))).await;
    let detail = busy.problem(409, "destination_busy", Some("destination_url"));
    let id = path.rsplit('/').next().unwrap();
    assert!(!detail.contains(id) && !detail.contains("alice"), "{detail}");
    assert_eq!(driver.get(&path).await.json()["state"], Value::from("STATE_NEW"));
}
