//! What members are told of one another.

use staccato_dataplane::attempt::{StopReason, swarm::SwarmSpec};

use super::*;
use crate::ledger::{Held, Offered};

/// What the member on a host is told when its attempt begins.
async fn begin(fixture: &Fixture, distribution: TransferId, number: usize) -> (Held, SwarmSpec) {
    let id = member(&fixture.ledger, distribution, &format!("h{number}")).await;
    let spec = fixture.run_on(&format!("i{number}@h{number}"), id).await;
    let held = Held { transfer: id, epoch: spec.epoch, stopping: None, distribution: Some(distribution) };
    (held, spec.swarm.expect("it is a member"))
}

/// What it is told afterwards.
fn news(fixture: &Fixture, number: usize, held: Held) -> Option<SwarmSpec> {
    let news = fixture.ledger.swarm_news(&format!("i{number}@h{number}"), &[held]);
    news.into_iter().next().map(|news| news.swarm)
}

/// Which classes of chunks it reads as its own.
fn own(swarm: &SwarmSpec) -> Vec<u32> {
    swarm.share.own.iter().collect()
}

fn hosts(swarm: &SwarmSpec) -> Vec<&str> {
    let mut hosts: Vec<_> = swarm.peers.iter().map(|peer| peer.host.as_str()).collect();
    hosts.sort_unstable();
    hosts
}

#[tokio::test]
async fn members_hear_of_one_another_and_share_the_source() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    let (first, alone) = begin(&fixture, id, 0).await;
    assert_eq!((alone.share.classes, own(&alone), hosts(&alone)), (12, vec![0, 4, 8], vec![]));
    let (_, second) = begin(&fixture, id, 1).await;
    assert_eq!((own(&second), hosts(&second), second.may_vouch.len()), (vec![1, 5, 9], vec!["h0"], 2));
    assert!(second.peers[0].near, "they are in one rack");
    assert_eq!(news(&fixture, 0, first), None, "not that often");
    fixture.pass(Duration::from_secs(1)).await;
    let told = news(&fixture, 0, first).expect("there is another one");
    assert_eq!((hosts(&told), told.may_vouch.len(), own(&told)), (vec!["h1"], 2, own(&alone)));
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(news(&fixture, 0, first), None, "nothing has changed since");
}

#[tokio::test]
async fn who_reads_the_source_is_known_again_after_a_restart() {
    let mut fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let id = distribute(&fixture.ledger, json!({})).await;
    let (held, _) = begin(&fixture, id, 0).await;
    let (_, other) = begin(&fixture, id, 1).await;
    fixture.reopen().await;
    come(&fixture.ledger, 0, "i0@h0").await;
    come(&fixture.ledger, 1, "i1@h1").await;
    fixture.pass(Duration::from_secs(1)).await;
    let told = news(&fixture, 0, held).expect("it is told once more");
    assert_eq!((told.share.classes, own(&told), told.may_vouch.len()), (12, vec![0, 4, 8], 2));
    assert_eq!((told.member, hosts(&told)), (other.peers[0].member, vec!["h1"]), "each is who it was");
}

#[tokio::test]
async fn who_is_gone_reads_nothing_and_is_nobodys_peer() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 2).await;
    let id = distribute(&fixture.ledger, json!({"hosts": {"names": ["h0", "h1"]}, "source_budget": 1.0})).await;
    let (_, first) = begin(&fixture, id, 0).await;
    assert!(!fixture.ledger.distribution_document(id, &Scope::All).unwrap().source_exhausted);
    assert_eq!((own(&first), first.share.reserves), (vec![0], vec![]), "there is no budget for more");
    fixture.ledger.release_executor("i0@h0").await.unwrap();
    let (held, second) = begin(&fixture, id, 1).await;
    assert_eq!((own(&second), hosts(&second)), (vec![1], vec![]));
    // What the lost one was granted counts as read: it has no share any more, and waits for others.
    come(&fixture.ledger, 0, "j0@h0").await;
    let again = fixture.run_on("j0@h0", member(&fixture.ledger, id, "h0").await).await;
    assert!(again.swarm.unwrap().share.is_none());
    assert!(fixture.ledger.distribution_document(id, &Scope::All).unwrap().source_exhausted, "it may have been read");
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(hosts(&news(&fixture, 1, held).unwrap()), ["h0"]);
}

#[tokio::test]
async fn what_a_seed_leaves_that_dies_is_read_by_those_that_run() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 3).await;
    let id = distribute(&fixture.ledger, json!({"hosts": {"names": ["h0", "h1", "h2"]}})).await;
    let (first, told) = begin(&fixture, id, 0).await;
    let reserves = told.share.reserves.iter().flat_map(|(_, classes)| classes.iter()).collect::<Vec<_>>();
    assert_eq!((own(&told), reserves), (vec![0, 3], vec![2, 4]));
    let _second = begin(&fixture, id, 1).await;
    let _third = begin(&fixture, id, 2).await;
    fixture.ledger.release_executor("i1@h1").await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    let told = news(&fixture, 0, first).expect("it is to read more");
    assert_eq!(own(&told), [0, 3, 4], "what it would have read anyhow, were that one gone");
    assert!(!told.begin_anew);
}

