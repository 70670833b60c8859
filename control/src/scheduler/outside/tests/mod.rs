//! Plug-ins that do well, and plug-ins that do not: shells with a few lines each, and the example.

mod bad_days;
mod needs_root;
mod rights;

use std::{ffi::OsString, fs, path::Path};

use staccato_scheduler_plugins::{Executor, Link, Uuid, Waiting, conformance};

use super::*;

/// Long for what takes a moment, on whatever machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What every shell here says first.
const HELLO: &str = r#"echo '{"protocol": 1, "name": "shell"}'"#;
/// Answers every snapshot, and starts nothing.
const IDLE: &str = r#"n=0; while read -r line; do n=$((n + 1)); echo "{\"number\": $n, \"decisions\": []}"; done"#;

fn launch(script: &str) -> Launch {
    let arguments = ["-c", script].map(OsString::from).into();
    Launch { program: "/bin/sh".into(), arguments, user: None }
}

/// A shell that says hello and goes on with this script.
fn shell(script: &str) -> Options {
    let launch = launch(&format!("{HELLO}\n{script}"));
    let restart_wait = (Duration::from_millis(10), Duration::from_millis(80));
    Options { restart_wait, ..Options::of(launch, 4, PATIENCE) }
}

fn snapshot(waiting: usize) -> Snapshot {
    let one = |index: usize| Waiting {
        id: Uuid::from_u128(index as u128 + 1),
        priority: 5,
        owner: "o".into(),
        submitted_ms: index as u64,
        link: Link::default(),
        at: Some(String::new()),
    };
    let executors = vec![Executor::default()];
    Snapshot { waiting: (0..waiting).map(one).collect(), executors, ..Snapshot::default() }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there and is no zombie.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[test]
fn the_example_conforms() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scheduler-plugins/examples/link_budget.py");
    let launch = Launch { program, arguments: Vec::new(), user: None };
    let outside = Outside::start(Options::of(launch, 4, PATIENCE)).unwrap();
    assert_eq!(outside.name(), "link_budget");
    conformance::check(&outside, 0x7e47);
    assert_eq!((outside.faults(), outside.is_up()), (0, true), "slots has not conformed in its place");
}

#[test]
fn the_shortest_one_of_the_readme_conforms() {
    let readme = include_str!("../../../../../scheduler-plugins/README.md");
    let (_, rest) = readme.split_once("```python\n").expect("the README has one");
    let code = rest.split("```").next().unwrap();
    let launch = Launch { program: "python3".into(), arguments: vec!["-c".into(), code.into()], user: None };
    let outside = Outside::start(Options::of(launch, 4, PATIENCE)).unwrap();
    conformance::check(&outside, 0xa7);
    assert_eq!((outside.name(), outside.faults(), outside.is_up()), ("at_once", 0, true));
}

#[test]
fn where_nothing_waits_a_plug_in_is_not_asked_and_its_end_is_noticed_all_the_same() {
    let outside = Outside::start(shell("sleep 0.1; echo 'nobody has asked'; exit 3")).unwrap();
    eventually("it is started again", || {
        assert!(outside.decide(&snapshot(0)).is_empty());
        outside.faults() == 1 && outside.is_up()
    });
}

#[test]
fn who_is_not_wanted_any_more_hears_of_it_and_may_clean_up() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let outside = Outside::start(shell(&format!("{IDLE}\necho clean > {}", trace.display()))).unwrap();
    outside.end();
    assert_eq!(fs::read_to_string(trace).unwrap(), "clean\n");
    assert_eq!(outside.faults(), 0);
}

#[test]
fn who_does_not_end_by_itself_is_killed_also_while_it_is_asked() {
    let outside = Outside::start(shell("exec sleep 600")).unwrap();
    thread::scope(|scope| {
        let asked = scope.spawn(|| outside.decide(&snapshot(1)));
        eventually("it is being asked", || outside.shared.process.try_lock().is_err());
        outside.end();
        asked.join().unwrap();
    });
    assert_eq!(outside.faults(), 0, "an end that was wanted is none");
}

#[test]
fn waits_before_a_restart_double_up_to_the_longest() {
    let waits: Vec<_> = [1, 2, 3, 4, 40].map(|times| shell("").wait_after(times).as_millis()).into();
    assert_eq!(waits, [10, 20, 40, 80, 80]);
}
