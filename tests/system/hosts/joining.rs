//! Who may join, who may not, and what becomes of those who go.

use std::{fs, time::Duration};

use rustix::process::Signal;
use serde_json::{Value, json};
use staccato_tests::{
    binary::command,
    deployment::Deployment,
    process::eventually,
    service::{PATIENCE, free_port},
};

#[test]
fn an_invitation_is_good_once_and_for_its_host_only() {
    let deployment = Deployment::start(&[]);
    let invitation = deployment.invite("h1");
    // For another host.
    let mut other = deployment.host("h2", &[]);
    other.launch(&deployment, Some(&invitation));
    assert_ne!(other.wait_for_exit(), Some(0));
    assert!(other.log().contains("the host h1"), "{}", other.log());
    // None at all, and one that never was.
    let mut none = deployment.host("h1", &[]);
    none.launch(&deployment, None);
    assert_ne!(none.wait_for_exit(), Some(0));
    assert!(none.log().contains("staccato executors invite h1"), "{}", none.log());
    none.launch(&deployment, Some("staccato_join_0123"));
    assert_ne!(none.wait_for_exit(), Some(0));
    // The right one; then it is used up.
    let mut first = deployment.host("h1", &[]);
    first.launch(&deployment, Some(&invitation));
    deployment.wait_until_up("h1");
    none.launch(&deployment, Some(&invitation));
    assert_ne!(none.wait_for_exit(), Some(0));
    assert!(none.log().contains("was used"), "{}", none.log());
    // Who has enrolled needs none.
    first.kill();
    first.launch(&deployment, None);
    deployment.wait_until_up("h1");
    // The key is for its owner only.
    use std::os::unix::fs::PermissionsExt as _;
    let key = first.data().join("executor/key.pem");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn two_executors_of_one_name_do_not_both_run() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s"]);
    let mut first = deployment.join("h1", &[]);
    // Another machine that enrols under the name is the host from then on.
    let second = deployment.join("h1", &[]);
    assert_ne!(first.wait_for_exit(), Some(0));
    assert!(first.log().contains("not enrolled (any more)"), "{}", first.log());
    // The host is up all the while: until the other one has joined, it is the first one's.
    let root = second.root().display().to_string();
    let joined = || deployment.executor("h1").filter(|one| one["roots"].to_string().contains(&root));
    eventually(PATIENCE, "the second one has joined", joined);
    fs::write(second.path("x"), b"bytes").unwrap();
    let service = &deployment.service;
    service.complete(&service.submit(&second.file("x"), "null:///", json!({})));
    // Two processes do not share one folder.
    let third = staccato_tests::binary::command()
        .args(["executor", "--join", &deployment.url(), "--name", "h1", "--listen", "none"])
        .arg("--ca")
        .arg(deployment.ca())
        .arg("--data-dir")
        .arg(second.data())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&third.stderr).contains("another executor uses this folder"));
}

#[test]
fn a_host_that_was_forgotten_is_nobody() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s"]);
    let mut host = deployment.join("h1", &[]);
    assert!(deployment.admin(&["executors", "forget", "h1"]).status.success());
    assert_ne!(host.wait_for_exit(), Some(0));
    assert!(deployment.executor("h1").is_none());
    assert!(!deployment.admin(&["executors", "forget", "h1"]).status.success());
}

#[test]
fn a_host_that_was_forgotten_or_away_for_too_long_comes_back_with_a_new_invitation() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s", "--certificate-life", "10s"]);
    let mut host = deployment.join("h1", &[]);
    let certificate = host.data().join("executor/cert.pem");
    host.kill();
    let last = fs::metadata(&certificate).unwrap().modified().unwrap();
    let over = || last.elapsed().is_ok_and(|elapsed| elapsed > Duration::from_secs(12)).then_some(());
    eventually(PATIENCE, "its certificate is over", over);
    host.launch(&deployment, None);
    assert_ne!(host.wait_for_exit(), Some(0));
    assert!(host.log().contains("has run out"), "{}", host.log());
    host.launch(&deployment, Some(&deployment.invite("h1")));
    deployment.wait_until_up("h1");

    assert!(deployment.admin(&["executors", "forget", "h1"]).status.success());
    assert_ne!(host.wait_for_exit(), Some(0));
    let invitation = deployment.invite("h1");
    host.launch(&deployment, Some(&invitation));
    deployment.wait_until_up("h1");
    // Whoever starts it again in the same way shows a used one, and is welcome.
    host.kill();
    host.launch(&deployment, Some(&invitation));
    deployment.wait_until_up("h1");
}

#[test]
fn what_stands_against_joining_is_said_once_with_what_to_do() {
    let deployment = Deployment::start(&[]);
    let other = Deployment::start(&[]);
    let host = deployment.host("h1", &[]);
    let invitation = deployment.invite("h1");
    let plain = deployment.service.url().replace("http:", "https:");
    for (url, ca, advice) in [
        (deployment.url(), other.ca(), "--ca FILE"),
        (deployment.url().replace("127.0.0.1", "localhost"), deployment.ca(), "pki issue --host"),
        (plain, deployment.ca(), "--listen"),
    ] {
        let log = host.data().with_extension("log");
        let mut command = staccato_tests::binary::command();
        command.args(["executor", "--name", "h1", "--listen", "127.0.0.1:0", "--join", &url]).arg("--ca").arg(ca);
        command.arg("--data-dir").arg(host.data()).env("STACCATO_TOKEN", &invitation);
        let executor = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let _executor = staccato_tests::process::Killed(executor);
        let said = || fs::read_to_string(&log).ok().filter(|said| said.contains("cannot enrol"));
        let said = eventually(PATIENCE, "it says what is wrong", said);
        assert!(said.contains(advice), "{advice}: {said}");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(fs::read_to_string(&log).unwrap().matches("cannot enrol").count(), 1);
    }
}

