//! Hosts die that have read parts of the source which nobody else has.

use std::{thread::sleep, time::Duration};

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES},
};

use super::Origin;

const LEN: usize = 20 * MIB + 11;
/// Bytes per second that the source sends: all of it takes more than three seconds.
const PACE: u64 = 6 << 20;

/// A distribution of which each host has something that survives its death.
fn under_way(fleet: &Fleet, bytes: &[u8]) -> (Origin, String) {
    let origin = Origin::start(Page::new(bytes.to_vec()).pace(PACE));
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    (0..4).for_each(|number| drop(fleet.wait_for_progress(&id, number, MIB)));
    (origin, id)
}

#[test]
fn what_a_seed_took_with_it_is_read_again_and_the_others_have_everything() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(71, LEN);
    let (origin, id) = under_way(&fleet, &bytes);
    fleet.kill(1);
    for number in [0, 2, 3] {
        fleet.wait_for_copy(&id, number, &bytes);
    }
    origin.check_budget(2, &bytes);
    let document = fleet.look_until(&id, "three are done", |one| one["hosts"]["done"] == 3);
    assert_eq!((&document["hosts"]["failed"], &document["hosts"]["total"]), (&json!(0), &json!(4)), "{document:#}");
}

#[test]
fn a_seed_that_comes_back_goes_on_and_all_have_everything() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(72, LEN);
    let (origin, id) = under_way(&fleet, &bytes);
    fleet.kill(1);
    // Longer than its lease.
    sleep(Duration::from_secs(3));
    fleet.launch(1);
    fleet.complete(&id, 0..4, &bytes);
    origin.check_budget(2, &bytes);
}

#[test]
fn half_of_the_hosts_die_and_come_back_and_all_have_everything() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(73, LEN);
    let (origin, id) = under_way(&fleet, &bytes);
    [1, 2].into_iter().for_each(|number| fleet.kill(number));
    [1, 2].into_iter().for_each(|number| fleet.launch(number));
    fleet.complete(&id, 0..4, &bytes);
    origin.check_budget(2, &bytes);
}
