//! A machine that denies io_uring, as container runtimes often do, or locked memory.

use staccato_tests::{
    binary::command,
    capabilities::obey_memlock,
    seccomp::{IO_URING_CALLS, deny},
};

#[test]
fn without_io_uring_the_cause_is_said_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), "content").unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--root", "/"];
    for (arguments, call) in
        [&serve[..], &["copy", "s", "d"]].into_iter().flat_map(|arguments| IO_URING_CALLS.map(|call| (arguments, call)))
    {
        let mut command = command();
        command.args(arguments).current_dir(folder.path());
        deny(&mut command, call);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?} without {call}: {said}");
        assert!(said.contains("seccomp") && said.contains("allow io_uring_setup"), "{arguments:?}, {call}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no data folder, no partial");
}

#[test]
fn without_an_executor_a_service_needs_no_io_uring() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--executors", "none", "--json"]);
    command.current_dir(folder.path()).stdout(std::process::Stdio::piped());
    deny(&mut command, IO_URING_CALLS[0]);
    let mut service = staccato_tests::process::Killed(command.spawn().unwrap());
    let mut line = String::new();
    let output = service.0.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    assert!(line.contains("127.0.0.1:"), "it says where it listens: {line}");
}

#[test]
fn rings_that_exceed_memlock_are_refused_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), "content").unwrap();
    for lane in ["glommio", "tokio-uring"] {
        let mut command = command();
        command.args(["copy", "s", "d", "--lane", lane]).current_dir(folder.path());
        obey_memlock(8 << 10, &mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{lane}: {said}");
        assert!(said.contains("RLIMIT_MEMLOCK is too small for") && !said.contains("panicked"), "{lane}: {said}");
    }
}

#[test]
fn too_little_memlock_is_warned_about_and_no_reason_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s"), "content").unwrap();
    for lane in ["glommio", "tokio-uring"] {
        let copy = |more: &[&str]| {
            let mut command = command();
            command.args(["copy", "s", "d", "--overwrite", "--lanes", "1", "--lane", lane]).args(more);
            command.current_dir(folder.path());
            obey_memlock(1 << 20, &mut command);
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{lane}: {said}");
            said
        };
        let said = copy(&[]);
        assert!(said.contains("WARN") && said.contains("RLIMIT_MEMLOCK"), "{lane}: {said}");
        assert_eq!(copy(&["--log", "error"]), "", "{lane}");
    }
}
