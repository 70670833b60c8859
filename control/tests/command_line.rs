//! The commands of the binary, as people and scripts run them: what they print, and how they end. Nothing moves here
//! but by `copy`; the service under test has no executor.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

/// The binary with no settings but its arguments.
fn staccato(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_staccato"));
    command.args(arguments).current_dir(folder).env_clear().env("HOME", folder);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    staccato(folder, arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn ends_with(output: &Output, exit: i32) {
    assert_eq!(output.status.code(), Some(exit), "{}{}", out(output), err(output));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A service without an executor: transfers stay where the scheduler leaves them.
struct Served {
    folder: tempfile::TempDir,
    process: Child,
    server: String,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap().to_owned();
        let arguments = ["serve", "--json", "--executors", "none", "--listen", "127.0.0.1:0", "--root", &root];
        let mut command = staccato(folder.path(), &arguments);
        command.args(["--data-dir", "data", "--socket", "socket", "--log", "warn"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let server = ready["url"].as_str().unwrap().to_owned();
        assert_eq!(ready["pid"], process.id());
        Self { folder, process, server }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        staccato(self.folder.path(), arguments).env("STACCATO_SERVER", &self.server).output().unwrap()
    }

    /// A command that succeeds, with `--json`.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat());
        ends_with(&output, 0);
        serde_json::from_str(&out(&output)).unwrap_or_else(|error| panic!("{error}: {}", out(&output)))
    }

    fn submit(&self, destination: &str) -> String {
        self.json(&["submit", "zero:///5", destination])["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(process: &Child, what: Signal) {
    kill_process(Pid::from_child(process), what).unwrap();
}

#[test]
fn help_names_every_command_and_every_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--help"]);
    ends_with(&output, 0);
    let help = out(&output);
    for command in [
        "serve", "submit", "list", "show", "watch", "wait", "cancel", "pause", "resume", "delete", "copy", "config",
        "demo",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        ends_with(&run(folder.path(), &[command, "--help"]), 0);
    }
    // The lines are as long as the terminal lets them.
    let codes = help.split("Exit codes:").nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let documented: Vec<&str> = codes.split("; ").map(|code| code.split(' ').next().unwrap()).collect();
    assert_eq!(documented, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_transfer_is_submitted_listed_shown_acted_on_and_deleted() {
    let served = Served::start();
    let document = served.json(&["submit", "zero:///5", "d", "--option", "priority=9"]);
    assert_eq!(document["priority"], 9);
    let id = document["id"].as_str().unwrap();
    assert_eq!(served.json(&["list"])[0]["id"], id);
    assert_eq!(served.json(&["show", id])["id"], id);
    assert_eq!(served.json(&["pause", id])["state"], "STATE_PAUSED");
    assert_eq!(served.json(&["list", "--state", "paused"]).as_array().unwrap().len(), 1);
    assert_eq!(served.json(&["list", "--state", "STATE_COMPLETE"]), json!([]));
    assert_ne!(served.json(&["resume", id])["state"], "STATE_PAUSED");
    assert_eq!(served.json(&["cancel", id])["state"], "STATE_CANCELED");
    let watched = served.command(&["watch", id, "--json"]);
    ends_with(&watched, 1);
    assert_eq!(serde_json::from_str::<Value>(&out(&watched)).unwrap()["state"], "STATE_CANCELED");
    assert_eq!(served.json(&["delete", id]), json!({"id": id, "gone": true}));

    let id = served.command(&["submit", "zero:///5", "d"]);
    let id = out(&id).trim().to_owned();
    let list = out(&served.command(&["list"]));
    assert!(list.starts_with("ID ") && list.contains(&id) && list.lines().count() == 2, "{list}");
    assert!(out(&served.command(&["show", &id])).contains("zero:///5"));
    assert!(out(&served.command(&["pause", &id])).contains("STATE_PAUSED"));
    assert!(out(&served.command(&["delete", &id])).contains("deleted"));
}

#[test]
fn results_go_to_standard_output_and_progress_does_not() {
    let served = Served::start();
    let id = served.submit("d");
    let mut watch = staccato(served.folder.path(), &["watch", &id]);
    watch.env("STACCATO_SERVER", &served.server).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watch = watch.spawn().unwrap();
    let mut progress = BufReader::new(watch.stderr.take().unwrap());
    let mut line = String::new();
    progress.read_line(&mut line).unwrap();
    assert!(line.contains(&id), "{line}");
    served.json(&["cancel", &id]);
    let output = watch.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let result = out(&output);
    assert!(result.lines().count() == 1 && result.contains("STATE_CANCELED"), "{result}");
}

#[test]
fn a_service_refuses_roots_that_are_no_folders() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--root", "/nonexist"]);
    ends_with(&output, 2);
    assert!(err(&output).contains("the root /nonexist"), "{}", err(&output));
    assert_eq!(names(folder.path()), [""; 0], "nothing is made before it is refused");
}

#[test]
fn every_command_refuses_a_misspelt_variable() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["list"][..], &["submit", "zero:///1", "d"], &["copy", "zero:///1", "d"], &["config"]] {
        let output = staccato(folder.path(), arguments).env("STACCATO_SERVRE", "http://127.0.0.1:9").output().unwrap();
        ends_with(&output, 2);
        assert!(err(&output).contains("did you mean STACCATO_SERVER?"), "{}", err(&output));
    }
}

#[test]
fn lists_are_limited_and_go_on_behind_a_marker() {
    let served = Served::start();
    let ids: Vec<_> = ["a", "b", "c"].map(|name| served.submit(name)).into();
    let listed = |arguments: &[&str]| -> Vec<String> {
        let list = served.json(&[&["list"], arguments].concat());
        list.as_array().unwrap().iter().map(|document| document["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed(&[]), ids);
    assert_eq!(listed(&["--limit", "2"]), ids[..2]);
    assert_eq!(listed(&["--marker", &ids[0]]), ids[1..]);
}

#[test]
fn relative_paths_are_meant_from_the_folder_of_the_command() {
    let served = Served::start();
    let folder = served.folder.path().canonicalize().unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    let document = served.json(&["submit", "a file", "sub/../100%"]);
    let url = |name: &str| url::Url::from_file_path(folder.join(name)).unwrap().to_string();
    assert_eq!(document["source_url"], url("a file"));
    assert_eq!(document["destination_url"], url("100%"));
}

#[test]
fn exit_codes_tell_scripts_what_went_wrong() {
    let served = Served::start();
    let id = served.submit("d");
    ends_with(&served.command(&["wait", &id, "--timeout", "100ms"]), 1);
    ends_with(&served.command(&["submit", "zero:///5"]), 2);
    ends_with(&served.command(&["submit", "zero:///5", "e", "--option", "colour=red"]), 2);
    ends_with(&served.command(&["show", "nothing"]), 3);
    ends_with(&served.command(&["resume", &id]), 4);
    ends_with(&served.command(&["submit", "zero:///5", "d"]), 4);
    ends_with(&served.command(&["submit", "gopher://h/x", "e"]), 6);
    served.json(&["cancel", &id]);
    ends_with(&served.command(&["wait", &id]), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    ends_with(&served.command(&["list", "--server", &format!("http://{nobody}")]), 5);
    ends_with(&served.command(&["list", "--server", "ftp://h"]), 2);
}

#[test]
fn what_is_no_staccato_is_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(&stream).lines();
            while !head.next().unwrap().unwrap().is_empty() {}
            stream.write_all(answer.as_bytes()).unwrap();
        });
        ends_with(&run(folder.path(), &["list", "--server", &server]), 7);
        answering.join().unwrap();
    }
}

#[test]
fn errors_are_json_where_that_was_asked_for() {
    let served = Served::start();
    let output = served.command(&["show", "nothing", "--json"]);
    ends_with(&output, 3);
    let error: Value = serde_json::from_str(&err(&output)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["exit"]), (&"transfer_not_found".into(), &3.into()));
    assert_eq!(out(&output), "", "results only");
    let output = served.command(&["demo", "--json"]);
    ends_with(&output, 2);
    assert!(err(&output).contains("has no result in JSON"), "{}", err(&output));
    let plain = err(&served.command(&["show", "nothing"]));
    assert!(plain.starts_with("staccato: ") && plain.ends_with("[transfer_not_found]\n"), "{plain}");
}

#[test]
fn an_idempotency_key_makes_one_transfer() {
    let served = Served::start();
    let submit = || served.json(&["submit", "zero:///5", "d", "--idempotency-key", "k"])["id"].clone();
    assert_eq!(submit(), submit());
    ends_with(&served.command(&["submit", "zero:///6", "d", "--idempotency-key", "k"]), 6);
}

#[test]
fn the_unix_socket_is_a_server_too_and_both_end_with_the_service() {
    let mut served = Served::start();
    let socket = served.folder.path().join("socket");
    let server = format!("unix:{}", socket.display());
    assert_eq!(served.json(&["list", "--server", &server]), json!([]));
    signal(&served.process, Signal::TERM);
    assert!(served.process.wait().unwrap().success());
    assert!(!socket.exists());
    ends_with(&served.command(&["list", "--server", &server]), 5);
    ends_with(&served.command(&["list"]), 5);
}

#[test]
fn listening_beyond_loopback_is_refused_with_what_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    for address in ["0.0.0.0:5309", "[::]:5309", "192.0.2.1:5309"] {
        let output = run(folder.path(), &["serve", "--listen", address]);
        ends_with(&output, 2);
        let sentence = err(&output);
        assert!(sentence.contains(&format!("write https://{address}, with tls_cert and tls_key")), "{sentence}");
    }
    assert_eq!(names(folder.path()), [""; 0], "nothing was made");
}

#[test]
fn config_prints_each_value_with_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.toml"), "slots = 1\nlanes = 1\nmemory = \"64M\"\n").unwrap();
    let mut command = staccato(folder.path(), &["config", "--json", "--config", "c.toml", "--slots", "3"]);
    let output = command.env("STACCATO_SLOTS", "2").env("STACCATO_LANES", "2").output().unwrap();
    ends_with(&output, 0);
    let shown: Value = serde_json::from_str(&out(&output)).unwrap();
    for (key, value, origin) in [
        ("slots", "3", "flag --slots"),
        ("lanes", "2", "environment STACCATO_LANES"),
        ("memory", "64 MiB", "file c.toml"),
        ("lease", "15s", "default"),
    ] {
        assert_eq!(shown[key], json!({"value": value, "origin": origin}), "{key}");
    }
    let plain = out(&run(folder.path(), &["config", "--slots", "3"]));
    let slots = plain.lines().find(|line| line.starts_with("slots")).unwrap();
    assert_eq!(slots.split_whitespace().collect::<Vec<_>>(), ["slots", "3", "flag", "--slots"]);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.toml"), "slotz = 1\n").unwrap();
    let variable = staccato(folder.path(), &["config"]).env("STACCATO_SLOTZ", "1").output().unwrap();
    for (output, unknown, known) in [
        (run(folder.path(), &["config", "--config", "c.toml"]), "slotz", "slots"),
        (variable, "STACCATO_SLOTZ", "STACCATO_SLOTS"),
        (run(folder.path(), &["config", "--slotz", "1"]), "--slotz", "--slots"),
    ] {
        ends_with(&output, 2);
        let sentence = err(&output);
        assert!(sentence.contains(unknown) && sentence.contains(known), "{sentence}");
    }
}