#[test]
fn executors_are_seen_to_come_and_go_and_transfers_wait_for_theirs() {
    let mut deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s", "--slots", "1"]);
    let (mut h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let listed = deployment.service.command(&["executors"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("head") && listed.contains("h1") && listed.contains("up"), "{listed}");

    h1.signal(Signal::TERM);
    assert_eq!(h1.wait_for_exit(), Some(0));
    deployment.wait_for_health("h1", "down");
    // What needs it waits, and hinders nobody.
    let service = &deployment.service;
    fs::write(h1.path("x"), b"bytes").unwrap();
    let waiting: Vec<_> =
        (0..5).map(|number| service.submit("zero:///1000", &h1.file(&format!("w{number}")), json!({}))).collect();
    let reading = service.submit(&h1.file("x"), &h2.file("x"), json!({"priority": 9}));
    service.complete(&service.submit("zero:///1000", &h2.file("y"), json!({})));
    service.complete(&service.submit("zero:///1000", &service.file("y"), json!({})));
    assert_eq!(service.show(&waiting[0])["state"], "STATE_NEW");
    assert_eq!(service.show(&reading)["state"], "STATE_NEW");

    // The service begins anew meanwhile; those that are there join again by themselves.
    deployment.service.kill();
    deployment.service.launch();
    deployment.wait_until_up("h2");
    assert_eq!(deployment.executor("h1").unwrap()["health"], "down");
    h1.launch(&deployment, None);
    let service = &deployment.service;
    waiting.iter().chain([&reading]).for_each(|id| drop(service.complete(id)));
    assert_eq!(fs::read(h2.path("x")).unwrap(), b"bytes");
}

#[test]
fn certificates_are_renewed_while_everything_goes_on() {
    let deployment = Deployment::start(&["--certificate-life", "10s"]);
    let (h1, h2) = (deployment.join("h1", &[]), deployment.join("h2", &[]));
    let certificate = || fs::read(h1.data().join("executor/cert.pem")).unwrap();
    let first = certificate();
    let service = &deployment.service;
    fs::write(h1.path("x"), vec![7; 3 << 20]).unwrap();
    // Slow enough to go on through three lives of a certificate.
    let slow = service.submit(&h1.file("x"), &h2.file("slow"), json!({"rate_limit": 100_000}));
    eventually(PATIENCE, "the certificate is renewed", || (certificate() != first).then_some(()));
    let second = certificate();
    eventually(PATIENCE, "and again", || (certificate() != second).then_some(()));
    for number in 0..3 {
        service.complete(&service.submit(&h1.file("x"), &h2.file(&number.to_string()), json!({})));
    }
    service.complete(&slow);
    assert!(!h2.log().contains("TLS"), "{}", h2.log());
}

#[test]
fn a_host_that_was_forgotten_can_be_invited_again() {
    let deployment = Deployment::start(&["--heartbeat", "500ms", "--lease", "2s"]);
    let mut host = deployment.join("h1", &[]);
    assert!(deployment.admin(&["executors", "forget", "h1"]).status.success());
    assert_ne!(host.wait_for_exit(), Some(0));
    let invitation = deployment.invite("h1");
    host.launch(&deployment, Some(&invitation));
    deployment.wait_until_up("h1");
}

#[test]
fn users_of_another_host_are_served_there_as_on_the_services_own() {
    let deployment = Deployment::start(&[]);
    let port = free_port();
    let api = format!("127.0.0.1:{port}");
    let (h1, h2) = (deployment.join("h1", &["--api", &api]), deployment.join("h2", &[]));
    let ask = |arguments: &[&str]| {
        let output = command().args(arguments).args(["--json", "--server", &format!("http://{api}")]).output().unwrap();
        let text = String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        (output.status.success(), serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{text}")))
    };
    fs::write(h1.path("x"), b"some bytes").unwrap();
    // A path is one on this host, for the source and the destination.
    let (path, copy) = (h1.path("x").display().to_string(), h1.path("copy").display().to_string());
    let (done, document) = ask(&["submit", &path, &copy, "--wait"]);
    assert!(done, "{document:#}");
    assert_eq!(fs::read(h1.path("copy")).unwrap(), b"some bytes");
    let owner = document["owner"].as_str().unwrap();
    assert!(owner.ends_with("@h1"), "{owner}");
    // And others have names.
    let (done, document) = ask(&["submit", &path, &h2.file("far"), "--wait"]);
    assert!(done, "{document:#}");
    assert_eq!(fs::read(h2.path("far")).unwrap(), b"some bytes");
    // They see their own transfers only, and nothing that admins see.
    deployment.service.complete(&deployment.service.submit("zero:///1", "null:///", json!({})));
    let (_, listed) = ask(&["list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed:#}");
    let (done, refused) = ask(&["executors"]);
    assert!(done && refused.as_array().unwrap().iter().all(|one| one["roots"] == json!([])), "{refused:#}");
    // What would be refused there is refused here.
    let output = std::process::Command::new("curl")
        .args(["-s", &format!("http://{api}/v1/transfers"), "-H", "X-Forwarded-For: 10.0.0.1"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("forbidden_host"));
}
