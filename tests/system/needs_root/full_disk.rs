//! Disks without space: the destination's, and the service's own.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    disk::Disk,
    process::eventually,
    service::{PATIENCE, Service},
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

#[test]
fn a_full_data_disk_refuses_submissions_and_the_service_comes_back_when_there_is_space() {
    let disk = Disk::tmpfs(200 * MIB as u64);
    let data = disk.path().join("data").display().to_string();
    let service = Service::start(&["--data-dir", &data]);
    let submit = || service.post("/v1/transfers", &json!({"source_url": "zero:///1M", "destination_url": "null:///"}));
    let mut acknowledged = vec![submit().body["id"].as_str().unwrap().to_owned()];
    let ballast = disk.path().join("ballast");
    // It fills what is left and then fails, as it should.
    let _ = std::fs::write(&ballast, vec![1; 220 * MIB]);
    let refused = eventually(PATIENCE, "a submission is refused", || {
        let answer = submit();
        if answer.status == 201 {
            acknowledged.push(answer.body["id"].as_str().unwrap().to_owned());
        }
        (answer.status != 201).then_some(answer)
    });
    assert!([503, 0].contains(&refused.status), "{refused:?}");
    std::fs::remove_file(&ballast).unwrap();
    eventually(PATIENCE, "the service is back", || (submit().status == 201).then_some(()));
    for id in &acknowledged {
        service.complete(id);
    }
}
