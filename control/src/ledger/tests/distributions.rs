mod asked;
mod swarm;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use staccato_dataplane::attempt::{CheckpointReport, Outcome};
use staccato_protocols::{Code, Error};

use super::{
    Fixture, completion,
    fixture::{LENGTH, OWNER, problem},
    invariants, report,
};
use crate::{
    ledger::{INDEXES, Ledger, MembersQuery, Scope},
    model::{
        Action, Answer, ProblemCode, State, TransferId,
        distribution::{DistributionDocument, DistributionRequest, HostCounts, MemberDocument},
        host::Announcement,
    },
    places::Places,
    store::{MemoryStore, faulty::FaultyStore},
};

const ALL: Scope = Scope::All;

/// Hosts `h0`, `h1`, ... that have joined, two in each rack.
async fn join(ledger: &Ledger, count: usize) {
    for number in 0..count {
        let name = format!("h{number}").parse().unwrap();
        let invitation = ledger.invite(&name, None).await.unwrap();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        ledger.enrol(&name, &invitation.token, &key).await.unwrap();
        come(ledger, number, &format!("i{number}@h{number}")).await;
    }
}

/// An executor of a host joins.
async fn come(ledger: &Ledger, number: usize, instance: &str) {
    let announced = Announcement {
        version: "1".into(),
        slots: 8,
        roots: vec!["/data:rw".into()],
        address: Some("192.0.2.1:5310".parse().unwrap()),
        rack: Some(format!("r{}", number / 2).parse().unwrap()),
        ..Announcement::default()
    };
    let name = format!("h{number}").parse().unwrap();
    ledger.join(Some(&name), instance, announced).await.unwrap();
}

