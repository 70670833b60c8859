//! What the store survives. A crash is simulated by copying the data directory while the store is open: the copy has
//! what the kernel would have after SIGKILL. Kills of a whole process are in `tests/store_durability/`.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tempfile::TempDir;

use super::{
    super::{
        Commit, CommitError, Derive, Record, Store, StoreError,
        conformance::tests::seed,
        digest::{Digest, Point},
        journal::{self, Journal, JournalOptions, files, files::Listing, group::GroupWriter, segment::Segment},
    },
    SledOptions, SledStore,
};

const SMALL: SledOptions = SledOptions {
    cache_bytes: 8 << 20,
    segment_bytes: 4 << 10,
    export_after_bytes: u64::MAX,
    // A test that starts a process holds every lock of this one for the moment between fork and exec.
    lock_wait: Duration::from_secs(60),
};
const EXPORTING: SledOptions = SledOptions { export_after_bytes: 16 << 10, ..SMALL };

/// Does something to a data directory.
type Harm<'a> = Box<dyn Fn(&Path) + 'a>;
type Model = BTreeMap<Vec<u8>, Record>;

#[tokio::test]
async fn a_directory_opens_once_at_a_time_and_again_after_drop() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let impatient = SledOptions { lock_wait: Duration::from_millis(100), ..SMALL };
    let refused = SledStore::open_with(dir.path(), Derive::NOTHING, impatient).map(drop).expect_err("it is open");
    assert!(refused.0.contains("in use"), "{refused}");
    let model = fill(&store, 0..50).await;
    drop(store);
    let store = open(dir.path(), SMALL);
    assert_eq!(contents(&store).await, model);
    assert!(!aside(dir.path()), "sled is believed after an orderly end");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_crash() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let mut model = fill(&store, 0..50).await;
    let (first, second) = (copy_of(dir.path()), folder());
    drop(store);
    let store = open(first.path(), SMALL);
    assert_eq!(contents(&store).await, model);
    model.extend(fill(&store, 50..80).await);
    copy_into(first.path(), second.path());
    assert_eq!(contents(&open(second.path(), SMALL)).await, model, "and a second one");
}

#[tokio::test]
async fn sled_deleted_damaged_or_cut_is_built_anew() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let model = fill(&store, 0..120).await;
    drop(store);
    let db = Path::new("sled/db");
    let whole = fs::read(dir.path().join(db)).unwrap();
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let mut harms: Vec<Harm<'_>> = vec![Box::new(|dir| fs::remove_dir_all(dir.join("sled")).unwrap())];
    for _ in 0..40 {
        let (at, bits) = (random.usize(..used), random.u8(1..));
        let whole = whole.clone();
        harms.push(Box::new(move |dir| {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            fs::write(dir.join(db), damaged).unwrap();
        }));
    }
    for part in 0..12 {
        let whole = whole[..used * part / 11].to_vec();
        harms.push(Box::new(move |dir| fs::write(dir.join(db), &whole).unwrap()));
    }
    // A stretch of zeros, of ones, and another part of the file.
    for fill in [0, 0xff, 0x5a] {
        let (mut damaged, at) = (whole.clone(), random.usize(..used / 2));
        damaged[at..at + used / 4].fill(fill);
        harms.push(Box::new(move |dir| fs::write(dir.join(db), &damaged).unwrap()));
    }
    let conf_and_snapshots: Vec<_> =
        fs::read_dir(dir.path().join("sled")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for name in conf_and_snapshots.into_iter().filter(|name| name != "db" && name != "blobs") {
        harms.push(Box::new(move |dir| {
            let path = dir.join("sled").join(&name);
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            fs::write(path, bytes).unwrap();
        }));
    }
    for (index, harm) in harms.iter().enumerate() {
        let copy = copy_of(dir.path());
        harm(copy.path());
        let store = open(copy.path(), SMALL);
        assert_eq!(contents(&store).await, model, "seed {seed}, harm {index}");
        let more = fill(&store, 500..503).await;
        drop(store);
        let store = open(copy.path(), SMALL);
        assert_eq!(contents(&store).await.len(), model.len() + more.len(), "seed {seed}, harm {index}, once more");
    }
}

