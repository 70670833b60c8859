//! What a plug-in may and has.

use rustix::io::dup;

use super::*;

/// The value behind a name in `/proc/PID/status`.
pub(super) fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {text}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A shell that has said hello.
pub(super) fn started(launch: &Launch) -> Process {
    let mut process = Process::start(launch).unwrap();
    process.hello(PATIENCE).unwrap();
    process
}

#[test]
fn it_has_three_descriptors_two_variables_a_group_and_no_way_to_more_rights() {
    // Neither this nor anything else that a service has open.
    let left_open = dup(fs::File::open("/dev/null").unwrap()).unwrap();
    let process = started(&launch(&format!("{HELLO}\n{IDLE}")));
    drop(left_open);
    let pid = process.pid();
    let mut descriptors: Vec<_> =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    descriptors.sort();
    assert_eq!(descriptors, ["0", "1", "2"]);
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let mut names: Vec<_> =
        environment.split_terminator('\0').map(|variable| variable.split('=').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["LANG", "PATH"]);
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "CapAmb"), "0000000000000000");
    // proc(5): "PID (NAME) STATE PPID PGRP ..."
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(2), Some(pid.to_string().as_str()));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
}

#[test]
fn it_does_not_outlive_the_thread_that_keeps_it() {
    let keeper = thread::spawn(|| started(&launch(&format!("{HELLO}\nexec sleep 600"))));
    let mut process = keeper.join().unwrap();
    let gone = process.exchange(b"", PATIENCE).unwrap_err().to_string();
    assert_eq!(gone, "ended (signal: 9 (SIGKILL))");
}
