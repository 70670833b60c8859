//! One suite for every store. Third parties can run it on theirs.
//!
//! Each case works under a prefix of its own, so that a store may hold other records, and opens the store again where
//! the contract speaks of restarts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::poll_immediate;

use super::{
    Commit, CommitError, Derive, Event, Precondition, Record, Revision, SharedStore, Watch, Write,
    contract::{COMMIT_WRITES_MAX, COMMITS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX, WATCH_BACKLOG_MAX},
};

/// Opens the store under test, with [`DERIVE`]; called again, it opens the same one again. The suite drops the store
/// before.
pub type Open<'a> = &'a mut dyn FnMut() -> SharedStore;

/// Runs every case and panics at the first promise that is not kept. Wants a runtime of several threads. `seed` drives
/// the random case; print it, so that a failure can be run again.
pub async fn run(open: Open<'_>, seed: u64) {
    commits_are_atomic_and_conditional(open().as_ref()).await;
    deletes_and_repeated_writes(open().as_ref()).await;
    ranges_are_ordered_bounded_and_reversible(open().as_ref()).await;
    sizes_up_to_the_bounds(open).await;
    commits_take_their_turns(open()).await;
    commits_handed_over_together_are_decided_one_by_one(open().as_ref()).await;
    several_are_read_in_the_order_of_their_keys(open().as_ref()).await;
    derived_records_follow(open().as_ref()).await;
    derived_records_are_those_of_the_records(open, seed).await;
    revisions_grow_across_openings(open).await;
    watchers_hear_in_order(open().as_ref()).await;
    watchers_that_lag_are_told_once(open().as_ref()).await;
    no_update_is_lost(open()).await;
    readers_see_whole_commits(open()).await;
    behaves_like_a_map(open, seed).await;
}

async fn commits_are_atomic_and_conditional(store: &dyn super::Store) {
    let (a, b, c) = (b"conform/atomic/a".as_slice(), b"conform/atomic/b".as_slice(), b"conform/atomic/c".as_slice());
    assert_eq!(store.get(a).await, Ok(None));
    let first = store.commit(Commit::new().require_absent(a).put(a, "1").put(b, "2")).await.expect("nothing is there");
    assert_eq!(store.get(a).await, Ok(Some(record("1", first))));
    assert_eq!(store.get(b).await, Ok(Some(record("2", first))));

    let refused = store.commit(Commit::new().put(c, "3").require(a, first).require_absent(b)).await;
    assert_eq!(refused, Err(CommitError::Conflict(b.to_vec())), "the conflict names the key");
    let refused = store.commit(Commit::new().require(c, first).require_absent(b).put(a, "3")).await;
    assert_eq!(refused, Err(CommitError::Conflict(c.to_vec())), "the first one");
    let refused = store.commit(Commit::new().require(a, first + 1).delete(a)).await;
    assert_eq!(refused, Err(CommitError::Conflict(a.to_vec())));
    assert_eq!(store.get(a).await, Ok(Some(record("1", first))), "a refused commit changes nothing");
    assert_eq!(store.get(c).await, Ok(None));

    let second = store.commit(Commit::new().require(a, first).delete(a).put(c, "3")).await.expect("all hold");
    assert!(second > first);
    assert_eq!(store.get(a).await, Ok(None));
    assert_eq!(store.get(b).await, Ok(Some(record("2", first))), "others keep their revision");
    let empty = store.commit(Commit::new().require(c, second)).await.expect("a commit of nothing is one");
    assert!(empty > second);
}

async fn deletes_and_repeated_writes(store: &dyn super::Store) {
    let (a, b) = (b"conform/order/a".as_slice(), b"conform/order/b".as_slice());
    let revision = store.commit(Commit::new().put(a, "1").delete(a).put(a, "2").put(b, "1").delete(b)).await.unwrap();
    assert_eq!(store.get(a).await, Ok(Some(record("2", revision))), "writes apply in order");
    assert_eq!(store.get(b).await, Ok(None));
    store.commit(Commit::new().delete(b)).await.expect("deleting nothing is no error");
    store.commit(Commit::new().require_absent(b).put(b, "")).await.expect("an empty value is a record");
    assert!(store.get(b).await.unwrap().is_some_and(|record| record.value.is_empty()));
}

