//! `overwrite: repair`: only what differs from the source is moved.

use std::{fs, os::unix::fs::MetadataExt, thread::sleep, time::Duration};

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    process::signal,
    service::Service,
};

fn repair() -> serde_json::Value {
    json!({"overwrite": "repair"})
}

#[test]
fn what_is_right_moves_nothing_and_a_flipped_byte_moves_a_block() {
    let service = Service::start(&[]);
    let content = random(1, 33 * MIB + 5);
    service.write("s", &content);
    service.write("d", &content);
    let inode = || fs::metadata(service.path("d")).unwrap().ino();
    let before = inode();
    let document = service.complete(&service.submit(&service.file("s"), &service.file("d"), repair()));
    assert_eq!(document["overwrite"], "repair");
    assert_eq!((&document["progress"], &document["bytes_fetched"]), (&json!(content.len()), &json!(0)));
    assert_eq!(inode(), before, "it stays as it is");

    let mut flipped = content.clone();
    flipped[20 * MIB] ^= 1;
    service.write("d", &flipped);
    let document = service.complete(&service.submit(&service.file("s"), &service.file("d"), repair()));
    assert_eq!((&document["progress"], &document["bytes_fetched"]), (&json!(content.len()), &json!(MIB)));
    assert!(service.read("d") == content);
    assert_eq!(service.names(), ["d", "s"]);
}

#[test]
fn from_the_command_line() {
    let service = Service::start(&[]);
    let content = random(1, 3 * MIB);
    service.write("s", &content);
    for command in [&["copy"][..], &["submit", "--wait"]] {
        let mut flipped = content.clone();
        flipped[MIB] ^= 1;
        service.write("d", &flipped);
        let output = service.command(&[command, &["s", "d", "--overwrite=repair"]].concat());
        assert!(output.status.success(), "{output:?}");
        assert!(service.read("d") == content);
    }
    assert_eq!(service.names(), ["d", "s"]);
}

/// SIGKILL of the executor again and again: what is there stays until it is replaced by what is right.
#[test]
fn a_repair_that_is_killed_goes_on_and_leaves_what_is_there_until_then() {
    let service = Service::start(&["--lanes", "1", "--heartbeat", "300ms", "--lease", "1s"]);
    let content = random(1, 40 * MIB + 5);
    let mut old = content.clone();
    old.chunks_mut(2 * MIB).for_each(|blocks| blocks[0] ^= 1);
    service.write("s", &content);
    service.write("d", &old);
    let mut request = repair();
    request["rate_limit"] = json!(6 * MIB);
    request["chunk_size"] = json!(MIB);
    let id = service.submit(&service.file("s"), &service.file("d"), request);
    let mut last = 0;
    for _ in 0..3 {
        service.wait_for_progress(&id, last + 1);
        signal(service.executor(), Signal::KILL);
        // On a busy machine it may have been replaced before the signal came.
        let there = service.read("d");
        assert!(there == old || there == content, "it is as it was, or right");
        sleep(Duration::from_millis(300));
        let progress = service.show(&id)["progress"].as_u64().unwrap();
        assert!(progress >= last, "progress fell from {last} to {progress}");
        last = progress;
    }
    let document = service.complete(&id);
    assert_eq!(document["progress"], content.len());
    assert!(service.read("d") == content);
    assert_eq!(service.names(), ["d", "s"]);
}
