//! Acknowledged means on disk, seen from outside: by the order of system calls, and by killing the process.

mod commits;
mod trace;

use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use commits::{data, program, said};
use rustix::process::{Pid, Signal, kill_process};
use staccato_control::store::{Derive, SledStore, Store};
use tempfile::TempDir;
use trace::{Call, calls, run_traced, traced};

#[test]
fn journal_is_written_then_synced_then_the_commit_is_acknowledged() {
    let place = place();
    let traced = ["-e", "trace=write,pwrite64,fdatasync,fsync,rename,openat"];
    let calls = trace(place.path(), &traced, &["60", "1", "8192"]);
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
        let path = rename.path(1).to_str().expect("text");
        let unfinished = format!("{path}.new");
        let folder = rename.path(1).parent().expect("a folder").display().to_string();
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
    let place = place();
    let inject = ["-e", "trace=write,pwrite64,fdatasync", "-e", "inject=fdatasync:error=EIO:when=8"];
    let calls = trace(place.path(), &inject, &["20"]);
    let failed = calls.iter().find(|call| call.text.contains("EIO")).expect("a sync was made to fail");
    assert_eq!(numbers_said(place.path(), "ack"), (0..7).collect());
    assert_eq!(numbers_said(place.path(), "refused"), (7..20).collect(), "and every later one");
    let later = calls.iter().filter(|call| call.began > failed.ended && call.file().ends_with(".journal")).count();
    assert_eq!(later, 0, "the journal was touched again");
    let found = numbers(place.path());
    assert!((0..7).all(|number| found.contains(&number)), "{found:?}");
}

/// The disk of the data directory is full: where the journal wants a new segment, and where sled writes.
#[test]
fn a_full_disk_refuses_commits_and_loses_none() {
    // Counted for each thread: opening has its room, and so have the first segments that commits ask for.
    let journal_full = place();
    let full = ["-e", "trace=write,fallocate", "-e", "inject=fallocate:error=ENOSPC:when=3+"];
    trace(journal_full.path(), &full, &["400", "1", "8192"]);
    let word = |word| numbers_said(journal_full.path(), word);
    let (acknowledged, refused) = (word("ack"), word("refused"));
    assert!(!acknowledged.is_empty() && !refused.is_empty(), "{acknowledged:?} {refused:?}");
    assert_eq!(acknowledged.len() + refused.len(), 400, "each is answered");
    assert_eq!(numbers(journal_full.path()), acknowledged, "what was refused did not happen");

    // sled is only there to read from: what it cannot write, the journal has.
    let sled_full = place();
    let db = data(sled_full.path()).join("sled/db").display().to_string();
    let inject = ["-P", &db, "-e", "inject=pwrite64:error=ENOSPC:when=8+"];
    trace(sled_full.path(), &inject, &["3000", "4", "65536"]);
    assert!(!numbers_said(sled_full.path(), "refused").is_empty(), "sled had room for everything");
    let acknowledged = numbers_said(sled_full.path(), "ack");
    let lost: Vec<_> = acknowledged.difference(&numbers(sled_full.path())).copied().collect();
    assert!(lost.is_empty() && !acknowledged.is_empty(), "lost {lost:?} of {}", acknowledged.len());
}

/// An export that finds no room gives back what it took, and is not begun again with every commit: each try reads all
/// segments.
#[test]
fn an_export_that_fails_leaves_nothing_and_is_tried_again_once_there_is_more_to_export() {
    let arguments = |export_bytes: &'static str| ["400", "1", "8192", export_bytes];
    // One client commits the same groups each time, so that the segments have the same names.
    let without_exports = place();
    let status = program(without_exports.path(), &arguments("1000000000")).status().expect("it starts");
    assert!(status.success());
    let segments = journal(without_exports.path(), "journal");
    assert!(segments.len() > 10, "{segments:?}");

    let full = place();
    let folder = data(full.path()).join("journal");
    let exports: Vec<String> = segments
        .iter()
        .map(|segment| folder.join(segment).with_extension("export.new").display().to_string())
        .collect();
    // The first one gets further than its header.
    let mut options = vec!["-e", "trace=openat,write", "-e", "inject=write:error=ENOSPC:when=2+"];
    exports.iter().for_each(|export| options.extend(["-P", export]));
    let calls = trace(full.path(), &options, &arguments("16384"));
    let failed = calls.iter().filter(|call| call.text.contains("ENOSPC")).count();
    assert!(failed > 1, "it is tried again");
    assert!(failed < segments.len(), "tried {failed} times, with {} segments", segments.len());
    assert_eq!(journal(full.path(), "new"), Vec::<String>::new(), "what was written goes away");
    assert_eq!(numbers_said(full.path(), "ack").len(), 400, "commits have their room");
    assert_eq!(numbers(full.path()).len(), 400);
}

#[test]
fn what_is_new_above_a_store_has_a_durable_name_before_anything_is_acknowledged() {
    let place = place();
    let calls = trace(place.path(), &["-e", "trace=mkdir,fsync,write"], &["3"]);
    let first_ack = calls.iter().find(|call| call.text.contains("\"ack ")).expect("one").began;
    let journal = data(place.path()).join("journal");
    names_are_durable(&calls, first_ack, &[&place.path().join("new"), &data(place.path()), &journal]);
}