async fn commits_take_their_turns(store: SharedStore) {
    // More of them than a store keeps waiting; the last is asked for its result first.
    let submit = |number| store.commit(Commit::new().put(format!("conform/turn/{number:05}"), ""));
    let mut revisions = Vec::new();
    let mut commits: Vec<_> = (0..3000).map(submit).collect();
    for commit in &mut commits {
        revisions.push(poll_immediate(commit).await);
    }
    for (commit, revision) in commits.into_iter().zip(&mut revisions).rev() {
        if revision.is_none() {
            *revision = Some(commit.await);
        }
    }
    let revisions: Vec<Revision> =
        revisions.into_iter().map(|one| one.expect("it ended").expect("it commits")).collect();
    assert!(revisions.is_sorted_by(|one, next| one < next), "the places are not those of the submissions");
}

async fn commits_handed_over_together_are_decided_one_by_one(store: &dyn super::Store) {
    let key = |number: usize| format!("conform/each/{number}").into_bytes();
    let commit = |number| Commit::new().require_absent(key(number)).put(key(number), "");
    let results = store.commit_each(vec![commit(1), commit(2), commit(1), commit(3)]).await;
    let [Ok(first), Ok(second), Err(refused), Ok(third)] = &results[..] else { panic!("{results:?}") };
    assert!(first < second && second < third, "in their order");
    assert_eq!(*refused, CommitError::Conflict(key(1)), "by one of the same call");
    assert_eq!(store.commit_each(Vec::new()).await, Vec::new());
    // As many as there may be, among others that are under way.
    let many: Vec<_> = (0..8)
        .map(|call| {
            store.commit_each((0..COMMITS_MAX).map(|number| commit(10 + call * COMMITS_MAX + number)).collect())
        })
        .collect();
    for results in futures_util::future::join_all(many).await {
        let revisions: Vec<Revision> = results.into_iter().map(|result| result.expect("nothing is there")).collect();
        assert_eq!(revisions.len(), COMMITS_MAX);
        assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "nothing came between them");
    }
}

async fn several_are_read_in_the_order_of_their_keys(store: &dyn super::Store) {
    let (b, a) = (b"conform/several/b".as_slice(), b"conform/several/a".as_slice());
    let long = "x".repeat(VALUE_BYTES_MAX);
    let source = b"conform/from/several".as_slice();
    let revision = store.commit(Commit::new().put(b, "2").put(a, long.as_str()).put(source, "s=1")).await.unwrap();
    let keys = [b, b"conform/several/none", a, &derived("s"), b].map(<[u8]>::to_vec).to_vec();
    let (b, derived) = (Some(record("2", revision)), Some(record("1", revision)));
    assert_eq!(store.get_each(keys).await, Ok(vec![b.clone(), None, Some(record(&long, revision)), derived, b]));
    assert_eq!(store.get_each(Vec::new()).await, Ok(Vec::new()));
    store.commit(Commit::new().delete(source)).await.unwrap();
}

/// What the suite derives: from `conform/from/X`, whose value is a list like `name=value,name=value`, a record
/// `conform/derived/NAME` with each value.
pub const DERIVE: Derive = Derive {
    sources: &[b"conform/from/"],
    derived: &[b"conform/derived/"],
    function: |_, value| {
        let text = String::from_utf8_lossy(value);
        let named = text.split(',').filter_map(|pair| pair.split_once('='));
        named.map(|(name, value)| (derived(name), value.as_bytes().to_vec())).collect()
    },
};

fn derived(name: &str) -> Vec<u8> {
    format!("conform/derived/{name}").into_bytes()
}

async fn derived_records_follow(store: &dyn super::Store) {
    let (a, b) = (b"conform/from/a".as_slice(), b"conform/from/b".as_slice());
    let mut watch = store.watch(b"conform/derived/");
    let first = store.commit(Commit::new().put(a, "x=1,y=1")).await.unwrap();
    assert_eq!(store.get(&derived("x")).await, Ok(Some(record("1", first))));
    for name in ["x", "y"] {
        assert_eq!(next(&mut watch).await, changed(&derived(name), Some(("1", first))));
    }
    let refused = store.commit(Commit::new().require_absent(derived("y")).put(b, "z=1")).await;
    assert_eq!(refused, Err(CommitError::Conflict(derived("y"))), "they can be required like others");
    assert_eq!(store.get(&derived("z")).await, Ok(None));

    let second = store.commit(Commit::new().put(a, "x=1,y=2,z=1")).await.unwrap();
    for (name, value) in [("y", "2"), ("z", "1")] {
        assert_eq!(next(&mut watch).await, changed(&derived(name), Some((value, second))));
    }
    // From one record to another within one commit, in either order.
    let handed = store.commit(Commit::new().put(b, "y=2").put(a, "x=1")).await.unwrap();
    let back = store.commit(Commit::new().put(b, "").put(a, "x=1,y=3")).await.unwrap();
    assert_eq!(store.get(&derived("y")).await, Ok(Some(record("3", back))));
    store.commit(Commit::new().delete(a).put(a, "v=1").delete(a).put(b, "")).await.unwrap();
    let found = store.range(b"conform/derived/", b"conform/derived0", 10, false).await;
    assert_eq!(found, Ok(Vec::new()));
    assert_eq!(next(&mut watch).await, changed(&derived("z"), None), "{handed}: y stayed as it was");
    assert_eq!(next(&mut watch).await, changed(&derived("y"), Some(("3", back))));
    for name in ["x", "y"] {
        assert_eq!(next(&mut watch).await, changed(&derived(name), None));
    }
}

