//! Creating: one live transfer for a destination, one transfer for an idempotency key.

use serde_json::json;
use staccato_dataplane::attempt::{CheckpointReport, Completion, StageTimes, StopReason};
use staccato_protocols::{Code, Error};

use super::{
    Fixture,
    fixture::{EXECUTOR, OWNER},
    invariants, problem,
};
use crate::{
    ledger::{LedgerError, Scope, change::encode_record},
    model::{
        Failure, Problem, ProblemCode, State, TransferId,
        request::OPTIONS_BYTES_MAX,
        transfer::{EVENTS_MAX, MESSAGE_BYTES_MAX, NOTE_BYTES_MAX, NoteKind, PreparedCommit},
    },
    store::contract::VALUE_BYTES_MAX,
};

fn refusal<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> Problem {
    match result {
        Err(LedgerError::Problem(problem)) => problem,
        other => panic!("no problem: {other:?}"),
    }
}

#[tokio::test]
async fn a_new_transfer_waits_and_shows_what_was_asked() {
    let fixture = Fixture::new().await;
    let more = json!({"start_offset": 10, "priority": 7, "retries": 2, "overwrite": "always"});
    let created = fixture.ledger.create(&fixture.request("d", more), OWNER, None).await.unwrap();
    let document = created.document;
    assert!(!created.replayed);
    assert_eq!((document.state, document.progress, document.attempts), (State::New, 0, 0));
    assert_eq!((document.start_offset, document.end_offset, document.bytes_total), (10, -1, None));
    assert_eq!((document.priority, document.retries, document.overwrite.as_str()), (7, 2, "always"));
    assert_eq!(document.owner, OWNER);
    let id: TransferId = document.id.parse().unwrap();
    assert_eq!(fixture.ledger.get(id, &Scope::All).await, Ok(document));
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn ids_follow_the_order_of_submission_also_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let mut last = None;
    for index in 0..10 {
        let id = fixture.create(&format!("{index}")).await;
        assert!(last < Some(id));
        last = Some(id);
        fixture.reopen().await;
    }
}

