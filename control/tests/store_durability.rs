//! Acknowledged means on disk, seen from outside: by the order of system calls, and by killing the process.

use std::{
    collections::{BTreeSet, HashMap},
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use staccato_control::store::{SledOptions, SledStore, Store};

#[test]
fn journal_is_written_then_synced_then_the_commit_is_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let calls = trace(dir.path(), &["-e", "trace=write,pwrite64,fdatasync,fsync,rename,openat"], &["60", "1", "8192"]);
    let acks: Vec<usize> = (0..60)
        .map(|number| {
            let text = format!("\"ack {number}\\n\"");
            let ack = calls.iter().find(|call| call.name == "write" && call.text.contains(&text));
            ack.unwrap_or_else(|| panic!("no write of {text}")).began
        })
        .collect();
    let mut after = 0;
    for (number, ack) in acks.into_iter().enumerate() {
        let between = |call: &&Call| call.began > after && call.ended < ack && call.succeeded();
        let write =
            calls.iter().filter(between).find(|call| call.name == "pwrite64" && call.file().ends_with(".journal"));
        let write = write.unwrap_or_else(|| panic!("no journal write before ack {number}"));
        let synced = calls
            .iter()
            .filter(between)
            .any(|call| call.name == "fdatasync" && call.file() == write.file() && call.began > write.ended);
        assert!(synced, "no fdatasync between journal write and ack {number}");
        after = ack;
    }
    // A new segment: synced under its unfinished name, renamed, the folder synced, and only then written to.
    let renames: Vec<&Call> =
        calls.iter().filter(|call| call.name == "rename" && call.text.contains(".journal.new")).collect();
    assert!(renames.len() > 2, "segments are small enough for several");
    for rename in renames {
        let path = rename.text.split('"').nth(3).expect("a new name");
        let unfinished = format!("{path}.new");
        let folder = Path::new(path).parent().expect("a folder").display().to_string();
        let synced = |file: &str, after: usize, before: usize| {
            calls
                .iter()
                .filter(|call| call.name == "fsync" && call.succeeded() && call.file() == file)
                .any(|call| call.began >= after && call.ended < before)
        };
        assert!(synced(&unfinished, 0, rename.began), "{path} was not synced before its rename");
        let named = calls
            .iter()
            .filter(|call| call.began > rename.ended)
            .find(|call| call.name == "pwrite64" && (call.file() == path || call.file() == unfinished));
        if let Some(first) = named {
            assert!(synced(&folder, rename.ended, first.began), "{path} was written to before its name was durable");
        }
    }
}

#[test]
fn a_failed_sync_is_never_tried_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let inject = ["-e", "trace=write,pwrite64,fdatasync", "-e", "inject=fdatasync:error=EIO:when=8"];
    let calls = trace(dir.path(), &inject, &["20"]);
    let failed = calls.iter().find(|call| call.text.contains("EIO")).expect("a sync was made to fail");
    assert_eq!(said(&calls, "ack"), (0..7).collect());
    assert_eq!(said(&calls, "refused"), (7..20).collect(), "and every later one");
    let later = calls.iter().filter(|call| call.began > failed.ended && call.file().ends_with(".journal")).count();
    assert_eq!(later, 0, "the journal was touched again");
    let found = numbers(dir.path());
    assert!((0..7).all(|number| found.contains(&number)), "{found:?}");
}

/// The disk of the data directory is full: where the journal wants a new segment, and where sled writes.
#[test]
fn a_full_disk_refuses_commits_and_loses_none() {
    let dir = tempfile::tempdir().expect("a folder");
    // Counted for each thread: opening has its room, and so have the first segments that commits ask for.
    let full = ["-e", "trace=write,fallocate", "-e", "inject=fallocate:error=ENOSPC:when=3+"];
    let data = dir.path().join("journal-full");
    fs::create_dir(&data).expect("a folder");
    let calls = trace(&data, &full, &["400", "1", "8192"]);
    let (acknowledged, refused) = (said(&calls, "ack"), said(&calls, "refused"));
    assert!(!acknowledged.is_empty() && !refused.is_empty(), "{acknowledged:?} {refused:?}");
    assert_eq!(acknowledged.len() + refused.len(), 400, "each is answered");
    assert_eq!(numbers(&data), acknowledged, "what was refused did not happen");

    // sled is only there to read from: what it cannot write, the journal has.
    let data = dir.path().join("sled-full");
    let db = data.join("sled/db").display().to_string();
    let inject = ["-P", &db, "-e", "inject=pwrite64:error=ENOSPC:when=8+"];
    let output = run_traced(&dir.path().join("trace"), &data, &inject, &["3000", "4", "65536"]).stdout;
    assert!(output.windows(7).any(|word| word == b"refused"), "sled had room for everything");
    let acknowledged: BTreeSet<u64> =
        String::from_utf8_lossy(&output).lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok()).collect();
    let lost: Vec<_> = acknowledged.difference(&numbers(&data)).copied().collect();
    assert!(lost.is_empty() && !acknowledged.is_empty(), "lost {lost:?} of {}", acknowledged.len());
}

