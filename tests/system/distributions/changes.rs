//! The object changes while hosts read it.

use std::fs;

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES},
    process::eventually,
    service::PATIENCE,
};

use super::Origin;

#[test]
fn an_object_that_changes_fails_clearly_and_no_copy_is_a_mixture() {
    let fleet = Fleet::start(&SHORT_LEASES);
    let [old, new] = [41, 42].map(|seed| random(seed, 16 * MIB + 9));
    let origin = Origin::start(Page::new(old.clone()).pace(6 << 20));
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    origin.wait_for(old.len() / 3);
    origin.put(Page::new(new.clone()));
    let document = fleet.look_until(&id, "it has ended", |one| one["finished_at"].is_string());
    for number in 0..4 {
        let (member, copy) = (fleet.member(&id, number), fs::read(fleet.copy(number)).ok());
        if member["state"] == "STATE_COMPLETE" {
            assert!(copy.is_some_and(|copy| copy == old), "h{number} has the version with which it began, whole");
        } else {
            assert!(copy.is_none(), "h{number}: what is not whole has no name");
        }
    }
    let end = (document["state"].as_str(), document["error"]["code"].as_str());
    assert_eq!(end, (Some("STATE_ERROR"), Some("object_changed")), "{}", fleet.told(&id));
    // Another one has the new version everywhere, once nothing is left of this one.
    fleet.deployment.service.delete(&format!("/v1/distributions/{id}"));
    let is_left = |number| fleet.partial(number).is_some();
    eventually(PATIENCE, "nothing is left of it", || (!(0..4).any(is_left)).then_some(()));
    (0..4).for_each(|number| drop(fs::remove_file(fleet.copy(number))));
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    fleet.complete(&id, 0..4, &new);
}