#[tokio::test]
async fn a_record_that_sled_changed_is_noticed() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let model = fill(&store, 0..40).await;
    drop(store);
    // A whole and well-formed sled with one record less, or with one that was never committed.
    for harm in ["less", "more"] {
        let copy = copy_of(dir.path());
        let db = ::sled::open(copy.path().join("sled")).unwrap();
        let head = db.scan_prefix([1]).next().expect("there are records").unwrap();
        match harm {
            "less" => db.remove(&head.0).unwrap(),
            _ => db.insert(b"\x01foreign", &head.1).unwrap(),
        };
        drop(db);
        let store = open(copy.path(), SMALL);
        assert!(aside(copy.path()), "one record {harm}");
        assert_eq!(contents(&store).await, model);
    }
}

#[tokio::test]
async fn half_snapshots_and_starts_that_never_ended_do_not_stop_it() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let model = fill(&store, 0..40).await;
    drop(store);
    fs::write(dir.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    assert_eq!(contents(&open(dir.path(), SMALL)).await, model);
    assert!(!aside(dir.path()), "the rest of sled is whole");
    fs::write(dir.path().join("sled.openings"), b"..").unwrap();
    assert_eq!(contents(&open(dir.path(), SMALL)).await, model);
    assert!(aside(dir.path()), "sled ended two starts: no third try");
    assert!(!dir.path().join("sled.openings").exists());
}

#[tokio::test]
async fn a_torn_group_is_cut_wherever_it_was_torn() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let model = fill(&store, 0..10).await;
    let before = copy_of(dir.path());
    store.commit(Commit::new().put("last", "value").delete("k00003")).await.unwrap();
    let after = copy_of(dir.path());
    drop(store);
    let segment = last_segment(before.path());
    let (whole, torn) = (fs::read(&segment.path).unwrap(), fs::read(last_segment(after.path()).path).unwrap());
    assert_eq!(whole.len(), torn.len(), "preallocated");
    let group = segment.end..torn.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(group.len() > 50);
    for at in group.clone() {
        // Cut there; zeros from there on (the preallocated rest); that byte lost; all up to it lost.
        let mut flipped = torn.clone();
        flipped[at] ^= 1;
        let lost = [&torn[..group.start], &vec![0; at - group.start + 1], &torn[at + 1..]].concat();
        let variants = [torn[..at].to_vec(), [&torn[..at], &whole[at..]].concat(), flipped, lost];
        for (variant, bytes) in variants.into_iter().enumerate() {
            let copy = journal_of(after.path());
            fs::write(last_segment(copy.path()).path, &bytes).unwrap();
            // Every place with the journal alone, some with the whole store, and some of these with a sled that is
            // ahead of the journal.
            if at % 4 != variant {
                let dir = copy.path().join("journal");
                let store = Segment::read(&dir, segment.base, None).unwrap().header().store;
                assert_eq!(journal::settle(&dir, store, segment.base).unwrap().revision, 10, "at {at}, {variant}");
                continue;
            }
            if at % 16 == variant {
                copy_into(&after.path().join("sled"), &copy.path().join("sled"));
            }
            let store = open(copy.path(), SMALL);
            assert_eq!(contents(&store).await, model, "torn at {at}, variant {variant}");
            assert_eq!(store.commit(Commit::new().put("new", "")).await, Ok(11));
        }
    }
    // Untouched, it is there.
    let store = open(after.path(), SMALL);
    assert_eq!(store.get(b"last").await.unwrap().map(|record| record.revision), Some(11));
    assert_eq!(store.get(b"k00003").await, Ok(None));
}

