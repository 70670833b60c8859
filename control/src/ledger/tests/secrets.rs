//! Secrets: nowhere in the clear, shown redacted, handed to attempts, and dropped at a final state.

use serde_json::json;
use staccato_dataplane::attempt::StopReason;
use staccato_protocols::{Code, Error};

use super::{
    Fixture, completion,
    fixture::{EXECUTOR, LEASE},
    invariants,
};
use crate::{
    ledger::Scope,
    model::{State, TransferId},
};

const SECRET: &str = "s3cr3t";

async fn create(fixture: &Fixture) -> TransferId {
    let more = json!({
        "source_url": format!("stub://from/s?sig={SECRET}"),
        "source_options": {"token": SECRET, "plain.a": "shown"},
        "destination_options": {"token": SECRET},
    });
    let request = fixture.request(&format!("d?sig={SECRET}"), more);
    fixture.ledger.create(&request, "owner", Some(SECRET)).await.unwrap().document.id.parse().unwrap()
}

/// Whether anything in the store holds the secret, or sealed secrets are left.
async fn look(fixture: &Fixture) -> (bool, bool) {
    let all = invariants::everything(fixture.store.as_ref()).await;
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    let clear = all.iter().any(|(key, value)| holds(key.as_bytes()) || holds(value));
    (clear, all.keys().any(|key| key.starts_with("x/")))
}

#[tokio::test]
async fn secrets_are_sealed_shown_redacted_and_handed_to_attempts() {
    let mut fixture = Fixture::new().await;
    let id = create(&fixture).await;
    let document = fixture.ledger.get(id, &Scope::All).await.unwrap();
    let text = serde_json::to_string(&document).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(document.source_url, "stub://from/s?<redacted>");
    assert_eq!(document.destination_url, "stub://to/d?<redacted>");
    assert_eq!(document.source_options["token"], "<redacted>");
    assert_eq!(document.source_options["plain.a"], "shown");
    assert_eq!(look(&fixture).await, (false, true));

    fixture.reopen().await;
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!(spec.source_url.as_str(), format!("stub://from/s?sig={SECRET}"));
    assert_eq!(spec.destination_url.as_str(), format!("stub://to/d?sig={SECRET}"));
    assert_eq!((spec.source_options["token"].as_str(), spec.source_options["plain.a"].as_str()), (SECRET, "shown"));
    assert_eq!(spec.destination_options["token"], SECRET);
    assert_eq!(look(&fixture).await, (false, true));
}

#[tokio::test]
async fn secrets_are_dropped_when_a_transfer_completes_is_canceled_or_deleted() {
    for end in ["complete", "canceled", "deleted"] {
        let fixture = Fixture::new().await;
        let id = create(&fixture).await;
        match end {
            "complete" => {
                let epoch = fixture.run(id).await;
                fixture.ledger.prepare(EXECUTOR, id, epoch, &completion()).await.unwrap();
                fixture.ledger.committed(EXECUTOR, id, epoch, &completion()).await.unwrap();
            }
            "canceled" => drop(fixture.ledger.cancel(id, &Scope::All).await.unwrap()),
            _ => drop(fixture.ledger.delete(id, &Scope::All).await.unwrap()),
        }
        assert_eq!(look(&fixture).await, (false, false), "{end}");
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn a_failed_transfer_keeps_its_secrets_for_whoever_resumes_it() {
    let fixture = Fixture::new().await;
    let id = create(&fixture).await;
    let epoch = fixture.run(id).await;
    fixture.fails(id, epoch, Error::fatal(Code::PermissionDenied, "not with this token")).await;
    assert_eq!(fixture.state(id).await, State::Error);
    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    assert_eq!(fixture.run_on(EXECUTOR, id).await.source_options["token"], SECRET);
}

#[tokio::test]
async fn a_sweep_that_needs_a_sealed_destination_keeps_the_secrets_until_it_is_done() {
    let mut fixture = Fixture::new().await;
    let id = create(&fixture).await;
    let epoch = fixture.run(id).await;
    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    fixture.stopped(id, epoch, StopReason::Shutdown).await;
    assert_eq!(look(&fixture).await, (false, true));
    fixture.ledger.delete(id, &Scope::All).await.unwrap();
    assert_eq!(look(&fixture).await, (false, true), "also when the transfer is forgotten meanwhile");
    fixture.reopen().await;
    invariants::check(&fixture.ledger).await;
    let sweeps = fixture.ledger.claim_sweeps(EXECUTOR).await.unwrap();
    let urls: Vec<_> = sweeps.iter().map(|sweep| sweep.destination_url.as_str().to_owned()).collect();
    assert_eq!(urls, [format!("stub://to/d?sig={SECRET}")]);
    fixture.ledger.sweep_done(id, true).await.unwrap();
    assert_eq!(look(&fixture).await, (false, false));
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_transfer_whose_secrets_do_not_open_fails_and_says_so() {
    let fixture = Fixture::new().await;
    let (broken, whole) = (create(&fixture).await, fixture.create("other").await);
    let key = crate::ledger::keys::secrets(broken);
    fixture.store.commit(crate::store::Commit::new().put(key, "not sealed by us")).await.unwrap();
    for id in [broken, whole] {
        fixture.ledger.mark_ready(id, "a slot").await.unwrap();
    }
    let spec = fixture.ledger.claim(EXECUTOR, 1).await.unwrap().pop().expect("the other one");
    assert_eq!(spec.transfer, whole.to_string(), "one that cannot run does not hold up those behind it");
    let record = fixture.record(broken).await;
    assert_eq!((record.state, record.error.map(|error| error.code)), (State::Error, Some(Code::Internal)));
    fixture.pass(LEASE).await;
    invariants::check(&fixture.ledger).await;
}
