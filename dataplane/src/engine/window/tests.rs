//! The window against simulated servers: what it moves beside the best fixed number, and what it leaves open.

use proptest::prelude::*;

use super::*;

const MIB: f64 = (1 << 20) as f64;
const CHUNK: f64 = 4.0 * MIB;

/// A server and the path to it. Rates are bytes per second.
#[derive(Clone, Copy, Debug)]
struct Server {
    /// Of all connections together.
    total: f64,
    /// Of each connection.
    each: f64,
    /// From a request to its first byte.
    latency: Duration,
    /// Requests beyond so many are refused.
    most: usize,
    /// Rates change by so much, up or down, every 50 ms.
    noise: f64,
}

const SERVER: Server =
    Server { total: f64::INFINITY, each: f64::INFINITY, latency: Duration::ZERO, most: usize::MAX, noise: 0.0 };

/// What became of a simulated transfer.
struct Lived {
    bytes: f64,
    limit: usize,
    refusals: usize,
}

const STEP: Duration = Duration::from_millis(2);

impl Server {
    /// Reads from it as fast as the window and the server allow.
    fn live(self, connections: Connections, time: Duration, seed: u64) -> Lived {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut window = Window::new(connections);
        // Offset, when its first byte may come, bytes left.
        let mut reads: Vec<(u64, Duration, f64)> = Vec::new();
        let mut resting: Vec<Duration> = Vec::new();
        let (mut offset, mut now, mut noise) = (0, Duration::ZERO, 1.0);
        let mut lived = Lived { bytes: 0.0, limit: 0, refusals: 0 };
        while now < time {
            resting.retain(|until| *until > now);
            while window.has_room() {
                window.handle_handed_out(offset, now);
                if reads.len() < self.most {
                    reads.push((offset, now + self.latency, CHUNK));
                } else {
                    lived.refusals += 1;
                    window.handle_failed(offset, true, now);
                    resting.push(now + Duration::from_millis(200));
                }
                offset += 1;
            }
            if now.as_millis().is_multiple_of(50) {
                noise = 1.0 + self.noise * (rng.f64() * 2.0 - 1.0);
            }
            now += STEP;
            let flowing = reads.iter().filter(|read| read.1 <= now).count().max(1);
            let rate = noise * self.each.min(self.total / flowing as f64);
            for read in &mut reads {
                if read.1 <= now {
                    let bytes = (rate * STEP.as_secs_f64()).min(read.2);
                    read.2 -= bytes;
                    lived.bytes += bytes;
                }
            }
            let (done, left): (Vec<_>, Vec<_>) = reads.into_iter().partition(|read| read.2 <= 0.0);
            reads = left;
            done.iter().for_each(|(offset, ..)| window.handle_read(*offset, CHUNK as u64, now));
        }
        lived.limit = window.limit();
        lived
    }

    /// Lives with several seeds, each time beside every one of some fixed numbers in the same weather.
    fn compare(self, max: usize, time: Duration) -> Compared {
        let mut compared = Compared { limits: Vec::new(), shares: Vec::new(), refusals: 0 };
        for seed in 0..SEEDS {
            let numbers = [1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32];
            let numbers = numbers.into_iter().filter(|number| *number <= max.min(self.most));
            let fixed = numbers.map(|number| self.live(Connections::Fixed(number), time, seed).bytes);
            let best = fixed.fold(0.0, f64::max);
            let own = self.live(Connections::Adaptive { max }, time, seed);
            compared.limits.push(own.limit);
            compared.shares.push(own.bytes / best);
            compared.refusals = compared.refusals.max(own.refusals);
        }
        compared.limits.sort_unstable();
        compared
    }
}

/// Own number against the best fixed one.
#[derive(Debug)]
struct Compared {
    /// The number in the end, for each seed, sorted.
    limits: Vec<usize>,
    /// What was moved, over what the best number moved.
    shares: Vec<f64>,
    /// Most requests that were refused.
    refusals: usize,
}

impl Compared {
    fn median(&self) -> usize {
        self.limits[self.limits.len() / 2]
    }

    /// Within 5 % of the best on average, and never far off.
    fn is_near_the_best(&self) -> bool {
        let mean = self.shares.iter().sum::<f64>() / self.shares.len() as f64;
        mean > 0.95 && self.shares.iter().all(|share| *share > 0.9)
    }
}

const SEEDS: u64 = 7;
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_limit_on_each_connection_opens_as_many_as_there_may_be() {
    let seen = Server { each: 20.0 * MIB, noise: 0.1, ..SERVER }.compare(32, MINUTE);
    assert!(seen.median() == 32 && seen.is_near_the_best(), "{seen:?}");
}

#[test]
fn a_limit_on_all_together_gives_back_what_brings_nothing() {
    let seen = Server { total: 100.0 * MIB, noise: 0.1, ..SERVER }.compare(16, MINUTE);
    assert!(seen.median() <= 4 && seen.is_near_the_best(), "{seen:?}");
}

#[test]
fn both_limits_meet_where_they_meet() {
    let server = Server { total: 100.0 * MIB, each: 20.0 * MIB, noise: 0.1, ..SERVER };
    let seen = server.compare(32, MINUTE);
    assert!((4..=10).contains(&seen.median()) && seen.is_near_the_best(), "{seen:?}");
}

#[test]
fn a_fast_and_noisy_server_is_not_slowed_down() {
    let server = Server { total: 2e9, latency: Duration::from_millis(2), noise: 0.3, ..SERVER };
    let seen = server.compare(16, Duration::from_secs(30));
    assert!(seen.is_near_the_best(), "{seen:?}");
}

