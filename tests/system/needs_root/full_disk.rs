//! A destination without space.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    disk::Disk,
    service::Service,
};

#[test]
fn no_space_fails_with_a_code_keeps_the_checkpoint_and_resumes() {
    let disk = Disk::tmpfs(20 * MIB as u64);
    let service = Service::start(&["--root", &disk.path().display().to_string()]);
    let content = random(1, 40 * MIB);
    service.write("s", &content);
    let destination = format!("file://{}/d", disk.path().display());
    let id = service.submit(&service.file("s"), &destination, json!({"retries": 0}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!(document["error"]["code"], "no_space", "{document:#}");
    let progress = document["progress"].as_u64().unwrap();
    assert!(progress >= 8 * MIB as u64, "what fitted is kept: {document:#}");
    disk.resize(100 * MIB as u64);
    assert_eq!(service.action(&id, "resume").status, 204);
    let document = service.complete(&id);
    assert!(std::fs::read(disk.path().join("d")).unwrap() == content);
    let fetched = document["bytes_fetched"].as_u64().unwrap();
    assert!(fetched < (content.len() + 30 * MIB) as u64, "{fetched} bytes fetched");
}
