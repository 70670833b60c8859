//! Disks without space: the destination's, here and on another host, and the service's own.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    deployment::{Deployment, on},
    disk::Disk,
    process::eventually,
    service::{PATIENCE, Service, names},
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
fn no_space_on_another_host_fails_with_a_code_keeps_the_checkpoint_and_resumes() {
    let disks = [(); 2].map(|()| Disk::tmpfs(20 * MIB as u64));
    let roots = disks.each_ref().map(|disk| format!("{}:rw", disk.path().display()));
    let deployment = Deployment::start(&[]);
    let h1 = deployment.join("h1", &[]);
    let h2 = deployment.join("h2", &["--root", &roots[0], "--root", &roots[1]]);
    let (service, content) = (&deployment.service, random(2, 40 * MIB));
    std::fs::write(h1.path("image"), &content).unwrap();
    for (disk, transport) in disks.iter().zip(["quic", "tcp"]) {
        let more = json!({"retries": 0, "transport": transport});
        let id = service.submit(&h1.file("image"), &on("h2", &disk.path().join("d")), more);
        let document = service.wait_for(&id, "STATE_ERROR");
        assert_eq!(document["error"]["code"], "no_space", "{document:#}");
        assert!(document["progress"].as_u64().unwrap() >= 8 * MIB as u64, "what fitted is kept: {document:#}");
        let left = names(disk.path());
        assert!(!left.is_empty() && left.iter().all(|name| name.starts_with(".d.staccato-")), "{left:?}");
        // The host goes on with whatever is not about that disk.
        service.complete(&service.submit(&h1.file("image"), &h2.file(transport), json!({})));
        disk.resize(100 * MIB as u64);
        assert_eq!(service.action(&id, "resume").status, 204);
        let document = service.complete(&id);
        assert!(std::fs::read(disk.path().join("d")).unwrap() == content);
        let fetched = document["bytes_fetched"].as_u64().unwrap();
        assert!(fetched < (content.len() + 30 * MIB) as u64, "{transport}: {fetched} bytes fetched");
        assert_eq!(names(disk.path()), ["d"]);
    }
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
