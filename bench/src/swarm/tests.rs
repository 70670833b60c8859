//! What a simulated distribution must come to.

use std::time::Duration;

use super::*;

/// Equal links, racks of ten, and nothing bad.
fn setup(hosts: u32, chunks: u32) -> Setup {
    Setup {
        hosts,
        chunks,
        chunk_bytes: 4 << 20,
        link_bits: 1_000_000_000,
        source_bits: 1_000_000_000,
        rack_hosts: 10,
        rack_oversubscription: 4.0,
        core_oversubscription: 1.0,
        latency: Duration::from_micros(250),
        stragglers: 0.0,
        failures: 0.0,
        churn: 0.0,
        late: 0.0,
        seeds: 8,
        source_budget: 2.0,
        peers: 16,
        heartbeat: Duration::from_secs(5),
        silence: Duration::from_secs(15),
        slots: 6,
        asks_max: 5,
        asks_per_peer_max: 4,
        source_asks_max: 1,
        seed: 1,
    }
}

#[test]
fn eight_hosts_on_equal_links_take_little_more_than_one() {
    let outcome = simulate(&setup(8, 256));
    assert!(outcome.ratio < 1.1, "{outcome}");
    assert!(outcome.source_reads <= 1.05 && outcome.undone == 0 && outcome.wasted < 0.01, "{outcome}");
}

/// Stragglers, deaths, returns and latecomers: all that can be done are, within the source's budget.
#[test]
fn fifty_hosts_are_done_whatever_befalls_them() {
    for seed in 1..4 {
        let bad = Setup { stragglers: 0.06, failures: 0.04, churn: 0.06, late: 0.06, seed, ..setup(50, 64) };
        let outcome = simulate(&bad);
        assert!(outcome.healthy > 30 && outcome.died == 2 && outcome.undone == 0, "{outcome}");
        assert!(outcome.source_reads <= 2.0 && outcome.wasted < 0.05, "{outcome}");
        // A host that died without a word is noticed after 15 s; nobody waits for that, and then for a whole object more.
        assert!(outcome.makespan_s < 15.0 + 2.0 * outcome.bound_s, "{outcome}");
    }
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let run = |seed| {
        let bad = Setup { stragglers: 0.1, failures: 0.1, churn: 0.1, late: 0.1, seed, ..setup(20, 30) };
        serde_json::to_string(&simulate(&bad)).unwrap()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_bound_is_no_less_than_any_of_what_limits() {
    let ideal = |setup: &Setup| setup.bound(&vec![scene::Role::default(); setup.hosts as usize]).as_secs_f64();
    let equal = setup(8, 256);
    let link = equal.bytes() as f64 / 125e6;
    assert!((ideal(&equal) - link).abs() < 1e-6);
    assert!((ideal(&Setup { source_bits: 250_000_000, ..equal.clone() }) - 4.0 * link).abs() < 1e-6);
    // A straggler is no part of what the bound is for, but what it cannot send is missing.
    let mut roles = vec![scene::Role::default(); 8];
    roles[3].straggler = true;
    assert!((equal.bound(&roles).as_secs_f64() - link).abs() < 1e-6);
    assert!((equal.bound_of(&roles[3]).as_secs_f64() - 10.0 * link).abs() < 1e-5);
}
