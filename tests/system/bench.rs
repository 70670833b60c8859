//! The bench, as a user runs it. How fast anything is does not matter here: every case must run, with everybody who is
//! installed, and what is not there must be said.

use std::{collections::BTreeMap, fs::File, io::BufReader};

use staccato_bench::record::{Kind, Record, read};
use staccato_tests::{binary::command, service::scratch};

/// Every case of `bench local`.
const CASES: [&str; 15] = [
    "chunk-size",
    "depth",
    "disk-both",
    "disk-read",
    "disk-write",
    "disk-write-again",
    "file-to-file",
    "footprint",
    "http-to-file",
    "https-to-file",
    "lanes",
    "overhead",
    "processor",
    "small",
    "sparse",
];

#[test]
fn every_case_of_this_machine_is_measured() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let results = folder.path().join("results");
    let mut bench = command();
    bench.args(["bench", "local", "--mib", "8", "--objects", "30", "--pairs", "3", "--minutes", "0.1"]);
    bench.args(["--contestant", "staccato", "--contestant", "limit", "--contestant", "bare"]);
    bench.args(["--contestant", "cp", "--contestant", "curl", "--folder"]).arg(folder.path());
    let output = bench.arg("--output").arg(&results).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let records = read(BufReader::new(File::open(&results).unwrap())).unwrap();
    assert!(matches!(records.first(), Some(Record::Run(run)) if !run.host.kernel.is_empty()), "{records:?}");
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        let Record::Series(series) = record else { continue };
        *cases.entry(&series.case).or_default() += 1;
        let missing = series.absent.is_some();
        assert!(missing == series.samples.is_empty(), "{} in {}", series.contestant, series.case);
        // What tests/run installs is there, and so are we.
        let must = series.kind == Kind::Ours || ["cp", "curl"].contains(&series.contestant.as_str());
        assert!(!missing || !must, "{} in {}: {:?}", series.contestant, series.case, series.absent);
        assert!(missing || series.samples.len() >= 3, "{} in {}", series.contestant, series.case);
        assert!(series.samples.iter().all(|sample| sample.rate() > 0.0 && sample.machine.seconds > 0.0), "{series:?}");
    }
    assert_eq!(cases.keys().copied().collect::<Vec<_>>(), CASES);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(CASES.iter().all(|case| table.contains(case)), "{table}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results"], "nothing stays behind");
}

#[test]
fn the_rest_interface_is_measured_under_load() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let results = folder.path().join("results");
    let mut bench = command();
    bench.args(["bench", "rest", "--clients", "4", "--seconds", "0.2", "--stored", "3000", "--restarts", "1"]);
    // The folder is this one, by default.
    let output = bench.current_dir(folder.path()).arg("--output").arg(&results).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let records = read(BufReader::new(File::open(&results).unwrap())).unwrap();
    let series = records.iter().filter_map(|record| match record {
        Record::Series(series) => Some(series),
        Record::Run(_) => None,
    });
    let mut operations: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for series in series {
        assert!(series.samples.iter().all(|sample| sample.rate() > 0.0), "{series:?}");
        let operation = series.settings.get("operation").map_or("", String::as_str);
        *operations.entry((&series.case, operation)).or_default() += 1;
    }
    for operation in ["submit", "bulk-1000", "read", "list-marker", "list-state"] {
        assert!(operations[&("rest", operation)] >= 2, "{operation}, before and after it is filled: {operations:?}");
    }
    assert_eq!(operations[&("rest-restart", "")], 1);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results"], "nothing stays behind");
}
