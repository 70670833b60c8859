//! The commands of the binary, as people type them.

use serde_json::Value;
use staccato_tests::{
    binary::{command, staccato},
    bytes::{MIB, random},
    process::eventually,
    service::{PATIENCE, Service},
};

fn json(output: &std::process::Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn submit_list_show_wait_and_actions() {
    let service = Service::start(&[]);
    service.write("s", b"content");
    let output = service.command(&["submit", "s", "d", "--wait", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(service.read("d"), b"content");
    let list = json(&service.command(&["list", "--json"]));
    let id = list[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(json(&service.command(&["show", &id, "--json"]))["state"], "STATE_COMPLETE");
    assert_eq!(service.command(&["wait", &id]).status.code(), Some(0));
    assert_eq!(service.command(&["watch", &id]).status.code(), Some(0));
    for action in ["cancel", "pause", "resume"] {
        assert_eq!(service.command(&[action, &id]).status.code(), Some(4), "{action}");
    }
    assert_eq!(service.command(&["delete", &id]).status.code(), Some(0));
    assert_eq!(service.command(&["show", &id]).status.code(), Some(3));
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let service = Service::start(&[]);
    assert_eq!(service.command(&["submit", "missing", "d", "--wait"]).status.code(), Some(1));
    assert_eq!(service.command(&["submit"]).status.code(), Some(2));
    assert_eq!(service.command(&["submit", "gopher://x/y", "d"]).status.code(), Some(6));
    let output = service.command(&["list", "--server", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn the_unix_socket_serves_too() {
    let service = Service::start(&[]);
    let server = format!("unix:{}", service.socket().display());
    let output = service.command(&["submit", "zero:///10", "d", "--wait", "--server", &server]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(service.read("d"), [0; 10]);
}

#[test]
fn listening_beyond_loopback_is_refused_with_a_reason() {
    let service = Service::start(&[]);
    let output = service.command(&["serve", "--listen", "0.0.0.0:0", "--data-dir", "other"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("https://0.0.0.0:0") && text.contains("tls_cert"), "{text}");
}

#[test]
fn an_unknown_key_is_named_with_its_nearest_relative() {
    let service = Service::start(&[]);
    std::fs::write(service.path("staccato.toml"), "slotz = 3\n").unwrap();
    let output = service.command(&["config", "--config", "staccato.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("slotz") && text.contains("slots"), "{text}");
}

#[test]
fn copy_works_without_a_service_and_goes_on_after_an_interrupt() {
    let folder = tempfile::tempdir_in(staccato().parent().unwrap()).unwrap();
    let content = random(1, 40 * MIB + 3);
    std::fs::write(folder.path().join("s"), &content).unwrap();
    let copy = |more: &[&str]| {
        let mut command = command();
        command.arg("copy").args(["s", "d"]).args(more).current_dir(folder.path());
        command
    };
    let mut interrupted = copy(&["--rate-limit", "4M"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    // There are 10 s for a checkpoint; the notes are replaced as a whole.
    eventually(PATIENCE, "a checkpoint is noted", || {
        let notes = std::fs::read(folder.path().join(".d.staccato-copy.json")).ok()?;
        let notes: Value = serde_json::from_slice(&notes).unwrap();
        notes["checkpoint"].as_array().is_some_and(|ranges| !ranges.is_empty()).then_some(())
    });
    staccato_tests::process::signal(interrupted.id(), rustix::process::Signal::INT);
    assert!(!interrupted.wait().unwrap().success());
    assert!(!folder.path().join("d").exists());
    let output = copy(&["--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let result = json(&output);
    assert!(result["bytes_fetched"].as_u64().unwrap() < content.len() as u64, "{result:#}");
    assert!(std::fs::read(folder.path().join("d")).unwrap() == content);
    assert_eq!(staccato_tests::service::names(folder.path()), ["d", "s"]);
}
