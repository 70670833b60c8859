//! SIGKILL of whoever takes part, in the middle of a transfer between two hosts.

use std::fs;

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    deployment::Deployment,
};

const LEN: usize = 24 * MIB + 77;
const RATE: usize = 8 * MIB;

#[test]
fn whoever_is_killed_the_transfer_goes_on_from_its_checkpoint() {
    let mut deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s"]);
    let (mut h1, mut h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let bytes = random(3, LEN);
    fs::write(h1.path("image"), &bytes).unwrap();
    for victim in ["source", "destination", "service", "service and destination", "source and destination"] {
        let name = victim.replace(' ', "-");
        let id = deployment.service.submit(&h1.file("image"), &h2.file(&name), json!({"rate_limit": RATE}));
        let before = deployment.service.wait_for_progress(&id, 4 * MIB as u64)["progress"].as_u64().unwrap();
        if victim.contains("source") {
            h1.kill();
            h1.launch(&deployment, None);
        }
        if victim.contains("destination") {
            h2.kill();
        }
        if victim.contains("service") {
            deployment.service.kill();
            deployment.service.launch();
        }
        assert!(!h2.path(&name).exists(), "{victim}: nothing is there before it is whole");
        if victim.contains("destination") {
            h2.launch(&deployment, None);
        }
        let document = deployment.service.complete(&id);
        assert!(fs::read(h2.path(&name)).unwrap() == bytes, "{victim}");
        let again = document["bytes_fetched"].as_u64().unwrap() - LEN as u64;
        assert!(again < LEN as u64 - before, "{victim}: {again} bytes were fetched twice: {document:#}");
        let left = staccato_tests::service::names(&h2.root());
        assert!(left.iter().all(|name| !name.starts_with('.')), "{victim}: {left:?}");
    }
}
