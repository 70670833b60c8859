//! A scheduler from outside: the example in Python, on good days and bad ones.

use std::{fs, path::PathBuf};

use rustix::process::Signal;
use serde_json::json;
use staccato_tests::{
    binary::command,
    process::{children, eventually, is_alive, signal},
    service::{PATIENCE, Service},
};

const LINK_BUDGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scheduler-plugins/examples/link_budget.py");

/// The process of the plug-in; waits for one.
fn plugin(service: &Service) -> u32 {
    eventually(PATIENCE, "the plug-in runs", || {
        let is_plugin = |pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // Its last argument: the executor is told of the setting, too.
            command.ends_with(b"link_budget.py\0")
        };
        children(service.pid()).into_iter().find(is_plugin)
    })
}

/// Why a new transfer was started.
fn reason(service: &Service) -> String {
    let id = service.submit("zero:///5", "null:///", json!({}));
    let events = service.complete(&id)["events"].clone();
    let scheduled = events.as_array().unwrap().iter().find(|event| event["kind"] == "scheduled");
    scheduled.unwrap_or_else(|| panic!("{events:#}"))["message"].as_str().unwrap().to_owned()
}

/// A row of `/metrics` about the plug-in.
fn metric(service: &Service, name: &str) -> u64 {
    let page = service.get("/metrics").body;
    let row = format!("staccato_scheduler_plugin_{name}{{plugin=\"link_budget\"}} ");
    let value = page.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&row)?.parse().ok());
    value.unwrap_or_else(|| panic!("{row} in {page}"))
}

#[test]
fn while_a_scheduler_hangs_or_is_away_slots_decides_and_says_so_until_it_is_back() {
    const BY_PLUGIN: &str = "1 of 2 from here to here";
    let service = Service::start(&["--scheduler", LINK_BUDGET, "--scheduler-timeout", "1s"]);
    assert_eq!(reason(&service), BY_PLUGIN);
    assert_eq!((metric(&service, "up"), metric(&service, "faults_total")), (1, 0));

    signal(plugin(&service), Signal::STOP);
    let by_slots = reason(&service);
    assert!(by_slots.contains("(by slots: link_budget is away)"), "{by_slots}");
    let back = |faults: u64| {
        eventually(PATIENCE, "it decides again", || {
            (metric(&service, "faults_total") >= faults && metric(&service, "up") == 1).then_some(())
        });
        assert_eq!(reason(&service), BY_PLUGIN);
    };
    back(1);

    signal(plugin(&service), Signal::KILL);
    back(2);
    let log = service.log();
    for said in
        ["did not answer within 1s; slots decides until it is back", "ended (signal: 9 (SIGKILL)); slots decides"]
    {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn a_scheduler_ends_with_its_service_however_that_ends() {
    let mut service = Service::start(&["--scheduler", LINK_BUDGET]);
    let before = plugin(&service);
    service.signal(Signal::TERM);
    assert_eq!(service.wait_for_exit(), Some(0));
    assert!(!is_alive(before));
    service.launch();
    let before = plugin(&service);
    service.kill();
    eventually(PATIENCE, "the plug-in is gone", || (!is_alive(before)).then_some(()));
}

#[test]
fn a_scheduler_that_cannot_be_used_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |scheduler: &str| {
        let mut command = command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--scheduler", scheduler, "--data-dir"]);
        let output = command.arg(folder.path().join("data")).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let script = folder.path().join("script");
    let missing = PathBuf::from("/does/not/exist.py");
    fs::write(&script, "import json\n").unwrap();
    for (scheduler, code, said) in [
        (missing.to_str().unwrap(), 1, "the scheduler /does/not/exist.py cannot be used: there is no such file"),
        (script.to_str().unwrap(), 1, "chmod +x"),
        ("/bin/false", 1, "it ended (exit status: 1)"),
        ("fair_share", 2, "\"fair_share\" is no scheduler; use slots, or a path with a /"),
    ] {
        let (found, text) = serve(scheduler);
        assert!(found == Some(code) && text.contains(said), "{scheduler}: {found:?} {text}");
    }
}