#[tokio::test]
async fn damage_before_the_end_is_reported_and_not_cut() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    fill(&store, 0..100).await;
    let crashed = copy_of(dir.path());
    drop(store);
    let segments = Listing::read(&crashed.path().join("journal")).unwrap().segments;
    assert!(segments.len() > 3);
    for (base, at) in [(segments[1], 70), (segments[1], 20), (segments[segments.len() - 1], 70)] {
        let copy = journal_of(crashed.path());
        let path = files::segment_path(&copy.path().join("journal"), base);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        let error = SledStore::open_with(copy.path(), Derive::NOTHING, SMALL).map(drop).expect_err("commits are lost");
        assert!(error.0.contains(&path.display().to_string()), "{error}");
    }
    let copy = journal_of(crashed.path());
    fs::remove_file(files::segment_path(&copy.path().join("journal"), segments[1])).unwrap();
    SledStore::open_with(copy.path(), Derive::NOTHING, SMALL).map(drop).expect_err("a segment is missing");
    // Where sled is whole, only commits that it does not have yet can be lost.
    drop(open(dir.path(), SMALL));
    fs::write(files::segment_path(&dir.path().join("journal"), segments[1]), b"").unwrap();
    drop(open(dir.path(), SMALL));

    let copy = copy_of(dir.path());
    fs::remove_dir_all(copy.path().join("journal")).unwrap();
    let error = SledStore::open_with(copy.path(), Derive::NOTHING, SMALL).map(drop).expect_err("there was a store");
    assert!(error.0.contains("no segment"), "{error}");
}

#[tokio::test]
async fn exports_bound_the_journal_and_hold_everything() {
    let dir = folder();
    let store = open(dir.path(), EXPORTING);
    let mut model = fill(&store, 0..1500).await;
    for key in (0..1500).step_by(7) {
        store.commit(Commit::new().delete(format!("k{key:05}"))).await.unwrap();
        model.remove(format!("k{key:05}").as_bytes());
    }
    drop(store);
    let listing = Listing::read(&dir.path().join("journal")).unwrap();
    assert!(!listing.exports.is_empty() && listing.segments[0] > 0, "{listing:?}");
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    assert_eq!(contents(&open(dir.path(), EXPORTING)).await, model);
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_export_and_rotation_is_put_right() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let mut model = fill(&store, 0..100).await;
    drop(store);
    // An export from the past, then more segments.
    let journal_dir = dir.path().join("journal");
    let id = Segment::read(&journal_dir, 0, None).unwrap().header().store;
    let segments = Listing::read(&journal_dir).unwrap().segments;
    journal::export(&journal_dir, id, segments[3], &AtomicBool::new(false)).unwrap().expect("not canceled");
    let store = open(dir.path(), SMALL);
    model.extend(fill(&store, 100..200).await);
    let crashed = copy_of(dir.path());
    drop(store);
    let listing = Listing::read(&crashed.path().join("journal")).unwrap();
    assert_eq!((listing.exports.clone(), listing.segments[0]), (vec![segments[3]], segments[3]), "the past is gone");
    let (first, until) = (listing.segments[0], listing.segments[4]);
    let last = *listing.segments.last().unwrap();

    let export = |dir: &Path| journal::export(dir, id, until, &AtomicBool::new(false)).unwrap().expect("not canceled");
    let steps: Vec<(&str, Harm<'_>)> = vec![
        ("nothing was begun", Box::new(|_| ())),
        (
            "an export was begun",
            Box::new(|dir| fs::write(files::unfinished(&files::export_path(dir, until)), b"STACEXPT half").unwrap()),
        ),
        (
            "an export was canceled",
            Box::new(|dir| {
                assert_eq!(journal::export(dir, id, until, &AtomicBool::new(true)), Ok(None));
            }),
        ),
        (
            "an export has its name",
            Box::new(|dir| {
                export(dir);
            }),
        ),
        (
            "an export has its name and one old segment is gone",
            Box::new(|dir| {
                export(dir);
                files::remove(&files::segment_path(dir, first)).unwrap();
            }),
        ),
        (
            "the old segments are gone, the old export is not",
            Box::new(|dir| {
                export(dir);
                listing.segments[..4].iter().for_each(|base| files::remove(&files::segment_path(dir, *base)).unwrap());
            }),
        ),
        (
            "everything old is gone",
            Box::new(|dir| {
                export(dir);
                journal::retire(dir, id).unwrap();
            }),
        ),
        (
            "a segment was begun",
            Box::new(|dir| {
                fs::write(files::unfinished(&files::segment_path(dir, last + 1)), b"STACJRNL half").unwrap();
            }),
        ),
        (
            "a segment has its name and is empty, the one before is as long as it was",
            Box::new(|dir| {
                let end = Segment::read(dir, last, None).unwrap().contents(true).unwrap().end;
                let options = JournalOptions { segment_bytes: 4 << 10, export_after_bytes: 1 };
                drop(Journal::start(dir, id, end, options).unwrap());
            }),
        ),
        (
            "a segment has its name and is empty, the one before is cut",
            Box::new(|dir| {
                let end = journal::settle(dir, id, last).unwrap();
                let options = JournalOptions { segment_bytes: 4 << 10, export_after_bytes: 1 };
                drop(Journal::start(dir, id, end, options).unwrap());
            }),
        ),
    ];
    for (name, step) in &steps {
        for with_sled in [true, false] {
            let copy = if with_sled { copy_of(crashed.path()) } else { journal_of(crashed.path()) };
            step(&copy.path().join("journal"));
            for round in 0..2 {
                let store = open(copy.path(), SMALL);
                assert_eq!(contents(&store).await, model, "{name}, sled {with_sled}, round {round}");
            }
            assert!(!aside(copy.path()), "{name}: sled needed no repair");
            let listing = Listing::read(&copy.path().join("journal")).unwrap();
            assert!(listing.exports.len() == 1 && listing.exports[0] == listing.segments[0], "{name}: {listing:?}");
            let left: Vec<_> = fs::read_dir(copy.path().join("journal")).unwrap().map(|e| e.unwrap().path()).collect();
            assert!(left.iter().all(|path| path.extension().is_some_and(|kind| kind != "new")), "{name}: {left:?}");
        }
    }
}

