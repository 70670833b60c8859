//! The pure path, on a clock of the test's own.

use std::time::Duration;

use proptest::prelude::*;

use super::{Conditions, HELD_BYTES_MAX, OneWay};

const BYTES: u64 = 1500;

/// Sends `count` packets, one each `gap`, and lets all arrive; each with the time of its arrival.
fn sent(conditions: Conditions, seed: u64, count: u64, gap: Duration) -> (OneWay<u64>, Vec<(Duration, u64)>) {
    let mut path = OneWay::new(conditions, seed);
    let mut arrived = Vec::new();
    for packet in 0..count {
        let now = gap * packet as u32;
        arrive(&mut path, now, &mut arrived);
        path.handle_packet(now, BYTES, packet);
    }
    arrive(&mut path, Duration::MAX, &mut arrived);
    (path, arrived)
}

/// Everything that is due by `now`, each at its own time.
fn arrive(path: &mut OneWay<u64>, now: Duration, arrived: &mut Vec<(Duration, u64)>) {
    while let Some(due) = path.poll_timeout().filter(|due| *due <= now) {
        arrived.push((due, path.poll_packet(due).expect("it is due")));
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_path_without_conditions_gives_everything_back_at_once() {
    let (path, arrived) = sent(Conditions::default(), 1, 1000, millis(1));
    assert!(arrived.iter().enumerate().all(|(at, (when, packet))| *packet == at as u64 && *when == millis(at as u64)));
    assert_eq!((path.counts().delivered, path.counts().held_bytes), (1000, 0));
}

#[test]
fn nothing_is_lost_from_nothing_and_nothing_comes_of_it() {
    let mut path = OneWay::<u64>::new(Conditions { loss: 1.0, duplication: 1.0, ..Conditions::default() }, 1);
    assert_eq!((path.poll_timeout(), path.poll_packet(Duration::MAX), path.counts()), (None, None, Default::default()));
}

#[test]
fn a_packet_arrives_behind_its_delay_and_not_before() {
    let mut path = OneWay::new(Conditions { delay: millis(50), ..Conditions::default() }, 1);
    path.handle_packet(millis(7), BYTES, 1);
    assert_eq!(path.poll_timeout(), Some(millis(57)));
    assert_eq!(path.poll_packet(millis(57) - Duration::from_nanos(1)), None);
    assert_eq!(path.poll_packet(millis(57)), Some(1));
}

#[test]
fn as_many_are_lost_and_doubled_as_the_conditions_say() {
    for (seed, share) in [(1, 0.001), (2, 0.01), (3, 0.3)] {
        let count = 200_000;
        let conditions = Conditions { loss: share, duplication: share, ..Conditions::default() };
        let (path, arrived) = sent(conditions, seed, count, Duration::from_micros(1));
        let counts = path.counts();
        // Five standard deviations of a binomial distribution.
        let within = |seen: u64, of: u64| {
            let expected = of as f64 * share;
            (seen as f64 - expected).abs() < 5.0 * (expected * (1.0 - share)).sqrt()
        };
        assert!(within(counts.lost, count), "{share}: {counts:?}");
        assert!(within(counts.duplicated, count - counts.lost), "{share}: {counts:?}");
        assert_eq!(arrived.len() as u64, count - counts.lost + counts.duplicated);
    }
}

#[test]
fn a_bounded_rate_is_kept_and_what_finds_no_room_is_dropped() {
    let rate = 100_000_000;
    let conditions = Conditions { rate: Some(rate), delay: millis(10), ..Conditions::default() };
    // Twice as much as it carries.
    let gap = Duration::from_nanos(BYTES * 8 * 1_000_000_000 / rate / 2);
    let (path, arrived) = sent(conditions, 1, 100_000, gap);
    let took = arrived.last().unwrap().0 - arrived[0].0;
    let seen = (arrived.len() - 1) as f64 * BYTES as f64 * 8.0 / took.as_secs_f64();
    assert!((seen / rate as f64 - 1.0).abs() < 0.001, "{seen}");
    let share = path.counts().dropped as f64 / 100_000.0;
    assert!((0.45..0.5).contains(&share), "{share}");
    // Nobody waits longer than a full queue takes.
    let queue = Duration::from_secs_f64(conditions.queue_bytes() as f64 * 8.0 / rate as f64);
    let waited = arrived.iter().map(|(when, packet)| *when - gap * *packet as u32);
    assert!(waited.clone().max().unwrap() <= millis(10) + queue + Duration::from_micros(1));
    assert!(waited.min().unwrap() >= millis(10));
}

#[test]
fn a_rate_that_is_not_used_up_drops_nothing() {
    let conditions = Conditions { rate: Some(100_000_000), queue_bytes_max: Some(BYTES), ..Conditions::default() };
    let (path, _) = sent(conditions, 1, 10_000, Duration::from_micros(121));
    assert_eq!(path.counts().dropped, 0);
}

#[test]
fn what_is_held_back_is_overtaken_and_arrives_all_the_same() {
    let conditions = Conditions { delay: millis(5), reordering: 0.1, ..Conditions::default() };
    let (_, arrived) = sent(conditions, 4, 10_000, Duration::from_micros(10));
    let late = arrived.windows(2).filter(|pair| pair[1].1 < pair[0].1).count();
    assert!((500..1200).contains(&late), "{late}");
    let mut packets: Vec<u64> = arrived.iter().map(|(_, packet)| *packet).collect();
    packets.sort_unstable();
    assert!(packets.into_iter().eq(0..10_000));
}

#[test]
fn what_is_held_is_bounded() {
    let mut path = OneWay::new(Conditions { delay: millis(1000), ..Conditions::default() }, 1);
    let large = HELD_BYTES_MAX / 2;
    let refused: Vec<bool> = (0..3).map(|packet| path.handle_packet(millis(0), large, packet).is_some()).collect();
    assert_eq!((refused, path.counts().dropped), (vec![false, false, true], 1));
    while path.poll_packet(millis(1000)).is_some() {}
    assert!(path.handle_packet(millis(1000), large, 4).is_none());
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let times = (0..80_u64, 0..20_u64);
    let shares = (prop_oneof![Just(0.0), 0.0..0.5], prop_oneof![Just(0.0), 0.0..0.5], prop_oneof![Just(0.0), 0.0..0.5]);
    (times, shares, proptest::option::of(1_000_000..10_000_000_000_u64)).prop_map(|(times, shares, rate)| Conditions {
        delay: millis(times.0),
        jitter: millis(times.1),
        loss: shares.0,
        reordering: shares.1,
        duplication: shares.2,
        rate,
        queue_bytes_max: None,
    })
}

proptest! {
    #[test]
    fn every_packet_is_accounted_for_and_comes_neither_early_nor_out_of_order(
        conditions in conditions(), seed: u64, gap in 0..100_000_u64,
    ) {
        let gap = Duration::from_nanos(gap);
        let (path, arrived) = sent(conditions, seed, 500, gap);
        let counts = path.counts();
        prop_assert_eq!((counts.came, counts.held, counts.held_bytes), (500, 0, 0));
        prop_assert_eq!(counts.came + counts.duplicated, counts.delivered + counts.lost + counts.dropped);
        prop_assert_eq!(counts.delivered, arrived.len() as u64);
        for (when, packet) in &arrived {
            prop_assert!(*when >= gap * *packet as u32 + conditions.delay);
        }
        if conditions.reordering == 0.0 {
            prop_assert!(arrived.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        }
        // The same seed, the same result; duplicates and losses follow it alone.
        let (_, again) = sent(conditions, seed, 500, gap);
        prop_assert_eq!(arrived, again);
    }

    #[test]
    fn a_bounded_rate_is_never_exceeded_by_more_than_a_packet(
        rate in 1_000_000..2_000_000_000_u64, seed: u64, gap in 0..50_000_u64,
    ) {
        let conditions = Conditions { rate: Some(rate), ..Conditions::default() };
        let (_, arrived) = sent(conditions, seed, 500, Duration::from_nanos(gap));
        let first = arrived[0].0;
        for (at, (when, _)) in arrived.iter().enumerate() {
            let bits = at as f64 * BYTES as f64 * 8.0;
            // Each duration is cut to whole nanoseconds.
            let elapsed = (*when - first).as_secs_f64() + at as f64 * 1e-9;
            prop_assert!(bits <= elapsed * rate as f64 * (1.0 + 1e-6) + 1.0);
        }
    }
}
