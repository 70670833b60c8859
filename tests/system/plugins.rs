//! Protocols from outside, as users add them. README's section, word for word: `needs_root/two_hosts.rs`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use staccato_tests::{
    binary::command,
    bytes::random,
    service::{Service, scratch},
};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A plug-in path with the example on it, and the folder whose files are its objects.
fn example() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let objects = folder.path().join("objects");
    fs::create_dir(&objects).unwrap();
    let name = "staccato-protocol-folder";
    fs::copy(repository().join("protocols/examples").join(name), folder.path().join(name)).unwrap();
    fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    let settings = format!("[settings]\nfolder = {:?}\n", objects.display().to_string());
    fs::write(folder.path().join(name).with_extension("toml"), settings).unwrap();
    let path = folder.path().display().to_string();
    (folder, path)
}

#[test]
fn a_service_moves_objects_from_and_to_a_plug_in_and_shows_what_is_on_its_path() {
    let (folder, path) = example();
    let broken = folder.path().join("staccato-protocol-broken");
    fs::write(&broken, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let service = Service::start(&["--plugin-path", &path]);
    let bytes = random(5, 20_000_003);
    service.write("a", &bytes);
    let there = service.submit(&service.file("a"), "folder:///b%20c", json!({}));
    service.complete(&there);
    assert!(fs::read(folder.path().join("objects/b c")).unwrap() == bytes);
    let back = service.submit("folder:///b%20c", &service.file("d"), json!({}));
    let document = service.complete(&back);
    assert!(service.read("d") == bytes);
    assert_eq!(document["bytes_fetched"], bytes.len());
    let missing = service.submit("folder:///nothing", &service.file("e"), json!({}));
    assert_eq!(service.failure(&missing), "source_missing");
    let taken = service.submit(&service.file("a"), "folder:///b%20c", json!({}));
    assert_eq!(service.failure(&taken), "destination_exists");
    let left: Vec<_> =
        fs::read_dir(folder.path().join("objects")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["b c"], "no partial stays");

    let document = service.get("/v1/protocols").body;
    let found =
        |scheme: &str| document["protocols"].as_array().unwrap().iter().find(|one| one["scheme"] == scheme).cloned();
    let folder = found("folder").unwrap();
    let expected = json!({"scheme": "folder", "source": true, "destination": true, "ranges": true, "writes": "anywhere",
                          "resumes": true, "origin": "plug_in", "options": []});
    assert_eq!(folder, expected);
    assert_eq!(found("zero").unwrap()["origin"], "built_in");
    assert_eq!(document["broken"], json!([{"scheme": "broken", "why": "ended (exit status: 3)"}]));
    assert!(
        service.log().contains("staccato-protocol-broken ended (exit status: 3); it is left out"),
        "{}",
        service.log()
    );
    let refused = json!({"source_url": "broken:///x", "destination_url": service.file("f")});
    assert_eq!(service.post("/v1/transfers", &refused).code(), "unsupported_scheme");
    let listed = service.command(&["protocols"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for line in
        ["folder      ranges      anywhere     yes      plug_in", "broken      cannot be used: the plug-in ended"]
    {
        assert!(listed.contains(line), "{listed}");
    }
    let listed = service.command(&["protocols", "--json"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&listed.stdout).unwrap(), document);
}

#[test]
fn a_service_starts_each_plug_in_once_to_hear_what_it_is() {
    let (folder, path) = example();
    let (program, trace) = (folder.path().join("staccato-protocol-folder"), folder.path().join("trace"));
    let script = fs::read_to_string(&program).unwrap();
    let (first, rest) = script.split_once('\n').unwrap();
    let note = format!("open({:?}, 'a').write('started\\n')", trace.display().to_string());
    fs::write(&program, format!("{first}\n{note}\n{rest}")).unwrap();
    // Executors hear it for themselves.
    let service = Service::start(&["--plugin-path", &path, "--executors", "none"]);
    assert!(service.get("/v1/protocols").body.to_string().contains("folder"));
    assert_eq!(fs::read_to_string(&trace).unwrap(), "started\n");
}

#[test]
fn a_plug_in_that_is_killed_in_mid_transfer_costs_a_try_and_no_byte() {
    let (folder, path) = example();
    let service = Service::start(&["--plugin-path", &path]);
    let bytes = random(6, 48 << 20);
    fs::write(folder.path().join("objects/a"), &bytes).unwrap();
    let id = service.submit("folder:///a", &service.file("b"), json!({"rate_limit": 16 << 20}));
    service.wait_for_progress(&id, 1 << 20);
    let plug_ins = staccato_tests::process::children(service.executor());
    assert_eq!(plug_ins.len(), 1, "one process serves all");
    staccato_tests::process::signal(plug_ins[0], rustix::process::Signal::KILL);
    service.complete(&id);
    assert!(service.read("b") == bytes);
}

#[test]
fn a_check_says_of_each_promise_whether_it_is_kept() {
    let (folder, path) = example();
    let program = format!("{path}/staccato-protocol-folder");
    let run = |arguments: &[&str]| {
        let mut check = command();
        check.args(["protocol", "check", &program]).args(arguments);
        let output = check.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, complaints) = run(&[]);
    assert_eq!(code, Some(0), "{said}{complaints}");
    assert!(said.lines().all(|line| line.starts_with("ok      ")) && said.lines().count() > 25, "{said}");
    assert_eq!(fs::read_dir(folder.path().join("objects")).unwrap().count(), 0, "nothing stays behind");
    // One that changes bytes on their way.
    let script = fs::read_to_string(&program).unwrap();
    let read = "return {\"length\": os.preadv(straight, [AREA[at:at + length]], offset)}";
    let damage = "got = os.preadv(straight, [AREA[at:at + length]], offset); AREA[at] ^= 1; return {\"length\": got}";
    let worse = script.replace(read, damage);
    assert_ne!(worse, script);
    fs::write(&program, worse).unwrap();
    let (code, said, complaints) = run(&["--json"]);
    assert_eq!(code, Some(1), "{said}{complaints}");
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let wrong: Vec<_> = report.as_array().unwrap().iter().filter(|one| !one["wrong"].is_null()).collect();
    assert_eq!(wrong.len(), 1, "{report}");
    assert!(wrong[0]["check"].as_str().unwrap().starts_with("source: "), "{report}");
    drop(folder);
}

#[test]
fn the_plug_in_of_the_protocols_readme_is_a_whole_protocol() {
    let page = fs::read_to_string(repository().join("protocols/README.md")).unwrap();
    let (_, rest) = page.split_once("```python\n").expect("it is there");
    let script: String = rest
        .split("```")
        .next()
        .unwrap()
        .lines()
        .map(|line| format!("{}\n", line.strip_prefix("   ").unwrap_or(line)))
        .collect();
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let program = folder.path().join("staccato-protocol-memory");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut copy = command();
    copy.current_dir(folder.path()).args(["copy", "--plugin-path", ".", "memory:///hello", "out"]);
    let output = copy.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(folder.path().join("out")).unwrap(), b"hello, world\n");
}
