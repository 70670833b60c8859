//! What a swarm promises, one promise at a time.

use super::*;

const CHUNKS: u32 = 40;
const NEAR: PeerKey = PeerKey(1);
const FAR: PeerKey = PeerKey(2);
const OTHER: PeerKey = PeerKey(3);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn set(chunks: impl IntoIterator<Item = u32>) -> ChunkSet {
    ChunkSet::from_ranges(CHUNKS, chunks.into_iter().map(|chunk| chunk..chunk + 1)).unwrap()
}

fn allotment(own: impl IntoIterator<Item = u32>, reserve: impl IntoIterator<Item = u32>) -> Allotment {
    Allotment { own: set(own), reserves: vec![Reserve { of: OTHER, chunks: set(reserve) }] }
}

fn config() -> SwarmConfig {
    SwarmConfig { asks_max: 3, source_asks_max: 2, ..SwarmConfig::new(CHUNKS, 7) }
}

/// A member that has nothing and may read nothing.
fn member(config: SwarmConfig) -> Swarm {
    Swarm::new(config, set([]), Allotment::none(CHUNKS))
}

fn with_peers(config: SwarmConfig, peers: impl IntoIterator<Item = (PeerKey, ChunkSet)>) -> Swarm {
    let mut swarm = member(config);
    for (peer, chunks) in peers {
        let nearness = if peer == NEAR { Nearness::SameRack } else { Nearness::Elsewhere };
        swarm.handle_met(peer, nearness, ms(0));
        swarm.handle_have(peer, &chunks, ms(0));
    }
    swarm
}

fn of(peer: PeerKey, chunk: u32) -> Ask {
    Ask { chunk, from: Holder::Peer(peer) }
}

fn of_source(chunk: u32) -> Ask {
    Ask { chunk, from: Holder::Source }
}

fn asks(swarm: &mut Swarm, now: Duration) -> Vec<Ask> {
    std::iter::from_fn(|| swarm.poll(now)).collect()
}

/// Gets chunks from a peer, each in `took`, and everything that is asked of others meanwhile at the end.
fn fetch(swarm: &mut Swarm, took: Duration, chunks: u32, now: &mut Duration) {
    for _ in 0..chunks {
        let ask = swarm.poll(*now).expect("there is something to ask for");
        *now += took;
        assert_eq!(swarm.handle_arrived(ask, *now), []);
    }
}

#[test]
fn a_seed_reads_its_own_chunks_that_nobody_has_beside_asking_peers() {
    let mut swarm = Swarm::new(config(), set([]), allotment(0..10, 10..11));
    swarm.handle_met(NEAR, Nearness::SameRack, ms(0));
    swarm.handle_have(NEAR, &set(0..8), ms(0));
    let asked = asks(&mut swarm, ms(0));
    let read: Vec<_> = asked.iter().filter(|ask| ask.from == Holder::Source).map(|ask| ask.chunk).collect();
    assert!(read == [8, 9] || read == [9, 8], "{asked:?}");
    assert!(asked.iter().any(|ask| ask.from == Holder::Peer(NEAR) && ask.chunk < 8), "{asked:?}");
    // What has come is not read again, even when it is lost.
    swarm.handle_arrived(of_source(8), ms(10));
    swarm.handle_lost(8);
    assert!(!asks(&mut swarm, ms(20)).contains(&of_source(8)));
    swarm.handle_allotted(allotment(0..10, 10..13), ms(30));
    assert!(!swarm.may_read(8) && swarm.may_read(12));
    assert!(swarm.wants_source_budget().contains(8) && swarm.wants_source_budget().contains(39));
}

