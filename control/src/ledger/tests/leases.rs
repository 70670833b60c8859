//! Leases end by themselves, with their executor, and never early.

use std::time::Duration;

use staccato_dataplane::attempt::StopReason;

use super::{
    Fixture, completion,
    fixture::{EXECUTOR, LEASE, LENGTH, MOMENT, READY},
    invariants, is_refused, report,
};
use crate::{
    ledger::{Directive, ExecutorProcess, Held, INDEXES, Prepared, Scope},
    model::{State, TransferId},
    store::MemoryStore,
};

fn held(transfer: TransferId, epoch: u64) -> Held {
    Held { transfer, epoch, stopping: None, distribution: None }
}

fn process(instance: &str) -> ExecutorProcess {
    ExecutorProcess { instance: instance.into(), pid: 1, start_ticks: 1, boot_id: "boot".into() }
}

#[tokio::test]
async fn a_lease_that_expires_leads_where_the_state_says_and_keeps_the_checkpoint() {
    for (state, after) in
        [(State::Running, State::New), (State::Canceling, State::Canceled), (State::Erroring, State::Error)]
    {
        let fixture = Fixture::new().await;
        let id = fixture.in_state(state).await;
        fixture.pass(LEASE - MOMENT).await;
        assert_eq!(fixture.state(id).await, state, "not before its time");
        fixture.pass(MOMENT).await;
        let record = fixture.record(id).await;
        assert_eq!((record.state, record.failures, record.not_before), (after, 0, None), "nobody is to blame");
        assert_eq!((record.progress, record.range_pieces), (LENGTH / 2, 1));
        assert_eq!(fixture.ledger.stats().leases_lost, 1);
        let lost = fixture.ledger.heartbeat(EXECUTOR, &[held(id, 1)]);
        assert_eq!(lost, [Directive { transfer: id, epoch: 1, stop: StopReason::LeaseLost }]);
        invariants::check(&fixture.ledger).await;
    }
}

#[tokio::test]
async fn a_pause_asked_for_is_kept_when_the_lease_expires() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    fixture.ledger.pause(id, &Scope::All).await.unwrap();
    fixture.pass(LEASE).await;
    assert_eq!(fixture.state(id).await, State::Paused);
}

#[tokio::test]
async fn a_heartbeat_renews_what_its_sender_holds_and_nothing_else() {
    let fixture = Fixture::new().await;
    let (own, unnamed) = (fixture.in_state(State::Running).await, fixture.in_state(State::Running).await);
    fixture.pass(LEASE - MOMENT).await;
    assert_eq!(fixture.ledger.heartbeat(EXECUTOR, &[held(own, 1)]), []);
    let foreign = fixture.ledger.heartbeat("another", &[held(unnamed, 1)]);
    assert_eq!(foreign, [Directive { transfer: unnamed, epoch: 1, stop: StopReason::LeaseLost }]);
    let stale = fixture.ledger.heartbeat(EXECUTOR, &[held(unnamed, 0)]);
    assert_eq!(stale, [Directive { transfer: unnamed, epoch: 0, stop: StopReason::LeaseLost }]);
    fixture.pass(MOMENT).await;
    assert_eq!((fixture.state(own).await, fixture.state(unnamed).await), (State::Running, State::New));
    fixture.pass(LEASE - MOMENT - MOMENT).await;
    assert_eq!(fixture.state(own).await, State::Running);
    fixture.pass(MOMENT).await;
    assert_eq!(fixture.state(own).await, State::New);
}

#[tokio::test]
async fn a_heartbeat_brings_what_clients_asked_for_once() {
    let fixture = Fixture::new().await;
    let cases = [
        (State::Running, None),
        (State::Canceling, Some(StopReason::Cancel)),
        (State::Erroring, Some(StopReason::Pause)),
    ];
    for (state, stop) in cases {
        let id = fixture.in_state(state).await;
        let directives = fixture.ledger.heartbeat(EXECUTOR, &[held(id, 1)]);
        assert_eq!(directives.first().map(|one| one.stop), stop, "{state}");
        let knows = Held { stopping: stop, ..held(id, 1) };
        assert_eq!(fixture.ledger.heartbeat(EXECUTOR, &[knows]), [], "{state}: it is stopping already");
    }
}

/// The clock stands still while anything can happen, and else jumps to the next end of a wait.
#[tokio::test(start_paused = true)]
async fn a_waiting_heartbeat_hears_of_a_cancel_at_once() {
    let fixture = Fixture::new().await;
    let id = fixture.in_state(State::Running).await;
    let ledger = fixture.ledger.clone();
    let waiting =
        tokio::spawn(async move { ledger.heartbeat_wait(EXECUTOR, &[held(id, 1)], Duration::from_secs(3600)).await });
    tokio::task::yield_now().await;
    fixture.ledger.cancel(id, &Scope::All).await.unwrap();
    let begun = tokio::time::Instant::now();
    let answer = waiting.await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "long before its time is over");
    assert_eq!(answer.unwrap(), [Directive { transfer: id, epoch: 1, stop: StopReason::Cancel }]);
}

#[tokio::test]
async fn after_a_restart_all_leases_run_in_full_again() {
    let mut fixture = Fixture::new().await;
    let running = fixture.in_state(State::Running).await;
    let canceling = fixture.in_state(State::Canceling).await;
    fixture.pass(LEASE - MOMENT).await;
    fixture.reopen().await;
    invariants::check(&fixture.ledger).await;
    fixture.pass(LEASE - MOMENT).await;
    assert_eq!((fixture.state(running).await, fixture.state(canceling).await), (State::Running, State::Canceling));
    assert_eq!(
        fixture.ledger.heartbeat(EXECUTOR, &[held(canceling, 1)]),
        [Directive { transfer: canceling, epoch: 1, stop: StopReason::Cancel }]
    );
    fixture.pass(MOMENT).await;
    assert_eq!((fixture.state(running).await, fixture.state(canceling).await), (State::New, State::Canceling));
}

