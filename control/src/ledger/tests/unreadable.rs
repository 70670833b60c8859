//! A record that this version cannot read (a newer one wrote it, or it is damaged) stops nobody but itself, stays as it
//! is, and goes on where a version comes that reads it.

use std::{sync::Arc, time::Duration};

use staccato_dataplane::attempt::StopReason;
use staccato_protocols::{Code, Error};
use staccato_scheduler_plugins::Slots;

use super::{
    Fixture,
    fixture::{EXECUTOR, LEASE, OWNER, READY},
};
use crate::{
    ledger::{ExecutorProcess, Held, ListQuery, Scope, keys},
    model::{State, TransferId, TransferRecord, transfer::RECORD_VERSION},
    scheduler::{Scheduler, SchedulerConfig},
    store::Commit,
};

/// Makes a record one of a newer version; what it was.
async fn replace_by_newer(fixture: &Fixture, id: TransferId) -> TransferRecord {
    let record = fixture.record(id).await;
    fixture.overwrite(&TransferRecord { version: RECORD_VERSION + 1, ..record.clone() }).await;
    record
}

async fn put(fixture: &Fixture, key: &[u8], value: &str) {
    fixture.store.commit(Commit::new().put(key, value)).await.unwrap();
}

#[tokio::test]
async fn it_is_taken_out_of_the_line_of_ready_transfers() {
    let fixture = Fixture::new().await;
    let (unreadable, next) = (fixture.in_state(State::Ready).await, fixture.in_state(State::Ready).await);
    replace_by_newer(&fixture, unreadable).await;
    let spec = fixture.ledger.claim(EXECUTOR, 1).await.unwrap().pop().expect("one is ready");
    assert_eq!(spec.transfer, next.to_string());
    assert_eq!(fixture.ledger.claim(EXECUTOR, 1).await, Ok(Vec::new()));
    fixture.pass(READY).await;
    assert_eq!(fixture.ledger.stats().unreadable, 1);
}

#[tokio::test]
async fn it_takes_no_slot_and_no_turn_of_the_scheduler() {
    let mut fixture = Fixture::new().await;
    let ready = fixture.in_state(State::Ready).await;
    let (waiting, next) = (fixture.create("1").await, fixture.create("2").await);
    for id in [ready, waiting] {
        replace_by_newer(&fixture, id).await;
    }
    fixture.reopen().await;
    let mut scheduler = Scheduler::new(fixture.ledger.clone(), Arc::new(Slots::new(1)), SchedulerConfig::default());
    for _ in 0..3 {
        scheduler.decide().await.unwrap();
        scheduler.catch_up();
    }
    assert_eq!(fixture.state(next).await, State::Ready, "the only slot is its own");
    assert_eq!(fixture.ledger.stats().unreadable, 2);
}

#[tokio::test]
async fn it_does_not_stop_the_ledger_from_opening_and_goes_on_once_it_can_be_read() {
    let mut fixture = Fixture::new().await;
    let mut newer = Vec::new();
    for state in [State::Ready, State::Running, State::Canceling] {
        let id = fixture.in_state(state).await;
        newer.push(replace_by_newer(&fixture, id).await);
    }
    let kept = fixture.in_state(State::Running).await;
    put(&fixture, b"e/newer", "[]").await;

    fixture.reopen().await;
    assert_eq!(
        fixture.ledger.heartbeat(EXECUTOR, &[Held { transfer: kept, epoch: 1, stopping: None, distribution: None }]),
        []
    );
    assert_eq!(fixture.ledger.claim(EXECUTOR, 1).await, Ok(Vec::new()));
    fixture.pass(LEASE).await;
    assert_eq!(fixture.state(kept).await, State::New);

    for record in &newer {
        fixture.overwrite(record).await;
    }
    fixture.reopen().await;
    assert_eq!(fixture.ledger.stats().unreadable, 1, "the executor's");
    assert_eq!(
        fixture.ledger.claim("another", 1).await.unwrap().pop().expect("ready").transfer,
        newer[0].id.to_string()
    );
    fixture.pass(LEASE).await;
    assert_eq!(fixture.state(newer[1].id).await, State::New);
    assert_eq!(fixture.state(newer[2].id).await, State::Canceled);
}