/// Bytes that do not compress, repeat or hold blocks of zeros.
fn noise(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    fastrand::Rng::with_seed(7).fill(&mut content);
    content
}

#[test]
fn copy_prints_its_result_and_nothing_else_where_no_terminal_is() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(3 * MIB + 1);
    fs::write(folder.path().join("s"), &content).unwrap();
    for lane in ["tokio-uring", "glommio"] {
        // What it warns of depends on the machine: a small RLIMIT_MEMLOCK, a file system without O_DIRECT.
        let quiet = ["--lane", lane, "--memory", "64M", "--log", "error"];
        let output = run(folder.path(), &[&["copy", "s", lane, "--json"], &quiet[..]].concat());
        ends_with(&output, 0);
        assert_eq!(err(&output), "", "no bar without a terminal");
        let result: Value = serde_json::from_str(&out(&output)).unwrap();
        assert_eq!(result["bytes_total"], content.len());
        assert!(fs::read(folder.path().join(lane)).unwrap() == content);
    }
    let output = run(folder.path(), &["copy", "s", "plain"]);
    assert!(out(&output).starts_with(&format!("{} bytes in ", content.len())), "{}", out(&output));
    assert_eq!(names(folder.path()), ["glommio", "plain", "s", "tokio-uring"]);
}

