//! What operators do with distributions: they start and watch them, add and remove hosts, pause, cancel and delete.

use std::fs;

use serde_json::{Value, json};
use staccato_tests::{
    bytes::{MIB, random},
    fleet::Fleet,
    process::eventually,
    service::PATIENCE,
};

#[test]
fn an_object_is_distributed_and_watched() {
    let fleet = Fleet::start(&[]);
    let service = &fleet.deployment.service;
    let bytes = random(1, 5 * MIB + 321);
    service.write("image", &bytes);
    let (source, to) = (service.file("image"), fleet.template());
    let arguments = ["distribute", &source, "--to", &to, "--hosts", "label.kind=test", "--watch", "--name", "n"];
    let watched = service.command(&arguments);
    let (out, told) = (String::from_utf8_lossy(&watched.stdout), String::from_utf8_lossy(&watched.stderr));
    assert!(watched.status.success(), "{out}{told}");
    assert!(out.contains("STATE_COMPLETE") && out.contains("4/4"), "{out}");
    for number in 0..4 {
        assert!(fs::read(fleet.copy(number)).unwrap() == bytes, "h{number}");
    }
    let id = out.split_whitespace().next().unwrap();
    let document = fleet.look_until(id, "its end is noted", |one| one["finished_at"].is_string());
    // The source is read once, or a little more where a host is late, and never beyond its budget.
    let told = |name: &str| document[name].as_u64().unwrap() as usize;
    let (source, between) = (told("bytes_from_source"), told("bytes_between_peers"));
    // What is late at the end is asked of a second one, and both count.
    assert!((4 * bytes.len()..=5 * bytes.len()).contains(&(source + between)), "{document:#}");
    assert!((bytes.len()..=2 * bytes.len()).contains(&source), "{document:#}");
    assert_eq!((&document["hosts"]["done"], &document["progress"]), (&json!(4), &json!(4 * bytes.len())));
    let listed = service.command(&["distributions", id]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("4 done") && (0..4).all(|number| listed.contains(&format!("\nh{number} "))), "{listed}");
    let executors = service.command(&["executors"]);
    let executors = String::from_utf8_lossy(&executors.stdout).into_owned();
    assert!(executors.contains("  in rack r1, kind=test"), "{executors}");
    // Once more, with the very documents: all destinations are taken by now.
    let again = service.command(&[&arguments[..], &["--json"]].concat());
    assert_eq!(again.status.code(), Some(1));
    let last: Value =
        serde_json::from_slice(again.stdout.trim_ascii().split(|byte| *byte == b'\n').next_back().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["hosts"]["failed"]), (&json!("STATE_ERROR"), &json!(4)), "{last:#}");
}

#[test]
fn hosts_are_added_and_removed_and_the_rest_is_canceled() {
    let mut fleet = Fleet::start(&[]);
    let service = &fleet.deployment.service;
    let run = |arguments: &[&str]| {
        let done = service.command(arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    // So slow that it does not end by itself. Its query counts as a secret, which further hosts need, too.
    let to = fleet.template();
    let id = run(&[
        "distribute",
        "zero:///1000000000?seed=7",
        "--to",
        &to,
        "--hosts",
        "rack=r0,h0,h1",
        "--rate-limit",
        "1M",
    ]);
    fleet.look_until(&id, "both run", |one| one["hosts"]["running"] == 2);
    run(&["distributions", &id, "--add", "h2,h1"]);
    fleet.look_until(&id, "the third runs, too", |one| one["hosts"]["running"] == 3);
    run(&["distributions", &id, "--remove", "h0"]);
    let two = fleet.look_until(&id, "two are left", |one| one["hosts"]["running"] == 2);
    assert_eq!(two["hosts"]["total"], 2);
    run(&["pause", &id]);
    fleet.look_until(&id, "they are paused", |one| one["state"] == "STATE_PAUSED");
    // What was asked of it is as durable as what it is.
    fleet.deployment.service.kill();
    fleet.deployment.service.launch();
    fleet.look_until(&id, "it is there again", |one| one["state"] == "STATE_PAUSED");
    let service = &fleet.deployment.service;
    assert!(service.command(&["cancel", &id]).status.success());
    fleet.look_until(&id, "it is canceled", |one| one["state"] == "STATE_CANCELED");
    assert!(service.command(&["delete", &id]).status.success());
    eventually(PATIENCE, "it is gone", || {
        (service.get(&format!("/v1/distributions/{id}")).status == 404).then_some(())
    });
    assert_eq!(service.get("/v1/transfers").body, json!([]));
    let left = || (0..4).all(|number| fs::read_dir(fleet.root(number)).unwrap().next().is_none());
    eventually(PATIENCE, "nothing is left at any host", || left().then_some(()));
}
