//! Named credentials: sealed, found by their owners, and put in the place of their names at every attempt.

use serde_json::{Value, json};
use staccato_protocols::{Code, Error};

use super::{
    Fixture,
    fixture::{EXECUTOR, OWNER},
    invariants, problem,
};
use crate::{
    ledger::{LedgerError, Scope},
    model::{
        CreateRequest, ProblemCode, State, TransferId,
        credential::{CredentialName, Definition},
    },
    places::Places,
    store::Commit,
};

const SECRET: &str = "s3cr3t";

fn name(text: &str) -> CredentialName {
    text.parse().unwrap()
}

async fn set(fixture: &Fixture, owner: Option<&str>, called: &str, token: &str) -> bool {
    let body = json!({"schemes": ["stub"], "urls": ["stub://from"], "options": {"token": token, "plain.a": "theirs"}});
    let definition = Definition::from_json(body.as_object().unwrap()).unwrap();
    fixture.ledger.set_credential(owner, name(called), definition).await.unwrap().1
}

/// Submits a transfer from `stub://from` with these options of the source.
async fn submit(fixture: &Fixture, owner: &str, options: Value) -> Result<TransferId, LedgerError> {
    let destination = format!("stub://to/{owner}");
    let body = json!({"source_url": "stub://from/s", "destination_url": destination, "source_options": options});
    let named = fixture.ledger.named_credentials(&body, owner).await?;
    let request = CreateRequest::from_json(&body, &Places::new(&fixture.ledger, None).with_credentials(named))?;
    let created = fixture.ledger.create(&request, owner, None).await?;
    Ok(created.document.id.parse().unwrap())
}

/// Whether anything in the store holds the secret.
async fn holds_secret(fixture: &Fixture) -> bool {
    let all = invariants::everything(fixture.store.as_ref()).await;
    let holds = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    all.iter().any(|(key, value)| holds(key.as_bytes()) || holds(value))
}