/// 20 kills, or as many as `TEST_KILLS` says; `TEST_SEED` runs one again.
#[test]
fn every_acknowledged_commit_is_there_after_sigkill() {
    let kills: usize = env::var("TEST_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let seed: u64 = env::var("TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let program = program();
    let dir = tempfile::tempdir().expect("a folder");
    let (data, output) = (dir.path().join("data"), dir.path().join("output"));
    let mut acknowledged = BTreeSet::new();
    for kill in 0..kills {
        // Small segments and exports: many kills meet one that changes or is made. Some meet the opening.
        let clients = if random.bool() { "1" } else { "16" };
        let mut child = Command::new(&program)
            .arg(&data)
            .args(["1000000", clients, "65536", "262144"])
            .stdout(File::create(&output).expect("a file for the output"))
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        thread::sleep(Duration::from_millis(random.u64(0..400)));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        for line in fs::read_to_string(&output).expect("the output").lines() {
            let (word, number) = line.split_once(' ').expect("two words");
            assert_eq!(word, "ack", "seed {seed}, kill {kill}: {line}");
            acknowledged.insert(number.parse::<u64>().expect("a number"));
        }
        if kill % 3 == 2 || kill + 1 == kills {
            if random.u8(..4) == 0 {
                fs::remove_dir_all(data.join("sled")).expect("sled's folder");
            }
            let found = numbers(&data);
            let lost: Vec<_> = acknowledged.difference(&found).collect();
            assert!(lost.is_empty(), "seed {seed}, kill {kill}: lost {lost:?} of {}", acknowledged.len());
        }
    }
    assert!(acknowledged.len() > 100, "only {} commits between all kills", acknowledged.len());
}

/// The numbers of which the program said this word.
fn said(calls: &[Call], word: &str) -> BTreeSet<u64> {
    let writes = calls.iter().filter(|call| call.name == "write");
    let number = |call: &Call| call.text.split_once(&format!("\"{word} "))?.1.split_once("\\n")?.0.parse::<u64>().ok();
    writes.filter_map(number).collect()
}

/// The numbers of the records in a store; their values must be what the program writes.
fn numbers(dir: &Path) -> BTreeSet<u64> {
    let store = SledStore::open_with(dir, SledOptions::default()).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let records = runtime.block_on(store.range(b"k", b"l", usize::MAX, false)).expect("it reads");
    records
        .into_iter()
        .map(|(key, record)| {
            let number = String::from_utf8(key).expect("text")[1..].parse::<u64>().expect("a number");
            assert_eq!(record.value, number.to_string().repeat(100).into_bytes());
            number
        })
        .collect()
}

/// Builds the program next to this test and says where it is.
fn program() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--offline", "--quiet", "--package", "staccato-control", "--example", "store_commits"]);
    // What cargo told this test about its package would make build scripts believe that everything has changed.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|kind| name.starts_with(kind)) {
            build.env_remove(&*name);
        }
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the example builds");
    let test = env::current_exe().expect("this test is a file");
    let program = test.parent().and_then(Path::parent).expect("it lies in PROFILE/deps").join("examples/store_commits");
    assert!(program.exists(), "{} is missing", program.display());
    program
}

/// One system call. Numbers are lines of the trace.
struct Call {
    name: String,
    text: String,
    began: usize,
    ended: usize,
}

impl Call {
    fn succeeded(&self) -> bool {
        self.text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
    }

    /// The file behind the descriptor that is the first argument; empty for calls that have none.
    fn file(&self) -> &str {
        let inside = self.text.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        inside.map_or("", |(file, _)| file)
    }
}

/// Runs the program under strace.
fn run_traced(log: &Path, dir: &Path, options: &[&str], arguments: &[&str]) -> Output {
    let program = program();
    let traced = Command::new("strace")
        .args(["-f", "-y", "-s", "40", "-o"])
        .arg(log)
        .args(options)
        .arg(program)
        .arg(dir)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .expect("strace cannot be started: install the package strace");
    let errors = String::from_utf8_lossy(&traced.stderr);
    assert!(traced.status.success(), "strace cannot trace here, or the program failed: {errors}");
    traced
}

/// Runs the program under strace and returns its system calls, in the order they ended.
fn trace(dir: &Path, options: &[&str], arguments: &[&str]) -> Vec<Call> {
    let log = dir.join("trace");
    run_traced(&log, dir, options, arguments);
    let mut unfinished: HashMap<String, (String, usize)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in fs::read_to_string(&log).expect("a trace").lines().enumerate() {
        let (thread, text) = line.split_once(' ').expect("a thread and a call");
        let text = text.trim_start();
        if let Some(begin) = text.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread.to_owned(), (begin.to_owned(), at));
            continue;
        }
        let (text, began) = match text.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>")) {
            Some((_, rest)) => {
                let (begin, began) = unfinished.remove(thread).expect("it began");
                (begin + rest, began)
            }
            None => (text.to_owned(), at),
        };
        if let Some((name, _)) = text.split_once('(') {
            calls.push(Call { name: name.to_owned(), text: text.clone(), began, ended: at });
        }
    }
    calls
}
