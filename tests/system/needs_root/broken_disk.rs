//! A source whose disk gives EIO.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    disk::Disk,
    service::Service,
};

#[test]
fn a_read_error_ends_in_an_error_with_its_code() {
    let disk = Disk::ext4(64 * MIB as u64);
    let service = Service::start(&["--root", &format!("{}:ro", disk.path().display())]);
    std::fs::write(disk.path().join("s"), random(1, 16 * MIB)).unwrap();
    rustix::fs::sync();
    disk.break_medium();
    let source = format!("file://{}/s", disk.path().display());
    let id = service.submit(&source, &service.file("d"), json!({"retries": 0}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!(document["error"]["code"], "read_failed", "{document:#}");
    assert_eq!(document["error"]["retryable"], true);
    assert!(!service.path("d").exists());
}
