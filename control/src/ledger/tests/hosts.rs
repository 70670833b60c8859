use std::{sync::Arc, time::Duration};

use serde_json::json;
use staccato_dataplane::transport::{
    peers::{LinkReport, Refusals},
    ticket::{KeyDigest, Ticket},
};
use staccato_protocols::{ByteRange, ObjectUrl, Registry};

use super::{
    Fixture,
    fixture::{EXECUTOR, LEASE, OWNER, problem},
    invariants,
};
use crate::{
    ledger::{INDEXES, JoinRefused, Ledger, LedgerConfig, NotEnrolled, Scope, Seal, SystemEnvironment},
    model::{
        CreateRequest, HostName, Place, ProblemCode, State, TransferId,
        host::{Announcement, RefusalsDocument},
    },
    places::Places,
    store::MemoryStore,
};

const KEY: KeyDigest = [7; 32];

fn name(text: &str) -> HostName {
    text.parse().unwrap()
}

/// What an executor with one root says of itself.
fn announced() -> Announcement {
    Announcement {
        version: "1".into(),
        slots: 2,
        roots: vec!["/data:rw".into()],
        address: Some("192.0.2.1:5310".parse().unwrap()),
        quic: vec![5310, 5311],
        ..Announcement::default()
    }
}

/// A host that has enrolled with a key of its own, and whose executor has joined.
async fn join(ledger: &Ledger, host: &str, instance: &str) {
    let invitation = ledger.invite(&name(host), None).await.unwrap();
    let key = KeyDigest::from([host.as_bytes()[1]; 32]);
    ledger.enrol(&name(host), &invitation.token, &key).await.unwrap();
    ledger.join(Some(&name(host)), instance, announced()).await.unwrap();
}

async fn create(ledger: &Ledger, source: &str, destination: &str) -> TransferId {
    let body = json!({"source_url": source, "destination_url": destination});
    let request = CreateRequest::from_json(&body, &Places::new(ledger, None)).unwrap();
    ledger.create(&request, OWNER, None).await.unwrap().document.id.parse().unwrap()
}

#[tokio::test]
async fn an_invitation_is_used_up_by_its_host_or_expires() {
    let mut fixture = Fixture::new().await;
    let ledger = fixture.ledger.clone();
    let life = Duration::from_secs(60);
    let first = ledger.invite(&name("h1"), Some(life)).await.unwrap();
    let second = ledger.invite(&name("h1"), Some(life)).await.unwrap();
    let other = NotEnrolled::OtherHost(name("h1"));
    assert_eq!(ledger.enrol(&name("h2"), &first.token, &KEY).await, Err(other));
    assert_eq!(ledger.enrol(&name("h1"), "staccato_join_0", &KEY).await, Err(NotEnrolled::NoInvitation));
    ledger.enrol(&name("h1"), &first.token, &KEY).await.unwrap();
    assert_eq!(ledger.enrol(&name("h1"), &first.token, &KEY).await, Err(NotEnrolled::NoInvitation));
    fixture.environment.advance(life);
    assert_eq!(ledger.enrol(&name("h1"), &second.token, &KEY).await, Err(NotEnrolled::NoInvitation));
    // The service's own host needs none, and they do not last for ever.
    assert_eq!(problem(ledger.invite(&name("own"), None).await), ProblemCode::InvalidField);
    assert_eq!(problem(ledger.invite(&name("h2"), Some(Duration::MAX)).await), ProblemCode::InvalidField);
    fixture.reopen().await;
    assert_eq!(fixture.ledger.host_of_key(&KEY), Some(name("h1")), "who has enrolled is remembered");
}

