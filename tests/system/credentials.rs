//! Named credentials, wherever they are kept: used by those they are for, led nowhere else, and their secrets nowhere to be
//! found.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::{Value, json};
use staccato_protocols::testing::http_server::{HttpServer, Page, Trick};
use staccato_tests::service::Service;

/// What the credentials hold, by their names.
const SECRETS: [(&str, &str); 3] =
    [("sealed", "Bearer 5ealed-hush"), ("file", "Bearer f1le-hush"), ("environment", "Bearer env1ronment-hush")];

/// A service that knows `file` and `environment`, for pages of the server under `/ours/`.
fn start(server: &HttpServer, folder: &Path) -> Service {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    let below = server.url("/ours/");
    let definition = json!({"schemes": ["http"], "urls": [below], "options": {"header.Authorization": SECRETS[1].1}});
    let file = folder.join("file.json");
    fs::write(&file, definition.to_string()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let environment = format!("environment=http {below}");
    let folder = folder.display().to_string();
    let variable = |command: &mut Command| {
        command.env("HTTP_AUTHORIZATION", SECRETS[2].1);
    };
    Service::start_with(&["--credentials", &folder, "--credential-env", &environment, "--log", "debug"], variable)
}

/// `staccato credential set sealed`, its secret read from a file.
fn set(service: &Service, below: &str, secret: &str) {
    let file = service.path("secret");
    fs::write(&file, format!("{secret}\n")).unwrap();
    let option = format!("header.Authorization={}", file.display());
    let arguments = ["credential", "set", "sealed", "--scheme", "http", "--url", below, "--option-file", &option];
    let set = service.command(&arguments);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    fs::remove_file(&file).unwrap();
}

fn submit(service: &Service, source: &str, name: &str, credential: &str, more: Value) -> String {
    let mut fields = json!({"source_options": {"credential": credential}});
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service.submit(source, &service.file(name), fields)
}

/// Everything that the service shows or keeps: answers, results of commands, its log, and the files of its data folder.
fn everything(service: &Service, ids: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("log".to_owned(), service.log().into_bytes())];
    let fixed = ["/v1/transfers", "/v1/credentials", "/v1/protocols", "/v1/executors", "/metrics"].map(str::to_owned);
    let credentials = SECRETS.map(|(name, _)| format!("/v1/credentials/{name}"));
    let shown = ids.iter().map(|id| format!("/v1/transfers/{id}"));
    for path in fixed.into_iter().chain(credentials).chain(shown) {
        let answer = service.get(&path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        all.push((path, answer.body.to_string().into_bytes()));
    }
    for arguments in [&["credential", "list"][..], &["credential", "show", "file"], &["list"], &["show", &ids[0]]] {
        let output = service.command(arguments);
        assert!(output.status.success(), "{arguments:?}");
        all.push((format!("{arguments:?}"), [output.stdout, output.stderr].concat()));
    }
    let mut folders = vec![service.data()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => {
                    all.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap()))
                }
                _ => {}
            }
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn secrets_of_every_kind_of_credential_reach_their_server_and_are_found_nowhere() {
    let (server, folder) = (HttpServer::start(), tempfile::tempdir().unwrap());
    let mut service = start(&server, folder.path());
    set(&service, &server.url("/ours/"), SECRETS[0].1);
    let mut ids = Vec::new();
    for (credential, secret) in SECRETS {
        server.put(&format!("/ours/{credential}"), Page::new(credential));
        let refused = Page::new("no").trick(.., Trick::Status(403, vec![]));
        server.put(&format!("/ours/{credential}/refused"), refused);
        let id = submit(&service, &server.url(&format!("/ours/{credential}")), credential, credential, json!({}));
        service.complete(&id);
        assert_eq!(service.read(credential), credential.as_bytes());
        ids.push(id);
        let url = server.url(&format!("/ours/{credential}/refused"));
        let id = submit(&service, &url, &format!("{credential}-refused"), credential, json!({}));
        assert_eq!(service.failure(&id), "permission_denied");
        ids.push(id);
        let target = format!("/ours/{credential}");
        let sent: Vec<_> = server.seen().into_iter().filter(|seen| seen.target.starts_with(&target)).collect();
        assert!(sent.len() >= 2 && sent.iter().all(|seen| seen.headers["authorization"] == secret), "{credential}");
    }

    // What is sealed outlives the process; one that waits names its credential, and holds nothing.
    service.kill();
    service.launch();
    let again = submit(&service, &server.url("/ours/sealed"), "again", "sealed", json!({}));
    service.complete(&again);
    ids.push(again);
    let elsewhere = json!({"source_options": {"credential": "sealed", "header.Authorization": "mine"}});
    let body = json!({"source_url": server.url("/theirs/x"), "destination_url": service.file("x")});
    for more in [json!({"source_options": {"credential": "sealed"}}), elsewhere] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = service.post("/v1/transfers", &body);
        assert_eq!((refused.status, refused.code()), (400, "credential_unusable"), "{}", refused.body);
    }
    let variables = fs::read(format!("/proc/{}/environ", service.executor())).unwrap();
    assert!(!holds(&variables, SECRETS[2].1), "executors do not inherit them");

    let all = everything(&service, &ids);
    assert!(all.iter().any(|(place, bytes)| place.contains("/store/journal/") && holds(bytes, "header.Authorization")));
    for (place, bytes) in all {
        for (_, secret) in SECRETS {
            assert!(!holds(&bytes, secret.trim_start_matches("Bearer ")), "{place} holds the secret {secret}");
        }
    }
}

