//! The bench, as a user runs it. How fast anything is does not matter here: every case must run, with everybody who is
//! installed, and what is not there must be said.

use std::{collections::BTreeMap, fs, io::Cursor};

use staccato_bench::record::{Kind, Record, Series, read};
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
    let arguments = "local --mib 8 --objects 30 --pairs 3 --minutes 0.1 --contestant staccato --contestant limit";
    let (table, series) = measure(&format!("{arguments} --contestant bare --contestant cp --contestant curl"));
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    for series in &series {
        *cases.entry(&series.case).or_default() += 1;
        let missing = series.absent.is_some();
        assert!(missing == series.samples.is_empty(), "{} in {}", series.contestant, series.case);
        // What tests/run installs is there, and so are we.
        let must = series.kind == Kind::Ours || ["cp", "curl"].contains(&series.contestant.as_str());
        assert!(!missing || !must, "{} in {}: {:?}", series.contestant, series.case, series.absent);
        assert!(missing || series.samples.len() >= 3, "{} in {}", series.contestant, series.case);
        assert!(series.samples.iter().all(|sample| sample.machine.seconds > 0.0), "{series:?}");
    }
    assert_eq!(cases.keys().copied().collect::<Vec<_>>(), CASES);
    assert!(CASES.iter().all(|case| table.contains(case)), "{table}");
}

#[test]
fn the_rest_interface_is_measured_under_load() {
    let (table, series) = measure("rest --clients 4 --rounds 1 --seconds 0.2 --stored 3000 --restarts 1");
    let found: Vec<_> = series.iter().map(|series| (series.case.as_str(), series.contestant.as_str())).collect();
    for operation in ["submit", "bulk-1000", "read", "list-marker", "list-state"] {
        let measured = found.iter().filter(|found| **found == ("rest", operation)).count();
        assert_eq!(measured, 2, "{operation}, before and after it is filled: {found:?}");
        assert!(table.contains(operation), "{table}");
    }
    assert!(found.contains(&("rest-restart", "ready after SIGKILL")), "{found:?}");
    assert!(table.contains("memory for each stored transfer, restarted"), "{table}");
}

#[test]
fn an_object_crosses_loopback_from_every_storage_to_every_other() {
    let arguments =
        "link --loopback --mib 9 --pairs 3 --minutes 0.1 --streams 2 --contestant staccato --contestant curl";
    let (table, series) = measure(&format!("{arguments} --contestant quinn --contestant limit:"));
    let ours: Vec<_> = series.iter().filter(|series| series.kind == Kind::Ours).collect();
    assert_eq!(ours.len(), 8, "two transports in each of four cases: {series:?}");
    for series in &series {
        // What is not installed need not take part; ours, curl and the bare ends must.
        let must = series.contestant != "limit: iperf3";
        assert!(series.absent.is_none() || !must, "{}: {:?}", series.contestant, series.absent);
        let by_end = series.samples.iter().all(|sample| sample.cpu_seconds_by_end.len() == 2);
        assert!(by_end && series.settings["path"] == "loopback", "{series:?}");
        assert!(table.contains(&series.contestant) && table.contains(&series.case), "{table}");
    }
}

/// What a bench that measures prints, and the series that it writes down. It works in the folder where it is, as by
/// default, and leaves nothing else there.
pub fn measure(arguments: &str) -> (String, Vec<Series>) {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let mut bench = command();
    bench.arg("bench").args(arguments.split(' ')).args(["--output", "results"]);
    let output = bench.current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results"], "nothing stays behind");

    let results = fs::read(folder.path().join("results")).unwrap();
    let mut records = read(Cursor::new(results)).unwrap().into_iter();
    let Some(Record::Run(run)) = records.next() else { panic!("a run comes first") };
    assert!(!run.host.kernel.is_empty(), "{run:?}");
    let series = records.map(|record| match record {
        Record::Series(series) => series,
        Record::Run(_) => panic!("there is one run"),
    });
    let series: Vec<_> = series.collect();
    assert!(series.iter().flat_map(|series| &series.samples).all(|sample| sample.rate() > 0.0), "{series:?}");
    (String::from_utf8(output.stdout).unwrap(), series)
}