#[tokio::test]
async fn an_executor_joins_again_after_a_restart_and_another_process_takes_its_place() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, "h1", "i1@h1").await;
    assert!(fixture.ledger.is_up("h1") && fixture.ledger.speaks_for(&name("h1"), "i1@h1"));
    fixture.reopen().await;
    let ledger = fixture.ledger.clone();
    assert!(!ledger.is_up("h1") && !ledger.speaks_for(&name("h1"), "i1@h1"));
    ledger.join(Some(&name("h1")), "i1@h1", announced()).await.unwrap();
    assert!(ledger.is_up("h1"));
    ledger.join(Some(&name("h1")), "i2@h1", announced()).await.unwrap();
    let joined = ledger.join(Some(&name("h1")), "i1@h1", announced()).await;
    assert_eq!(joined, Err(JoinRefused::Superseded));
    ledger.forget_host("h1").await.unwrap();
    assert_eq!(ledger.join(Some(&name("h1")), "i3@h1", announced()).await, Err(JoinRefused::Unknown));
    // Nobody takes the name of another one's process, or the service's own, or one without end.
    let long = format!("{}@h2", "i".repeat(200));
    for (host, instance) in [(Some("h2"), "i2@h1"), (Some("h2"), "i2"), (Some("h2"), &long), (None, "i2@h1")] {
        let host = host.map(name);
        let refused = ledger.join(host.as_ref(), instance, announced()).await;
        let superseded = instance == "i2@h1" && refused == Err(JoinRefused::Superseded);
        assert!(superseded || matches!(refused, Err(JoinRefused::Unacceptable(_))), "{instance}: {refused:?}");
    }
    let labels = (0..100).map(|number| (format!("l{number}").parse().unwrap(), "x".parse().unwrap())).collect();
    join(&ledger, "h2", "i4@h2").await;
    for many in [Announcement { roots: vec!["/x".into(); 100], ..announced() }, Announcement { labels, ..announced() }]
    {
        let refused = ledger.join(Some(&name("h2")), "i4@h2", many).await;
        assert!(matches!(refused, Err(JoinRefused::Unacceptable(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn the_destinations_executor_runs_it_with_a_ticket_of_the_source() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, "h1", "i1@h1").await;
    join(ledger, "h2", "i2@h2").await;
    let id = create(ledger, "file://h1/data/a%20b", "file://h2/data/c").await;
    assert!(ledger.mark_ready(id, "now").await.unwrap());
    for other in ["i1@h1", EXECUTOR] {
        assert!(ledger.claim(other, 9).await.unwrap().is_empty(), "{other} is not at the destination");
    }
    // While nobody shows the source, it waits.
    fixture.environment.advance(LEASE);
    ledger.heard("i2@h2");
    assert!(ledger.claim("i2@h2", 9).await.unwrap().is_empty());
    ledger.heard("i1@h1");
    let spec = ledger.claim("i2@h2", 9).await.unwrap().pop().expect("it is ready");
    assert_eq!((spec.source_url.as_str(), spec.destination_url.as_str()), ("file:///data/a%20b", "file:///data/c"));
    let owner = spec.owner.expect("the source is another's");
    assert_eq!((owner.host.as_str(), owner.tcp.to_string()), ("h1", "192.0.2.1:5310".to_owned()));
    assert_eq!(owner.quic.iter().map(|address| address.port()).collect::<Vec<_>>(), [5310, 5311]);
    let ticket = Ticket::verify(&owner.ticket.0, &ledger.ticket_key()).unwrap();
    assert_eq!((ticket.url.as_str(), ticket.epoch, ticket.reader), ("file:///data/a%20b", 1, [b'2'; 32]));
    assert_eq!(ticket.range, ByteRange::new(0, u64::MAX).unwrap());
    let now = ledger.now_ms();
    assert!(ticket.is_valid(now + 1_799_999).is_ok() && ticket.is_valid(now + 1_800_000).is_err());
    invariants::check(ledger).await;
}

#[tokio::test]
async fn others_run_what_has_no_host_and_leavings_are_swept_where_they_lie() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, "h1", "i1@h1").await;
    let anywhere = create(ledger, "stub://from/a", "stub://to/b").await;
    let there = create(ledger, "stub://from/a", "file://h1/data/c").await;
    for id in [anywhere, there] {
        assert!(ledger.mark_ready(id, "now").await.unwrap());
    }
    let claimed = |specs: Vec<staccato_dataplane::attempt::AttemptSpec>| {
        specs.into_iter().map(|spec| spec.transfer).collect::<Vec<_>>()
    };
    assert_eq!(claimed(ledger.claim(EXECUTOR, 9).await.unwrap()), [anywhere.to_string()]);
    assert_eq!(claimed(ledger.claim("i1@h1", 9).await.unwrap()), [there.to_string()]);
    // It vanishes: its lease ends, the transfer waits, and what it left is for its host alone.
    fixture.pass(LEASE).await;
    assert_eq!(fixture.state(there).await, State::New);
    ledger.delete(there, &Scope::All).await.unwrap();
    fixture.pass(LEASE).await;
    assert!(ledger.claim_sweeps(EXECUTOR).await.unwrap().is_empty());
    ledger.heard("i1@h1");
    let sweeps = ledger.claim_sweeps("i1@h1").await.unwrap();
    assert_eq!(sweeps.len(), 1);
    assert!(ledger.sweeps_at("h1", there) && !ledger.sweeps_at("h2", there) && !ledger.sweeps_at("", there));
    assert_eq!(sweeps[0].destination_url.as_str(), "file:///data/c");
    invariants::check(ledger).await;
}

#[tokio::test]
async fn a_url_without_a_host_is_the_doors_or_must_name_one() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    let place = |url: &str, at: Option<Place>| Places::new(ledger, at).place(&ObjectUrl::parse(url).unwrap());
    let here = Some(Place::Here);
    assert_eq!(place("file:///data/x", None), Ok(Place::Here), "there is no other");
    join(ledger, "h1", "i1@h1").await;
    assert_eq!(place("file:///data/x", None).unwrap_err().code, ProblemCode::AmbiguousHost);
    assert_eq!(place("file:///data/x", here.clone()), Ok(Place::Here));
    let h1 = Place::Host(name("h1"));
    assert_eq!(place("file:///data/x", Some(h1.clone())), Ok(h1.clone()));
    for (url, found) in [
        ("file://own/x", Place::Here),
        ("file://h1/x", h1.clone()),
        ("zero://h1/5", h1.clone()),
        ("null://h1/", h1),
        ("zero:///5", Place::Anywhere),
        ("stub://h1/x", Place::Anywhere),
    ] {
        assert_eq!(place(url, here.clone()), Ok(found), "{url}");
    }
    assert_eq!(place("file://h9/x", here).unwrap_err().code, ProblemCode::UnknownHost);
}

