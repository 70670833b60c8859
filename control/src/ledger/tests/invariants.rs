//! What must hold of a store at any moment, told once more from the records alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ledger::{Ledger, Scope, change::POISON, change::decode_record, keys},
    model::{
        State, TransferId, TransferRecord,
        distribution::{DistributionRecord, Figures, Rollup, Target},
        transfer::EVENTS_MAX,
    },
    store::Store,
};

/// Reads everything and compares: indexes with records, pieces with what they belong to, leases with states.
pub async fn check(ledger: &Ledger) -> BTreeMap<TransferId, TransferRecord> {
    let all = everything(ledger.store().as_ref()).await;
    let under = |prefix: &str| {
        let prefix = prefix.to_owned();
        all.iter().filter(move |(key, _)| key.starts_with(&prefix)).map(|(key, value)| (key.as_str(), value.as_slice()))
    };
    let records: BTreeMap<TransferId, TransferRecord> = under("t/")
        .map(|(key, value)| {
            let record = decode_record(key.as_bytes(), value).expect("a record");
            assert_eq!(key, format!("t/{}", record.id));
            (record.id, record)
        })
        .collect();

    let mut indexes = BTreeSet::new();
    for record in records.values() {
        indexes.extend(indexes_of(record));
    }
    for (key, value) in under("g/") {
        let sweep: serde_json::Value = serde_json::from_slice(value).expect("a sweep");
        if let Some(digest) = sweep["kept"].as_str() {
            let id = keys::trailing_id(key.as_bytes()).expect("an id");
            assert!(!records.contains_key(&id), "{key}: a transfer keeps its destination itself");
            indexes.insert(format!("d/{digest}"));
        }
    }
    let prefixes = ["s/", "u/", "o/", "w/", "d/", "p/"];
    let found: BTreeSet<String> =
        prefixes.iter().flat_map(|prefix| under(prefix)).map(|(key, _)| key.to_owned()).collect();
    assert_eq!(found, indexes, "indexes and records");

    let mut expected_secrets = BTreeSet::new();
    let mut pieces = BTreeSet::new();
    for record in records.values() {
        looks_right(record);
        if record.sealed {
            expected_secrets.insert(record.id);
        }
        pieces.extend((0..record.range_pieces).map(|piece| format!("c/{}/{piece:02}", record.id)));
        let ranges = ledger.load_ranges(record).await.expect("its ranges");
        let durable: u64 = ranges.iter().map(|range| range.range.len()).sum();
        assert!(record.state == State::Complete || durable == record.progress, "{record:?}");
        if let Some(digest) = &record.destination_digest
            && !record.state.is_ended()
        {
            let holder = &all[&format!("d/{digest}")];
            assert_eq!(holder, record.id.as_uuid().as_bytes(), "who holds a destination");
        }
    }
    assert_eq!(under("c/").map(|(key, _)| key.to_owned()).collect::<BTreeSet<_>>(), pieces);

    for (key, value) in under("g/") {
        let id = keys::trailing_id(key.as_bytes()).expect("an id");
        assert!(records.get(&id).is_none_or(|record| record.state.is_final()), "{key}: it may go on");
        let sweep: serde_json::Value = serde_json::from_slice(value).expect("a sweep");
        if sweep["sealed"] == true {
            expected_secrets.insert(id);
        }
    }
    let distributions: Vec<DistributionRecord> = under("b/")
        .map(|(key, value)| {
            let record: DistributionRecord = serde_json::from_slice(value).expect("a distribution");
            DistributionRecord { id: keys::trailing_id(key.as_bytes()).expect("an id"), ..record }
        })
        .collect();
    expected_secrets.extend(distributions.iter().filter(|one| one.pattern.sealed).map(|one| one.id));
    for one in &distributions {
        let mut rollup = Rollup::default();
        let members = records.values().filter_map(|record| Some((record.id, Figures::of(record)?)));
        for (id, (_, figures)) in members.filter(|(_, (of, _))| *of == one.id) {
            rollup.follow(id, None, Some(figures));
        }
        let plans = under("m/").filter(|(key, _)| key.starts_with(&format!("m/{}/", one.id)));
        let pending: usize =
            plans.map(|(_, value)| serde_json::from_slice::<Vec<Target>>(value).expect("a plan").len()).sum();
        let known = ledger.distribution_document(one.id, &Scope::All).expect("it is in memory");
        assert_eq!(known, one.document(&rollup, pending as u64, ledger.config().own_host.as_str()), "sums and members");
    }
    let secrets: BTreeSet<_> = under("x/").map(|(key, _)| keys::trailing_id(key.as_bytes()).expect("an id")).collect();
    assert_eq!(secrets, expected_secrets, "secrets and who needs them");

    let made: BTreeSet<_> = under("k/").map(|(key, _)| key[2..].to_owned()).collect();
    let of_transfers = records.values().filter_map(|record| record.idempotency_digest.clone());
    let of_distributions = distributions.iter().filter_map(|record| record.idempotency_digest.clone());
    let digests: BTreeSet<_> = of_transfers.chain(of_distributions).collect();
    assert_eq!(made, digests, "idempotency keys live as long as what they made");

    let leases = ledger.inner.leases.lock().expect(POISON);
    assert_eq!(leases.held_count(), records.values().filter(|record| record.state.is_leased()).count());
    for record in records.values().filter(|record| record.state.is_leased()) {
        let lease = leases.get(record.id).expect("a lease");
        assert_eq!((lease.epoch, Some(&lease.executor)), (record.epoch, record.executor.as_ref()), "one holder");
    }
    drop(leases);
    records
}