#[tokio::test]
async fn where_all_seeds_are_gone_one_that_runs_begins_anew_and_reads() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 9).await;
    let names: Vec<String> = (0..9).map(|number| format!("h{number}")).collect();
    let id = distribute(&fixture.ledger, json!({"hosts": {"names": names}, "source_budget": 4.0})).await;
    for number in 0..8 {
        let (_, told) = begin(&fixture, id, number).await;
        assert!(!told.share.is_none());
    }
    let (last, told) = begin(&fixture, id, 8).await;
    assert!(told.share.is_none() && !told.begin_anew, "others read it");
    for number in 0..8 {
        fixture.ledger.release_executor(&format!("i{number}@h{number}")).await.unwrap();
    }
    fixture.pass(Duration::from_secs(3)).await;
    assert!(news(&fixture, 8, last).expect("it is told").begin_anew);
    let stopped = Outcome::Stopped { reason: StopReason::Shutdown };
    fixture.ledger.release("i8@h8", last.transfer, last.epoch, &stopped).await.unwrap();
    let again = fixture.run_on("i8@h8", last.transfer).await.swarm.unwrap();
    assert_eq!((own(&again).len(), again.begin_anew), (56, false));
}

#[tokio::test]
async fn two_distributions_of_one_object_fetch_from_one_another_once_it_is_known_to_be_the_same() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let of = |names: [&str; 2]| json!({"hosts": {"names": names}});
    let earlier = distribute(&fixture.ledger, of(["h0", "h1"])).await;
    let (first, told) = begin(&fixture, earlier, 0).await;
    fixture.ledger.checkpoint("i0@h0", first.transfer, first.epoch, &report(LENGTH)).await.unwrap();

    let mut with_other_destination = of(["h2", "h3"]);
    with_other_destination["destination_url"] = json!("file://{host}/data/later");
    let later = distribute(&fixture.ledger, with_other_destination).await;
    let (second, alone) = begin(&fixture, later, 2).await;
    assert_eq!((&alone.name, hosts(&alone), alone.may_vouch.len()), (&told.name, vec![], 1));
    fixture.ledger.checkpoint("i2@h2", second.transfer, second.epoch, &report(0)).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    let told = news(&fixture, 2, second).expect("there is somebody who has it");
    assert_eq!((hosts(&told), told.may_vouch.len()), (vec!["h0"], 2));
    let told = news(&fixture, 0, first).expect("and the other way round");
    assert_eq!((hosts(&told), told.may_vouch.len()), (vec!["h2"], 2));

    // Another version, or another source, has nothing to do with it.
    let other =
        distribute(&fixture.ledger, json!({"source_url": "stub://from/t", "destination_url": "file://{host}/data/t"}))
            .await;
    let (third, unrelated) = begin(&fixture, other, 3).await;
    assert_ne!(unrelated.name, told.name);
    let another_version = CheckpointReport {
        validator: Some(staccato_protocols::Validator::Constant { size: 9, seed: None }),
        ..report(0)
    };
    fixture.ledger.checkpoint("i3@h3", third.transfer, third.epoch, &another_version).await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(news(&fixture, 3, third).map(|told| hosts(&told).len()).unwrap_or_default(), 0);
}

#[tokio::test]
async fn copies_are_shown_while_somebody_may_want_them() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 4).await;
    let of = |more: Value| {
        let mut body = json!({"hosts": {"names": ["h0"]}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let to = |name: &str| json!({"destination_url": format!("file://{{host}}/data/{name}")});
    let done = distribute(&fixture.ledger, of(to("a"))).await;
    let kept =
        distribute(&fixture.ledger, of(json!({"destination_url": "file://{host}/data/b", "preheat": true}))).await;
    let mut offered = Vec::new();
    for distribution in [done, kept] {
        complete(&fixture, distribution, 0).await;
        fixture.ledger.keep(distribution).await.unwrap();
        offered.push(Offered { distribution, transfer: member(&fixture.ledger, distribution, "h0").await });
    }
    let over = || fixture.ledger.note_offers("i0@h0", &offered);
    assert_eq!(over(), [], "a host may be added");
    fixture.pass(Duration::from_secs(61)).await;
    assert_eq!(over(), [offered[0].transfer], "what is preheated is kept");
    let another = distribute(&fixture.ledger, of(to("c"))).await;
    assert_eq!(over(), [], "there is somebody again who wants it");
    for (distribution, action) in [(another, Action::Cancel), (kept, Action::Delete)] {
        fixture.ledger.act_on_distribution(distribution, action, &ALL).await.unwrap();
        fixture.ledger.keep(distribution).await.unwrap();
    }
    fixture.pass(Duration::from_secs(61)).await;
    assert_eq!(over(), [offered[0].transfer, offered[1].transfer]);
}

#[tokio::test]
async fn the_upload_limit_of_a_rack_is_shared_by_its_hosts() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 3).await;
    let limits = json!({"hosts": {"names": ["h0", "h1", "h2"]}, "upload_limit": 700, "rack_upload_limit": 1000});
    let id = distribute(&fixture.ledger, limits).await;
    let (first, told) = begin(&fixture, id, 0).await;
    assert_eq!(told.upload_limit, Some(500), "there is another one in its rack");
    let (_, second) = begin(&fixture, id, 1).await;
    let (_, third) = begin(&fixture, id, 2).await;
    assert_eq!((second.upload_limit, third.upload_limit), (Some(500), Some(700)));
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(news(&fixture, 0, first).unwrap().upload_limit, Some(500));
    fixture.ledger.release_executor("i1@h1").await.unwrap();
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(news(&fixture, 0, first).unwrap().upload_limit, Some(500), "it may be sending still");
}