async fn derived_records_are_those_of_the_records(open: Open<'_>, seed: u64) {
    let mut random = Random(seed);
    let mut model: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for _ in 0..4 {
        let store = open();
        for _ in 0..40 {
            let mut commit = Commit::new();
            for _ in 0..random.below(4) {
                let key = format!("conform/from/{}", random.below(5));
                model.remove(&key);
                // A record may give what no other one gives.
                let names = (0..6).map(|name| format!("n{name}"));
                let taken = |name: &String| model.values().flatten().any(|(given, _)| given == name);
                let free: Vec<String> = names.filter(|name| !taken(name)).filter(|_| random.below(2) == 0).collect();
                let gives: Vec<_> = free.into_iter().map(|name| (name, random.below(3).to_string())).collect();
                let text: Vec<String> = gives.iter().map(|(name, value)| format!("{name}={value}")).collect();
                commit = if gives.is_empty() {
                    commit.delete(key)
                } else {
                    model.insert(key.clone(), gives);
                    commit.put(key, text.join(","))
                };
            }
            store.commit(commit).await.unwrap();
            derived_agree(store.as_ref(), &model, seed).await;
        }
        drop(store);
        derived_agree(open().as_ref(), &model, seed).await;
    }
    let clear = model.keys().fold(Commit::new(), |commit, key| commit.delete(key.as_str()));
    open().commit(clear).await.unwrap();
}

async fn derived_agree(store: &dyn super::Store, model: &BTreeMap<String, Vec<(String, String)>>, seed: u64) {
    let found = store.range(b"conform/derived/", b"conform/derived0", usize::MAX, false).await.unwrap();
    let found: BTreeMap<_, _> = found.into_iter().map(|(key, record)| (key, record.value)).collect();
    let given = model.values().flatten().map(|(name, value)| (derived(name), value.clone().into_bytes()));
    assert_eq!(found, given.collect(), "seed {seed}");
}

async fn ranges_are_ordered_bounded_and_reversible(store: &dyn super::Store) {
    // Keys that are prefixes of others, with the smallest and largest bytes, and values in several pieces.
    let prefix = b"conform/range/".as_slice();
    let tails: [&[u8]; 8] = [b"", b"\0", b"\0\0\x01", b"a", b"a\0", b"a\0\x01", b"ab", b"\xff\xff"];
    let keys: Vec<Vec<u8>> = tails.iter().map(|tail| [prefix, tail].concat()).collect();
    let mut commit = Commit::new().put(&b"conform/range"[..], "before").put(&b"conform/rangf"[..], "after");
    for (index, key) in keys.iter().enumerate().rev() {
        commit = commit.put(key.clone(), vec![index as u8; 5000 * index]);
    }
    store.commit(commit).await.unwrap();
    let end = b"conform/range0".as_slice();
    let found = |records: Vec<(Vec<u8>, Record)>| records.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let all = store.range(prefix, end, usize::MAX, false).await.unwrap();
    for (index, (_, record)) in all.iter().enumerate() {
        assert_eq!(record.value, vec![index as u8; 5000 * index]);
    }
    assert_eq!(found(all), keys);
    let reversed: Vec<_> = keys.iter().rev().cloned().collect();
    assert_eq!(found(store.range(prefix, end, 100, true).await.unwrap()), reversed);
    assert_eq!(found(store.range(prefix, end, 3, false).await.unwrap()), keys[..3]);
    assert_eq!(found(store.range(prefix, end, 3, true).await.unwrap()), reversed[..3], "the last ones");
    assert_eq!(found(store.range(&keys[2], &keys[5], 9, false).await.unwrap()), keys[2..5], "the end is exclusive");
    assert_eq!(found(store.range(&keys[2], &keys[5], 9, true).await.unwrap()), reversed[3..6]);
    for (start, end, limit) in [(prefix, end, 0), (end, prefix, 9), (prefix, prefix, 9)] {
        assert_eq!(store.range(start, end, limit, false).await, Ok(Vec::new()));
        assert_eq!(store.range(start, end, limit, true).await, Ok(Vec::new()));
    }
}