#[tokio::test]
async fn its_lease_ends_and_so_do_those_of_others() {
    for died in [false, true] {
        let fixture = Fixture::new().await;
        let process = ExecutorProcess { instance: EXECUTOR.into(), pid: 1, start_ticks: 1, boot_id: "boot".to_owned() };
        fixture.ledger.register_executor(&process).await.unwrap();
        let (unreadable, others) = (fixture.in_state(State::Running).await, fixture.in_state(State::Running).await);
        replace_by_newer(&fixture, unreadable).await;
        if died {
            fixture.ledger.release_executor(EXECUTOR).await.unwrap();
        } else {
            fixture.pass(LEASE).await;
        }
        assert_eq!(fixture.state(others).await, State::New);
        let told = fixture
            .ledger
            .heartbeat(EXECUTOR, &[Held { transfer: unreadable, epoch: 1, stopping: None, distribution: None }]);
        assert_eq!(told.first().map(|one| one.stop), Some(StopReason::LeaseLost));
        assert_eq!(fixture.ledger.stats().unreadable, 1);
    }
}

/// More of them than are looked at in one go.
#[tokio::test]
async fn waits_of_others_end_behind_any_number_of_them() {
    let fixture = Fixture::new().await;
    let mut waiting = Vec::new();
    for index in 0..1100 {
        let id = fixture.create(&format!("{index}")).await;
        let epoch = fixture.run(id).await;
        fixture.fails(id, epoch, Error::retry(Code::ReadFailed, "no")).await;
        waiting.push((fixture.record(id).await.not_before, id));
    }
    waiting.sort();
    let (_, last) = waiting.pop().unwrap();
    for (_, id) in waiting {
        replace_by_newer(&fixture, id).await;
    }
    for _ in 0..2 {
        fixture.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(fixture.record(last).await.not_before, None, "it waits for its turn only");
}

#[tokio::test]
async fn a_sweep_that_cannot_be_read_holds_up_no_other_and_wakes_nobody() {
    let fixture = Fixture::new().await;
    let (unreadable, next) = (fixture.in_state(State::Running).await, fixture.in_state(State::Running).await);
    for id in [unreadable, next] {
        fixture.stopped(id, 1, StopReason::Shutdown).await;
        fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    }
    let found = fixture.store.range(keys::SWEEPS, &keys::end_of(keys::SWEEPS), 10, false).await.unwrap();
    assert_eq!((found.len(), keys::trailing_id(&found[0].0)), (2, Some(unreadable)));
    put(&fixture, &found[0].0, r#"{"newer":1}"#).await;
    put(&fixture, b"g/nobody", "{}").await;

    let sweeps = fixture.ledger.claim_sweeps(EXECUTOR).await.unwrap();
    assert_eq!(sweeps.iter().map(|sweep| sweep.transfer).collect::<Vec<_>>(), [next]);
    fixture.ledger.sweep_done(next, true).await.unwrap();
    let mut bell = fixture.ledger.bell();
    bell.mark_unchanged();
    fixture.ledger.tick().await.unwrap();
    assert!(!bell.has_changed().unwrap(), "there is nothing to do");
    assert_eq!(fixture.ledger.claim_sweeps(EXECUTOR).await, Ok(Vec::new()));

    // It waits for whoever can read it.
    put(&fixture, &found[0].0, std::str::from_utf8(&found[0].1.value).unwrap()).await;
    let sweeps = fixture.ledger.claim_sweeps(EXECUTOR).await.unwrap();
    assert_eq!(sweeps.iter().map(|sweep| sweep.transfer).collect::<Vec<_>>(), [unreadable]);
}

#[tokio::test]
async fn a_list_shows_all_others() {
    let fixture = Fixture::new().await;
    let (first, unreadable, last) = (fixture.create("1").await, fixture.create("2").await, fixture.create("3").await);
    replace_by_newer(&fixture, unreadable).await;
    for scope in [Scope::All, Scope::Owner(OWNER.into())] {
        for state in [None, Some(State::New)] {
            let query = ListQuery { scope: scope.clone(), distribution: None, state, marker: None, limit: 10 };
            let page = fixture.ledger.list(&query).await.unwrap();
            let found: Vec<_> = page.transfers.iter().map(|document| document.id.clone()).collect();
            assert_eq!(found, [first.to_string(), last.to_string()], "{scope:?} {state:?}");
        }
    }
    // Asked for by name, it says what is wrong.
    let error = fixture.ledger.get(unreadable, &Scope::All).await.unwrap_err();
    assert!(error.to_string().contains("newer Staccato"), "{error}");
}
