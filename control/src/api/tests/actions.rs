use serde_json::{Value, json};

use super::driver::Driver;
use crate::model::State;

/// The table of the README and DESIGN section 6: cancel, pause, resume, delete.
const TABLE: [(State, [u16; 4]); 9] = [
    (State::New, [204, 204, 409, 204]),
    (State::Ready, [204, 204, 409, 204]),
    (State::Paused, [204, 204, 204, 204]),
    (State::Running, [202, 202, 409, 202]),
    (State::Canceling, [204, 409, 409, 204]),
    (State::Canceled, [204, 409, 409, 204]),
    (State::Erroring, [409, 409, 409, 202]),
    (State::Error, [409, 409, 204, 204]),
    (State::Complete, [409, 409, 409, 204]),
];

#[tokio::test]
async fn every_action_in_every_state_is_answered_as_the_table_says() {
    for (state, statuses) in TABLE {
        for (action, status) in ["cancel", "pause", "resume", "delete"].into_iter().zip(statuses) {
            let driver = Driver::new().await;
            let path = format!("/v1/transfers/{}", driver.transfer_in(state).await);
            let answer = match action {
                "delete" => driver.delete(&path).await,
                action => driver.post(&format!("{path}/action"), &json!({"xferaction": action})).await,
            };
            match status {
                409 => {
                    let detail = answer.problem(409, "state_conflict", None);
                    assert!(detail.contains(state.as_str()), "{detail}");
                }
                status => assert_eq!((answer.status, answer.text()), (status, String::new()), "{action} in {state}"),
            }
            let after = driver.get(&path).await;
            match (action, status) {
                ("delete", 204) => drop(after.problem(404, "transfer_not_found", None)),
                (_, 409) => assert_eq!(after.json()["state"], state.as_str(), "a refusal changes nothing"),
                _ => assert_eq!(after.status, 200),
            }
        }
    }
}

#[tokio::test]
async fn actions_lead_to_the_states_they_name() {
    let driver = Driver::new().await;
    let id = driver.transfer_in(State::New).await;
    let path = format!("/v1/transfers/{id}");
    for (action, state) in [("pause", "STATE_PAUSED"), ("resume", "STATE_NEW"), ("cancel", "STATE_CANCELED")] {
        driver.act(&id, action, 204).await;
        assert_eq!(driver.get(&path).await.json()["state"], state);
    }
    let running = driver.transfer_in(State::Running).await;
    driver.act(&running, "cancel", 202).await;
    assert_eq!(driver.get(&format!("/v1/transfers/{running}")).await.json()["state"], "STATE_CANCELING");
}

#[tokio::test]
async fn what_is_no_action_is_refused_with_what_is() {
    let driver = Driver::new().await;
    let path = format!("/v1/transfers/{}/action", driver.submit("a").await);
    let cases: [(Value, &str, Option<&str>); 7] = [
        (json!({"xferaction": "stop"}), "invalid_field", Some("xferaction")),
        (json!({"xferaction": "delete"}), "invalid_field", Some("xferaction")),
        (json!({"xferaction": "CANCEL"}), "invalid_field", Some("xferaction")),
        (json!({"xferaction": null}), "invalid_field", Some("xferaction")),
        (json!({"action": "cancel"}), "unknown_field", Some("action")),
        (json!({}), "missing_field", Some("xferaction")),
        (json!(["cancel"]), "invalid_field", None),
    ];
    for (body, code, field) in cases {
        let detail = driver.post(&path, &body).await.problem(400, code, field);
        assert!(field.is_none() || detail.contains("xferaction") || detail.contains("cancel"), "{detail}");
    }
    driver.post_with(&path, "", &[]).await.problem(400, "invalid_json", None);
    driver.post_with(&path, "cancel", &[]).await.problem(400, "invalid_json", None);
}
