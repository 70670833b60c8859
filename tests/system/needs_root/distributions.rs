//! Distributions on hosts whose link is slow, or whose disk is full.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use staccato_bench::network::{self, Network, Wiring};
use staccato_tests::{
    bytes::{MIB, random},
    deployment::{Deployment, Host, on},
    disk::Disk,
    fleet::{Fleet, SHORT_LEASES},
    process::eventually,
    service::{PATIENCE, names},
};

/// Bits per second of a host's link.
const RATE: u64 = 200_000_000;
const LEN: usize = 64 * MIB;

/// How long three of four hosts took until they had an object, the fourth of which has a slow link, or not.
fn three_of_four(slow: bool) -> Duration {
    let rates = if slow { [(5, RATE / 10)].into() } else { BTreeMap::new() };
    let network = Network::build(&Wiring { hosts: 6, rate: Some(RATE), rates, ..Wiring::default() }).unwrap();
    let [head, owner, hosts @ ..] = network.hosts() else { panic!("six hosts") };
    let measured = head.run(|| {
        let mut fleet = Fleet::of(Deployment::start_at(head.address(), &SHORT_LEASES));
        for (number, place) in hosts.iter().enumerate() {
            let host = fleet.next_host(number, &["--listen", &format!("{}:5310", place.address())]);
            fleet.hosts.push(joined(place, &fleet.deployment, host));
        }
        let source = fleet.deployment.host("owner", &["--listen", &format!("{}:5310", owner.address())]);
        let source = joined(owner, &fleet.deployment, source);
        let bytes = random(91, LEN);
        fs::write(source.path("object"), &bytes).unwrap();
        let id = fleet.distribute(&source.file("object"), 0..4, json!({}));
        let began = Instant::now();
        (0..3).for_each(|number| drop(fleet.wait_for_copy(&id, number, &bytes)));
        let took = began.elapsed();
        if !slow {
            fleet.complete(&id, 0..4, &bytes);
        }
        took
    });
    measured.unwrap()
}

/// Starts an executor in a network's host, and waits until it has joined.
fn joined(place: &network::Host, deployment: &Deployment, mut host: Host) -> Host {
    let invitation = deployment.invite(&host.name);
    place.run(|| host.launch(deployment, Some(&invitation))).unwrap();
    deployment.wait_until_up(&host.name);
    host
}

#[test]
fn a_host_with_a_tenth_of_the_bandwidth_does_not_slow_the_others_down() {
    // The best of three: what else the machine does only costs time. What the slow one would have read takes it 7 s.
    let [with, without] = [true, false].map(|slow| (0..3).map(|_| three_of_four(slow)).min().unwrap());
    println!("{with:?} with the slow one, {without:?} without");
    assert!(with.as_secs_f64() < 1.3 * without.as_secs_f64(), "{with:?} with the slow one, {without:?} without");
}

#[test]
fn a_host_whose_disk_is_full_fails_alone_and_has_the_rest_from_the_others_when_there_is_space() {
    let disk = Disk::tmpfs(8 * MIB as u64);
    let mut fleet = Fleet::of(Deployment::start(&SHORT_LEASES));
    (0..3).for_each(|number| fleet.join(number, &[]));
    fleet.join(3, &["--root", &format!("{}:rw", disk.path().display())]);
    let bytes = random(92, 20 * MIB);
    let owner = fleet.deployment.join("owner", &[]);
    fs::write(owner.path("object"), &bytes).unwrap();
    let mut to: Vec<_> = (0..3).map(|number| on(&format!("h{number}"), &fleet.copy(number))).collect();
    to.push(on("h3", &disk.path().join("image")));
    let id = fleet.post(&json!({"source_url": owner.file("object"), "destination_urls": to, "retries": 0}));
    (0..3).for_each(|number| drop(fleet.wait_for_copy(&id, number, &bytes)));
    let failed = || Some(fleet.member(&id, 3)).filter(|member| member["state"] == "STATE_ERROR");
    let member = eventually(PATIENCE, "the full one has failed", failed);
    assert_eq!(member["error"]["code"], "no_space", "{member:#}");
    let document = fleet.look_until(&id, "all have ended", |one| one["finished_at"].is_string());
    assert_eq!((&document["hosts"]["done"], &document["hosts"]["failed"]), (&json!(3), &json!(1)), "{document:#}");

    disk.resize(40 * MIB as u64);
    assert_eq!(fleet.deployment.service.action(member["transfer"].as_str().unwrap(), "resume").status, 204);
    let document = fleet.look_until(&id, "it is complete", |one| one["state"] == "STATE_COMPLETE");
    assert!(fs::read(disk.path().join("image")).unwrap() == bytes, "{document:#}");
    assert_eq!(names(disk.path()), ["image"]);
    let now = fleet.member(&id, 3);
    let told = |member: &Value, field: &str| member[field].as_u64().unwrap();
    let [fetched, from_peers] =
        ["bytes_fetched", "bytes_from_peers"].map(|field| told(&now, field) - told(&member, field));
    assert!(fetched < 15 * MIB as u64, "what fitted was kept: {now:#}");
    assert!(from_peers > fetched / 2, "the others had it: {now:#}");
}
