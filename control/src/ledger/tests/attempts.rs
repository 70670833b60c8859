//! What executors may say of an attempt, when they are believed, and what a stale one finds.

use staccato_dataplane::attempt::{
    CheckpointReport, Completion, Outcome, Part, StageTimes, StartOver, StopReason, VerifiedRange,
};
use staccato_protocols::{ByteRange, Code, Error, Validator};

use super::{
    Fixture, completion,
    fixture::{EXECUTOR, LEASE, LENGTH, MOMENT},
    invariants, is_refused, report,
};
use crate::{
    ledger::{Ledger, Prepared, Scope, change::RANGES_MAX},
    model::{State, TransferId, transfer::NoteKind},
};

/// Says everything an executor can say of an attempt; all of it is refused.
async fn speaks_in_vain(ledger: &Ledger, executor: &str, id: TransferId, epoch: u64) {
    let case = format!("{executor} with epoch {epoch}");
    assert!(is_refused(&ledger.checkpoint(executor, id, epoch, &report(LENGTH)).await), "{case}: checkpoint");
    assert!(is_refused(&ledger.prepare(executor, id, epoch, &completion()).await), "{case}: prepare");
    assert!(is_refused(&ledger.committed(executor, id, epoch, &completion()).await), "{case}: committed");
    for outcome in [
        Outcome::Committed(completion()),
        Outcome::Stopped { reason: StopReason::Cancel },
        Outcome::Failed { error: Error::fatal(Code::Internal, "broken") },
        Outcome::CommitUnknown { error: Error::fatal(Code::SyncFailed, "broken") },
    ] {
        assert!(is_refused(&ledger.release(executor, id, epoch, &outcome).await), "{case}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_stale_attempt_is_refused_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.pass(LEASE).await;
    fixture.run_on("another", id).await;
    let before = invariants::everything(fixture.store.as_ref()).await;
    // The old holder with its epoch and with the new one, the new holder with others.
    for (executor, epoch) in [(EXECUTOR, 1), (EXECUTOR, 2), ("another", 1), ("another", 3), ("another", 0)] {
        speaks_in_vain(&fixture.ledger, executor, id, epoch).await;
        assert_eq!(invariants::everything(fixture.store.as_ref()).await, before);
    }
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn whoever_holds_no_lease_is_refused_in_every_state() {
    for state in State::ALL {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        if state.is_leased() {
            fixture.pass(LEASE).await;
        }
        let before = invariants::everything(fixture.store.as_ref()).await;
        let epoch = fixture.record(id).await.epoch;
        if state == State::Complete {
            // Saying again what is so already is no error, and has no effect either.
            assert_eq!(fixture.ledger.committed(EXECUTOR, id, epoch, &completion()).await, Ok(()));
            speaks_in_vain(&fixture.ledger, EXECUTOR, id, epoch + 1).await;
        } else {
            speaks_in_vain(&fixture.ledger, EXECUTOR, id, epoch).await;
        }
        assert_eq!(invariants::everything(fixture.store.as_ref()).await, before, "{state}");

        fixture.ledger.delete(id, &Scope::All).await.unwrap();
        assert!(!fixture.exists(id).await, "{state}");
        speaks_in_vain(&fixture.ledger, EXECUTOR, id, epoch).await;
    }
}

#[tokio::test]
async fn stage_times_are_those_of_the_last_attempt() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.checkpoint(EXECUTOR, id, 1, &report(LENGTH / 2)).await.unwrap();
    assert_eq!(fixture.record(id).await.stages, report(LENGTH / 2).stages);
    fixture.pass(LEASE).await;
    fixture.run(id).await;
    assert_eq!(fixture.record(id).await.stages, StageTimes::default(), "another attempt has begun");
    fixture.ledger.prepare(EXECUTOR, id, 2, &completion()).await.unwrap();
    fixture.ledger.committed(EXECUTOR, id, 2, &completion()).await.unwrap();
    let record = fixture.record(id).await;
    assert_eq!(record.stages, completion().stages);
    assert_eq!(record.document().stage_times, [("read".to_owned(), 1)].into(), "stages without time are left out");
}

#[tokio::test]
async fn an_attempt_that_completes_is_complete_however_often_it_says_so() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    for _ in 0..2 {
        assert_eq!(fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await, Ok(Prepared::Allowed));
    }
    fixture.environment.advance(MOMENT);
    fixture.ledger.committed(EXECUTOR, id, 1, &completion()).await.unwrap();
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.progress, record.crc32), (State::Complete, LENGTH, completion().crc32));
    assert_eq!((record.range_pieces, record.prepared, record.error.clone()), (0, None, None));
    fixture.environment.advance(MOMENT);
    fixture.ledger.committed(EXECUTOR, id, 1, &completion()).await.unwrap();
    fixture.ledger.release(EXECUTOR, id, 1, &Outcome::Committed(completion())).await.unwrap();
    assert_eq!(fixture.record(id).await, record);
    let stats = fixture.ledger.stats();
    assert_eq!((stats.completed, stats.bytes_completed, stats.bytes_fetched), (1, LENGTH, LENGTH));
}