#[test]
fn a_copy_that_fails_says_why_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), noise(2 * MIB)).unwrap();
    fs::write(folder.path().join("there"), "precious").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let before = names(folder.path());
    for (arguments, exit, code) in [
        (&["missing", "d"][..], 1, "source_missing"),
        (&["s", "no/folder/d"], 1, "destination_folder_missing"),
        (&["s", "there"], 1, "destination_exists"),
        (&["s", "folder"], 1, "destination_not_regular"),
        (&["folder", "d"], 1, "source_not_regular"),
        (&["s", "d", "--checksum", "crc32:00000000"], 1, "checksum_mismatch"),
        (&["gopher://h/x", "d"], 2, "unsupported_scheme"),
        (&["s", "s", "--overwrite"], 2, "same object"),
        (&["s", "d", "--rate-limit", "0"], 2, "--rate-limit"),
        (&["s", "d", "--checksum", "sha1:00"], 2, "--checksum"),
    ] {
        let output = run(folder.path(), &[&["copy"], arguments].concat());
        ends_with(&output, exit);
        assert!(err(&output).contains(code), "{arguments:?}: {}", err(&output));
        assert_eq!(names(folder.path()), before, "{arguments:?}");
    }
    assert_eq!(fs::read(folder.path().join("there")).unwrap(), b"precious");
    ends_with(&run(folder.path(), &["copy", "s", "there", "--overwrite"]), 0);
}