#[tokio::test]
async fn a_lost_export_is_made_again_while_sled_is_whole() {
    let dir = folder();
    let store = open(dir.path(), EXPORTING);
    let model = fill(&store, 0..1000).await;
    drop(store);
    let journal_dir = dir.path().join("journal");
    let export = *Listing::read(&journal_dir).unwrap().exports.last().expect("one was due");
    let path = files::export_path(&journal_dir, export);
    for cut in [false, true] {
        let copy = copy_of(dir.path());
        let path = copy.path().join(path.strip_prefix(dir.path()).unwrap());
        let whole = fs::read(&path).unwrap();
        if cut {
            fs::write(&path, &whole[..whole.len() - 3]).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        drop(open(copy.path(), SMALL));
        fs::remove_dir_all(copy.path().join("sled")).unwrap();
        assert_eq!(contents(&open(copy.path(), SMALL)).await, model);
    }
    // Without sled it is the only place where those records are.
    fs::remove_file(&path).unwrap();
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    SledStore::open_with(dir.path(), Derive::NOTHING, SMALL).map(drop).expect_err("records are lost");
}

#[tokio::test]
async fn the_journal_counts_where_what_was_recorded_of_it_is_wrong() {
    // As if sled had given the committer a wrong record once: the digests from then on are off.
    let dir = folder();
    let journal_dir = dir.path().join("journal");
    fs::create_dir_all(&journal_dir).unwrap();
    let options = JournalOptions { segment_bytes: 4 << 10, export_after_bytes: u64::MAX };
    let mut journal = Journal::start(&journal_dir, [7; 16], Point::default(), options).unwrap();
    let mut group = GroupWriter::new(1);
    group.push(&Commit::new().put("key", "value").writes);
    journal.append(&mut group, Digest::from_bytes([3; 24])).unwrap();
    drop(journal);
    for _ in 0..2 {
        let store = open(dir.path(), SMALL);
        assert_eq!(store.get(b"key").await, Ok(Some(Record { value: b"value".to_vec(), revision: 1 })));
    }
    assert!(!aside(dir.path()), "the second start has right digests to go by");
}

#[tokio::test]
async fn no_room_for_a_segment_refuses_commits_and_no_more() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    let (here, away) = (dir.path().join("journal"), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let mut kept = 0;
    let refused = loop {
        match store.commit(Commit::new().put(format!("k{kept:05}"), vec![1; 500])).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, CommitError::Failed(_)) && kept > 0, "{refused}");
    assert_eq!(store.failure(), None);
    assert_eq!(contents(&store).await.len(), kept);
    fs::rename(&away, &here).unwrap();
    store.commit(Commit::new().put("later", "")).await.expect("there is room again");
    drop(store);
    assert_eq!(contents(&open(dir.path(), SMALL)).await.len(), kept + 1);
}

