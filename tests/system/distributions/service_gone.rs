//! The service is dead while hosts feed one another.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::json;
use staccato_protocols::testing::http_server::Page;
use staccato_tests::{
    bytes::{MIB, random},
    fleet::{Fleet, SHORT_LEASES, begins_with},
    process::eventually,
    service::PATIENCE,
};

use super::Origin;

/// For six seconds; `TEST_SERVICE_GONE_S` makes it longer, as the soak does: ten minutes.
#[test]
fn while_the_service_is_gone_all_copies_are_filled_and_they_are_committed_when_it_comes_back() {
    let mut fleet = Fleet::start(&SHORT_LEASES);
    let bytes = random(21, 24 * MIB + 5);
    let origin = Origin::start(Page::new(bytes.clone()).pace(6 << 20));
    let id = fleet.distribute(&origin.url, 0..4, json!({}));
    (0..4).for_each(|number| drop(fleet.wait_for_progress(&id, number, 1)));
    fleet.deployment.service.kill();
    // Longer than a lease, and than the source takes.
    let gone = std::env::var("TEST_SERVICE_GONE_S").map_or(6, |text| text.parse().expect("seconds"));
    let back = Instant::now() + Duration::from_secs(gone);
    assert!(origin.bytes_sent() < bytes.len() as u64, "it dies while the source is being read");
    let is_filled = |number: usize| fleet.partial(number).is_some_and(|partial| begins_with(&partial, &bytes));
    for number in 0..4 {
        let what = format!("the copy of h{number} is filled:\n{}", fleet.hosts[number].log());
        eventually(PATIENCE, &what, || is_filled(number).then_some(()));
    }
    sleep(back.saturating_duration_since(Instant::now()));
    (0..4).for_each(|number| assert!(!fleet.copy(number).exists(), "nothing is committed without the service's word"));
    fleet.deployment.service.launch();
    let began = Instant::now();
    let document = fleet.complete(&id, 0..4, &bytes);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    (0..4).for_each(|number| assert_eq!(fleet.member(&id, number)["attempts"], 1, "h{number}: {document:#}"));
    origin.check_budget(2, &bytes);
}