#[test]
fn a_secret_that_was_changed_counts_at_the_next_attempt_and_one_that_is_gone_is_missed() {
    let (server, folder) = (HttpServer::start(), tempfile::tempdir().unwrap());
    let service = start(&server, folder.path());
    let below = server.url("/ours/");
    set(&service, &below, "Bearer old");
    server.put("/ours/x", Page::new("x").trick(..1, Trick::Status(503, vec![])));
    let id = submit(&service, &server.url("/ours/x"), "x", "sealed", json!({"retries": 0}));
    service.failure(&id);
    set(&service, &below, "Bearer new");
    assert_eq!(service.action(&id, "resume").status, 204);
    service.complete(&id);
    let sent: Vec<_> = server.seen().into_iter().map(|seen| seen.headers["authorization"].clone()).collect();
    assert!(sent[0] == "Bearer old" && sent.len() > 1 && sent[1..].iter().all(|sent| sent == "Bearer new"), "{sent:?}");

    let file = folder.path().join("file.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let body = json!({"source_url": server.url("/ours/x"), "destination_url": service.file("y"),
        "source_options": {"credential": "file"}});
    let refused = service.post("/v1/transfers", &body);
    assert_eq!(refused.code(), "credential_unusable");
    assert!(refused.body["detail"].as_str().unwrap().contains("chmod 600"), "{}", refused.body);
    let deleted = service.command(&["credential", "delete", "sealed"]);
    assert!(deleted.status.success());
    assert_eq!(service.command(&["credential", "show", "sealed"]).status.code(), Some(3));
}

#[test]
fn a_service_is_refused_credentials_that_others_may_read_or_that_are_not_there() {
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().display().to_string();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o750)).unwrap();
    for (arguments, says) in [
        (["--credentials", path.as_str()], "chmod 700"),
        (["--credentials", "/does/not/exist"], "/does/not/exist"),
        (["--credential-env", "web=http http://127.0.0.1/"], "HTTP_AUTHORIZATION"),
        (["--credential-env", "web=ftp"], "no kind"),
    ] {
        let mut command = staccato_tests::binary::command();
        command.args(["serve", "--executors", "none", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data.path());
        let output = command.args(arguments).env_remove("HTTP_AUTHORIZATION").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(says), "{says}: {said}");
    }
}