#[tokio::test]
async fn a_failed_store_answers_nothing_but_errors_and_ends_watches() {
    let dir = folder();
    let store = open(dir.path(), SMALL);
    store.commit(Commit::new().put("a", "1")).await.unwrap();
    let mut watch = store.watch(b"");
    let cause = StoreError("the disk is gone".to_owned());
    store.shared().fail(cause.clone());
    store.shared().fail(StoreError("a later one".to_owned()));
    assert_eq!(store.commit(Commit::new().put("a", "2")).await, Err(CommitError::Failed(cause.clone())));
    assert_eq!(watch.next().await, None);
    assert_eq!(store.failure(), Some(&cause));
    drop(store);
    assert_eq!(open(dir.path(), SMALL).get(b"a").await.unwrap().map(|record| record.value), Some(b"1".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_taken_before_the_store_is_dropped_happen() {
    let dir = folder();
    let store = Arc::new(open(dir.path(), SMALL));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(Commit::new().put(format!("{task:03}"), "")).await })
        })
        .collect();
    drop(store);
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(acknowledged, 64);
    assert_eq!(contents(&open(dir.path(), SMALL)).await.len(), 64);
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(dir: &Path, options: SledOptions) -> SledStore {
    SledStore::open_with(dir, Derive::NOTHING, options).expect("the store opens")
}

/// Whether sled's files were not believed, and there were some.
fn aside(dir: &Path) -> bool {
    dir.join("sled.aside").exists()
}

async fn fill(store: &SledStore, keys: Range<usize>) -> Model {
    let mut model = Model::new();
    for index in keys {
        let (key, value) =
            (format!("k{index:05}"), vec![index as u8; if index % 40 == 39 { 7000 } else { 30 + index % 9 }]);
        let revision = store.commit(Commit::new().put(key.clone(), value.clone())).await.expect("it commits");
        model.insert(key.into_bytes(), Record { value, revision });
    }
    model
}

async fn contents(store: &SledStore) -> Model {
    store.range(b"", &[0xff; 8], usize::MAX, false).await.expect("it reads").into_iter().collect()
}

struct LastSegment {
    base: u64,
    path: PathBuf,
    end: usize,
}

fn last_segment(dir: &Path) -> LastSegment {
    let dir = dir.join("journal");
    let base = *Listing::read(&dir).unwrap().segments.last().expect("there is one");
    let segment = Segment::read(&dir, base, None).unwrap();
    let end = segment.contents(true).unwrap().end_at as usize;
    LastSegment { base, path: files::segment_path(&dir, base), end }
}

fn copy_of(dir: &Path) -> TempDir {
    let to = folder();
    copy_into(dir, to.path());
    to
}

fn journal_of(dir: &Path) -> TempDir {
    let to = folder();
    copy_into(&dir.join("journal"), &to.path().join("journal"));
    to
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match from.is_dir() {
            true => copy_into(&from, &to),
            false => drop(fs::copy(&from, to).unwrap()),
        }
    }
}