#[tokio::test]
async fn a_credential_stands_in_for_its_options_and_a_changed_one_at_the_next_attempt() {
    let mut fixture = Fixture::new().await;
    assert!(set(&fixture, Some(OWNER), "backup", SECRET).await);
    let options = json!({"credential": "backup", "plain.a": "mine", "plain.b": "too"});
    let id = submit(&fixture, OWNER, options.clone()).await.unwrap();
    let document = fixture.ledger.get(id, &Scope::All).await.unwrap();
    assert_eq!(serde_json::to_value(&document.source_options).unwrap(), options, "the name is shown, and no value");
    fixture.reopen().await;
    let spec = fixture.run_on(EXECUTOR, id).await;
    let complete = json!({"token": SECRET, "plain.a": "mine", "plain.b": "too"});
    assert_eq!(serde_json::to_value(&spec.source_options).unwrap(), complete);
    assert!(!holds_secret(&fixture).await);

    fixture.fails(id, spec.epoch, Error::retry(Code::PermissionDenied, "not with this token")).await;
    assert!(!set(&fixture, Some(OWNER), "backup", "r0tated").await, "it was there");
    fixture.pass(std::time::Duration::from_secs(1)).await;
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!(spec.source_options["token"], "r0tated");
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn owners_have_names_of_their_own_and_everybodys_come_behind_them() {
    let fixture = Fixture::new().await;
    set(&fixture, None, "shared", "everybody's").await;
    set(&fixture, Some("alice"), "shared", "alice's").await;
    set(&fixture, Some("alice"), "own", "alice's").await;
    for (owner, token) in [("alice", "alice's"), ("bob", "everybody's")] {
        let id = submit(&fixture, owner, json!({"credential": "shared"})).await.unwrap();
        assert_eq!(fixture.run_on(EXECUTOR, id).await.source_options["token"], token, "{owner}");
    }
    let refused = submit(&fixture, "bob", json!({"credential": "own"})).await;
    let unknown = submit(&fixture, "bob", json!({"credential": "none"})).await;
    let detail = |result: Result<_, LedgerError>| result.map(|_: TransferId| ()).unwrap_err().to_string();
    assert_eq!(detail(refused).replace("own", "none"), detail(unknown), "somebody else's does not exist");
    let ledger = &fixture.ledger;
    let listed = |scope: Scope| async move { ledger.credentials(&scope).await.unwrap().len() };
    assert_eq!(listed(Scope::Owner("alice".into())).await, 3);
    assert_eq!(listed(Scope::Owner("bob".into())).await, 1);
    assert_eq!(listed(Scope::All).await, 3);
    assert_eq!(problem(fixture.ledger.delete_credential(Some("bob"), "own").await), ProblemCode::CredentialNotFound);
    fixture.ledger.delete_credential(Some("alice"), "own").await.unwrap();
    assert_eq!(listed(Scope::Owner("alice".into())).await, 2);
}

#[tokio::test]
async fn an_attempt_whose_credential_is_gone_fails_and_its_transfer_can_be_resumed() {
    let fixture = Fixture::new().await;
    set(&fixture, Some(OWNER), "backup", SECRET).await;
    let id = submit(&fixture, OWNER, json!({"credential": "backup"})).await.unwrap();
    let other = fixture.create("other").await;
    fixture.ledger.delete_credential(Some(OWNER), "backup").await.unwrap();
    for one in [id, other] {
        assert!(fixture.ledger.mark_ready(one, "a slot is free").await.unwrap());
    }
    let claimed = fixture.ledger.claim(EXECUTOR, 2).await.unwrap();
    let claimed: Vec<_> = claimed.iter().map(|spec| spec.transfer.clone()).collect();
    assert_eq!(claimed, [other.to_string()], "nobody else waits for it");
    let record = fixture.record(id).await;
    let code = record.error.as_ref().map(|error| error.code);
    assert_eq!((record.state, code), (State::Error, Some(Code::CredentialUnusable)));
    invariants::check(&fixture.ledger).await;

    set(&fixture, Some(OWNER), "backup", SECRET).await;
    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    assert_eq!(fixture.run_on(EXECUTOR, id).await.source_options["token"], SECRET);
}

#[tokio::test]
async fn what_a_credential_is_for_cannot_be_changed_in_the_store() {
    let fixture = Fixture::new().await;
    set(&fixture, Some(OWNER), "backup", SECRET).await;
    let key = crate::ledger::keys::credential(Some(OWNER), &name("backup"));
    let found = fixture.store.get(&key).await.unwrap().unwrap().value;
    let at = found.windows(11).position(|window| window == b"stub://from").unwrap();
    let mut changed = found.clone();
    changed[at..at + 11].copy_from_slice(b"stub://evil");
    let moved = crate::ledger::keys::credential(Some("mallory"), &name("backup"));
    fixture.store.commit(Commit::new().put(key, changed).put(moved, found)).await.unwrap();
    for owner in [OWNER, "mallory"] {
        let refused = submit(&fixture, owner, json!({"credential": "backup"})).await;
        if owner == OWNER {
            assert_eq!(problem(refused), ProblemCode::Protocol(Code::CredentialUnusable));
        } else {
            assert!(refused.is_err(), "a copy under another owner's name is still the first one's");
        }
    }
}

#[tokio::test]
async fn credentials_of_an_owner_are_bounded() {
    let fixture = Fixture::new().await;
    for number in 0..100 {
        set(&fixture, Some(OWNER), &format!("c{number}"), SECRET).await;
    }
    let definition = fixture.ledger.find_credential(&name("c1"), OWNER).await.unwrap().unwrap().unwrap().definition;
    let refused = fixture.ledger.set_credential(Some(OWNER), name("more"), definition.clone()).await;
    assert_eq!(problem(refused), ProblemCode::Forbidden);
    assert!(fixture.ledger.set_credential(Some(OWNER), name("c1"), definition.clone()).await.is_ok(), "it is there");
    assert!(fixture.ledger.set_credential(None, name("more"), definition).await.is_ok(), "not the owner's");
}