#[test]
fn copy_works_in_a_folder_with_a_long_name() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    fs::create_dir(&deep).unwrap();
    ends_with(&run(&deep, &["copy", "zero:///5", "d"]), 0);
    assert_eq!(fs::read(deep.join("d")).unwrap(), [0; 5]);
}

/// Starts a slow copy of `s` to `d` and waits until its notes call more bytes durable than before.
fn copy_until_checkpoint(folder: &Path) -> Child {
    let known = durable(folder);
    // So slow that it is under way for long after its first checkpoint, however late that is seen.
    let mut command = staccato(folder, &["copy", "s", "d", "--rate-limit", "2M", "--chunk-size", "1M"]);
    let mut copy = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while durable(folder) <= known {
        assert!(copy.try_wait().unwrap().is_none(), "the copy ended before a checkpoint came");
        assert!(Instant::now() < deadline, "no checkpoint came");
        std::thread::sleep(Duration::from_millis(10));
    }
    copy
}

/// Bytes that the notes beside `d` call durable.
fn durable(folder: &Path) -> u64 {
    let Ok(text) = fs::read(folder.join(".d.staccato-copy.json")) else { return 0 };
    let notes: Value = serde_json::from_slice(&text).expect("notes are replaced as a whole");
    let length = |range: &Value| range["end"].as_u64().unwrap() - range["start"].as_u64().unwrap();
    notes["checkpoint"].as_array().unwrap().iter().map(length).sum()
}

#[test]
fn a_copy_that_is_killed_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let content = noise(40 * MIB + 3);
    fs::write(folder.path().join("s"), &content).unwrap();
    let mut known = 0;
    for _ in 0..2 {
        let mut copy = copy_until_checkpoint(folder.path());
        let second = run(folder.path(), &["copy", "s", "d"]);
        ends_with(&second, 1);
        assert!(err(&second).contains("partial_busy"), "{}", err(&second));
        copy.kill().unwrap();
        copy.wait().unwrap();
        assert!(!folder.path().join("d").exists());
        known = durable(folder.path());
    }
    let output = run(folder.path(), &["copy", "s", "d", "--json"]);
    ends_with(&output, 0);
    let result: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(result["bytes_resumed"], known);
    assert!(result["bytes_fetched"].as_u64().unwrap() <= content.len() as u64 - known, "{result:#}");
    assert!(fs::read(folder.path().join("d")).unwrap() == content);
    assert_eq!(names(folder.path()), ["d", "s"]);
}

#[test]
fn an_interrupted_copy_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), noise(40 * MIB)).unwrap();
    for what in [Signal::INT, Signal::TERM] {
        let copy = copy_until_checkpoint(folder.path());
        signal(&copy, what);
        let output = copy.wait_with_output().unwrap();
        ends_with(&output, 1);
        assert!(err(&output).contains("run again") && err(&output).contains("[canceled]"), "{}", err(&output));
    }
}
