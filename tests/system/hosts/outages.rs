//! The service goes away, sources change, disks of others are full: what an executor makes of it.

use std::{fs, thread::sleep, time::Duration};

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    deployment::Deployment,
    process::eventually,
    service::{PATIENCE, names},
};

/// For eight seconds; `TEST_SERVICE_GONE_S` makes it longer, as the soak does: ten minutes.
#[test]
fn while_the_service_is_gone_a_partial_is_filled_and_it_is_committed_when_it_comes_back() {
    let mut deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s"]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let bytes = random(5, 24 * MIB + 5);
    fs::write(h1.path("image"), &bytes).unwrap();
    let id = deployment.service.submit(&h1.file("image"), &h2.file("copy"), json!({"rate_limit": 8 << 20}));
    deployment.service.wait_for_progress(&id, 4 * MIB as u64);
    deployment.service.kill();
    // Longer than a lease, and than what is left to be fetched takes.
    let gone = std::env::var("TEST_SERVICE_GONE_S").map_or(8, |text| text.parse().expect("seconds"));
    sleep(Duration::from_secs(gone));
    assert!(!h2.path("copy").exists(), "nothing is committed without the service's word");
    let partial = names(&h2.root()).into_iter().find(|name| name.contains("staccato")).expect("a partial is there");
    let filled = || fs::read(h2.path(&partial)).unwrap().get(..bytes.len()) == Some(&bytes[..]);
    eventually(PATIENCE, "the partial is filled", || filled().then_some(()));
    deployment.service.launch();
    let began = std::time::Instant::now();
    let document = deployment.service.complete(&id);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(
        (document["attempts"].as_u64(), document["bytes_fetched"].as_u64()),
        (Some(1), Some(bytes.len() as u64))
    );
    assert!(fs::read(h2.path("copy")).unwrap() == bytes);
}

#[test]
fn a_source_that_is_replaced_on_its_way_is_begun_anew_and_versions_are_not_mixed() {
    let deployment = Deployment::start(&[]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let service = &deployment.service;
    let (old, new) = (random(6, 16 * MIB), random(7, 16 * MIB));
    fs::write(h1.path("image"), &old).unwrap();
    let id = service.submit(&h1.file("image"), &h2.file("copy"), json!({"rate_limit": 8 << 20}));
    service.wait_for_progress(&id, 4 * MIB as u64);
    fs::write(h1.path("new"), &new).unwrap();
    fs::rename(h1.path("new"), h1.path("image")).unwrap();
    let document = service.complete(&id);
    assert!(fs::read(h2.path("copy")).unwrap() == new, "{document:#}");
    assert!(document["events"].to_string().contains("started_over"), "{document:#}");
}

#[test]
fn each_transport_can_be_named_and_the_link_is_known_afterwards() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "5s"]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let service = &deployment.service;
    let bytes = random(8, 40 * MIB);
    fs::write(h1.path("image"), &bytes).unwrap();
    for transport in ["tcp", "quic", "auto"] {
        let more = json!({"transport": transport, "connections": 2, "window": 16 << 20});
        let id = service.submit(&h1.file("image"), &h2.file(transport), more);
        let document = service.complete(&id);
        assert_eq!((&document["transport"], &document["window"]), (&json!(transport), &json!(16 << 20)));
        assert!(fs::read(h2.path(transport)).unwrap() == bytes, "{transport}");
    }
    let link = eventually(PATIENCE, "the link is known", || deployment.link("h2", "h1"));
    assert!(["tcp", "quic"].contains(&link["transport"].as_str().unwrap()), "{link:#}");
    let refused = service.post(
        "/v1/transfers",
        &json!({"source_url": h1.file("image"), "destination_url": h2.file("x"), "transport": "carrier-pigeon"}),
    );
    assert_eq!((refused.status, refused.body["field"].as_str()), (400, Some("transport")));
}