/// Every key and value.
pub async fn everything(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    let mut all = store.range(b"", &[0xff], usize::MAX, false).await.expect("it reads");
    for prefix in keys::DERIVED {
        all.extend(store.range(prefix, &keys::end_of(prefix), usize::MAX, false).await.expect("it reads"));
    }
    all.into_iter().map(|(key, record)| (String::from_utf8(key).expect("keys are text"), record.value)).collect()
}

fn looks_right(record: &TransferRecord) {
    assert_eq!(record.executor.is_some(), record.state.is_leased(), "{record:?}");
    assert_eq!(record.ready_at.is_some(), record.state == State::Ready, "{record:?}");
    assert_eq!(record.finished_at.is_some(), record.state.is_ended(), "{record:?}");
    assert!(record.not_before.is_none() || record.state == State::New, "{record:?}");
    assert!(!record.sealed || !record.state.is_final(), "{record:?}");
    assert!(record.failures <= record.retries && record.events.len() <= EVENTS_MAX, "{record:?}");
    assert!(record.bytes_total.is_none_or(|total| record.progress <= total), "{record:?}");
    assert!(record.state != State::Complete || Some(record.progress) == record.bytes_total, "{record:?}");
    assert!(record.prepared.is_none_or(|prepared| prepared.epoch <= record.epoch), "{record:?}");
    let goes_on = record.state == State::Running && record.prepared.is_none();
    assert!(!(record.delete_asked && goes_on), "deleted, and only a commit could be a reason to go on: {record:?}");
}

fn indexes_of(record: &TransferRecord) -> Vec<String> {
    let (id, state, owner) = (record.id, record.state, &record.owner);
    let mut indexes = vec![format!("s/{state}/{id}"), format!("u/{owner}/{id}"), format!("o/{owner}/{state}/{id}")];
    match (state, record.not_before) {
        (State::New, None) => indexes.push(format!("w/q/{}/{id}", 9 - record.priority.get())),
        (State::New, Some(time)) => indexes.push(format!("w/b/{:015}/{id}", time.as_millis())),
        (State::Ready | State::Running | State::Canceling | State::Erroring, _) => indexes.push(format!("w/a/{id}")),
        _ => {}
    }
    if let Some(distribution) = record.distribution.filter(|_| !record.delete_asked) {
        indexes.push(format!("p/{distribution}/{id}"));
    }
    let stray_commit = record.stray_attempts && record.prepared.is_some();
    if stray_commit || !matches!(state, State::Complete | State::Canceled | State::Error) {
        indexes.extend(record.destination_digest.iter().map(|digest| format!("d/{digest}")));
    }
    indexes
}