#[test]
fn a_reserve_is_read_where_its_seed_is_gone_or_late() {
    let may_read_reserve = |swarm: &mut Swarm, now| asks(swarm, now).iter().any(|ask| (10..20).contains(&ask.chunk));
    let begin = |own: u32, reserve| {
        let mut swarm = Swarm::new(config(), set([]), allotment(0..own, reserve));
        swarm.handle_met(OTHER, Nearness::Elsewhere, ms(0));
        swarm.handle_have(OTHER, &set([30]), ms(0));
        assert!(!asks(&mut swarm, ms(0)).is_empty());
        for chunk in 0..own {
            swarm.handle_arrived(of_source(chunk), ms(200));
        }
        (swarm, ms(200))
    };
    // Whoever misses so much more than this one is late.
    let (mut swarm, now) = begin(9, 10..20);
    assert!(may_read_reserve(&mut swarm, now));
    // Of few chunks that says nothing.
    let (mut swarm, now) = begin(3, 10..20);
    assert!(!may_read_reserve(&mut swarm, now), "they may be on their way");
    let at = swarm.poll_timeout(now).unwrap();
    assert!(at <= now + ms(500) && may_read_reserve(&mut swarm, at));
    // Nor of few of another one's.
    let (mut swarm, now) = begin(9, 10..11);
    assert!(!may_read_reserve(&mut swarm, now));

    let (mut swarm, now) = begin(3, 10..13);
    swarm.handle_gone(OTHER, now);
    assert!(may_read_reserve(&mut swarm, now));
    // Whoever has told of nothing yet may be about to begin, however much others have.
    let (mut swarm, now) = begin(9, 10..20);
    swarm.handle_met(OTHER, Nearness::Elsewhere, now);
    assert!(!may_read_reserve(&mut swarm, now + ms(1_000)));
    assert!(may_read_reserve(&mut swarm, now + SwarmConfig::new(CHUNKS, 7).patience));
    // Who came back is waited for again.
    let (mut swarm, now) = begin(3, 10..13);
    swarm.handle_gone(OTHER, now);
    swarm.handle_met(OTHER, Nearness::Elsewhere, now);
    assert!(!may_read_reserve(&mut swarm, now));
}

#[test]
fn the_rarest_comes_first_and_the_rack_before_that() {
    let mut swarm = with_peers(config(), [(FAR, set(0..20)), (OTHER, set((0..9).chain(10..20)))]);
    assert_eq!(swarm.poll(ms(0)), Some(of(FAR, 9)));
    swarm.handle_met(NEAR, Nearness::SameRack, ms(0));
    swarm.handle_have(NEAR, &set([5]), ms(0));
    assert_eq!(swarm.poll(ms(0)), Some(of(NEAR, 5)));
}