#[test]
fn waiting_for_answers_is_done_on_many_connections() {
    let server = Server { total: 1e9, each: 2e8, latency: Duration::from_millis(50), noise: 0.1, ..SERVER };
    let seen = server.compare(32, MINUTE);
    assert!(seen.median() >= 8 && seen.is_near_the_best(), "{seen:?}");
}

#[test]
fn a_server_that_refuses_keeps_what_it_grants_and_is_seldom_asked_for_more() {
    let server = Server { each: 20.0 * MIB, most: 5, noise: 0.1, ..SERVER };
    let seen = server.compare(32, 5 * MINUTE);
    assert!((4..=5).contains(&seen.median()) && seen.is_near_the_best(), "{seen:?}");
    // Three at the start, then now and then one or two.
    assert!(seen.refusals < 30, "{seen:?}");
}

#[test]
fn the_number_follows_a_server_that_changes() {
    let mut window = Window::new(Connections::Adaptive { max: 16 });
    // (offset, when it ends), by a limit on each connection or on all together.
    let mut reads: Vec<(u64, Duration)> = Vec::new();
    let (mut now, mut offset) = (Duration::ZERO, 0);
    let mut until = |window: &mut Window, end: Duration, time: &dyn Fn(usize) -> f64| {
        while now < end {
            while window.has_room() {
                window.handle_handed_out(offset, now);
                reads.push((offset, now + Duration::from_secs_f64(time(window.limit()))));
                offset += 1;
            }
            let next = (0..reads.len()).min_by_key(|at| reads[*at].1).expect("something is read");
            let (offset, at) = reads.swap_remove(next);
            now = at;
            window.handle_read(offset, 4 << 20, now);
        }
        window.limit()
    };
    assert_eq!(until(&mut window, MINUTE, &|_| 0.2), 16, "each has its own");
    assert!(until(&mut window, 3 * MINUTE, &|number| 0.04 * number as f64) <= 4, "they share");
    assert!(until(&mut window, 8 * MINUTE, &|_| 0.2) >= 15, "each has its own again");
}

#[test]
fn what_something_else_limits_changes_nothing() {
    let mut window = Window::new(Connections::Adaptive { max: 16 });
    for offset in 0..1000 {
        // One at a time, as a rate limit would have it.
        let now = Duration::from_millis(offset * 100);
        window.handle_handed_out(offset, now);
        window.handle_read(offset, 1 << 20, now + Duration::from_millis(90));
    }
    assert_eq!(window.limit(), CONNECTIONS_START);
}

#[test]
fn a_fixed_number_stays_and_one_without_limit_counts_nothing() {
    let mut fixed = Window::new(Connections::Fixed(3));
    for offset in 0..3 {
        assert!(fixed.has_room());
        fixed.handle_handed_out(offset, Duration::ZERO);
    }
    assert!(!fixed.has_room());
    fixed.handle_failed(0, true, Duration::ZERO);
    fixed.handle_read(1, 1, Duration::from_secs(1));
    fixed.handle_read(1, 1, Duration::from_secs(2));
    assert!(fixed.has_room() && fixed.limit() == 3);
    let mut free = Window::new(Connections::Unlimited);
    (0..1000).for_each(|offset| free.handle_handed_out(offset, Duration::ZERO));
    assert!(free.has_room() && free.under_way.is_empty());
}

proptest! {
    #[test]
    fn whatever_happens_the_number_stays_in_its_bounds_and_refusals_lower_it(
        max in 1usize..40,
        events in prop::collection::vec((0u8..10, any::<u16>(), 0u64..2_000), 1..400),
    ) {
        let mut window = Window::new(Connections::Adaptive { max });
        let (mut under_way, mut now, mut offset) = (Vec::new(), Duration::ZERO, 0u64);
        for (kind, pick, millis) in events {
            now += Duration::from_millis(millis);
            while window.has_room() && kind != 9 {
                window.handle_handed_out(offset, now);
                under_way.push(offset);
                offset += 1;
            }
            if under_way.is_empty() {
                continue;
            }
            let chosen = under_way.swap_remove(usize::from(pick) % under_way.len());
            let before = window.limit();
            match kind {
                0 => {
                    window.handle_failed(chosen, true, now);
                    prop_assert_eq!(window.limit(), (before - 1).max(1));
                }
                1 => window.handle_failed(chosen, false, now),
                _ => window.handle_read(chosen, 4 << 20, now),
            }
            prop_assert!((1..=max).contains(&window.limit()), "{} of {}", window.limit(), max);
            prop_assert_eq!(window.under_way.len(), under_way.len());
        }
    }

}

proptest! {
    // Each lives a minute 17 times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn on_any_steady_server_it_is_near_the_best_fixed_number(
        seed in any::<u64>(),
        total in 20.0f64..2000.0,
        each in 5.0f64..500.0,
        latency_millis in 0u64..100,
    ) {
        let latency = Duration::from_millis(latency_millis);
        let server = Server { total: total * MIB, each: each * MIB, latency, most: usize::MAX, noise: 0.05 };
        let best = (1..=16).map(|number| server.live(Connections::Fixed(number), MINUTE, seed).bytes).fold(0.0, f64::max);
        let own = server.live(Connections::Adaptive { max: 16 }, MINUTE, seed);
        prop_assert!(own.bytes > 0.9 * best, "{} connections, {:.3} of the best", own.limit, own.bytes / best);
    }
}
