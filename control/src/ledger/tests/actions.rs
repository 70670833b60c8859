//! What clients may do in every state: the table of the design, through the ledger, and what becomes of the transfer.

use staccato_dataplane::attempt::{Outcome, StopReason};
use staccato_protocols::{Code, Error};

use super::{
    Fixture, completion,
    fixture::{EXECUTOR, LENGTH},
    invariants, problem,
};
use crate::{
    ledger::{Held, Ledger, LedgerError, Prepared, Scope},
    model::{Action, Answer, ProblemCode, State, TransferId},
};

async fn act(ledger: &Ledger, action: Action, id: TransferId) -> Result<Answer, LedgerError> {
    match action {
        Action::Cancel => ledger.cancel(id, &Scope::All).await,
        Action::Pause => ledger.pause(id, &Scope::All).await,
        Action::Resume => ledger.resume(id, &Scope::All).await,
        Action::Delete => ledger.delete(id, &Scope::All).await,
    }
}

/// One row for each state; for each action the status, and the state afterwards (`gone` when the transfer is).
const TABLE: [&str; 9] = [
    //               cancel         pause       resume   delete
    "STATE_NEW       204 CANCELED   204 PAUSED  409 NEW       204 gone",
    "STATE_READY     204 CANCELED   204 PAUSED  409 READY     204 gone",
    "STATE_PAUSED    204 CANCELED   204 PAUSED  204 NEW       204 gone",
    "STATE_RUNNING   202 CANCELING  202 RUNNING 409 RUNNING   202 CANCELING",
    "STATE_CANCELING 204 CANCELING  409 CANCELING 409 CANCELING 204 gone",
    "STATE_CANCELED  204 CANCELED   409 CANCELED 409 CANCELED 204 gone",
    "STATE_ERRORING  409 ERRORING   409 ERRORING 409 ERRORING 202 ERRORING",
    "STATE_ERROR     409 ERROR      409 ERROR   204 NEW       204 gone",
    "STATE_COMPLETE  409 COMPLETE   409 COMPLETE 409 COMPLETE 204 gone",
];

#[tokio::test]
async fn every_action_in_every_state_answers_and_leads_as_the_table_says() {
    assert_eq!(TABLE.len(), State::ALL.len());
    for row in TABLE {
        let mut cells = row.split_whitespace();
        let state: State = cells.next().unwrap().parse().unwrap();
        for action in Action::ALL {
            let (status, after) = (cells.next().unwrap(), cells.next().unwrap());
            let fixture = Fixture::new().await;
            let id = fixture.in_state(state).await;
            let before = fixture.record(id).await;
            let answer = act(&fixture.ledger, action, id).await;
            let case = format!("{} in {state}", action.as_str());
            match status {
                "204" => assert_eq!(answer, Ok(Answer::Done), "{case}"),
                "202" => assert_eq!(answer, Ok(Answer::Underway), "{case}"),
                _ => {
                    assert_eq!(problem(answer), ProblemCode::StateConflict, "{case}");
                    assert_eq!(fixture.record(id).await, before, "{case}: a refusal changes nothing");
                }
            }
            match after {
                "gone" => assert!(!fixture.exists(id).await, "{case}"),
                name => assert_eq!(fixture.state(id).await.as_str(), format!("STATE_{name}"), "{case}"),
            }
            invariants::check(&fixture.ledger).await;
        }
    }
}

#[tokio::test]
async fn an_action_said_twice_is_answered_as_if_said_once() {
    for (action, state) in [
        (Action::Cancel, State::New),
        (Action::Cancel, State::Running),
        (Action::Pause, State::New),
        (Action::Pause, State::Running),
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        act(&fixture.ledger, action, id).await.unwrap();
        let once = fixture.record(id).await;
        fixture.environment.advance(super::fixture::MOMENT);
        act(&fixture.ledger, action, id).await.unwrap();
        assert_eq!(fixture.record(id).await, once, "{action:?} in {state}");
    }
}