async fn sizes_up_to_the_bounds(open: Open<'_>) {
    let mut store = open();
    let mut key = b"conform/size/".to_vec();
    key.resize(KEY_BYTES_MAX, b'k');
    let mut wanted = BTreeMap::new();
    let around = [1, 3071, 3072, 3073, 4095, 4096, 6143, 6144, 6145, VALUE_BYTES_MAX - 1, VALUE_BYTES_MAX, 2, 0];
    // Each overwrites the last, growing and shrinking, and has a neighbour that stays.
    for (index, len) in around.into_iter().enumerate() {
        let value: Vec<u8> = (0..len).map(|at| (at * 31 + index) as u8).collect();
        let neighbour = format!("conform/size/{index}");
        let commit = Commit::new().put(key.clone(), value.clone()).put(neighbour.clone(), value.clone());
        let revision = store.commit(commit).await.unwrap();
        wanted.insert(neighbour.into_bytes(), Record { value: value.clone(), revision });
        wanted.insert(key.clone(), Record { value, revision });
        assert_eq!(store.get(&key).await.unwrap().as_ref(), wanted.get(&key));
    }
    let many = (0..COMMIT_WRITES_MAX)
        .fold(Commit::new(), |commit, index| commit.put(format!("conform/many/{index:06}"), index.to_string()));
    let revision = store.commit(many).await.expect("the most writes a commit may have");
    drop(store);
    store = open();
    let found = store.range(b"conform/size/", b"conform/size0", 1000, false).await.unwrap();
    assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
    let many = store.range(b"conform/many/", b"conform/many0", usize::MAX, false).await.unwrap();
    assert_eq!(many.len(), COMMIT_WRITES_MAX);
    assert!(many.iter().all(|(_, record)| record.revision == revision));
}

async fn revisions_grow_across_openings(open: Open<'_>) {
    let key = b"conform/revision".as_slice();
    let mut last: Revision = 0;
    for round in 0..4 {
        let store = open();
        if let Some(record) = store.get(key).await.unwrap() {
            assert_eq!((record.revision, record.value), (last, vec![round - 1]));
        }
        let commit = if round == 0 { Commit::new().require_absent(key) } else { Commit::new().require(key, last) };
        let revision = store.commit(commit.put(key, [round])).await.expect("a revision holds across openings");
        assert!(revision > last);
        last = revision;
    }
}

async fn watchers_hear_in_order(store: &dyn super::Store) {
    let mut all = store.watch(b"conform/watch/");
    let mut one = store.watch(b"conform/watch/b");
    let (a, b) = (b"conform/watch/a".as_slice(), b"conform/watch/b".as_slice());
    let first = store.commit(Commit::new().put(a, "1").put(b, "1").put(&b"conform/watched"[..], "")).await.unwrap();
    let mut late = store.watch(b"conform/watch/");
    store.commit(Commit::new().require_absent(a).put(b, "lost")).await.expect_err("it is there");
    let second = store.commit(Commit::new().delete(a).delete(&b"conform/watch/none"[..]).put(b, "2")).await.unwrap();
    let (a1, b1) = (changed(a, Some(("1", first))), changed(b, Some(("1", first))));
    let (a2, b2) = (changed(a, None), changed(b, Some(("2", second))));
    for wanted in [&a1, &b1, &a2, &b2] {
        assert_eq!(&next(&mut all).await, wanted);
    }
    for wanted in [&b1, &b2] {
        assert_eq!(&next(&mut one).await, wanted);
    }
    for wanted in [&a2, &b2] {
        assert_eq!(&next(&mut late).await, wanted, "a watcher hears of later writes only");
    }
    // What is heard of can be read.
    let mut watch = store.watch(b"conform/watch/c");
    let hear = async {
        for _ in 0..20 {
            let Event::Changed { key, record: Some(heard) } = next(&mut watch).await else { panic!("a put") };
            let read = store.get(&key).await.unwrap().expect("what was heard of is there");
            assert!(read.revision >= heard.revision);
        }
    };
    let commit = async {
        for round in 0..20 {
            store.commit(Commit::new().put(&b"conform/watch/c"[..], round.to_string())).await.unwrap();
        }
    };
    futures_util::future::join(hear, commit).await;
}

