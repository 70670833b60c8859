//! Which failures are tried again, after which wait, and what does not count against `retries`.

use std::time::Duration;

use serde_json::json;
use staccato_dataplane::attempt::StopReason;
use staccato_protocols::{Code, Error};

use super::{
    Fixture,
    fixture::{EXECUTOR, LEASE, LENGTH, MOMENT},
    invariants, report,
};
use crate::{
    ledger::{ExecutorProcess, Scope},
    model::{State, transfer::NoteKind},
};

fn broken() -> Error {
    Error::retry(Code::ConnectionLost, "the connection broke")
}

#[tokio::test]
async fn a_retryable_failure_is_tried_again_after_a_wait_and_only_so_often() {
    let mut fixture = Fixture::new().await;
    let id = fixture.create_with("d", json!({"retries": 3})).await;
    for failure in 1..=3u32 {
        let epoch = fixture.run(id).await;
        fixture.fails(id, epoch, broken()).await;
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.failures), (State::New, failure));
        let error = record.error.expect("the document shows it");
        assert_eq!((error.code, error.retryable), (Code::ConnectionLost, true));
        let wait = record.not_before.expect("it waits").since(crate::ledger::Environment::now(&*fixture.environment));
        let ceiling = Duration::from_secs(1 << (failure - 1));
        assert!(wait >= ceiling / 2 && wait <= ceiling, "failure {failure}: {wait:?}");

        assert_eq!(fixture.ledger.mark_ready(id, "early").await, Ok(false), "it is not in the queue");
        fixture.pass(wait - MOMENT).await;
        // Waits are on the wall clock and outlive the process.
        fixture.reopen().await;
        assert_eq!(fixture.ledger.mark_ready(id, "early").await, Ok(false));
        invariants::check(&fixture.ledger).await;
        fixture.pass(MOMENT).await;
        assert_eq!(fixture.record(id).await.not_before, None);
        invariants::check(&fixture.ledger).await;
    }
    let epoch = fixture.run(id).await;
    assert_eq!(epoch, 4);
    fixture.fails(id, epoch, broken()).await;
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.failures, record.not_before), (State::Error, 3, None));
    assert!(record.error.expect("why").retryable, "a person may resume it");
}

#[tokio::test]
async fn a_wait_that_the_other_side_asked_for_is_kept() {
    let fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let epoch = fixture.run(id).await;
    fixture.fails(id, epoch, broken().after(Duration::from_secs(1000))).await;
    fixture.pass(Duration::from_secs(999)).await;
    assert!(fixture.record(id).await.not_before.is_some());
    fixture.pass(Duration::from_secs(1)).await;
    assert!(fixture.record(id).await.not_before.is_none());
}

#[tokio::test]
async fn what_no_later_try_can_help_ends_the_transfer_and_keeps_its_checkpoint() {
    for code in [Code::SourceMissing, Code::PermissionDenied, Code::DestinationExists, Code::Internal] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Running).await;
        fixture.fails(id, 1, Error::fatal(code, "no")).await;
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.progress, record.failures), (State::Error, LENGTH / 2, 0), "{code}");
        assert_eq!(record.error.map(|error| (error.code, error.retryable)), Some((code, false)));
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_fatal_and_nothing_of_it_is_kept() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.fails(id, 1, Error::retry(Code::ChecksumMismatch, "wrong bytes")).await;
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.progress, record.range_pieces), (State::Error, 0, 0));
    assert_eq!(record.error.map(|error| error.retryable), Some(false));
    assert!(record.events.iter().any(|note| note.kind == NoteKind::StartedOver), "progress fell");
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_changed_source_is_tried_again_from_the_start() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.fails(id, 1, Error::source_changed("another version is there")).await;
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.progress, record.failures), (State::New, 0, 1));
    assert_eq!((record.validator, record.bytes_total, record.range_pieces), (None, None, 0));
    assert!(record.events.iter().any(|note| note.kind == NoteKind::StartedOver));
    fixture.pass(Duration::from_secs(1)).await;
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!((spec.checkpoint, spec.validator), (Vec::new(), None));
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn kills_lost_leases_pauses_and_shutdowns_do_not_count() {
    let fixture = Fixture::new().await;
    let id = fixture.create_with("d", json!({"retries": 0})).await;
    for round in 0..3 {
        let epoch = fixture.run(id).await;
        fixture.ledger.checkpoint(EXECUTOR, id, epoch, &report(round * 100)).await.unwrap();
        fixture.pass(LEASE).await;

        let epoch = fixture.run(id).await;
        fixture.stopped(id, epoch, StopReason::Shutdown).await;
        let epoch = fixture.run(id).await;
        fixture.fails(id, epoch, Error::canceled()).await;

        let epoch = fixture.run(id).await;
        fixture.ledger.pause(id, &Scope::All).await.unwrap();
        fixture.stopped(id, epoch, StopReason::Pause).await;
        assert_eq!(fixture.state(id).await, State::Paused);
        fixture.ledger.resume(id, &Scope::All).await.unwrap();

        let victim = format!("victim-{round}");
        let process = ExecutorProcess { instance: victim.clone(), pid: 1, start_ticks: 1, boot_id: String::new() };
        fixture.ledger.register_executor(&process).await.unwrap();
        fixture.run_on(&victim, id).await;
        fixture.environment.kill(&victim);
        fixture.pass(MOMENT).await;
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.failures, record.not_before), (State::New, 0, None), "at once, unpunished");
    }
    assert_eq!(fixture.record(id).await.epoch, 15);
    let epoch = fixture.run(id).await;
    fixture.fails(id, epoch, broken()).await;
    assert_eq!(fixture.state(id).await, State::Error, "a failure does");
}

#[tokio::test]
async fn waits_that_end_together_do_not_hold_up_one_another() {
    let fixture = Fixture::new().await;
    let mut waiting = Vec::new();
    for index in 0..30 {
        let id = fixture.create(&format!("{index}")).await;
        let epoch = fixture.run(id).await;
        fixture.fails(id, epoch, broken()).await;
        waiting.push(id);
    }
    let gone = waiting.remove(7);
    fixture.ledger.cancel(gone, &Scope::All).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    for id in waiting {
        assert_eq!(fixture.ledger.mark_ready(id, "its turn").await, Ok(true));
    }
    assert_eq!(fixture.state(gone).await, State::Canceled);
    invariants::check(&fixture.ledger).await;
}
