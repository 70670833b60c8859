//! Files that cannot be moved: every one ends in STATE_ERROR with its code, and nothing is left behind or harmed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
};

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    capabilities::obey_file_permissions,
    process::{eventually, signal},
    service::{PATIENCE, Service, names},
};

/// Small enough that any part of another file shows in one.
const BLOCK: usize = 4096;

fn failure(service: &Service, source: &str, destination: &str) -> String {
    let id = service.submit(&service.file(source), &service.file(destination), json!({"retries": 0}));
    service.failure(&id)
}

#[test]
fn missing_source() {
    let service = Service::start(&[]);
    assert_eq!(failure(&service, "missing", "d"), "source_missing");
    assert_eq!(service.names(), Vec::<String>::new());
}

#[test]
fn directory_device_and_pipe_as_source() {
    let service = Service::start(&["--root", "/dev:ro"]);
    fs::create_dir(service.path("directory")).unwrap();
    let pipe = service.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(failure(&service, "directory", "d"), "source_not_regular");
    assert_eq!(failure(&service, "pipe", "d"), "source_not_regular");
    let id = service.submit("file:///dev/zero", &service.file("d"), json!({}));
    assert_eq!(service.failure(&id), "source_not_regular");
}

#[test]
fn directory_as_destination_and_missing_folder() {
    let service = Service::start(&[]);
    service.write("s", b"x");
    fs::create_dir(service.path("directory")).unwrap();
    assert_eq!(failure(&service, "s", "directory"), "destination_not_regular");
    assert_eq!(failure(&service, "s", "missing/d"), "destination_folder_missing");
}

/// Devices as destinations are in `needs_root/devices.rs`.
#[test]
fn pipe_and_socket_as_destination() {
    let service = Service::start(&[]);
    service.write("s", b"x");
    rustix::fs::mkfifoat(rustix::fs::CWD, service.path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixDatagram::bind(service.path("socket")).unwrap();
    for (destination, overwrite) in [("pipe", "never"), ("pipe", "always"), ("socket", "never"), ("socket", "always")] {
        let options = json!({"retries": 0, "overwrite": overwrite});
        let id = service.submit(&service.file("s"), &service.file(destination), options);
        assert_eq!(service.failure(&id), "destination_not_regular", "{destination}, overwrite {overwrite}");
    }
    assert_eq!(service.names(), ["pipe", "s", "socket"]);
    assert!(fs::symlink_metadata(service.path("pipe")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(service.path("socket")).unwrap().file_type().is_socket());
}

#[test]
fn destination_exists() {
    let service = Service::start(&[]);
    service.write("s", b"new");
    service.write("d", b"old");
    assert_eq!(failure(&service, "s", "d"), "destination_exists");
    assert_eq!(service.read("d"), b"old");
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"overwrite": "always"}));
    service.complete(&id);
    assert_eq!(service.read("d"), b"new");
    assert_eq!(service.names(), ["d", "s"]);
}

#[test]
fn symlinks_that_leave_the_root() {
    let service = Service::start(&[]);
    service.write("s", b"x");
    symlink("/etc/passwd", service.path("out")).unwrap();
    symlink("/tmp", service.path("folder")).unwrap();
    symlink("s", service.path("inside")).unwrap();
    assert_eq!(failure(&service, "out", "d"), "path_outside_roots");
    assert_eq!(failure(&service, "s", "folder/staccato-test"), "path_outside_roots");
    let id = service.submit(&service.file("inside"), &service.file("d"), json!({}));
    service.complete(&id);
    assert_eq!(service.read("d"), b"x");
}

