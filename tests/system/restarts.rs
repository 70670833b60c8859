//! What is acknowledged survives.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::service::Service;

#[test]
fn every_acknowledged_transfer_is_there_after_a_kill_and_without_sled() {
    let mut service = Service::start(&["--executors", "none"]);
    let mut ids: Vec<String> = Vec::new();
    for round in 0..4 {
        for number in 0..25 {
            ids.push(service.submit("zero:///5", &service.file(&format!("d{round}-{number}")), json!({})));
        }
        service.kill();
        let sled = sled_folder(&service);
        match round {
            0 => (),
            1 => fs::remove_dir_all(&sled).unwrap(),
            2 => damage(&sled.join("db")),
            _ => fs::write(sled.join("db"), "nonsense").unwrap(),
        }
        let took = service.launch();
        assert!(took.as_secs() < 10, "round {round}: ready after {took:?}");
        let list = service.get("/v1/transfers?limit=10000").body;
        let known: Vec<&str> =
            list.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap()).collect();
        assert_eq!(known, ids, "round {round}");
    }
}

/// The folder that holds sled's own files.
fn sled_folder(service: &Service) -> std::path::PathBuf {
    let folders = vec![service.data()];
    let mut waiting = folders;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().is_some_and(|name| name == "db") && path.is_file() {
                return folder;
            }
            if path.is_dir() {
                waiting.push(path);
            }
        }
    }
    panic!("sled's files are not found in {}", service.data().display());
}

/// Flips a byte in every page of 4 KiB.
fn damage(file: &std::path::Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte ^= 0x55);
    fs::write(file, bytes).unwrap();
}

#[test]
fn sigterm_ends_the_service_in_order_and_transfers_go_on_afterwards() {
    let mut service = Service::start(&[]);
    let content = staccato_tests::bytes::random(1, 32 << 20);
    service.write("s", &content);
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": 8 << 20}));
    service.wait_for_progress(&id, 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait_for_exit(), Some(0));
    service.launch();
    service.complete(&id);
    assert!(service.read("d") == content);
}

#[test]
fn a_second_service_on_the_same_data_is_refused() {
    let service = Service::start(&[]);
    let data = service.data();
    let output = service.command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data.display().to_string()]);
    assert!(!output.status.success());
    assert_eq!(service.get("/readyz").status, 200);
}
