//! Limits on locked memory (RLIMIT_MEMLOCK), which rings and registered buffers count against for users without
//! CAP_IPC_LOCK.

use staccato_tests::{binary::command, bytes::MIB, capabilities::lock_little_memory};

#[test]
fn rings_that_do_not_fit_are_refused_and_buffers_that_do_not_fit_are_not_registered_and_both_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), "content").unwrap();
    for lane in ["tokio-uring", "glommio"] {
        for (limit, status, sentence) in [
            (8 << 10, 1, "RLIMIT_MEMLOCK is too small for"),
            (8 * MIB as u64, 0, "RLIMIT_MEMLOCK is too small to register"),
        ] {
            let mut command = command();
            command.args(["copy", "--overwrite", "--lane", lane, "s", "d"]).current_dir(folder.path());
            lock_little_memory(&mut command, limit);
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{lane} {limit}: {said}");
            assert!(said.contains(sentence) && !said.contains("panicked"), "{lane} {limit}: {said}");
        }
    }
    assert_eq!(std::fs::read(folder.path().join("d")).unwrap(), b"content");
}