#[tokio::test]
async fn nothing_is_committed_that_was_not_prepared() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    assert!(is_refused(&fixture.ledger.committed(EXECUTOR, id, 1, &completion()).await));
    assert_eq!(fixture.state(id).await, State::Running);
    let cancel = fixture.in_state(State::Canceling).await;
    assert_eq!(
        fixture.ledger.prepare(EXECUTOR, cancel, 1, &completion()).await,
        Ok(Prepared::Stop(StopReason::Cancel))
    );
    assert!(is_refused(&fixture.ledger.committed(EXECUTOR, cancel, 1, &completion()).await));
    let error = fixture.in_state(State::Erroring).await;
    assert_eq!(fixture.ledger.prepare(EXECUTOR, error, 1, &completion()).await, Ok(Prepared::Stop(StopReason::Pause)));
    assert!(is_refused(&fixture.ledger.committed(EXECUTOR, error, 1, &completion()).await));
}

#[tokio::test]
async fn a_commit_whose_word_was_lost_is_completed_by_the_next_attempt() {
    let mut fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    fixture.reopen().await;
    fixture.pass(LEASE).await;
    let spec = fixture.run_on("another", id).await;
    assert_eq!(spec.prepared, Some(completion()));
    // It finds the object at the destination: nothing was fetched, nothing is left to be prepared.
    fixture.ledger.committed("another", id, 2, &Completion { bytes_fetched: 0, ..completion() }).await.unwrap();
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.bytes_fetched()), (State::Complete, LENGTH));
}

#[tokio::test]
async fn an_object_of_somebody_else_at_the_destination_ends_what_was_prepared() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.prepare(EXECUTOR, id, 1, &completion()).await.unwrap();
    fixture.fails(id, 1, Error::fatal(Code::DestinationExists, "it is there")).await;
    let record = fixture.record(id).await;
    assert_eq!((record.state, record.prepared, record.progress), (State::Error, None, LENGTH / 2));
}

#[tokio::test]
async fn progress_falls_only_with_an_event_that_says_why() {
    let fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let epoch = fixture.run(id).await;
    for (report, progress, kind) in [
        (report(LENGTH / 2), LENGTH / 2, NoteKind::AttemptStarted),
        (report(LENGTH / 2), LENGTH / 2, NoteKind::AttemptStarted),
        (report(LENGTH / 4), LENGTH / 4, NoteKind::VerificationFailed),
        (report(LENGTH), LENGTH, NoteKind::VerificationFailed),
        (CheckpointReport { started_over: Some(StartOver::PartialGone), ..report(0) }, 0, NoteKind::StartedOver),
        (report(LENGTH / 8), LENGTH / 8, NoteKind::StartedOver),
    ] {
        fixture.environment.advance(MOMENT);
        fixture.ledger.checkpoint(EXECUTOR, id, epoch, &report).await.unwrap();
        let record = fixture.record(id).await;
        assert_eq!((record.progress, record.events.last().unwrap().kind), (progress, kind), "{report:?}");
        invariants::check(&fixture.ledger).await;
    }
    let falls = fixture.record(id).await.events;
    assert!(falls.iter().any(|note| note.message.ends_with(&format!("progress fell from {LENGTH} to 0"))), "{falls:?}");
}

#[tokio::test]
async fn an_attempt_that_starts_over_is_quoted_with_its_own_reason() {
    for (reason, words) in [
        (StartOver::SourceChanged, "the source changed"),
        (StartOver::SourceUnversioned, "does not tell its version"),
        (StartOver::PartialGone, "is not beside the destination any more"),
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(State::Running).await;
        let anew = CheckpointReport { started_over: Some(reason), ..report(0) };
        fixture.ledger.checkpoint(EXECUTOR, id, 1, &anew).await.unwrap();
        let record = fixture.record(id).await;
        let note = record.events.last().unwrap();
        assert_eq!(note.kind, NoteKind::StartedOver);
        assert!(note.message.contains(words) && !note.message.contains("verif"), "{reason:?}: {}", note.message);
    }
}

