//! Users: whose a transfer is, and who may not be an executor.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use staccato_tests::{service::Service, user::become_user};

/// Users that no machine has in use; the service's own is root.
const ALICE: u32 = 64_001;
const BOB: u32 = 64_002;

/// Lets everybody enter the folder of a socket and connect.
fn open_to_all(socket: &Path) {
    for (path, mode) in [(socket.parent().unwrap(), 0o711), (socket, 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
}

/// A request of a user by curl. With no body it is a GET, with a status of 000 there was no answer.
fn curl(user: u32, socket: &Path, path: &str, body: Option<&Value>) -> (Output, u16, Value) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}"]);
    command.arg("--unix-socket").arg(socket.file_name().unwrap()).arg(format!("http://localhost{path}"));
    if let Some(body) = body {
        command.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
    }
    command.current_dir(socket.parent().unwrap());
    become_user(user, &mut command);
    let output = command.output().expect("curl is installed; tests/run does it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (output, status.parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn a_transfer_belongs_to_the_user_at_the_other_end_of_the_socket() {
    let service = Service::start(&["--executors", "none"]);
    let socket = service.socket();
    open_to_all(&socket);
    let ask = |user, path: &str| {
        let (_, status, body) = curl(user, &socket, path, None);
        (status, body)
    };
    let submit = |user, name: &str| {
        let body = json!({"source_url": "zero:///5", "destination_url": service.file(name)});
        let (_, status, document) = curl(user, &socket, "/v1/transfers", Some(&body));
        assert_eq!((status, &document["owner"]), (201, &json!(format!("uid:{user}"))), "{document:#}");
        document["id"].as_str().unwrap().to_owned()
    };
    let (of_alice, of_bob) = (submit(ALICE, "a"), submit(BOB, "b"));
    for (user, own, foreign) in [(ALICE, &of_alice, &of_bob), (BOB, &of_bob, &of_alice)] {
        let (_, list) = ask(user, "/v1/transfers");
        let ids: Vec<_> = list.as_array().unwrap().iter().map(|document| &document["id"]).collect();
        assert_eq!(ids, [own], "the list of uid {user}");
        assert_eq!(ask(user, &format!("/v1/transfers/{own}")).0, 200);
        let (status, problem) = ask(user, &format!("/v1/transfers/{foreign}"));
        assert_eq!((status, &problem["code"]), (404, &json!("transfer_not_found")), "uid {user}");
        let cancel = json!({"xferaction": "cancel"});
        let (_, status, _) = curl(user, &socket, &format!("/v1/transfers/{foreign}/action"), Some(&cancel));
        assert_eq!(status, 404, "uid {user}");
    }
    assert_ne!(ask(ALICE, &format!("/v1/transfers/{of_alice}")).1["state"], "STATE_CANCELED", "only its owner could");
}

#[test]
fn an_executor_of_another_user_is_turned_away() {
    const ROOT: u32 = 0;
    let service = Service::start(&["--executors", "none"]);
    let socket = service.data().join("executor.sock");
    // The mode of its folder keeps others out already; this is about what stands behind.
    open_to_all(&socket);
    let claim = json!({});
    let (_, status, _) = curl(ROOT, &socket, "/executor/v1/claim", Some(&claim));
    assert!(status >= 400, "a claim without a name is understood and refused: {status}");
    let (output, status, _) = curl(ALICE, &socket, "/executor/v1/claim", Some(&claim));
    assert!(!output.status.success() && status == 0, "no answer: {status}");
    let log = service.log();
    assert!(log.contains("a process of another user was turned away") && log.contains(&ALICE.to_string()), "{log}");
}
