//! A host's copy is damaged on its disk, and it serves what is there.

use std::{fs::File, os::unix::fs::FileExt as _};

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES},
};

use super::Origin;

#[test]
fn a_host_that_serves_damaged_chunks_is_named_and_not_asked_again() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(81, 12 * MIB);
    let origin = Origin::start(Page::new(bytes.clone()));
    fleet.kill(3);
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    (0..3).for_each(|number| drop(fleet.wait_for_copy(&id, number, &bytes)));
    let damaged = File::options().write(true).open(fleet.copy(1)).unwrap();
    (0..12).for_each(|chunk| damaged.write_all_at(b"!", (chunk * MIB + 77) as u64).unwrap());
    damaged.sync_all().unwrap();
    fleet.launch(3);
    fleet.wait_for_copy(&id, 3, &bytes);
    let log = fleet.hosts[3].log();
    let named = log.lines().filter(|line| line.contains("another executor's copy is wrong") && line.contains("h1"));
    assert_eq!(named.count(), 1, "{log}");
}