async fn watchers_that_lag_are_told_once(store: &dyn super::Store) {
    let mut watch = store.watch(b"conform/lag/");
    let commits = WATCH_BACKLOG_MAX + 100;
    let batches: Vec<usize> = (0..commits).collect();
    for batch in batches.chunks(256) {
        let committing =
            batch.iter().map(|index| store.commit(Commit::new().put(&b"conform/lag/k"[..], index.to_string())));
        for committed in futures_util::future::join_all(committing).await {
            committed.unwrap();
        }
    }
    let mut heard = 0;
    let mut last = 0;
    loop {
        match next(&mut watch).await {
            Event::Changed { record: Some(Record { revision, .. }), .. } => {
                assert!(revision > last);
                last = revision;
                heard += 1;
            }
            Event::Changed { .. } => panic!("nothing was deleted"),
            Event::Lagged => break,
        }
    }
    assert!((1..=WATCH_BACKLOG_MAX).contains(&heard), "{heard} of {commits} before it was told");
    let revision = store.commit(Commit::new().put(&b"conform/lag/k"[..], "news")).await.unwrap();
    let news = changed(b"conform/lag/k", Some(("news", revision)));
    loop {
        match next(&mut watch).await {
            event if event == news => break,
            // A commit may be acknowledged a moment before watchers hear of it.
            Event::Changed { record: Some(record), .. } if record.revision > last && record.revision < revision => {
                last = record.revision;
            }
            event => panic!("it shall hear again, of later commits, in their order: {event:?}"),
        }
    }
}

async fn no_update_is_lost(store: SharedStore) {
    const TASKS: usize = 32;
    const ROUNDS: usize = 10;
    let key = b"conform/counter".as_slice();
    store.commit(Commit::new().put(key, "0")).await.unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    loop {
                        let found = store.get(key).await.unwrap().expect("it is never deleted");
                        let count: usize = String::from_utf8(found.value).unwrap().parse().unwrap();
                        let commit = Commit::new()
                            .require(key, found.revision)
                            .put(key, (count + 1).to_string())
                            .put(format!("conform/counted/{task}/{round}"), "");
                        match store.commit(commit).await {
                            Ok(_) => break,
                            Err(CommitError::Conflict(lost)) => assert_eq!(lost, key),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
    let count = store.get(key).await.unwrap().expect("it is there").value;
    assert_eq!(String::from_utf8(count).unwrap(), (TASKS * ROUNDS).to_string());
    let counted = store.range(b"conform/counted/", b"conform/counted0", usize::MAX, false).await.unwrap();
    assert_eq!(counted.len(), TASKS * ROUNDS);
}

async fn readers_see_whole_commits(store: SharedStore) {
    const KEYS: usize = 300;
    let write = |round: usize| {
        (0..KEYS).fold(Commit::new(), |commit, key| {
            commit.put(format!("conform/whole/{key:04}"), vec![round as u8; if key % 50 == 0 { 9000 } else { 20 }])
        })
    };
    store.commit(write(0)).await.unwrap();
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for round in 1..40 {
                store.commit(write(round)).await.unwrap();
            }
        }
    });
    loop {
        let done = writer.is_finished();
        let found = store.range(b"conform/whole/", b"conform/whole0", usize::MAX, false).await.unwrap();
        assert_eq!(found.len(), KEYS);
        let first = &found[0].1;
        for (_, record) in &found {
            assert_eq!((record.revision, record.value[0]), (first.revision, first.value[0]), "half of a commit");
            assert!(record.value.iter().all(|byte| *byte == record.value[0]), "half of a value");
        }
        if done {
            break;
        }
    }
    writer.await.expect("the writer does not panic");
}