#[test]
fn every_host_has_an_order_of_its_own_and_always_the_same() {
    let order = |seed| {
        let mut swarm = with_peers(SwarmConfig { seed, ..config() }, [(NEAR, set(0..40))]);
        let (mut chunks, mut now) = (Vec::new(), ms(0));
        while let Some(ask) = swarm.poll(now) {
            now += ms(10);
            chunks.push(ask.chunk);
            swarm.handle_arrived(ask, now);
        }
        assert!(swarm.is_complete());
        chunks
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn a_peer_that_is_fast_is_asked_for_more_and_one_that_is_busy_for_less() {
    let mut swarm = with_peers(config(), [(NEAR, set(0..40))]);
    assert_eq!(asks(&mut swarm, ms(0)).len(), 1);
    let mut swarm = with_peers(config(), [(NEAR, set(0..40))]);
    let mut now = ms(0);
    fetch(&mut swarm, ms(10), 3, &mut now);
    let asked = asks(&mut swarm, now);
    assert_eq!(asked.len(), 3);
    let after = ms(50);
    for ask in &asked[..2] {
        swarm.handle_failed(*ask, Failure::Busy { after }, now);
    }
    assert_eq!(asks(&mut swarm, now), []);
    let at = swarm.poll_timeout(now).unwrap();
    assert!(at > now);
    swarm.handle_arrived(asked[2], now);
    assert_eq!(asks(&mut swarm, now + ms(49)), []);
    assert!(swarm.poll_timeout(now).unwrap() >= now + after);
    assert!(!asks(&mut swarm, now + ms(110)).is_empty());
}

#[test]
fn nobody_waits_for_a_slow_peer() {
    let peers: Vec<_> = (1..=6).map(|peer| (PeerKey(peer), set(0..40))).collect();
    let mut swarm = with_peers(config(), peers);
    // It is known what is usual, but not of everybody.
    let first = asks(&mut swarm, ms(0));
    assert_eq!(first.len(), 3);
    let mut now = ms(100);
    swarm.handle_arrived(first[0], now);
    swarm.handle_arrived(first[1], now);
    assert_eq!(asks(&mut swarm, now).len(), 2);
    // The third question is slow now: its place is taken by another one, and its peer is asked no more.
    let asked = loop {
        now = swarm.poll_timeout(now).unwrap();
        let asked = asks(&mut swarm, now);
        if !asked.is_empty() {
            break asked;
        }
    };
    assert_eq!(asked.len(), 1);
    assert_ne!(asked[0].from, first[2].from);
    // Its answer comes at last: one that takes so long is asked for what no other has.
    now += ms(1_000);
    swarm.handle_arrived(first[2], now);
    let Holder::Peer(slow) = first[2].from else { panic!("there is no source") };
    swarm.questions.iter().map(|question| question.ask).collect::<Vec<_>>().into_iter().for_each(|ask| {
        swarm.handle_arrived(ask, now);
    });
    assert!(asks(&mut swarm, now).iter().all(|ask| ask.from != Holder::Peer(slow)));
    for gone in (1..=6).map(PeerKey).filter(|peer| *peer != slow) {
        swarm.handle_gone(gone, now);
    }
    assert_eq!(asks(&mut swarm, now).len(), 1);
}

#[test]
fn at_the_end_a_slow_question_is_put_to_a_second_holder_and_the_slower_answer_dropped() {
    let last = 39;
    let mut swarm = with_peers(config(), [(FAR, set(0..40))]);
    let mut now = ms(0);
    fetch(&mut swarm, ms(10), CHUNKS - 1, &mut now);
    let slow = swarm.poll(now).unwrap();
    swarm.handle_met(NEAR, Nearness::SameRack, now);
    swarm.handle_have(NEAR, &set(0..=last), now);
    assert_eq!(swarm.poll(now), None, "it may still come in time");
    assert_eq!(swarm.poll(now + ms(99)), None, "what comes fast is not late after a moment");
    now = swarm.poll_timeout(now).unwrap();
    let second = of(NEAR, slow.chunk);
    assert_eq!(asks(&mut swarm, now), [second]);
    assert_eq!(asks(&mut swarm, now + ms(60_000)), [], "one second question is enough");
    assert_eq!(swarm.handle_arrived(second, now), [slow]);
    assert!(swarm.is_complete() && swarm.asks() == 0);
    assert_eq!(swarm.poll_timeout(now), None);
    // Whatever comes later changes nothing.
    assert_eq!(swarm.handle_arrived(slow, now), []);
}

#[test]
fn where_two_are_asked_for_the_last_chunk_and_both_are_dead_a_third_one_is_asked() {
    let mut swarm = with_peers(config(), [(FAR, set(0..40))]);
    let mut now = ms(0);
    fetch(&mut swarm, ms(100), CHUNKS - 1, &mut now);
    let first = swarm.poll(now).unwrap();
    for other in [NEAR, OTHER, PeerKey(4)] {
        swarm.handle_met(other, Nearness::Elsewhere, now);
        swarm.handle_have(other, &set(0..40), now);
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        let next = swarm.poll_timeout(now).expect("nobody is waited for until it is known that he is dead");
        assert!(next > now && next < ms(60_000), "{told:?}");
        now = next;
        told.extend(asks(&mut swarm, now));
    }
    assert!(told[0].from != told[1].from && told.iter().all(|ask| ask.chunk == first.chunk && ask.from != first.from));
    assert_eq!(asks(&mut swarm, now + ms(60_000)), [], "three are enough");
    assert_eq!(swarm.handle_arrived(told[1], now), [first, told[0]]);
    assert!(swarm.is_complete() && swarm.asks() == 0);
}

#[test]
fn while_there_is_something_else_to_ask_nothing_is_asked_twice() {
    let mut swarm = with_peers(SwarmConfig { asks_max: 1, ..config() }, [(FAR, set([0, 1])), (OTHER, set([0, 1]))]);
    let first = swarm.poll(ms(0)).unwrap();
    let at = swarm.poll_timeout(ms(0)).unwrap();
    let next = swarm.poll(at).unwrap();
    assert_ne!(next.chunk, first.chunk);
    assert_eq!(swarm.poll(at), None);
}

#[test]
fn an_answer_that_was_overtaken_by_the_news_that_it_is_there_is_not_believed() {
    let mut swarm = with_peers(config(), [(NEAR, set([4]))]);
    let mut now = ms(0);
    // However often: nobody is distrusted for that.
    for _ in 0..5 {
        let ask = swarm.poll(now).expect("it is asked again");
        swarm.handle_have(NEAR, &set([4]), now);
        swarm.handle_failed(ask, Failure::Absent, now);
        assert_eq!(swarm.poll(now), None, "but not at once");
        now = swarm.poll_timeout(now).unwrap();
    }
    let ask = swarm.poll(now).unwrap();
    swarm.handle_failed(ask, Failure::Absent, now);
    assert_eq!(asks(&mut swarm, now + ms(60_000)), [], "it has not got it");
    assert!(!swarm.is_distrusted(NEAR));
}

#[test]
fn liars_and_senders_of_wrong_bytes_are_not_asked_again() {
    let mut swarm = with_peers(config(), [(NEAR, set(0..40)), (FAR, set(0..40))]);
    let mut now = ms(0);
    let wrong = swarm.poll(now).unwrap();
    assert_eq!(wrong.from, Holder::Peer(NEAR));
    swarm.handle_failed(wrong, Failure::Wrong, now);
    swarm.handle_met(NEAR, Nearness::SameRack, now);
    swarm.handle_have(NEAR, &set(0..40), now);
    for _ in 0..3 {
        let ask = swarm.poll(now).unwrap();
        assert_eq!(ask.from, Holder::Peer(FAR));
        assert!(!swarm.is_distrusted(FAR));
        swarm.handle_failed(ask, Failure::Absent, now);
        now += ms(10_000);
    }
    assert!(swarm.is_distrusted(NEAR) && swarm.is_distrusted(FAR));
    assert_eq!((swarm.poll(now), swarm.poll_timeout(now)), (None, None));
    assert!(swarm.have().is_empty());
}

#[test]
fn what_was_asked_of_one_that_is_gone_is_asked_of_others() {
    let mut swarm = with_peers(config(), [(NEAR, set([4]))]);
    assert_eq!(asks(&mut swarm, ms(0)), [of(NEAR, 4)]);
    swarm.handle_met(FAR, Nearness::Elsewhere, ms(1));
    swarm.handle_have(FAR, &set([4]), ms(1));
    assert_eq!(asks(&mut swarm, ms(1)), []);
    swarm.handle_gone(NEAR, ms(2));
    assert_eq!(asks(&mut swarm, ms(2)), [of(FAR, 4)]);
    // An answer that was on its way all the same is welcome, and the other one dropped.
    assert_eq!(swarm.handle_arrived(of(NEAR, 4), ms(3)), [of(FAR, 4)]);
    assert_eq!(*swarm.have(), set([4]));
}

#[test]
fn it_takes_little_memory() {
    let chunks = 1 << 18;
    let none = ChunkSet::empty(chunks);
    let mut swarm = Swarm::new(SwarmConfig::new(chunks, 1), none.clone(), Allotment::none(chunks));
    for peer in 0..16 {
        swarm.handle_met(PeerKey(peer), Nearness::Elsewhere, ms(0));
    }
    // A terabyte in chunks of 4 MiB, with 16 peers.
    assert!(swarm.memory_bytes() < 1_100_000, "{}", swarm.memory_bytes());
    assert!(none.memory_bytes() < 33_000);
}

#[test]
fn a_seed_that_was_never_met_may_only_be_about_to_begin() {
    let patience = config().patience * 5;
    let mut swarm = Swarm::new(config(), set([]), allotment(0..2, 10..20));
    let mut now = ms(0);
    fetch(&mut swarm, ms(1), 2, &mut now);
    assert_eq!(asks(&mut swarm, now), [], "its own share is through, and that of the other one is not late yet");
    assert_eq!(swarm.poll_timeout(now), Some(now + patience));
    assert!(swarm.poll(now + patience).is_some_and(|ask| ask.from == Holder::Source && ask.chunk >= 10));
}