fn request(ledger: &Ledger, more: Value) -> DistributionRequest {
    let mut body = json!({
        "source_url": "stub://from/s", "destination_url": "file://{host}/data/x", "hosts": {"names": ["h0", "h1", "h2", "h3"]},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    DistributionRequest::from_json(&body, &Places::new(ledger, None), ledger.now(), 1).unwrap()
}

/// A distribution whose members are made.
async fn distribute(ledger: &Ledger, more: Value) -> TransferId {
    let made = ledger.distribute(&request(ledger, more), OWNER, None).await.unwrap();
    let id = made.document.id.parse().unwrap();
    ledger.keep(id).await.unwrap();
    id
}

fn shown(ledger: &Ledger, id: TransferId) -> DistributionDocument {
    ledger.distribution_document(id, &ALL).unwrap()
}

async fn members(ledger: &Ledger, distribution: TransferId) -> Vec<MemberDocument> {
    let query = MembersQuery { scope: ALL, distribution, state: None, marker: None, limit: 100 };
    ledger.distribution_members(&query).await.unwrap().members
}

async fn member(ledger: &Ledger, distribution: TransferId, host: &str) -> TransferId {
    let found = members(ledger, distribution).await.into_iter().find(|member| member.host == host);
    found.expect("it is a member").transfer.parse().unwrap()
}

/// Has the executor of a host take its member.
async fn run(fixture: &Fixture, distribution: TransferId, number: usize) -> (TransferId, u64) {
    let id = member(&fixture.ledger, distribution, &format!("h{number}")).await;
    let spec = fixture.run_on(&format!("i{number}@h{number}"), id).await;
    (id, spec.epoch)
}

async fn fail(fixture: &Fixture, distribution: TransferId, number: usize) {
    let (id, epoch) = run(fixture, distribution, number).await;
    let error = Error::fatal(Code::NoSpace, "its disk is full");
    let outcome = Outcome::Failed { error };
    fixture.ledger.release(&format!("i{number}@h{number}"), id, epoch, &outcome).await.unwrap();
}

async fn complete(fixture: &Fixture, distribution: TransferId, number: usize) {
    let (id, epoch) = run(fixture, distribution, number).await;
    let executor = format!("i{number}@h{number}");
    fixture.ledger.prepare(&executor, id, epoch, &completion()).await.unwrap();
    fixture.ledger.committed(&executor, id, epoch, &completion()).await.unwrap();
}

/// What is in memory is what a new process reads; the invariants hold.
async fn check(fixture: &mut Fixture, id: TransferId) {
    invariants::check(&fixture.ledger).await;
    let before = shown(&fixture.ledger, id);
    fixture.reopen().await;
    assert_eq!(shown(&fixture.ledger, id), before);
}

#[tokio::test]
async fn every_host_gets_a_transfer_of_its_own() {
    let mut fixture = Fixture::new().await;
    let ledger = fixture.ledger.clone();
    join(&ledger, 4).await;
    let made = ledger.distribute(&request(&ledger, json!({"name": "n", "priority": 7})), OWNER, None).await.unwrap();
    assert_eq!((made.document.state, made.document.hosts.total), (State::New, 4), "before there is a member");
    let id = made.document.id.parse().unwrap();
    ledger.keep(id).await.unwrap();
    let document = shown(&ledger, id);
    assert_eq!(document.hosts, HostCounts { total: 4, waiting: 4, ..HostCounts::default() });
    let members = members(&ledger, id).await;
    let hosts: Vec<_> = members.iter().map(|member| (member.host.as_str(), member.destination_url.as_str())).collect();
    assert_eq!(hosts[0], ("h0", "file://h0/data/x"));
    assert_eq!(hosts.iter().map(|(host, _)| *host).collect::<Vec<_>>(), ["h0", "h1", "h2", "h3"]);
    let transfer = ledger.get(members[1].transfer.parse().unwrap(), &ALL).await.unwrap();
    assert_eq!((transfer.distribution, transfer.priority, transfer.owner), (Some(id.to_string()), 7, OWNER.to_owned()));
    check(&mut fixture, id).await;
}

#[tokio::test]
async fn the_sums_follow_the_members() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    let (first, epoch) = run(&fixture, id, 0).await;
    fixture.environment.advance(Duration::from_secs(1));
    let half = CheckpointReport { bytes_fetched: LENGTH / 4, ..report(LENGTH / 2) };
    fixture.ledger.checkpoint("i0@h0", first, epoch, &half).await.unwrap();
    complete(&fixture, id, 1).await;
    fail(&fixture, id, 2).await;
    let document = shown(&fixture.ledger, id);
    let counts = HostCounts { total: 4, done: 1, failed: 1, running: 1, waiting: 1, ..HostCounts::default() };
    assert_eq!((document.state, document.hosts, document.bytes_total), (State::Running, counts, Some(LENGTH)));
    assert_eq!((document.progress, document.bytes_from_source), (LENGTH / 2 + LENGTH, LENGTH / 4 + LENGTH));
    assert_eq!((document.bytes_between_peers, &document.error), (0, &None));
    let slowest = document.slowest.clone().unwrap();
    assert_eq!((slowest.host.as_str(), slowest.progress, slowest.eta.is_some()), ("h0", LENGTH / 2, true));
    assert!(document.eta.unwrap() > slowest.eta.unwrap(), "one has not begun: {document:?}");
    check(&mut fixture, id).await;
}

#[tokio::test]
async fn a_kill_while_it_is_made_leaves_nothing_or_something_that_is_completed() {
    // Destinations so long that each plan has two hosts: one commit for the distribution, and three for its members.
    let long = format!("file://{{host}}/data/{}", "x".repeat(1_400));
    let wanted = json!({"destination_url": long, "hosts": {"names": ["h0", "h1", "h2", "h3", "h4"]},
        "source_options": {"token": "secret"}});
    for commits in 0..=4 {
        let store = FaultyStore::new(MemoryStore::new(INDEXES));
        let mut fixture = Fixture::over(store.clone()).await;
        join(&fixture.ledger, 5).await;
        store.fail_after(commits);
        let made = fixture.ledger.distribute(&request(&fixture.ledger, wanted.clone()), OWNER, None).await;
        assert_eq!(made.is_ok(), commits > 0);
        if let Ok(made) = &made {
            let kept = fixture.ledger.keep(made.document.id.parse().unwrap()).await;
            assert_eq!(kept.is_ok(), commits == 4, "{commits}: {kept:?}");
        }
        store.mend();
        fixture.reopen().await;
        let ledger = &fixture.ledger;
        let (found, _) = ledger.distribution_documents(&ALL, None, 10);
        assert_eq!(found.len(), usize::from(commits > 0), "{commits}");
        for one in found {
            assert_eq!(one.hosts.total, 5, "as it was acknowledged");
            let id = one.id.parse().unwrap();
            assert_eq!(ledger.distributions_due().contains(&id), commits < 4);
            ledger.keep(id).await.unwrap();
            let hosts: Vec<_> = members(ledger, id).await.into_iter().map(|member| member.host).collect();
            let mut sorted = hosts.clone();
            sorted.sort();
            assert_eq!(sorted, ["h0", "h1", "h2", "h3", "h4"], "{commits}");
            assert!(ledger.distributions_due().is_empty());
        }
        invariants::check(ledger).await;
    }
}

#[tokio::test]
async fn a_host_whose_destination_is_busy_fails_alone_and_can_be_resumed() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let first = distribute(&fixture.ledger, json!({"hosts": {"names": ["h1"]}})).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    let document = shown(&fixture.ledger, id);
    assert_eq!((document.hosts.failed, document.hosts.waiting, document.state), (1, 3, State::Running));
    let busy = members(&fixture.ledger, id).await.into_iter().find(|member| member.host == "h1").unwrap();
    assert_eq!((busy.state, busy.error.unwrap().code.as_str()), (State::Error, "destination_busy"));
    check(&mut fixture, id).await;
    let ledger = &fixture.ledger;
    assert_eq!(ledger.act_on_distribution(id, Action::Resume, &ALL).await, Ok(Answer::Underway));
    ledger.keep(id).await.unwrap();
    assert_eq!(shown(ledger, id).hosts.failed, 1, "it is busy still");
    ledger.act_on_distribution(first, Action::Cancel, &ALL).await.unwrap();
    ledger.keep(first).await.unwrap();
    ledger.act_on_distribution(id, Action::Resume, &ALL).await.unwrap();
    ledger.keep(id).await.unwrap();
    assert_eq!(shown(ledger, id).hosts.waiting, 4);
    check(&mut fixture, id).await;
}

