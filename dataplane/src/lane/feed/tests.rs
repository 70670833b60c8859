//! Single rules of what joins a swarm to its lanes.

use staccato_protocols::{Access, CRC_BLOCK, Object};

use super::*;
use crate::{
    attempt::SignedTicket,
    engine::{EngineConfig, tests::config},
    transport::offer::CopyName,
};

const PEER: PeerKey = PeerKey(7);
const T0: Duration = Duration::ZERO;

/// A member that may read nothing of the source, and knows one other.
fn member(chunks: u64) -> (Feed, Engine, Object) {
    let length = chunks * CRC_BLOCK;
    let engine = Engine::new(EngineConfig { window_chunks_max: 8, chosen: true, ..config(chunks) });
    let object = Object { size: Some(length), validator: None, access: Access::Random };
    let copy = CopyName { name: "n".into(), member: 1, distribution: "d".into(), transfer: "t".into() };
    let own = Arc::new(Offer::new(copy, object.clone()));
    let peer = SwarmPeer {
        member: PEER.0,
        host: "h7".into(),
        tcp: "127.0.0.1:1".parse().unwrap(),
        quic: Vec::new(),
        plain: false,
        near: false,
    };
    let spec = SwarmSpec {
        distribution: "d".into(),
        name: "n".into(),
        member: 1,
        keep: false,
        chunk_bytes: CRC_BLOCK,
        object: None,
        ticket: SignedTicket(Vec::new()),
        peers: vec![peer],
        may_vouch: Vec::new(),
        share: Share::default(),
        upload_limit: None,
        begin_anew: false,
    };
    let mut feed = Feed::new(&spec, own, length, &[], &[]);
    feed.handle_spec(&spec, T0);
    (feed, engine, object)
}

fn steps(feed: &mut Feed, engine: &mut Engine, now: Duration) -> Vec<Step> {
    std::iter::from_fn(|| feed.poll(engine, now)).collect()
}

/// It is opened, watched, and has everything; the chunks that are asked of it.
fn meet(feed: &mut Feed, engine: &mut Engine, object: &Object, now: Duration) -> Vec<ByteRange> {
    assert!(matches!(&steps(feed, engine, now)[..], [Step::Open(peer)] if peer.member == PEER.0));
    feed.handle_peer(PEER, PeerEvent::Opened(Ok(object.clone())), now);
    assert!(matches!(steps(feed, engine, now)[..], [Step::Watch(PEER)]));
    feed.handle_peer(PEER, PeerEvent::Has(vec![ByteRange::new(0, object.size.unwrap()).unwrap()]), now);
    let fetched = |step: Step| match step {
        Step::Fetch { range, from: Some(from), .. } if from.peer == PEER => range,
        _ => panic!("chunks are asked of the one that has them"),
    };
    steps(feed, engine, now).into_iter().map(fetched).collect()
}

#[test]
fn a_peer_whose_connection_broke_is_opened_again_and_asked() {
    let (mut feed, mut engine, object) = member(4);
    let asked = meet(&mut feed, &mut engine, &object, T0);
    let lost = || Error::retry(Code::ConnectionLost, "it broke");
    for range in &asked {
        let told = feed.handle_fetched::<()>(*range, Some(PEER), Err(lost()), &mut engine, T0);
        assert!(told.is_some_and(|told| told.is_err()), "the engine hears that it did not come");
        engine.handle_given_back(*range, T0);
    }
    // It is watched still: its lane is told to leave it.
    let closing = steps(&mut feed, &mut engine, T0);
    assert!(!closing.is_empty() && closing.iter().all(|step| matches!(step, Step::Close(PEER))));
    feed.handle_peer(PEER, PeerEvent::Gone(lost()), T0);
    let again = feed.poll_timeout(&mut engine, T0).expect("it is tried again");
    assert!(again <= REOPEN_MAX);
    assert_eq!(meet(&mut feed, &mut engine, &object, again).len(), asked.len());
}

#[test]
fn a_peer_that_sent_wrong_bytes_is_left_for_good() {
    let (mut feed, mut engine, object) = member(1);
    let asked = meet(&mut feed, &mut engine, &object, T0);
    let wrong = || Error::retry(Code::ChecksumMismatch, "other bytes");
    feed.handle_fetched::<()>(asked[0], Some(PEER), Err(wrong()), &mut engine, T0);
    engine.handle_given_back(asked[0], T0);
    assert!(matches!(steps(&mut feed, &mut engine, T0)[..], [Step::Close(PEER)]));
    feed.handle_peer(PEER, PeerEvent::Gone(wrong()), T0);
    let later = T0 + REOPEN_MAX * 2;
    assert!(steps(&mut feed, &mut engine, later).iter().all(|step| !matches!(step, Step::Open(_))));
}
