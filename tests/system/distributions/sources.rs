//! The source goes away while hosts read it: for a while, or for good.

use std::{fs, thread::sleep, time::Duration};

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES},
    service::free_port,
};

use super::Origin;

/// How long a source is away; `TEST_SOURCE_GONE_S` makes it longer, as the soak does: two minutes.
fn away() -> Duration {
    Duration::from_secs(std::env::var("TEST_SOURCE_GONE_S").map_or(3, |text| text.parse().expect("seconds")))
}

#[test]
fn while_the_source_is_gone_hosts_wait_and_they_go_on_when_it_is_back() {
    let fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(31, 18 * MIB + 7);
    let page = || Page::new(bytes.clone()).pace(8 << 20);
    let origin = Origin::start(page());
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    origin.wait_for(bytes.len() / 3);
    origin.die();
    sleep(away());
    let document = fleet.look_until(&id, "it is shown", |one| one["hosts"].is_object());
    assert_eq!((&document["hosts"]["failed"], &document["hosts"]["done"]), (&json!(0), &json!(0)), "{document:#}");
    origin.put(page());
    fleet.complete(&id, 0..4, &bytes);
    origin.check_budget(2, &bytes);
}

#[test]
fn while_the_source_s_host_is_gone_hosts_wait_and_they_go_on_when_it_is_back() {
    let fleet = Fleet::start(&SHORT_LEASES);
    // Where it was, it is again.
    let listen = format!("127.0.0.1:{}", free_port());
    let mut owner = fleet.deployment.join("owner", &["--listen", &listen]);
    let bytes = random(32, 24 * MIB + 7);
    fs::write(owner.path("object"), &bytes).unwrap();
    let id = fleet.distribute(&owner.file("object"), 0..4, json!({"rate_limit": 4 << 20}));
    fleet.look_until(&id, "a third has come", |one| one["progress"].as_u64() > Some(4 * bytes.len() as u64 / 3));
    owner.kill();
    sleep(away());
    let document = fleet.look_until(&id, "it is shown", |one| one["hosts"].is_object());
    assert_eq!(document["hosts"]["failed"], 0, "{document:#}");
    owner.launch(&fleet.deployment, None);
    fleet.complete(&id, 0..4, &bytes);
}

#[test]
fn what_hosts_have_of_a_source_that_is_gone_for_good_is_enough_for_all_of_them() {
    let fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(33, 12 * MIB + 7);
    let origin = Origin::start(Page::new(bytes.clone()));
    let id = fleet.distribute(&origin.url, 0..4, json!({"rate_limit": 3 << 20}));
    origin.wait_for(bytes.len());
    origin.die();
    assert!((0..4).any(|number| !fleet.copy(number).exists()), "they still feed one another");
    fleet.complete(&id, 0..4, &bytes);
}