#[tokio::test]
async fn an_idempotency_key_makes_one_distribution_whatever_hosts_there_are_by_then() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, 4).await;
    let body = json!({"any": "body"});
    let keyed = || ledger.distribution_key(OWNER, "k", &body);
    let first = ledger.distribute(&request(ledger, json!({})), OWNER, Some(keyed())).await.unwrap();
    let other = request(ledger, json!({"hosts": {"names": ["h0"]}}));
    let again = ledger.distribute(&other, OWNER, Some(keyed())).await.unwrap();
    assert_eq!((again.document.id, first.replayed, again.replayed), (first.document.id, false, true));
    let changed = ledger.distribution_key(OWNER, "k", &json!({}));
    assert_eq!(problem(ledger.distribute(&other, OWNER, Some(changed)).await), ProblemCode::IdempotencyKeyReused);
    invariants::check(ledger).await;
}

#[tokio::test]
async fn pages_lead_through_members_and_distributions_and_owners_see_their_own() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, 4).await;
    let id = distribute(ledger, json!({})).await;
    fail(&fixture, id, 2).await;
    let page = async |state, marker, limit| {
        let query = MembersQuery { scope: ALL, distribution: id, state, marker, limit };
        let page = ledger.distribution_members(&query).await.unwrap();
        (page.members.into_iter().map(|member| member.host).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = page(None, None, 3).await;
    let (second, end) = page(None, next, 3).await;
    assert_eq!((first.len(), second, end), (3, vec!["h3".to_owned()], None));
    assert_eq!(page(Some(State::Error), None, 1).await, (vec!["h2".to_owned()], None));
    assert_eq!(page(Some(State::New), None, 2).await.0, ["h0", "h1"]);

    let other = request(ledger, json!({"hosts": {"names": ["h0"]}, "destination_url": "file://{host}/data/y"}));
    let theirs = ledger.distribute(&other, "mallory", None).await.unwrap().document.id;
    let of = |scope: Scope| ledger.distribution_documents(&scope, None, 1);
    let mallory = Scope::Owner("mallory".into());
    assert_eq!((of(mallory.clone()).0[0].id.clone(), of(mallory.clone()).1), (theirs, None));
    assert_eq!(of(ALL).1, Some(id));
    assert_eq!(ledger.distribution_documents(&ALL, Some(id), 5).0.len(), 1);
    assert!(ledger.distribution_document(id, &mallory).is_err());
    assert_eq!(
        problem(ledger.act_on_distribution(id, Action::Cancel, &mallory).await),
        ProblemCode::DistributionNotFound
    );
}

#[tokio::test]
async fn ten_thousand_members_are_made_and_summed_up_in_no_time() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, 1).await;
    let like = request(ledger, json!({"hosts": {"names": ["h0"]}}));
    let targets = (0..10_000).map(|number| crate::model::distribution::Target {
        host: format!("host-{number}"),
        url: staccato_protocols::ObjectUrl::parse(&format!("file://host-{number}/data/x")).unwrap(),
    });
    let large = DistributionRequest { targets: targets.collect(), ..like };
    let id = ledger.distribute(&large, OWNER, None).await.unwrap().document.id.parse().unwrap();
    ledger.keep(id).await.unwrap();
    let looked = Instant::now();
    for _ in 0..100 {
        assert_eq!(shown(ledger, id).hosts.waiting, 10_000);
    }
    assert!(looked.elapsed() < Duration::from_millis(500), "{:?} for 100 looks", looked.elapsed());
    let query = MembersQuery { scope: ALL, distribution: id, state: Some(State::New), marker: None, limit: 10_000 };
    assert_eq!(ledger.distribution_members(&query).await.unwrap().members.len(), 10_000);
}