#[tokio::test]
async fn a_second_live_transfer_to_one_destination_is_refused_until_the_first_has_ended() {
    for state in State::ALL {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        let name = fixture.record(id).await.destination_url;
        let name = name.strip_prefix("stub://to/").unwrap();
        let second = fixture.ledger.create(&fixture.request(name, json!({})), OWNER, None).await;
        if state.is_ended() {
            assert!(second.is_ok(), "{state}");
        } else {
            let problem = refusal(second);
            assert_eq!(
                (problem.code, problem.field.as_deref()),
                (ProblemCode::DestinationBusy, Some("destination_url"))
            );
            assert!(problem.detail.contains(&id.to_string()), "{}", problem.detail);
        }
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn a_busy_destination_tells_a_stranger_nothing_of_its_holder() {
    let fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let problem = refusal(fixture.ledger.create(&fixture.request("d", json!({})), "stranger", None).await);
    assert_eq!(problem.code, ProblemCode::DestinationBusy);
    assert!(!problem.detail.contains(&id.to_string()) && !problem.detail.contains(OWNER), "{}", problem.detail);
    // Another spelling is the same destination, another query is another one.
    let spelled = refusal(fixture.ledger.create(&fixture.request("%64", json!({})), OWNER, None).await);
    assert_eq!(spelled.code, ProblemCode::DestinationBusy);
    fixture.create("d?version=2").await;
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn a_failed_transfer_resumes_only_while_its_destination_is_free() {
    let fixture = Fixture::new().await;
    let failed = fixture.create("d").await;
    let epoch = fixture.run(failed).await;
    fixture.fails(failed, epoch, Error::fatal(Code::SourceMissing, "gone")).await;
    let second = fixture.create("d").await;
    let problem = refusal(fixture.ledger.resume(failed, &Scope::All).await);
    assert_eq!(problem.code, ProblemCode::DestinationBusy);
    assert!(problem.detail.contains(&second.to_string()));
    assert_eq!(fixture.state(failed).await, State::Error);
    invariants::check(&fixture.ledger).await;
    fixture.ledger.cancel(second, &Scope::All).await.unwrap();
    fixture.ledger.resume(failed, &Scope::All).await.unwrap();
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn the_destination_is_free_once_a_canceled_attempt_is_released() {
    let fixture = Fixture::new().await;
    let id = fixture.create("d").await;
    let epoch = fixture.run(id).await;
    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    let busy = fixture.ledger.create(&fixture.request("d", json!({})), OWNER, None).await;
    assert_eq!(problem(busy), ProblemCode::DestinationBusy);
    fixture.stopped(id, epoch, StopReason::Cancel).await;
    fixture.create("d").await;
}

#[tokio::test]
async fn an_idempotency_key_brings_the_original_as_it_is_now() {
    let mut fixture = Fixture::new().await;
    let request = fixture.request("d", json!({"source_options": {"token": "s"}}));
    let original = fixture.ledger.create(&request, OWNER, Some("key")).await.unwrap();
    let id: TransferId = original.document.id.parse().unwrap();
    fixture.run(id).await;
    fixture.reopen().await;
    let again = fixture.ledger.create(&request, OWNER, Some("key")).await.unwrap();
    assert!(again.replayed);
    assert_eq!((again.document.id, again.document.state), (original.document.id, State::Running));

    for other in [json!({}), json!({"source_options": {"token": "t"}}), json!({"priority": 1})] {
        let problem = refusal(fixture.ledger.create(&fixture.request("d", other), OWNER, Some("key")).await);
        assert_eq!((problem.code, problem.status()), (ProblemCode::IdempotencyKeyReused, 422));
        assert_eq!(problem.field.as_deref(), Some("Idempotency-Key"));
    }
    // A key is its owner's own.
    let request = fixture.request("e", json!({}));
    assert!(!fixture.ledger.create(&request, "stranger", Some("key")).await.unwrap().replayed);
    invariants::check(&fixture.ledger).await;

    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    fixture.stopped(id, 1, StopReason::Cancel).await;
    fixture.ledger.delete(id, &Scope::All).await.unwrap();
    let request = fixture.request("d", json!({}));
    let fresh = fixture.ledger.create(&request, OWNER, Some("key")).await.unwrap();
    assert!(!fresh.replayed, "a key lives as long as what it made");
}

#[tokio::test]
async fn requests_with_one_key_at_one_time_make_one_transfer() {
    let fixture = Fixture::new().await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (ledger, request) = (fixture.ledger.clone(), fixture.request("d", json!({})));
            tokio::spawn(async move { ledger.create(&request, OWNER, Some("key")).await })
        })
        .collect();
    let (mut ids, mut made) = (std::collections::BTreeSet::new(), 0);
    for task in tasks {
        let created = task.await.unwrap().expect("the same answer for everybody");
        made += usize::from(!created.replayed);
        ids.insert(created.document.id);
    }
    assert_eq!((ids.len(), made), (1, 1));
    invariants::check(&fixture.ledger).await;
}

/// A store takes values up to a bound and panics beyond: nothing that a client sends may reach it.
#[tokio::test]
async fn the_largest_request_there_can_be_is_recorded() {
    let fixture = Fixture::new().await;
    // Quotes take two bytes each in JSON; nothing that is let in takes more.
    let url = |side: &str| format!("{}{}", format_args!("stub://{side}/"), "\"".repeat(4096 - 12));
    let names = 60;
    let value = "\"".repeat(OPTIONS_BYTES_MAX / names - "plain.00".len());
    let options: serde_json::Map<_, _> =
        (0..names / 2).map(|index| (format!("plain.{index:02}"), value.clone().into())).collect();
    let body = json!({
        "source_url": url("a"), "destination_url": url("b"),
        "source_options": options, "destination_options": options,
        "checksum": format!("sha512:{}", "0".repeat(128)), "rate_limit": u64::MAX,
        "start_offset": i64::MAX, "end_offset": i64::MAX,
    });
    let request = crate::model::CreateRequest::from_json(&body, fixture.ledger.registry()).unwrap();
    let owner = "o".repeat(100);
    let created = fixture.ledger.create(&request, &owner, Some("key")).await.unwrap();
    let id: TransferId = created.document.id.parse().unwrap();
    fixture.run(id).await;
    let mut record = fixture.record(id).await;
    let long = |bytes: usize| "\"".repeat(bytes);
    record.error = Some(Failure::from_error(&Error::retry(Code::IoUringUnavailable, long(MESSAGE_BYTES_MAX * 2))));
    for _ in 0..EVENTS_MAX {
        record.note(record.created_at, NoteKind::VerificationFailed, long(NOTE_BYTES_MAX * 2));
    }
    fixture.overwrite(&record).await;
    let validator = Some(staccato_protocols::Validator::Etag { etag: long(2000), size: Some(u64::MAX) });
    let most = u64::MAX;
    let stages = StageTimes {
        open_us: most,
        idle_us: most,
        sync_wait_us: most,
        queue_us: most,
        memory_us: most,
        read_us: most,
        checksum_us: most,
        write_us: most,
        read_back_us: most,
        sync_us: most,
        verify_us: most,
        ledger_us: most,
        commit_us: most,
    };
    let report = CheckpointReport { validator, stages, ..Default::default() };
    fixture.ledger.checkpoint(EXECUTOR, id, 1, &report).await.unwrap();
    let completion = Completion {
        bytes_total: most,
        bytes_fetched: most,
        bytes_from_peers: 0,
        crc32: Some(u32::MAX),
        identity: None,
        stages,
    };
    let mut record = fixture.record(id).await;
    record.prepared = Some(PreparedCommit { epoch: 1, completion });
    fixture.overwrite(&record).await;
    let bytes = encode_record(&fixture.record(id).await).len();
    assert!(bytes < VALUE_BYTES_MAX, "{bytes}");

    // Everything secret.
    let secret = json!({
        "source_url": format!("{}?", url("c").split_at(4000).0), "destination_url": format!("{}?", url("d").split_at(4000).0),
        "source_options": {"token": long(OPTIONS_BYTES_MAX / 2 - 5)}, "destination_options": {"token": long(OPTIONS_BYTES_MAX / 2 - 5)},
    });
    let request = crate::model::CreateRequest::from_json(&secret, fixture.ledger.registry()).unwrap();
    fixture.ledger.create(&request, &owner, None).await.unwrap();
}
