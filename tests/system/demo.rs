//! What the README's first command runs, with a small image, and the same between hosts. In network namespaces:
//! `needs_root/two_hosts.rs` and `needs_root/many_hosts.rs`.

use std::{fs, path::Path, process::Stdio};

use rustix::process::Signal;
use staccato_tests::{
    binary::command,
    process::{eventually, signal},
    service::{PATIENCE, names, scratch},
};

#[test]
fn the_demo_kills_its_executor_and_completes() {
    let output = command().args(["demo", "--size", "96", "--rate", "32"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["Killed the executor", "attempt 2", "equal; crc32", "fetched twice", "holes kept", "curl -s"] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
}

#[test]
fn between_hosts_executors_are_killed_and_copies_are_whole_and_nothing_is_left() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = command();
    command.args(["demo", "--hosts", "3", "--loopback", "--size", "128", "--rate", "32"]);
    let output = command.env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("processes on loopback"), "{text}");
    assert_eq!(text.matches("Killed the executor of h1").count(), 2, "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.contains(" -> ")).collect();
    assert_eq!(rows.len(), 4, "{text}");
    for (row, words) in rows.iter().zip([
        ["h1 -> h2", "quic", " - "],
        ["h2 -> h3", "tcp", " - "],
        ["h3 -> h1", "quic", "h1 (destination)"],
        ["h1 -> h2", "tcp", "h1 (source)"],
    ]) {
        assert!(words.iter().all(|word| row.contains(word)) && row.ends_with("yes"), "{words:?}: {row}");
    }
    assert_eq!(left_behind(folder.path()), [""; 0]);
}

#[test]
fn an_image_comes_to_all_hosts_at_once_although_a_seed_and_the_service_die() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = command();
    command.args(["demo", "--hosts", "4", "--loopback", "--size", "48", "--rate", "12"]);
    let output = command.env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["Killed the executor of h", "Killed the service", "source read", "nobody dies", "\nAll 4 hosts have"] {
        assert!(text.contains(line), "{line:?} is missing:\n{text}");
    }
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("  h")).skip(1).collect();
    assert_eq!(rows.len(), 4, "{text}");
    assert!(rows.iter().all(|row| row.ends_with("  yes")), "{text}");
    assert_eq!(rows.iter().filter(|row| row.ends_with("yes     yes")).count(), 1, "one was killed: {text}");
    assert_eq!(left_behind(folder.path()), [""; 0]);
}

#[test]
fn a_demo_that_is_told_to_stop_leaves_nothing() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut command = command();
    command.args(["demo", "--hosts", "2", "--loopback", "--size", "256", "--rate", "1"]).env("TMPDIR", folder.path());
    let mut demo = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually(PATIENCE, "its executors run", || (left_behind(folder.path()).len() >= 4).then_some(()));
    signal(demo.id(), Signal::INT);
    let status = eventually(PATIENCE, "it stops", || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    assert_eq!(left_behind(folder.path()), [""; 0]);
}

/// Files in a folder, and processes that were told of it.
fn left_behind(folder: &Path) -> Vec<String> {
    let folder_bytes = folder.as_os_str().as_encoded_bytes();
    let told = |process: &Path| {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        line.windows(folder_bytes.len()).any(|part| part == folder_bytes)
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let processes = processes.filter(|process| told(process)).map(|process| process.display().to_string());
    names(folder).into_iter().chain(processes).collect()
}
