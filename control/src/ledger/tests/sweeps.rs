//! Sweeps: what attempts left beside a destination is removed when nobody is there any more to do it.

use std::time::Duration;

use serde_json::json;
use staccato_dataplane::attempt::{Outcome, StopReason};
use staccato_protocols::{Code, Error};

use super::{
    Fixture, completion,
    fixture::{EXECUTOR, LEASE, LENGTH, MOMENT, OWNER},
    invariants, problem, report,
};
use crate::{
    ledger::{Scope, sweep::SWEEPS_MAX},
    model::{ProblemCode, State, TransferId},
};

async fn claim(fixture: &Fixture, executor: &str) -> Vec<TransferId> {
    fixture.ledger.claim_sweeps(executor).await.unwrap().into_iter().map(|sweep| sweep.transfer).collect()
}

/// Cancels a transfer that ran and whose attempt stopped without cleaning up.
async fn leave_something(fixture: &Fixture, name: &str) -> TransferId {
    let id = fixture.create(name).await;
    let epoch = fixture.run(id).await;
    fixture.stopped(id, epoch, StopReason::Shutdown).await;
    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    id
}

#[tokio::test]
async fn what_never_ran_or_cleaned_up_after_itself_is_not_swept() {
    let fixture = Fixture::new().await;
    for state in [State::New, State::Ready, State::Paused] {
        let id = fixture.in_state(state).await;
        fixture.ledger.cancel(id, &Scope::All).await.unwrap();
        let id = fixture.in_state(state).await;
        fixture.ledger.delete(id, &Scope::All).await.unwrap();
    }
    let id = fixture.in_state(State::Canceling).await;
    fixture.stopped(id, 1, StopReason::Cancel).await;
    fixture.in_state(State::Complete).await;
    fixture.in_state(State::Error).await;
    fixture.environment.advance(LEASE);
    assert_eq!(claim(&fixture, EXECUTOR).await, []);
}

#[tokio::test]
async fn whatever_ended_without_cleaning_up_is_swept_at_once() {
    type Ends = (&'static str, Outcome);
    let ends: [Ends; 3] = [
        ("paused", Outcome::Stopped { reason: StopReason::Pause }),
        ("shut down", Outcome::Stopped { reason: StopReason::Shutdown }),
        ("failed", Outcome::Failed { error: Error::retry(Code::WriteFailed, "no") }),
    ];
    for (name, outcome) in ends {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Canceling).await;
        fixture.ledger.release(EXECUTOR, id, 1, &outcome).await.unwrap();
        assert_eq!(claim(&fixture, EXECUTOR).await, [id], "{name}");
        invariants::check(&fixture.ledger).await;
    }
    for state in [State::Error, State::New, State::Paused] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Running).await;
        match state {
            State::Error => fixture.fails(id, 1, Error::fatal(Code::SourceMissing, "gone")).await,
            State::New => fixture.stopped(id, 1, StopReason::Shutdown).await,
            _ => {
                fixture.ledger.pause(id, &Scope::All).await.unwrap();
                fixture.stopped(id, 1, StopReason::Pause).await;
            }
        }
        assert_eq!(claim(&fixture, EXECUTOR).await, [], "{state}: it may go on");
        fixture.ledger.delete(id, &Scope::All).await.unwrap();
        assert_eq!(claim(&fixture, EXECUTOR).await, [id], "deleted in {state}");
    }
}

#[tokio::test]
async fn a_sweep_waits_for_an_attempt_that_was_not_seen_to_end() {
    // Forgotten while its attempt is stopping; canceled and then lost; lost and then canceled.
    for case in 0..3 {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(if case == 2 { State::Running } else { State::Canceling }).await;
        if case > 0 {
            fixture.pass(LEASE).await;
        }
        match case {
            0 => drop(fixture.ledger.delete(id, &Scope::All).await.unwrap()),
            1 => assert_eq!(fixture.state(id).await, State::Canceled),
            _ => drop(fixture.ledger.cancel(id, &Scope::All).await.unwrap()),
        }
        fixture.pass(LEASE - MOMENT).await;
        assert_eq!(claim(&fixture, EXECUTOR).await, [], "case {case}");
        fixture.pass(MOMENT).await;
        assert_eq!(claim(&fixture, EXECUTOR).await, [id], "case {case}");
    }
}