#[tokio::test]
async fn what_an_executor_held_is_free_as_soon_as_it_is_seen_to_end() {
    let fixture = Fixture::new().await;
    fixture.ledger.register_executor(&process(EXECUTOR)).await.unwrap();
    let (running, canceling) = (fixture.in_state(State::Running).await, fixture.in_state(State::Canceling).await);
    let others = fixture.create("others").await;
    fixture.run_on("another", others).await;
    fixture.pass(MOMENT).await;
    assert_eq!(fixture.state(running).await, State::Running, "it lives");
    fixture.environment.kill(EXECUTOR);
    fixture.pass(MOMENT).await;
    assert_eq!((fixture.state(running).await, fixture.state(canceling).await), (State::New, State::Canceled));
    assert_eq!(fixture.state(others).await, State::Running);
    assert!(fixture.ledger.executors().is_empty());

    // What is left of it in some buffer changes nothing.
    fixture.ledger.mark_ready(running, "again").await.unwrap();
    assert_eq!(fixture.ledger.claim(EXECUTOR, 1).await, Ok(Vec::new()));
    assert_eq!(fixture.ledger.claim_sweeps(EXECUTOR).await, Ok(Vec::new()));
    assert!(is_refused(&fixture.ledger.checkpoint(EXECUTOR, running, 1, &report(LENGTH)).await));
    invariants::check(&fixture.ledger).await;
}

#[tokio::test]
async fn an_executor_that_ended_while_nobody_looked_holds_nothing_after_a_restart() {
    let mut fixture = Fixture::new().await;
    for instance in [EXECUTOR, "another"] {
        fixture.ledger.register_executor(&process(instance)).await.unwrap();
    }
    let (lost, kept) = (fixture.in_state(State::Running).await, fixture.create("kept").await);
    fixture.run_on("another", kept).await;
    fixture.environment.kill(EXECUTOR);
    fixture.reopen().await;
    assert_eq!((fixture.state(lost).await, fixture.state(kept).await), (State::New, State::Running));
    let known: Vec<_> = fixture.ledger.executors().into_iter().map(|process| process.instance).collect();
    assert_eq!(known, ["another"]);
}

#[tokio::test]
async fn ready_transfers_are_claimed_in_their_order_and_queued_again_when_nobody_comes() {
    let mut fixture = Fixture::new().await;
    let (first, second) = (fixture.create("1").await, fixture.create("2").await);
    for id in [second, first] {
        fixture.ledger.mark_ready(id, "a slot").await.unwrap();
        fixture.environment.advance(MOMENT);
    }
    fixture.reopen().await;
    let spec = fixture.ledger.claim(EXECUTOR, 1).await.unwrap().pop().expect("one is ready");
    assert_eq!(spec.transfer, second.to_string(), "ready for longest, also after a restart");
    assert_eq!(fixture.ledger.mark_ready(second, "late").await, Ok(false), "decisions may come late");
    fixture.pass(READY - MOMENT).await;
    assert_eq!(fixture.state(first).await, State::Ready);
    fixture.pass(MOMENT).await;
    let queued = fixture.record(first).await;
    assert_eq!((queued.state, queued.not_before, queued.failures), (State::New, None, 0));
    assert_eq!(fixture.ledger.claim(EXECUTOR, 1).await, Ok(Vec::new()));
    invariants::check(&fixture.ledger).await;
}

/// The lease runs out, and before the ledger has done what follows, its holder asks and is allowed to commit.
#[tokio::test]
async fn a_lease_renewed_at_the_last_moment_is_not_lost() {
    let store = crate::store::faulty::FaultyStore::new(MemoryStore::new(INDEXES));
    let fixture = Fixture::over(store.clone()).await;
    let id = fixture.in_state(State::Running).await;
    fixture.environment.advance(LEASE);

    store.hold();
    let ledger = fixture.ledger.clone();
    let asking = tokio::spawn(async move { ledger.prepare(EXECUTOR, id, 1, &completion()).await });
    store.reached().await;
    // The prepare has its turn; the tick finds the lease expired and waits for its own.
    let ledger = fixture.ledger.clone();
    let ticking = tokio::spawn(async move { ledger.tick().await });
    tokio::task::yield_now().await;
    store.let_go();
    assert_eq!(asking.await.unwrap(), Ok(Prepared::Allowed));
    ticking.await.unwrap().unwrap();
    assert_eq!(fixture.state(id).await, State::Running, "what was allowed is not taken back");
    fixture.pass(LEASE).await;
    assert_eq!(fixture.state(id).await, State::New);
}

#[tokio::test]
async fn a_lease_is_not_renewed_while_it_is_being_taken_away() {
    let store = crate::store::faulty::FaultyStore::new(MemoryStore::new(INDEXES));
    let fixture = Fixture::over(store.clone()).await;
    let id = fixture.in_state(State::Running).await;
    fixture.environment.advance(LEASE);
    store.hold_commits();
    let ledger = fixture.ledger.clone();
    let ticking = tokio::spawn(async move { ledger.tick().await });
    store.reached().await;
    let told = fixture.ledger.heartbeat(EXECUTOR, &[held(id, 1)]);
    assert_eq!(told, [Directive { transfer: id, epoch: 1, stop: StopReason::LeaseLost }]);
    store.let_go();
    ticking.await.unwrap().unwrap();
    assert_eq!(fixture.state(id).await, State::New);
}
