//! What members are told of one another.

use staccato_dataplane::attempt::swarm::{SourceShare, SwarmSpec};

use super::*;
use crate::ledger::Held;

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
    assert_eq!((alone.share.seeds, alone.share.index, hosts(&alone)), (4, 0, vec![]));
    let (_, second) = begin(&fixture, id, 1).await;
    assert_eq!((second.share.index, hosts(&second), second.may_vouch.len()), (1, vec!["h0"], 2));
    assert!(second.peers[0].near, "they are in one rack");
    assert_eq!(news(&fixture, 0, first), None, "not that often");
    fixture.pass(Duration::from_secs(1)).await;
    let told = news(&fixture, 0, first).expect("there is another one");
    assert_eq!((hosts(&told), told.may_vouch.len(), &told.share.seeds), (vec!["h1"], 2, &4));
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
    assert_eq!((told.share.seeds, told.share.index, told.may_vouch.len()), (4, 0, 2));
    assert_eq!((told.member, hosts(&told)), (other.peers[0].member, vec!["h1"]), "each is who it was");
}

#[tokio::test]
async fn who_is_gone_reads_nothing_and_is_nobodys_peer() {
    let fixture = Fixture::new().await;
    join(&fixture.ledger, 2).await;
    let id = distribute(&fixture.ledger, json!({"hosts": {"names": ["h0", "h1"]}, "source_budget": 1.0})).await;
    let (_, first) = begin(&fixture, id, 0).await;
    assert_eq!(first.share, SourceShare { seeds: 2, index: 0, reserve_of: None }, "there is no budget for more");
    fixture.ledger.release_executor("i0@h0").await.unwrap();
    let (held, second) = begin(&fixture, id, 1).await;
    assert_eq!((second.share.index, hosts(&second)), (1, vec![]));
    // What the lost one was granted counts as read: it has no share any more, and waits for others.
    come(&fixture.ledger, 0, "j0@h0").await;
    let again = fixture.run_on("j0@h0", member(&fixture.ledger, id, "h0").await).await;
    assert_eq!(again.swarm.unwrap().share.seeds, 0);
    fixture.pass(Duration::from_secs(1)).await;
    assert_eq!(hosts(&news(&fixture, 1, held).unwrap()), ["h0"]);
}
