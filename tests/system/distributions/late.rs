//! Hosts that are added while others are at it, or have it.

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES},
};

use super::Origin;

#[test]
fn hosts_that_join_when_others_are_half_done_have_the_first_half_from_them() {
    let fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(51, 16 * MIB + 3);
    let origin = Origin::start(Page::new(bytes.clone()).pace(6 << 20));
    let id = fleet.distribute(&origin.url, 0..2, json!({}));
    fleet.wait_for_progress(&id, 0, bytes.len() / 2);
    fleet.add(&id, 2..4);
    fleet.complete(&id, 0..4, &bytes);
    for number in 2..4 {
        let member = fleet.member(&id, number);
        assert!(member["bytes_from_peers"].as_u64() > Some(bytes.len() as u64 / 2), "{member:#}");
    }
    origin.check_budget(2, &bytes);
}

#[test]
fn a_host_that_is_there_only_when_all_others_are_done_has_it_from_them() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(52, 8 * MIB + 3);
    let origin = Origin::start(Page::new(bytes.clone()));
    fleet.kill(3);
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    (0..3).for_each(|number| drop(fleet.wait_for_copy(&id, number, &bytes)));
    fleet.launch(3);
    fleet.complete(&id, 0..4, &bytes);
    let member = fleet.member(&id, 3);
    assert!(member["bytes_from_peers"].as_u64() > Some(bytes.len() as u64 / 2), "{member:#}");
    origin.check_budget(2, &bytes);
    // What is complete takes no further hosts.
    let path = format!("/v1/distributions/{id}/hosts");
    let refused = fleet.deployment.service.post(&path, &json!({"hosts": {"names": ["head"]}}));
    assert_eq!((refused.status, refused.code()), (409, "state_conflict"), "{:?}", refused.body);
}
