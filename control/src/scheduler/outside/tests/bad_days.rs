//! Plug-ins that hang, crash, flood, fork, talk nonsense, or never begin.

use super::*;

/// What is wrong with a shell that is asked about transfers that wait.
fn fault(script: &str, waiting: usize, within: Duration) -> String {
    let mut process = Process::start(&launch(&format!("{HELLO}\n{script}"))).unwrap();
    process.hello(PATIENCE).unwrap();
    let snapshot = snapshot(waiting);
    let line = protocol::line_of(1, &snapshot, 4);
    let answer = process.exchange(&line, within);
    let decided = answer.and_then(|line| protocol::decisions_in(&line, 1, &snapshot).map_err(Fault::Garbage));
    decided.expect_err(script).to_string()
}

#[test]
fn every_breach_is_named() {
    let long = Duration::from_millis(100);
    for (script, said) in [
        ("exec sleep 600", "did not answer within 100ms"),
        ("while :; do echo -n x; done", "did not answer within 100ms"),
    ] {
        assert_eq!(fault(script, 1, long), said, "{script}");
    }
    // More than a pipe holds, and nobody reads it.
    assert_eq!(fault("exec sleep 600", 2_000, long), "did not answer within 100ms");
    for (script, said) in [
        ("read -r line; exit 3", "ended (exit status: 3)"),
        ("read -r line; kill -9 $$", "ended (signal: 9 (SIGKILL))"),
        ("read -r line; exec >&-; exec sleep 600", "closed its input or output"),
        ("read -r line; echo nonsense", "said what is not understood: expected"),
        ("read -r line; echo '{\"number\": 1}'", "said what is not understood: missing field `decisions`"),
        ("echo '{\"number\": 0, \"decisions\": []}'; sleep 600", "it answers snapshot 0"),
        ("read -r line; exec tr '\\0' x < /dev/zero", "wrote a line of more than 1 MiB"),
        ("exec tr '\\0' x 3<&0 < /dev/zero", "wrote a line of more than 1 MiB"),
        (
            "read -r line; echo '{\"number\": 1, \"decisions\": \
             [{\"id\": \"00000000-0000-0000-0000-0000000000ff\", \"reason\": \"why\"}]}'",
            "00000000-0000-0000-0000-0000000000ff does not wait in the snapshot",
        ),
    ] {
        let found = fault(script, 1, PATIENCE);
        assert!(found.contains(said), "{script}: {found}");
    }
}

#[test]
fn who_breaks_a_rule_is_started_again_and_meanwhile_slots_decides_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mended = folder.path().join("mended");
    let script = format!("if [ -e {} ]; then {IDLE}; fi; read -r line; echo nonsense", mended.display());
    let outside = Outside::start(shell(&script)).unwrap();
    let reasons = || outside.decide(&snapshot(2)).into_iter().map(|one| one.reason).collect::<Vec<_>>();
    let by_slots = "slot 1 of 4; first in line with priority 5 (by slots: shell is away)";
    assert_eq!(reasons()[0], by_slots);
    assert_eq!((outside.faults(), outside.is_up()), (1, false));
    fs::write(&mended, "").unwrap();
    // One that was started before it was mended may break the rule once more.
    eventually("it decides again", || reasons().is_empty());
    assert!(outside.is_up());
    let faults = outside.faults();
    assert!((0..50).all(|_| reasons().is_empty()) && outside.faults() == faults);
}

#[test]
fn a_hanging_plug_in_costs_its_time_limit_once_and_nothing_while_it_is_started_again() {
    let restart_wait = (PATIENCE, PATIENCE);
    let outside =
        Outside::start(Options { answer_max: Duration::from_millis(100), restart_wait, ..shell("exec sleep 600") });
    let outside = outside.unwrap();
    assert_eq!(outside.decide(&snapshot(1)).len(), 1);
    let begun = Instant::now();
    assert!((0..100).all(|_| outside.decide(&snapshot(1)).len() == 1));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(outside.faults(), 1);
}

#[test]
fn what_a_plug_in_has_started_dies_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("pids");
    let path = trace.display();
    for end in ["read -r line; exit 1", "exec sleep 600"] {
        let script =
            format!("sleep 600 & echo $! > {path}; (sleep 600 & echo $! >> {path}; wait) & wait_for=$!\n{end}");
        let restart_wait = (PATIENCE, PATIENCE);
        let limit = Duration::from_millis(300);
        let outside = Outside::start(Options { answer_max: limit, restart_wait, ..shell(&script) }).unwrap();
        let pids = || -> Vec<u32> {
            let text = fs::read_to_string(&trace).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect()
        };
        eventually("two children", || pids().len() == 2);
        outside.decide(&snapshot(1));
        eventually("they are gone", || !pids().into_iter().any(is_alive));
        assert_eq!(outside.faults(), 1);
        drop(outside);
        fs::remove_file(&trace).unwrap();
    }
}

#[test]
fn one_that_cannot_begin_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("not-executable"), "#!/bin/sh\n").unwrap();
    let direct = |program: PathBuf| Options::of(Launch { program, arguments: Vec::new(), user: None }, 4, PATIENCE);
    let hello_max = Duration::from_millis(100);
    for (options, said) in [
        (direct(path("missing")), "there is no such file"),
        (direct(path("not-executable")), "chmod +x"),
        (direct(folder.path().to_owned()), "not executable"),
        (direct("/bin/false".into()), "ended (exit status: 1)"),
        (Options { hello_max, launch: launch("exec sleep 600"), ..direct("/".into()) }, "did not answer within 100ms"),
        (
            Options { launch: launch("echo '{\"protocol\": 9, \"name\": \"x\"}'; cat"), ..direct("/".into()) },
            "version 9",
        ),
        (Options { launch: launch("exec tr '\\0' x 3<&0 < /dev/zero"), ..direct("/".into()) }, "more than 1 MiB"),
    ] {
        let program = options.launch.program.display().to_string();
        let refused = Outside::start(options).err().expect(said).to_string();
        assert!(refused.contains(said) && refused.contains(&program), "{refused}");
    }
}

#[test]
fn one_that_floods_its_standard_error_is_heard_and_does_its_work() {
    let outside = Outside::start(shell(&format!("head -c 1000000 /dev/zero | tr '\\0' '\\n' >&2; {IDLE}"))).unwrap();
    assert!(outside.decide(&snapshot(1)).is_empty());
    assert_eq!(outside.faults(), 0);
}
