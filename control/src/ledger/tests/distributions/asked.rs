//! What is asked of a whole distribution, and what stops one.

use std::time::Duration;

use serde_json::{Value, json};
use staccato_dataplane::attempt::{Outcome, StopReason};
use staccato_protocols::Error;

use super::{ALL, check, complete, distribute, fail, join, member, run, shown};
use crate::{
    ledger::{
        INDEXES, Ledger, LedgerError,
        tests::{Fixture, invariants, problem},
    },
    model::{
        Action, Answer, ProblemCode, State, TransferId,
        distribution::{DistributionDocument, request::further_targets},
        request::Way,
    },
    places::Places,
    store::{MemoryStore, faulty::FaultyStore},
};

#[tokio::test]
async fn too_many_failures_stop_the_rest_and_say_so() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let id = distribute(&fixture.ledger, json!({"max_failures": 1})).await;
    fail(&fixture, id, 0).await;
    assert!(fixture.ledger.distributions_due().is_empty(), "one may fail");
    let (running, epoch) = run(&fixture, id, 2).await;
    fail(&fixture, id, 1).await;
    let ledger = fixture.ledger.clone();
    assert_eq!(ledger.distributions_due(), [id]);
    ledger.keep(id).await.unwrap();
    let document = shown(&ledger, id);
    assert_eq!(document.state, State::Canceling);
    assert_eq!(document.error.clone().unwrap().code, "too_many_failures");
    assert_eq!((document.hosts.failed, document.hosts.canceled), (2, 2));
    let canceled = ledger.get(member(&ledger, id, "h3").await, &ALL).await.unwrap();
    assert!(canceled.events.last().unwrap().message.contains("too_many_failures"), "{canceled:?}");
    let stopped = Outcome::Stopped { reason: StopReason::Cancel };
    ledger.release("i2@h2", running, epoch, &stopped).await.unwrap();
    ledger.keep(id).await.unwrap();
    let document = shown(&ledger, id);
    assert_eq!((document.state, document.finished_at.is_some()), (State::Error, true));
    check(&mut fixture, id).await;
    // What has failed can be resumed; what was canceled stays so.
    let ledger = fixture.ledger.clone();
    ledger.act_on_distribution(id, Action::Resume, &ALL).await.unwrap();
    ledger.keep(id).await.unwrap();
    let document = shown(&ledger, id);
    assert_eq!((document.error, document.finished_at), (None, None));
    assert_eq!((document.hosts.waiting, document.hosts.canceled), (2, 2));
}

#[tokio::test]
async fn an_object_that_has_changed_stops_all_of_it_and_is_not_tried_again() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    complete(&fixture, id, 0).await;
    let (changed, epoch) = run(&fixture, id, 1).await;
    let ledger = fixture.ledger.clone();
    let error = Error::source_changed("it has another tag");
    // Whoever lost its attempt has no say.
    let refused = ledger.release("i1@h1", changed, epoch + 1, &Outcome::Failed { error: error.clone() }).await;
    assert!(refused.is_err() && ledger.distributions_due().is_empty());
    ledger.release("i1@h1", changed, epoch, &Outcome::Failed { error }).await.unwrap();
    ledger.keep(id).await.unwrap();
    let document = shown(&ledger, id);
    assert_eq!((document.state, document.error.unwrap().code.as_str()), (State::Error, "object_changed"));
    assert_eq!((document.hosts.done, document.hosts.failed, document.hosts.canceled), (1, 1, 2));
    let failed = ledger.get(changed, &ALL).await.unwrap();
    assert_eq!(failed.error.map(|error| (error.code, error.retryable)), Some(("source_changed".into(), false)));
    check(&mut fixture, id).await;
}

#[tokio::test]
async fn a_deadline_ends_what_is_not_complete() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let deadline = fixture.ledger.now().after(Duration::from_secs(60)).to_string();
    let id = distribute(&fixture.ledger, json!({ "deadline": deadline })).await;
    complete(&fixture, id, 0).await;
    fixture.environment.advance(Duration::from_secs(59));
    assert!(fixture.ledger.distributions_due().is_empty());
    fixture.environment.advance(Duration::from_secs(1));
    assert_eq!(fixture.ledger.distributions_due(), [id]);
    fixture.ledger.keep(id).await.unwrap();
    let document = shown(&fixture.ledger, id);
    assert_eq!((document.state, document.hosts.done, document.hosts.canceled), (State::Error, 1, 3));
    assert_eq!(document.error.unwrap().code, "deadline_passed");
    check(&mut fixture, id).await;
    let resumed = fixture.ledger.act_on_distribution(id, Action::Resume, &ALL).await;
    assert_eq!(problem(resumed), ProblemCode::StateConflict);
}