#[test]
fn symlink_swapped_in_during_the_transfer() {
    let service = Service::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    let content = random(1, 24 * MIB);
    service.write("s", &content);
    fs::create_dir(service.path("folder")).unwrap();
    let destination = service.file("folder/d");
    let id = service.submit(&service.file("s"), &destination, json!({"rate_limit": 8 * MIB, "retries": 0}));
    service.wait_for_progress(&id, 1);
    fs::rename(service.path("folder"), service.path("moved")).unwrap();
    symlink(outside.path(), service.path("folder")).unwrap();
    // The attempt that runs holds the folder it began in and may well complete there; outside, nothing appears.
    eventually(PATIENCE, "the transfer ends", || {
        ["STATE_COMPLETE", "STATE_ERROR"].contains(&service.show(&id)["state"].as_str().unwrap()).then_some(())
    });
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn source_symlink_swapped_in_during_the_transfer() {
    let service = Service::start(&[]);
    let outside = tempfile::tempdir().unwrap();
    let (content, secret) = (random(1, 24 * MIB), random(2, 24 * MIB));
    fs::create_dir(service.path("folder")).unwrap();
    service.write("folder/s", &content);
    fs::write(outside.path().join("s"), &secret).unwrap();
    let id = service.submit(&service.file("folder/s"), &service.file("d"), json!({"rate_limit": 4 * MIB}));
    service.wait_for_progress(&id, 1);
    fs::rename(service.path("folder"), service.path("moved")).unwrap();
    symlink(outside.path(), service.path("folder")).unwrap();
    // The attempt that runs holds the file it began with. The next one opens the path again.
    signal(service.executor(), Signal::KILL);
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!(document["error"]["code"], "path_outside_roots", "{document:#}");
    assert!(!service.path("d").exists());
    for name in service.names().iter().filter(|name| service.path(name).is_file()) {
        let bytes = service.read(name);
        let leaked = bytes.chunks_exact(BLOCK).zip(secret.chunks_exact(BLOCK)).any(|(here, there)| here == there);
        assert!(!leaked, "{name} holds bytes from outside the root");
    }
}

#[test]
fn no_permission() {
    let service = Service::start_with(&[], obey_file_permissions);
    let set_mode = |name: &str, mode| fs::set_permissions(service.path(name), Permissions::from_mode(mode)).unwrap();
    service.write("s", b"x");
    fs::create_dir(service.path("folder")).unwrap();
    set_mode("folder", 0o555);
    assert_eq!(failure(&service, "s", "folder/d"), "permission_denied");
    set_mode("folder", 0o755);
    set_mode("s", 0);
    assert_eq!(failure(&service, "s", "folder/d"), "permission_denied");
    assert_eq!(names(&service.path("folder")), Vec::<String>::new());
    set_mode("s", 0o400);
    service.complete(&service.submit(&service.file("s"), &service.file("folder/d"), json!({})));
}

#[test]
fn source_truncated_during_the_transfer() {
    let service = Service::start(&[]);
    service.write("s", &random(1, 48 * MIB));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": 12 * MIB}));
    service.wait_for_progress(&id, 1);
    let shorter = random(2, 5 * MIB);
    service.write("s", &shorter);
    let document = service.complete(&id);
    assert!(service.read("d") == shorter, "the new object, whole");
    assert_eq!(document["bytes_total"], shorter.len());
    assert!(document["events"].to_string().contains("changed"), "the document says so: {document:#}");
}

#[test]
fn source_replaced_during_the_transfer() {
    let service = Service::start(&[]);
    service.write("s", &random(1, 48 * MIB));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": 12 * MIB}));
    service.wait_for_progress(&id, 1);
    let other = random(3, 20 * MIB);
    service.write("new", &other);
    fs::rename(service.path("new"), service.path("s")).unwrap();
    service.complete(&id);
    assert!(service.read("d") == other, "one version of the object, not a mixture");
}

#[test]
fn checksum_mismatch() {
    let service = Service::start(&[]);
    let content = random(1, 5 * MIB);
    service.write("s", &content);
    let wrong = format!("sha256:{}", "0".repeat(64));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"checksum": wrong}));
    let document = service.wait_for(&id, "STATE_ERROR");
    assert_eq!(document["error"]["code"], "checksum_mismatch");
    assert_eq!(document["error"]["retryable"], false);
    assert_eq!(service.names(), ["s"], "what does not match never gets its name");
    let right = format!("sha256:{}", staccato_tests::bytes::sha256(&content));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"checksum": right}));
    service.complete(&id);
}