async fn behaves_like_a_map(open: Open<'_>, seed: u64) {
    let mut random = Random(seed);
    let prefix = format!("conform/map/{seed:x}/").into_bytes();
    let end = [&prefix[..], &[0xff]].concat();
    let mut model: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
    let mut last: Revision = 0;
    for _ in 0..4 {
        let store = open();
        for _ in 0..60 {
            let commit = random_commit(&mut random, &prefix, &model);
            let conflict = commit.preconditions.iter().find_map(|precondition| {
                let (key, wanted) = match precondition {
                    Precondition::Absent(key) => (key, None),
                    Precondition::Revision(key, revision) => (key, Some(*revision)),
                };
                (model.get(key).map(|record| record.revision) != wanted).then(|| key.clone())
            });
            match (store.commit(commit.clone()).await, conflict) {
                (Ok(revision), None) => {
                    assert!(revision > last, "seed {seed}");
                    last = revision;
                    for write in commit.writes {
                        match write {
                            Write::Put(key, value) => model.insert(key, Record { value, revision }),
                            Write::Delete(key) => model.remove(&key),
                        };
                    }
                }
                (result, conflict) => {
                    let conflict = conflict.expect("nothing stands against it");
                    assert_eq!(result, Err(CommitError::Conflict(conflict)), "seed {seed}");
                }
            }
            let key = random_key(&mut random, &prefix);
            assert_eq!(store.get(&key).await.unwrap().as_ref(), model.get(&key), "seed {seed}");
        }
        let (low, high) = (random_key(&mut random, &prefix), random_key(&mut random, &prefix));
        let (limit, reverse) = (random.below(20), random.below(2) == 1);
        let mut wanted: Vec<_> = model.iter().filter(|(key, _)| **key >= low && **key < high).collect();
        if reverse {
            wanted.reverse();
        }
        let wanted: Vec<_> =
            wanted.into_iter().take(limit).map(|(key, record)| (key.clone(), record.clone())).collect();
        assert_eq!(store.range(&low, &high, limit, reverse).await.unwrap(), wanted, "seed {seed}");
        drop(store);
        let all = open().range(&prefix, &end, usize::MAX, false).await.unwrap();
        assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>(), "seed {seed}, after opening again");
    }
}

fn random_commit(random: &mut Random, prefix: &[u8], model: &BTreeMap<Vec<u8>, Record>) -> Commit {
    let mut commit = Commit::new();
    for _ in 0..random.below(3) {
        let key = random_key(random, prefix);
        commit = match (random.below(8), model.get(&key)) {
            // Now and then one that does not hold.
            (0, _) => commit.require(key, 1),
            (1, _) => commit.require_absent(key),
            (_, Some(record)) => commit.require(key, record.revision),
            (_, None) => commit.require_absent(key),
        };
    }
    for _ in 0..random.below(6) {
        let key = random_key(random, prefix);
        commit = if random.below(3) == 0 {
            commit.delete(key)
        } else {
            let len = if random.below(10) == 0 { random.below(VALUE_BYTES_MAX) } else { random.below(100) };
            commit.put(key, vec![random.below(256) as u8; len])
        };
    }
    commit
}

fn random_key(random: &mut Random, prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend((0..random.below(3)).map(|_| b"\0ab"[random.below(3)]));
    key.push(b'a' + random.below(6) as u8);
    key
}

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

async fn next(watch: &mut Watch) -> Event {
    let heard = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    heard.expect("news within a minute").expect("the store is still there")
}

fn record(value: &str, revision: Revision) -> Record {
    Record { value: value.into(), revision }
}

fn changed(key: &[u8], now: Option<(&str, Revision)>) -> Event {
    Event::Changed { key: key.to_vec(), record: now.map(|(value, revision)| record(value, revision)) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{MemoryStore, SledOptions, SledStore};

    /// The seed of a randomised test, printed: the one that `TEST_SEED` names, else any.
    pub fn seed() -> u64 {
        let named = std::env::var("TEST_SEED").map(|text| text.parse().expect("TEST_SEED is a number"));
        let seed = named.unwrap_or_else(|_| fastrand::u64(..));
        println!("TEST_SEED={seed}");
        seed
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_conforms() {
        let seed = seed();
        let store = MemoryStore::new(DERIVE);
        run(&mut || Arc::new(store.clone()), seed).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sled_conforms() {
        let dir = tempfile::tempdir().expect("a folder");
        let seed = seed();
        // Small enough that segments change and exports are made on the way.
        let options = SledOptions { segment_bytes: 64 << 10, export_after_bytes: 512 << 10, ..SledOptions::default() };
        run(&mut || Arc::new(SledStore::open_with(dir.path(), DERIVE, options).expect("it opens")), seed).await;
    }
}
