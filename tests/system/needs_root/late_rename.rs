//! An executor held up between `prepare` and the rename, past its lease.

use std::fs;

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    process::{eventually, signal},
    service::{PATIENCE, Service},
    strace::Strace,
};

/// Renames begin this late: long enough for the lease to expire, for another executor to wait 5 s for the lock that the
/// stopped one holds, and to finish.
const RENAME_HELD: &str = "inject=/^rename:delay_enter=12s";

/// Holds the executor's rename until a second executor has completed the transfer.
fn renamed_after_another_has_committed(overwrite: &str) {
    let service = Service::start(&["--heartbeat", "300ms", "--lease", "1s"]);
    let content = random(1, 8 * MIB);
    service.write("s", &content);
    if overwrite == "always" {
        service.write("d", b"old");
    }
    let stale = service.executor();
    let strace = Strace::attach(stale, &["-e", "trace=/^rename", "-e", RENAME_HELD]);
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"overwrite": overwrite}));
    eventually(PATIENCE, "the rename begins", || strace.seen().contains("rename").then_some(()));
    signal(stale, Signal::STOP);
    let second = service.second_executor();
    service.complete(&id);
    let committed = rustix::fs::stat(service.path("d")).unwrap().st_ino;
    eventually(PATIENCE, "the late rename ends", || strace.seen().contains(" = ").then_some(()));
    signal(stale, Signal::CONT);
    let trace = strace.finish();
    // Its partial had another name since the other executor's attempt began.
    assert!(trace.contains("ENOENT"), "a late rename finds nothing to rename:\n{trace}");
    eventually(PATIENCE, "nothing stays behind", || (service.names() == ["d", "s"]).then_some(()));
    assert_eq!(rustix::fs::stat(service.path("d")).unwrap().st_ino, committed);
    assert!(fs::read(service.path("d")).unwrap() == content);
    assert_eq!(service.show(&id)["state"], "STATE_COMPLETE");
    drop(second);
}

#[test]
fn a_rename_held_past_the_lease_changes_nothing_where_nothing_was() {
    renamed_after_another_has_committed("never");
}

#[test]
fn a_rename_held_past_the_lease_changes_nothing_where_it_would_replace() {
    renamed_after_another_has_committed("always");
}