#[tokio::test]
async fn the_whole_is_paused_resumed_canceled_and_deleted() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 5).await;
    let id = distribute(&fixture.ledger, json!({"source_options": {"token": "secret"}})).await;
    complete(&fixture, id, 0).await;
    let (running, epoch) = run(&fixture, id, 1).await;
    let ledger = fixture.ledger.clone();
    let act = async |action| {
        let answer = ledger.act_on_distribution(id, action, &ALL).await;
        ledger.keep(id).await.unwrap();
        answer.map(|answer| (answer, shown(&ledger, id).state))
    };
    assert_eq!(act(Action::Pause).await, Ok((Answer::Underway, State::Running)));
    let paused = Outcome::Stopped { reason: StopReason::Pause };
    ledger.release("i1@h1", running, epoch, &paused).await.unwrap();
    assert_eq!((shown(&ledger, id).state, shown(&ledger, id).hosts.paused), (State::Paused, 3));
    check(&mut fixture, id).await;
    let ledger = fixture.ledger.clone();
    join_again(&ledger, 5).await;
    // A host that is added now begins paused, too.
    add(&ledger, id, json!({"hosts": {"names": ["h4", "h0"]}})).await.unwrap();
    ledger.keep(id).await.unwrap();
    assert_eq!((shown(&ledger, id).hosts.paused, shown(&ledger, id).hosts.total), (4, 5));
    let act = async |action| {
        let answer = ledger.act_on_distribution(id, action, &ALL).await;
        ledger.keep(id).await.unwrap();
        answer.map(|answer| (answer, shown(&ledger, id).state))
    };
    assert_eq!(act(Action::Resume).await, Ok((Answer::Underway, State::Running)));
    assert_eq!(problem(act(Action::Resume).await), ProblemCode::StateConflict);
    let (running, epoch) = run(&fixture, id, 2).await;
    assert_eq!(act(Action::Cancel).await, Ok((Answer::Underway, State::Canceling)));
    let stopped = Outcome::Stopped { reason: StopReason::Cancel };
    ledger.release("i2@h2", running, epoch, &stopped).await.unwrap();
    assert_eq!(act(Action::Cancel).await, Ok((Answer::Done, State::Canceled)));
    assert_eq!(problem(add(&ledger, id, json!({"hosts": {"names": ["h4"]}})).await), ProblemCode::StateConflict);
    check(&mut fixture, id).await;
    let ledger = &fixture.ledger;
    ledger.delete_distribution(id, &ALL).await.unwrap();
    ledger.keep(id).await.unwrap();
    let gone = ledger.distribution_document(id, &ALL).map_err(|error| error.problem().code);
    assert_eq!(gone.unwrap_err(), ProblemCode::DistributionNotFound);
    let left = invariants::everything(ledger.store().as_ref()).await;
    let left: Vec<_> = left.keys().filter(|key| !key.starts_with("h/") && !key.starts_with("g/")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_was_asked_is_done_by_the_next_process_if_this_one_dies() {
    for (action, state) in
        [(Action::Cancel, State::Canceled), (Action::Pause, State::Paused), (Action::Delete, State::New)]
    {
        let store = FaultyStore::new(MemoryStore::new(INDEXES));
        let mut fixture = Fixture::over(store.clone()).await;
        join(&fixture.ledger, 4).await;
        let id = distribute(&fixture.ledger, json!({})).await;
        // The wish itself, and one of the members.
        store.fail_after(2);
        match action {
            Action::Delete => fixture.ledger.delete_distribution(id, &ALL).await.unwrap(),
            action => drop(fixture.ledger.act_on_distribution(id, action, &ALL).await.unwrap()),
        }
        assert!(fixture.ledger.keep(id).await.is_err());
        store.mend();
        fixture.reopen().await;
        assert_eq!(fixture.ledger.distributions_due(), [id]);
        fixture.ledger.keep(id).await.unwrap();
        match fixture.ledger.distribution_document(id, &ALL) {
            Ok(document) => assert_eq!(document.state, state),
            Err(_) => assert_eq!(action, Action::Delete),
        }
        assert!(fixture.ledger.distributions_due().is_empty());
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn hosts_come_and_go_while_it_runs() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 6).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    complete(&fixture, id, 0).await;
    let (_, epoch) = run(&fixture, id, 1).await;
    let ledger = fixture.ledger.clone();
    // Of rack r1 both are members already.
    let document = add(&ledger, id, json!({"hosts": {"racks": ["r1", "r2"]}})).await.unwrap();
    assert_eq!(document.hosts.total, 6);
    assert_eq!(ledger.remove_from_distribution(id, &ALL, "h5").await, Ok(Answer::Done), "although it is hardly one");
    assert_eq!(ledger.remove_from_distribution(id, &ALL, "h0").await, Ok(Answer::Done));
    let running = member(&ledger, id, "h1").await;
    assert_eq!(ledger.remove_from_distribution(id, &ALL, "h1").await, Ok(Answer::Underway));
    assert_eq!((shown(&ledger, id).hosts.total, shown(&ledger, id).hosts.running), (3, 0), "it counts no more");
    for host in ["h1", "h9", ""] {
        assert_eq!(problem(ledger.remove_from_distribution(id, &ALL, host).await), ProblemCode::MemberNotFound);
    }
    let stopped = Outcome::Stopped { reason: StopReason::Cancel };
    ledger.release("i1@h1", running, epoch, &stopped).await.unwrap();
    assert!(!fixture.exists(running).await);
    let back = add(&ledger, id, json!({"hosts": {"names": ["h1"]}})).await.unwrap();
    assert_eq!(back.hosts.total, 4);
    ledger.keep(id).await.unwrap();
    check(&mut fixture, id).await;
}

/// The same hosts, in a process that has begun anew.
async fn join_again(ledger: &Ledger, count: usize) {
    for number in 0..count {
        let name = format!("h{number}").parse().unwrap();
        let known = ledger.inner.fleet.lock().unwrap().host(&format!("h{number}")).unwrap().record.announced.clone();
        ledger.join(Some(&name), &format!("i{number}@h{number}"), known).await.unwrap();
    }
}

async fn add(ledger: &Ledger, id: TransferId, body: Value) -> Result<DistributionDocument, LedgerError> {
    let common = ledger.common_to_members(id, &ALL).await?;
    let way = Way {
        source_url: &common.source_url,
        source_place: &common.source_place,
        destination_options: &common.destination_options,
    };
    let targets = further_targets(&body, &Places::new(ledger, None), way, common.template.as_deref(), 1)?;
    ledger.add_to_distribution(id, &ALL, targets).await
}
