//! A seeded simulation: swarms as they are, in distributions where everything goes wrong.
//!
//! A seed stands for one distribution: up to ten honest hosts on virtual time, with liars and poisoners among them. Answers
//! take any time and fail; hosts die, leave, come back with some of what they had, and lose chunks; connections part; the
//! control plane hears of it late. Then the days become good, and every honest host must end with every chunk that is left
//! anywhere or may be read. What must hold at every step is checked where it happens (`world`).
//!
//! `TEST_SIM_SEEDS=n` lives n distributions instead of 500; `TEST_SIM_SEED=s` lives that one and prints its trace.

mod scenario;
mod world;

use world::World;

const SEEDS: u64 = 500;

/// What is broken on purpose, to see that the checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    /// Nobody compares what came with what should have come.
    WrongBytesAreTaken,
    /// The swarm's own time is not waited for.
    NoTimer,
    /// A seed that is not heard of is taken for one that reads nothing any more.
    SilenceIsBelieved,
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn every_seed_ends_well() {
    let one = env("TEST_SIM_SEED");
    let seeds = one.map_or(0..env("TEST_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    for seed in seeds {
        let life = World::live(seed, None);
        if one.is_some() {
            println!("{}", life.trace.join("\n"));
        }
        if let Err(why) = life.verdict {
            let tail = life.trace[life.trace.len().saturating_sub(40)..].join("\n");
            panic!(
                "{tail}\n\nseed {seed}: {why}\nreplay it with: TEST_SIM_SEED={seed} cargo test -p staccato-dataplane --lib \
                 swarm::simulation::every_seed -- --nocapture"
            );
        }
    }
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| World::live(seed, None));
        assert!(first.trace == second.trace, "seed {seed}");
    }
}

/// A simulation in which nothing happens proves nothing.
#[test]
fn every_kind_of_trouble_is_met_often() {
    let lives: Vec<String> = (0..300).map(|seed| World::live(seed, None).trace.join("\n")).collect();
    for trouble in [
        "dies",
        "leaves",
        "returns",
        "parts from",
        "loses",
        "Busy",
        "Absent",
        "Wrong",
        "Retry",
        "Gone",
        "drops",
        "is lost",
    ] {
        let met = lives.iter().filter(|trace| trace.contains(trouble)).count();
        assert!(met >= 10, "{trouble} is met in {met} of {} lives", lives.len());
    }
}

#[test]
fn the_checks_see_what_is_broken_on_purpose() {
    for (sabotage, complaint) in [
        (Sabotage::WrongBytesAreTaken, "announces what it has not"),
        (Sabotage::NoTimer, "misses"),
        (Sabotage::SilenceIsBelieved, "reads of the source"),
    ] {
        let complaints = (0..SEEDS).filter_map(|seed| World::live(seed, Some(sabotage)).verdict.err());
        let seen = complaints.take(50).any(|why| why.contains(complaint));
        assert!(seen, "{sabotage:?} is not seen");
    }
}
