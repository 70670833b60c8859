//! Executables from outside that run as another user: what they can do there.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use serde_json::{Value, json};
use staccato_tests::service::Service;

/// A user and a group that no machine has in use; the service's own is root.
const USER: &str = "64001:64002";

/// Says who it is and whether it can read a file of root's: in the object `report`, or as the reason why a transfer starts.
const SPY: &str = r#"#!/usr/bin/env python3
import json, os, sys

def report():
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    told = {"ids": [os.getresuid(), os.getresgid(), os.getgroups()]}
    told["rights"] = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")]
    try:
        told["secret"] = open(SECRET).read()
    except OSError as error:
        told["secret"] = type(error).__name__
    return told

def say(message):
    print(json.dumps(message), flush=True)

"#;

const PROTOCOL: &str = r#"
said = json.dumps(report()).encode()
say({"protocol": 1, "name": "spy", "source": "ranges"})
area = json.loads(sys.stdin.readline())["area"]["descriptor"]
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"id": asked.get("id")}
    if asked["do"] == "open":
        answer.update(size=len(said), validator="1")
    elif asked["do"] == "read":
        answer["length"] = os.pwrite(area, said[asked["offset"]:asked["offset"] + asked["length"]], asked["at"])
    elif asked["do"] == "revalidate":
        answer["validator"] = "1"
    if answer["id"]:
        say(answer)
"#;

/// What fits into a reason.
const SCHEDULER: &str = r#"
found = report()
(user, _, _), (group, _, _), groups = found["ids"]
said = f"{user}:{group} {groups} {found['rights'][2]} {found['secret']}"
say({"protocol": 1, "name": "spy"})
for line in sys.stdin:
    snapshot = json.loads(line)
    waiting = [{"id": transfer["id"], "reason": said} for transfer in snapshot["waiting"]]
    say({"number": snapshot["number"], "decisions": waiting})
"#;

/// A folder that everybody may enter, with a file that only root may read, and an executable.
fn folder_with(name: &str, rest: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (secret, program) = (folder.path().join("secret"), folder.path().join(name));
    fs::write(&secret, "of root's").unwrap();
    fs::write(&program, format!("{SPY}SECRET = {:?}\n{rest}", secret.display().to_string())).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    mode(&secret, 0o600);
    mode(&program, 0o755);
    folder
}

/// What the plug-in of a service reports.
fn reported(arguments: &[&str]) -> Value {
    let folder = folder_with("staccato-protocol-spy", PROTOCOL);
    let path = folder.path().display().to_string();
    let service = Service::start(&[&["--plugin-path", &path], arguments].concat());
    let id = service.submit("spy:///report", &service.file("report"), json!({}));
    service.complete(&id);
    serde_json::from_slice(&service.read("report")).unwrap()
}

#[test]
fn a_plug_in_is_the_user_that_is_named_and_has_no_groups_no_rights_and_nothing_of_roots() {
    let none = "0000000000000000";
    let told = reported(&["--plugin-user", USER]);
    assert_eq!(told["ids"], json!([[64001, 64001, 64001], [64002, 64002, 64002], []]));
    assert_eq!(told["rights"], json!([none, none, none, none, "1"]));
    assert_eq!(told["secret"], "PermissionError");
    // Without that it is root, as the service is.
    assert_eq!(reported(&[])["secret"], "of root's");
}

#[test]
fn a_scheduler_is_the_user_that_is_named_and_has_no_groups_no_rights_and_nothing_of_roots() {
    let folder = folder_with("spy.py", SCHEDULER);
    let program = folder.path().join("spy.py").display().to_string();
    let service = Service::start(&["--scheduler", &program, "--scheduler-user", USER]);
    let id = service.submit("zero:///5", "null:///", json!({}));
    let events = service.complete(&id)["events"].clone();
    let scheduled = events.as_array().unwrap().iter().find(|event| event["kind"] == "scheduled").unwrap();
    assert_eq!(scheduled["message"], "64001:64002 [] 0000000000000000 PermissionError", "{events:#}");
}