#[tokio::test]
async fn a_destination_is_busy_until_a_lost_commit_is_ruled_out() {
    for case in ["lost, then deleted", "deleted, then lost", "failed, then deleted"] {
        let mut fixture = Fixture::new().await;
        let create = async |fixture: &Fixture| {
            fixture.ledger.create(&fixture.request("d", json!({"overwrite": "always"})), OWNER, None).await
        };
        let id = fixture.create("d").await;
        let epoch = fixture.run(id).await;
        fixture.ledger.prepare(EXECUTOR, id, epoch, &completion()).await.unwrap();
        if case == "deleted, then lost" {
            fixture.ledger.delete(id, &Scope::All).await.unwrap();
        }
        fixture.pass(LEASE).await;
        if case == "failed, then deleted" {
            // The second attempt cannot even look at the destination.
            let epoch = fixture.run(id).await;
            fixture.fails(id, epoch, Error::fatal(Code::PermissionDenied, "no")).await;
            assert_eq!(fixture.state(id).await, State::Error);
            assert_eq!(problem(create(&fixture).await), ProblemCode::DestinationBusy, "{case}");
            invariants::check(&fixture.ledger).await;
        }
        if case != "deleted, then lost" {
            fixture.ledger.delete(id, &Scope::All).await.unwrap();
        }
        assert!(!fixture.exists(id).await, "{case}");
        invariants::check(&fixture.ledger).await;
        assert_eq!(problem(create(&fixture).await), ProblemCode::DestinationBusy, "{case}");

        fixture.reopen().await;
        fixture.pass(LEASE).await;
        for done in [false, true] {
            assert_eq!(problem(create(&fixture).await), ProblemCode::DestinationBusy, "{case}: not swept yet");
            assert_eq!(claim(&fixture, EXECUTOR).await, [id], "{case}");
            fixture.ledger.sweep_done(id, done).await.unwrap();
            invariants::check(&fixture.ledger).await;
            fixture.pass(Duration::from_secs(2)).await;
        }
        create(&fixture).await.expect("the destination is free");
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn a_destination_is_free_at_once_when_no_lost_attempt_can_commit() {
    let fixture = Fixture::new().await;
    // Lost before it was allowed to commit; allowed, and seen to end.
    for prepared in [false, true] {
        let id = fixture.create("d").await;
        let epoch = fixture.run(id).await;
        if prepared {
            fixture.ledger.prepare(EXECUTOR, id, epoch, &completion()).await.unwrap();
            fixture.ledger.release_executor(EXECUTOR).await.unwrap();
        } else {
            fixture.pass(LEASE).await;
        }
        fixture.ledger.delete(id, &Scope::All).await.unwrap();
        invariants::check(&fixture.ledger).await;
    }
    fixture.create("d").await;
}

#[tokio::test]
async fn a_transfer_that_completes_after_a_lost_lease_is_swept_a_lease_later() {
    let mut fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.pass(LEASE).await;
    fixture.run_on("another", id).await;
    fixture.ledger.checkpoint("another", id, 2, &report(LENGTH)).await.unwrap();
    fixture.ledger.prepare("another", id, 2, &completion()).await.unwrap();
    fixture.ledger.committed("another", id, 2, &completion()).await.unwrap();
    invariants::check(&fixture.ledger).await;
    fixture.reopen().await;
    fixture.pass(LEASE - MOMENT).await;
    assert_eq!(claim(&fixture, EXECUTOR).await, []);
    fixture.pass(MOMENT).await;
    assert_eq!(claim(&fixture, EXECUTOR).await, [id]);
    fixture.ledger.sweep_done(id, true).await.unwrap();
    assert_eq!(fixture.state(id).await, State::Complete);
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn an_attempt_that_cleans_up_knows_nothing_of_one_that_strayed() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.pass(LEASE).await;
    let epoch = fixture.run(id).await;
    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    fixture.stopped(id, epoch, StopReason::Cancel).await;
    fixture.pass(LEASE).await;
    assert_eq!(claim(&fixture, EXECUTOR).await, [id]);
}

#[tokio::test]
async fn a_sweep_is_one_executors_until_it_ends_or_dies_and_comes_again_when_it_failed() {
    let fixture = Fixture::new().await;
    let id = leave_something(&fixture, "d").await;
    assert_eq!(claim(&fixture, "first").await, [id]);
    assert_eq!(claim(&fixture, "second").await, []);
    fixture.ledger.release_executor("first").await.unwrap();
    assert_eq!(claim(&fixture, "second").await, [id], "its executor died");
    fixture.environment.advance(LEASE * 4 - MOMENT);
    assert_eq!(claim(&fixture, "third").await, []);
    fixture.environment.advance(MOMENT);
    assert_eq!(claim(&fixture, "third").await, [id], "its executor was not heard of");

    let mut waits = Vec::new();
    for _ in 0..20 {
        fixture.ledger.sweep_done(id, false).await.unwrap();
        let mut waited = Duration::ZERO;
        while claim(&fixture, "third").await.is_empty() {
            fixture.environment.advance(Duration::from_secs(1));
            waited += Duration::from_secs(1);
        }
        waits.push(waited.as_secs());
    }
    assert_eq!(waits[..4], [2, 4, 8, 16]);
    assert_eq!(waits.last(), Some(&3600), "it goes on trying");
    fixture.ledger.sweep_done(id, true).await.unwrap();
    fixture.ledger.sweep_done(id, true).await.unwrap();
    fixture.environment.advance(LEASE * 8);
    assert_eq!(claim(&fixture, "third").await, []);
}

/// Sweeps that wait for a root that is not configured any more, by the hundred, must not hold up the others.
#[tokio::test]
async fn sweeps_that_fail_do_not_hold_up_those_behind_them() {
    let fixture = Fixture::new().await;
    let mut failing = Vec::new();
    for index in 0..300 {
        failing.push(leave_something(&fixture, &format!("{index}")).await);
    }
    let mut seen = 0;
    loop {
        let claimed = claim(&fixture, EXECUTOR).await;
        assert!(claimed.len() <= SWEEPS_MAX);
        if claimed.is_empty() {
            break;
        }
        seen += claimed.len();
        for id in claimed {
            fixture.ledger.sweep_done(id, false).await.unwrap();
        }
    }
    assert_eq!(seen, failing.len());
    let next = leave_something(&fixture, "next").await;
    assert_eq!(claim(&fixture, EXECUTOR).await, [next]);
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn sweeps_survive_a_restart_and_wake_who_waits_for_work() {
    let mut fixture = Fixture::new().await;
    let id = leave_something(&fixture, "d").await;
    assert_eq!(claim(&fixture, EXECUTOR).await, [id]);
    fixture.reopen().await;
    // What an executor of the old life says is not needed: the sweep is done once more.
    fixture.ledger.sweep_done(id, true).await.unwrap();
    let mut bell = fixture.ledger.bell();
    bell.mark_unchanged();
    fixture.ledger.tick().await.unwrap();
    assert!(bell.has_changed().unwrap());
    assert_eq!(claim(&fixture, EXECUTOR).await, [id]);
    bell.mark_unchanged();
    fixture.ledger.tick().await.unwrap();
    assert!(!bell.has_changed().unwrap(), "somebody is at it");
}