#[tokio::test]
async fn what_an_executor_says_of_its_links_and_of_strangers_is_shown_within_bounds() {
    let fixture = Fixture::new().await;
    let ledger = &fixture.ledger;
    join(ledger, "h1", "i1@h1").await;
    let shown = || ledger.executor_documents(false).into_iter().find(|one| one.name == "h1").unwrap();
    assert_eq!(shown().refusals, Some(RefusalsDocument::default()));
    let link = LinkReport {
        host: "h2\n".into(),
        transport: None,
        reason: None,
        tcp_goodput: None,
        quic_goodput: Some(5),
        delay_us: Some(50_250),
        loss_ppm: Some(u32::MAX),
    };
    ledger.note_neighbours("i1@h1", vec![link; 2_000], Refusals { not_allowed: 3, too_many: 1 });
    let document = shown();
    assert_eq!((document.links.len(), document.refusals.unwrap().not_allowed), (1_000, 3));
    let link = &document.links[0];
    assert_eq!((link.host.as_str(), link.delay_ms, link.loss_percent), ("h2", Some(50.25), Some(100.0)));
    // What the next process of it has seen is nothing yet; and of who never joined nothing is known.
    ledger.join(Some(&name("h1")), "i2@h1", announced()).await.unwrap();
    assert_eq!((shown().links.len(), shown().refusals), (0, Some(RefusalsDocument::default())));
    let own = ledger.executor_documents(false).swap_remove(0);
    assert_eq!((own.own, own.refusals), (true, None));
}

#[tokio::test]
async fn nobody_is_invited_to_a_service_that_nobody_can_join() {
    let config = LedgerConfig { takes_hosts_in: false, ..LedgerConfig::default() };
    let (store, environment) = (Arc::new(MemoryStore::new(INDEXES)), Arc::new(SystemEnvironment::default()));
    let ledger = Ledger::open(store, Seal::ephemeral(), Registry::new(), config, environment).await.unwrap();
    assert_eq!(problem(ledger.invite(&name("h1"), None).await), ProblemCode::NoTls);
}
