//! The program that the tests trace and kill: their own binary once more, which commits numbered records to a store
//! when its environment says so. It is always built with the tests, and never for them.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use staccato_control::store::{Commit, Derive, SledOptions, SledStore, Store};

/// Where a run of the program happens: the store in [`data`], what it says in [`said`].
const PLACE: &str = "STORE_COMMITS_PLACE";
/// `COUNT [CLIENTS] [SEGMENT_BYTES] [EXPORT_BYTES]`.
const ARGUMENTS: &str = "STORE_COMMITS";

/// The folder of the store in a place. A place that is new has nothing above it either.
pub fn data(place: &Path) -> PathBuf {
    place.join("new/data")
}

/// Where the program says `ack K` after the commit of record K was acknowledged, and `refused K` when it was not: a
/// line each, in one write.
pub fn said(place: &Path) -> PathBuf {
    place.join("said")
}

/// The value of a record.
pub fn value(number: u64) -> Vec<u8> {
    number.to_string().repeat(100).into_bytes()
}

/// The program with its arguments; goes on behind the last record that is there.
pub fn program(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::current_exe().expect("this test is a file"));
    command
        .args(["commits::numbered_records_are_committed", "--exact", "--nocapture"])
        .env(PLACE, place)
        .env(ARGUMENTS, arguments.join(" "))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// The program when it is told where and what, else a test of it.
#[test]
fn numbered_records_are_committed() {
    if let (Some(place), Ok(arguments)) = (env::var_os(PLACE), env::var(ARGUMENTS)) {
        return commit_records(Path::new(&place), &arguments);
    }
    let place = tempfile::tempdir().expect("a folder");
    commit_records(place.path(), "5");
    let said = fs::read_to_string(said(place.path())).expect("it is written");
    assert_eq!(said.lines().count(), 5, "{said}");
}

fn commit_records(place: &Path, arguments: &str) {
    let mut arguments = arguments.split(' ').map(|text| text.parse().expect("a number"));
    let mut number = |default: u64| arguments.next().unwrap_or(default);
    let (count, clients) = (number(100), number(1));
    let defaults = SledOptions::default();
    let options = SledOptions {
        segment_bytes: number(defaults.segment_bytes),
        export_after_bytes: number(defaults.export_after_bytes),
        ..defaults
    };
    let said = Arc::new(File::options().create(true).append(true).open(said(place)).expect("a file"));
    let store = Arc::new(SledStore::open_with(&data(place), Derive::NOTHING, options).expect("it opens"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let last = store.range(b"k", b"l", 1, true).await.expect("it reads").pop();
        let first = last.map_or(0, |(key, _)| number_of(&key) + 1);
        let next = Arc::new(AtomicU64::new(first));
        let tasks: Vec<_> = (0..clients)
            .map(|_| tokio::spawn(commit(store.clone(), said.clone(), next.clone(), first + count)))
            .collect();
        for task in tasks {
            task.await.expect("it commits");
        }
    });
}

/// The number of the record with this key.
pub fn number_of(key: &[u8]) -> u64 {
    std::str::from_utf8(&key[1..]).expect("text").parse().expect("a number")
}

async fn commit(store: Arc<SledStore>, said: Arc<File>, next: Arc<AtomicU64>, end: u64) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return;
        }
        let key = format!("k{number:012}");
        let word = match store.commit(Commit::new().require_absent(key.clone()).put(key, value(number))).await {
            Ok(_) => "ack",
            Err(_) => "refused",
        };
        (&*said).write_all(format!("{word} {number}\n").as_bytes()).expect("there is room");
    }
}