#[tokio::test]
async fn a_checkpoint_survives_everything_and_is_handed_to_the_next_attempt() {
    let mut fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let epoch = fixture.run(id).await;
    // More ranges than one key holds, with gaps.
    let ranges: Vec<_> = (0..1500u32)
        .map(|at| VerifiedRange {
            range: ByteRange::new(u64::from(at) * 20, u64::from(at) * 20 + 10).unwrap(),
            crc32: at,
        })
        .collect();
    let report = CheckpointReport { ranges: ranges.clone(), ..report(0) };
    fixture.ledger.checkpoint(EXECUTOR, id, epoch, &report).await.unwrap();
    fixture.reopen().await;
    fixture.pass(LEASE).await;
    let spec = fixture.run_on("another", id).await;
    assert_eq!((spec.checkpoint, spec.validator), (ranges, report.validator.clone()));
    assert_eq!(fixture.record(id).await.progress, 15_000);

    // Fewer ones leave nothing of the old ones behind.
    fixture.ledger.checkpoint("another", id, 2, &super::report(LENGTH)).await.unwrap();
    assert_eq!(fixture.record(id).await.range_pieces, 1);
    invariants::check(&fixture.ledger).await;
}

/// What is claimed together is told in one answer, which is bounded like every body.
#[tokio::test]
async fn long_checkpoints_are_not_claimed_together() {
    let mut fixture = Fixture::new().await;
    let mut ids = Vec::new();
    for name in ["1", "2"] {
        let id = fixture.create(name).await;
        let epoch = fixture.run(id).await;
        let range = |at: u64| VerifiedRange { range: ByteRange::new(2 * at, 2 * at + 1).unwrap(), crc32: u32::MAX };
        let ranges = (0..RANGES_MAX as u64).map(range).collect();
        let bytes_total = Some(2 * RANGES_MAX as u64);
        let long = CheckpointReport { ranges, bytes_total, ..report(0) };
        fixture.ledger.checkpoint(EXECUTOR, id, epoch, &long).await.unwrap();
        ids.push(id);
    }
    ids.push(fixture.create("3").await);
    fixture.reopen().await;
    fixture.pass(LEASE).await;
    for id in &ids {
        assert!(fixture.ledger.mark_ready(*id, "a slot is free").await.unwrap());
    }
    for together in [&ids[..1], &ids[1..], &[]] {
        let claimed = fixture.ledger.claim("another", 10).await.unwrap();
        let claimed: Vec<_> = claimed.into_iter().map(|spec| spec.transfer).collect();
        assert_eq!(claimed, together.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}

/// A store takes values up to a bound and panics beyond: nothing that a client or an executor sends may reach it.
#[tokio::test]
async fn the_largest_checkpoint_there_can_be_is_recorded() {
    let fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let epoch = fixture.run(id).await;
    let first = u64::MAX - 2 * (RANGES_MAX as u64 + 10);
    let range =
        |at: u64| VerifiedRange { range: ByteRange::new(first + 2 * at, first + 2 * at + 1).unwrap(), crc32: u32::MAX };
    let ranges: Vec<_> = (0..RANGES_MAX as u64 + 5).map(range).collect();
    let validator = Some(Validator::Etag { etag: "\"".repeat(1900), size: Some(u64::MAX) });
    let largest = CheckpointReport { ranges, bytes_total: Some(u64::MAX), validator, ..report(0) };
    fixture.ledger.checkpoint(EXECUTOR, id, epoch, &largest).await.unwrap();
    let record = fixture.record(id).await;
    assert_eq!(record.progress, RANGES_MAX as u64, "of more ranges than are kept, some are fetched again");
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_report_that_contradicts_the_request_or_itself_is_not_believed() {
    let ranges = |ranges: &[(u64, u64)]| {
        let ranges =
            ranges.iter().map(|(start, end)| VerifiedRange { range: ByteRange::new(*start, *end).unwrap(), crc32: 0 });
        CheckpointReport { ranges: ranges.collect(), ..report(0) }
    };
    for wrong in [
        CheckpointReport { bytes_total: Some(LENGTH + 1), ..report(0) },
        ranges(&[(0, LENGTH + 1)]),
        ranges(&[(0, 10), (5, 20)]),
        ranges(&[(20, 30), (0, 10)]),
        ranges(&[(10, 10)]),
        CheckpointReport { validator: Some(Validator::Etag { etag: "e".repeat(5000), size: None }), ..report(0) },
    ] {
        let fixture = Fixture::new().await;
        let id = fixture.create_with("d", serde_json::json!({"start_offset": 100, "end_offset": 100 + LENGTH})).await;
        let epoch = fixture.run(id).await;
        fixture.ledger.checkpoint(EXECUTOR, id, epoch, &report(LENGTH / 2)).await.unwrap();
        fixture.ledger.checkpoint(EXECUTOR, id, epoch, &wrong).await.unwrap();
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.progress), (State::Erroring, LENGTH / 2), "{wrong:?}");
        assert_eq!(record.error.map(|error| (error.code, error.retryable)), Some((Code::Internal, false)));
        fixture.stopped(id, epoch, StopReason::Pause).await;
        assert_eq!(fixture.state(id).await, State::Error);
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn a_completion_that_contradicts_the_request_is_not_allowed() {
    let wrong_length = Completion { bytes_total: LENGTH - 1, ..completion() };
    let wrong_crc = Completion { crc32: Some(1), ..completion() };
    for wrong in [wrong_length, wrong_crc] {
        let fixture = Fixture::new().await;
        let more = serde_json::json!({"end_offset": LENGTH, "checksum": "crc32:12345678"});
        let id = fixture.create_with("d", more).await;
        let epoch = fixture.run(id).await;
        let answer = fixture.ledger.prepare(EXECUTOR, id, epoch, &wrong).await;
        assert_eq!(answer, Ok(Prepared::Stop(StopReason::Pause)));
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.prepared), (State::Erroring, None));
    }
}

#[tokio::test]
async fn an_attempt_is_told_all_that_was_asked() {
    let fixture = Fixture::new().await;
    let more = serde_json::json!({
        "start_offset": 5, "end_offset": 15, "overwrite": "always", "checksum": "crc32:0a0b0c0d",
        "rate_limit": 1000, "chunk_size": 1 << 20, "connections": 3,
        "source_options": {"token": "secret", "plain.a": "1"}, "destination_options": {"plain.b": "2"},
    });
    let id = fixture.create_with("d?sig=1", more).await;
    let spec = fixture.run_on(EXECUTOR, id).await;
    assert_eq!((spec.transfer, spec.epoch), (id.to_string(), 1));
    assert_eq!((spec.source_url.as_str(), spec.destination_url.as_str()), ("stub://from/s", "stub://to/d?sig=1"));
    assert_eq!(spec.source_options, [("plain.a", "1"), ("token", "secret")].map(owned).into());
    assert_eq!(spec.destination_options, [("plain.b", "2")].map(owned).into());
    assert_eq!(spec.part, Part { start: 5, end: Some(15) });
    assert_eq!(spec.overwrite, staccato_protocols::contract::Overwrite::Always);
    assert_eq!(spec.checksum.map(|checksum| checksum.to_string()), Some("crc32:0a0b0c0d".to_owned()));
    assert_eq!((spec.rate_limit, spec.chunk_size, spec.connections), (Some(1000), Some(1 << 20), Some(3)));
    assert_eq!((spec.validator, spec.checkpoint, spec.prepared), (None, Vec::new(), None));
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn two_executors_never_get_one_transfer() {
    let fixture = Fixture::new().await;
    for index in 0..20 {
        let id = fixture.create(&format!("{index}")).await;
        fixture.ledger.mark_ready(id, "a slot").await.unwrap();
    }
    let claims = (0..40).map(|executor| {
        let ledger = fixture.ledger.clone();
        tokio::spawn(async move { ledger.claim(&format!("executor-{executor}"), 1).await.unwrap().pop() })
    });
    let mut claimed = std::collections::BTreeSet::new();
    for claim in claims.collect::<Vec<_>>() {
        if let Some(spec) = claim.await.unwrap() {
            assert!(claimed.insert(spec.transfer), "claimed twice");
        }
    }
    assert_eq!(claimed.len(), 20);
    invariants::check(&fixture.ledger).await;
}