#[tokio::test]
async fn what_others_own_does_not_exist_for_a_client() {
    let stranger = Scope::Owner("stranger".into());
    for state in State::ALL {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        let before = fixture.record(id).await;
        let ledger = &fixture.ledger;
        let unknown = ledger.get(TransferId::following(Some(id), before.created_at, 1), &Scope::All).await;
        let answers = [
            unknown.map(drop),
            ledger.get(id, &stranger).await.map(drop),
            ledger.cancel(id, &stranger).await.map(drop),
            ledger.pause(id, &stranger).await.map(drop),
            ledger.resume(id, &stranger).await.map(drop),
            ledger.delete(id, &stranger).await.map(drop),
        ];
        for answer in answers {
            assert_eq!(problem(answer), ProblemCode::TransferNotFound, "{state}");
        }
        assert_eq!(fixture.record(id).await, before);
        assert!(ledger.get(id, &Scope::Owner(before.owner)).await.is_ok());
    }
}

#[tokio::test]
async fn a_pause_takes_effect_once_the_attempt_has_stopped_and_keeps_its_checkpoint() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.pause(id, &Scope::All).await.unwrap();
    let prepared = fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    assert_eq!(prepared, Prepared::Stop(StopReason::Pause));
    fixture.stopped(id, 1, StopReason::Pause).await;
    let paused = fixture.record(id).await;
    assert_eq!((paused.state, paused.progress, paused.failures), (State::Paused, LENGTH / 2, 0));

    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!((spec.epoch, spec.checkpoint.len()), (2, 1), "the next attempt goes on from there");
    assert!(spec.validator.is_some());
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_paused_attempt_may_still_fail_or_complete() {
    let fixture = Fixture::new().await;
    let (fatal, retried, complete) = (
        fixture.in_state(State::Running).await,
        fixture.in_state(State::Running).await,
        fixture.in_state(State::Running).await,
    );
    fixture.ledger.prepare(EXECUTOR, complete, 1, &completion()).await.unwrap();
    for id in [fatal, retried, complete] {
        assert_eq!(fixture.ledger.pause(id, &Scope::All).await, Ok(Answer::Underway));
    }
    fixture.fails(fatal, 1, Error::fatal(Code::SourceMissing, "gone")).await;
    fixture.fails(retried, 1, Error::retry(Code::ConnectionLost, "broken")).await;
    fixture.ledger.committed(EXECUTOR, complete, 1, &completion()).await.unwrap();
    assert_eq!(fixture.state(fatal).await, State::Error);
    assert_eq!(fixture.state(complete).await, State::Complete);
    let retried = fixture.record(retried).await;
    assert_eq!((retried.state, retried.not_before), (State::Paused, None), "no wait runs while it is paused");
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_cancel_outweighs_a_pause_and_failures() {
    for reason in [Some(StopReason::Cancel), Some(StopReason::Pause), None] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Running).await;
        fixture.ledger.pause(id, &Scope::All).await.unwrap();
        fixture.ledger.cancel(id, &Scope::All).await.unwrap();
        let outcome = match reason {
            Some(reason) => Outcome::Stopped { reason },
            None => Outcome::Failed { error: Error::retry(Code::ReadFailed, "late") },
        };
        fixture.ledger.release(EXECUTOR, id, 1, &outcome).await.unwrap();
        assert_eq!(fixture.state(id).await, State::Canceled);
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn once_prepared_a_cancel_is_a_conflict_wherever_the_transfer_goes() {
    let mut fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    assert_eq!(fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await, Ok(Prepared::Allowed));
    let conflict = async |fixture: &Fixture| {
        let refusal = fixture.ledger.cancel(id, &Scope::All).await;
        assert_eq!(problem(refusal), ProblemCode::StateConflict);
    };
    conflict(&fixture).await;
    fixture.reopen().await;
    conflict(&fixture).await;
    fixture.pass(super::fixture::LEASE).await;
    assert_eq!(fixture.state(id).await, State::New);
    conflict(&fixture).await;
    fixture.ledger.pause(id, &Scope::All).await.unwrap();
    conflict(&fixture).await;
    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    let spec = fixture.run_on("another", id).await;
    assert_eq!(spec.prepared, Some(completion()), "the next attempt looks whether it was done");

    // It was not: the attempt found the partial, so that the destination stays as it is.
    fixture.ledger.checkpoint("another", id, 2, &super::report(LENGTH)).await.unwrap();
    assert_eq!(fixture.ledger.cancel(id, &Scope::All).await, Ok(Answer::Underway));
}

#[tokio::test]
async fn what_an_attempt_says_it_has_not_committed_can_be_canceled() {
    let reasons = [StopReason::Pause, StopReason::Shutdown, StopReason::LeaseLost];
    let stops = reasons.map(|reason| Outcome::Stopped { reason });
    let failure = Outcome::Failed { error: Error::retry(Code::PermissionDenied, "the rename is not permitted") };
    for outcome in stops.into_iter().chain([failure]) {
        for pause in [false, true] {
            let fixture = Fixture::new().await;
            let id = fixture.in_state(State::Running).await;
            fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
            if pause {
                fixture.ledger.pause(id, &Scope::All).await.unwrap();
            }
            fixture.ledger.release(EXECUTOR, id, 1, &outcome).await.unwrap();
            let record = fixture.record(id).await;
            let state = if pause { State::Paused } else { State::New };
            assert_eq!((record.state, record.prepared), (state, None), "{outcome:?}");
            assert_eq!(fixture.ledger.cancel(id, &Scope::All).await, Ok(Answer::Done), "{outcome:?}");
            invariants::check(&fixture.ledger).await;
        }
    }
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_is_not_canceled_and_the_refusal_says_what_to_do() {
    let refusal = async |fixture: &Fixture, id| match fixture.ledger.cancel(id, &Scope::All).await {
        Err(LedgerError::Problem(problem)) => problem.detail,
        other => panic!("{other:?}"),
    };
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    assert!(refusal(&fixture, id).await.contains("wait for its end"));
    let error = Error::retry(Code::SyncFailed, "the folder cannot be synced");
    fixture.ledger.release(EXECUTOR, id, 1, &Outcome::CommitUnknown { error }).await.unwrap();
    assert!(refusal(&fixture, id).await.contains("wait for the next attempt, which finds out, or delete it"));
    fixture.ledger.pause(id, &Scope::All).await.unwrap();
    assert!(refusal(&fixture, id).await.contains("resume it to find out, or delete it"));

    // An attempt that stops before it has looked finds nothing out.
    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    let epoch = fixture.run(id).await;
    fixture.stopped(id, epoch, StopReason::Shutdown).await;
    assert_eq!(fixture.record(id).await.prepared.map(|prepared| prepared.epoch), Some(1));
    assert_eq!(fixture.ledger.delete(id, &Scope::All).await, Ok(Answer::Done));
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_deleted_transfer_is_gone_once_released_and_its_name_is_free() {
    for (state, epoch) in [(State::Running, 1), (State::Erroring, 1)] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        assert_eq!(fixture.ledger.delete(id, &Scope::All).await, Ok(Answer::Underway));
        assert!(fixture.ledger.get(id, &Scope::All).await.is_ok(), "until then it can be watched");
        fixture.stopped(id, epoch, StopReason::Cancel).await;
        assert_eq!(problem(fixture.ledger.get(id, &Scope::All).await), ProblemCode::TransferNotFound);
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn deleting_what_is_being_committed_waits_for_the_commit() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    assert_eq!(fixture.ledger.delete(id, &Scope::All).await, Ok(Answer::Underway));
    assert_eq!(fixture.state(id).await, State::Running);
    fixture.ledger.committed(EXECUTOR, id, 1, &completion()).await.unwrap();
    assert!(!fixture.exists(id).await);
    invariants::check(&fixture.ledger).await;
    assert_eq!(fixture.ledger.stats().completed, 1);
}

#[tokio::test]
async fn resuming_a_failure_forgets_it_and_its_count() {
    let fixture = Fixture::new().await;
    let id = fixture.create_with("d", serde_json::json!({"retries": 0})).await;
    let epoch = fixture.run(id).await;
    fixture.ledger.checkpoint(EXECUTOR, id, epoch, &super::report(LENGTH / 2)).await.unwrap();
    fixture.fails(id, epoch, Error::retry(Code::NoSpace, "full")).await;
    let failed = fixture.record(id).await;
    assert_eq!((failed.state, failed.error.as_ref().map(|error| error.code)), (State::Error, Some(Code::NoSpace)));
    fixture.ledger.resume(id, &Scope::All).await.unwrap();
    let resumed = fixture.record(id).await;
    assert_eq!((resumed.state, resumed.error, resumed.failures), (State::New, None, 0));
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!((spec.epoch, spec.checkpoint.len()), (2, 1), "epochs go on, and so does the checkpoint");
}

/// An attempt prepared and was lost; the next one runs, and the client deletes meanwhile. Whether the commit was done
/// is not known then: the delete takes effect as soon as the running attempt shows that it was not.
#[tokio::test]
async fn a_delete_during_a_commit_in_doubt_cancels_once_the_commit_is_ruled_out() {
    for shown_by in ["a checkpoint", "a prepare"] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Running).await;
        fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
        fixture.pass(super::fixture::LEASE).await;
        let epoch = fixture.run(id).await;
        assert_eq!(fixture.ledger.delete(id, &Scope::All).await, Ok(Answer::Underway));
        assert_eq!(fixture.state(id).await, State::Running, "the commit may have been done");

        if shown_by == "a checkpoint" {
            fixture.ledger.checkpoint(EXECUTOR, id, epoch, &super::report(LENGTH / 2)).await.unwrap();
            assert_eq!(fixture.state(id).await, State::Canceling, "{shown_by}");
            let held = Held { transfer: id, epoch, stopping: None, distribution: None };
            let told: Vec<_> = fixture.ledger.heartbeat(EXECUTOR, &[held]).iter().map(|one| one.stop).collect();
            assert_eq!(told, [StopReason::Cancel], "{shown_by}");
        }
        let answer = fixture.ledger.prepare(EXECUTOR, id, epoch, &completion()).await;
        assert_eq!(answer, Ok(Prepared::Stop(StopReason::Cancel)), "{shown_by}");
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.prepared), (State::Canceling, None), "{shown_by}");
        invariants::check(&fixture.ledger).await;
        fixture.stopped(id, epoch, StopReason::Cancel).await;
        assert!(!fixture.exists(id).await, "{shown_by}");
        invariants::check(&fixture.ledger).await;
        assert_eq!((fixture.ledger.stats().completed, fixture.ledger.stats().canceled), (0, 1), "{shown_by}");
    }
}

#[tokio::test]
async fn a_delete_during_a_commit_in_doubt_keeps_an_object_that_turns_out_to_be_there() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    fixture.pass(super::fixture::LEASE).await;
    let epoch = fixture.run(id).await;
    fixture.ledger.delete(id, &Scope::All).await.unwrap();
    fixture.ledger.committed(EXECUTOR, id, epoch, &completion()).await.unwrap();
    assert!(!fixture.exists(id).await);
    assert_eq!(fixture.ledger.stats().completed, 1);
    invariants::check(&fixture.ledger).await;
}

/// What an attempt was allowed is not taken back, also when it asks again because it did not hear the answer.
#[tokio::test]
async fn a_delete_after_a_prepare_does_not_stop_the_commit() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    fixture.ledger.delete(id, &Scope::All).await.unwrap();
    assert_eq!(fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await, Ok(Prepared::Allowed));
    fixture.ledger.checkpoint(EXECUTOR, id, 1, &super::report(LENGTH)).await.unwrap();
    assert_eq!(fixture.state(id).await, State::Running);
    fixture.ledger.committed(EXECUTOR, id, 1, &completion()).await.unwrap();
    assert!(!fixture.exists(id).await);
}
