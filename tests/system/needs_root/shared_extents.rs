//! FICLONE on XFS.

use std::os::unix::fs::MetadataExt;

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random, sha256},
    disk::Disk,
    service::Service,
    strace::Strace,
};

/// Some kernels call a clone done that met an error half-way; here one is called done that was not even begun.
#[test]
fn a_clone_that_is_not_whole_is_not_believed() {
    let service = Service::start(&[]);
    let content = random(1, 9 * MIB + 5);
    service.write("s", &content);
    let strace = Strace::attach(service.executor(), &["-e", "trace=ioctl", "-e", "inject=ioctl:retval=0"]);
    let id = service.submit(&service.file("s"), &service.file("d"), json!({}));
    service.complete(&id);
    assert!(strace.finish().contains("FICLONE"), "a clone was tried");
    assert!(service.read("d") == content, "the bytes differ");
}

#[test]
fn a_copy_on_one_reflink_file_system_is_a_clone() {
    let disk = Disk::xfs(512 * MIB as u64);
    let service = Service::start(&["--root", &disk.path().display().to_string()]);
    let content = random(1, 64 * MIB + 5);
    std::fs::write(disk.path().join("s"), &content).unwrap();
    rustix::fs::sync();
    let free = |disk: &Disk| rustix::fs::statvfs(disk.path()).unwrap().f_bfree;
    let before = free(&disk);
    let file = |name: &str| format!("file://{}/{name}", disk.path().display());
    let checksum = format!("sha256:{}", sha256(&content));
    let id = service.submit(&file("s"), &file("d"), json!({"checksum": checksum}));
    let document = service.complete(&id);
    assert_eq!(document["progress"], content.len(), "clones count as progress");
    assert_eq!(document["bytes_fetched"], 0, "nothing was read from the source");
    assert!(std::fs::read(disk.path().join("d")).unwrap() == content);
    let taken = (before - free(&disk).min(before)) * 4096;
    assert!(taken < 8 * MIB as u64, "{taken} bytes were stored again");
    assert_ne!(
        std::fs::metadata(disk.path().join("s")).unwrap().ino(),
        std::fs::metadata(disk.path().join("d")).unwrap().ino()
    );
}