/// The same for the service, whose folder lies above its store.
#[test]
fn what_is_new_above_a_data_folder_has_a_durable_name_before_the_service_is_ready() {
    let place = place();
    let (log, new) = (place.path().join("trace"), place.path().join("new"));
    let mut serve = Command::new(env!("CARGO_BIN_EXE_staccato"));
    serve
        .args(["serve", "--json", "--executors", "none", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(new.join("data"));
    let mut strace = traced(&serve, &log, &["-e", "trace=mkdir,fsync,write"]);
    let mut strace = strace.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("strace starts");
    let mut ready = String::new();
    BufReader::new(strace.stdout.as_mut().expect("a pipe")).read_line(&mut ready).expect("a line");
    let (_, pid) = ready.rsplit_once("\"pid\":").expect("it says who it is");
    let pid = pid.trim_end_matches(['}', '\n']).parse().expect("a number");
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::TERM).expect("it runs");
    assert!(strace.wait().expect("it ends").success());

    let calls = calls(&log);
    let ready = calls.iter().find(|call| call.text.contains("\"{\\\"url")).expect("it was ready").began;
    names_are_durable(
        &calls,
        ready,
        &[&new, &new.join("data"), &new.join("data/store"), &new.join("data/store/journal")],
    );
}

#[track_caller]
fn names_are_durable(calls: &[Call], before: usize, folders: &[&Path]) {
    for folder in folders {
        let made = calls.iter().find(|call| call.name == "mkdir" && call.succeeded() && call.path(0) == *folder);
        let made = made.unwrap_or_else(|| panic!("{} is not made", folder.display())).ended;
        let above = folder.parent().expect("it lies in the place").to_str().expect("text");
        let synced = calls.iter().any(|call| {
            call.name == "fsync"
                && call.succeeded()
                && call.file() == above
                && (made..before).contains(&call.began)
                && call.ended < before
        });
        assert!(synced, "{above} is not synced after {} was made in it", folder.display());
    }
}

/// 20 kills, or as many as `TEST_KILLS` says; `TEST_SEED` runs one again.
#[test]
fn every_acknowledged_commit_is_there_after_sigkill() {
    let kills: usize = env::var("TEST_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let seed: u64 = env::var("TEST_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let place = place();
    for kill in 0..kills {
        // Small segments and exports: many kills meet one that changes or is made.
        let clients = if random.bool() { "1" } else { "16" };
        let mut child = program(place.path(), &["1000000", clients, "65536", "262144"])
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        if kill % 2 == 0 {
            // Some meet the opening.
            thread::sleep(Duration::from_millis(random.u64(0..400)));
        } else {
            let enough = numbers_said(place.path(), "ack").len() + random.usize(1..400);
            let deadline = Instant::now() + Duration::from_secs(60);
            while numbers_said(place.path(), "ack").len() < enough {
                assert!(Instant::now() < deadline, "seed {seed}, kill {kill}: it does not commit");
                thread::sleep(Duration::from_millis(5));
            }
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert_eq!(numbers_said(place.path(), "refused"), BTreeSet::new(), "seed {seed}, kill {kill}");
        if kill % 3 == 2 || kill + 1 == kills {
            if random.u8(..4) == 0 {
                fs::remove_dir_all(data(place.path()).join("sled")).expect("sled's folder");
            }
            let (acknowledged, found) = (numbers_said(place.path(), "ack"), numbers(place.path()));
            let lost: Vec<_> = acknowledged.difference(&found).collect();
            assert!(lost.is_empty(), "seed {seed}, kill {kill}: lost {lost:?} of {}", acknowledged.len());
        }
    }
    let acknowledged = numbers_said(place.path(), "ack").len();
    assert!(acknowledged > 100, "only {acknowledged} commits between all kills");
}

fn place() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The files of a kind in the folder of the journal, in order.
fn journal(place: &Path, kind: &str) -> Vec<String> {
    let entries = fs::read_dir(data(place).join("journal")).expect("a journal");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
    names.retain(|name| name.ends_with(&format!(".{kind}")));
    names.sort();
    names
}

/// Runs the program under strace and returns its system calls, in the order they ended.
fn trace(place: &Path, options: &[&str], arguments: &[&str]) -> Vec<Call> {
    let log = place.join("trace");
    run_traced(&program(place, arguments), &log, options);
    calls(&log)
}

/// The numbers of which the program said this word. What a kill has cut off was not said.
fn numbers_said(place: &Path, word: &str) -> BTreeSet<u64> {
    let said = fs::read_to_string(said(place)).unwrap_or_default();
    let lines = said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
    lines.filter(|(said, _)| *said == word).filter_map(|(_, number)| number.parse().ok()).collect()
}

/// The numbers of the records in a store; their values must be what the program writes.
fn numbers(place: &Path) -> BTreeSet<u64> {
    let store = SledStore::open(&data(place), Derive::NOTHING).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let records = runtime.block_on(store.range(b"k", b"l", usize::MAX, false)).expect("it reads");
    records
        .into_iter()
        .map(|(key, record)| {
            let number = commits::number_of(&key);
            assert_eq!(record.value, commits::value(number));
            number
        })
        .collect()
}
