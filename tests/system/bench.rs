//! The bench, as a user runs it. How fast anything is does not matter here: every case must run, with everybody who is
//! installed, and what is not there must be said.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path};

use staccato_bench::record::{Kind, Record, Series, read};
use staccato_tests::{
    binary::command,
    deployment::Deployment,
    service::{names, scratch},
};

/// Every case of `bench local`.
const CASES: [&str; 16] = [
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
    "plug-in",
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
    let arguments = "link --loopback --transport tcp,tcp-tls,quic --mib 9 --pairs 3 --minutes 0.1 --streams 2 \
                     --contestant staccato --contestant curl";
    let (table, series) = measure(&format!("{arguments} --contestant quinn --contestant limit:"));
    let ours: Vec<_> = series.iter().filter(|series| series.kind == Kind::Ours).collect();
    assert_eq!(ours.len(), 12, "three transports in each of four cases: {series:?}");
    for series in &series {
        // What is not installed need not take part; ours, curl and the bare ends must.
        let fio = series.contestant.starts_with("limit: fio");
        let must = series.contestant != "limit: iperf3" && !fio;
        assert!(series.absent.is_none() || !must, "{}: {:?}", series.contestant, series.absent);
        // A disk has no ends.
        let ends = if fio { 0 } else { 2 };
        let by_end = series.samples.iter().all(|sample| sample.cpu_seconds_by_end.len() == ends);
        assert!(by_end && series.settings["path"] == "loopback", "{series:?}");
        assert!(table.contains(&series.contestant) && table.contains(&series.case), "{table}");
    }
}

#[test]
fn transfers_of_a_service_cross_loopback_and_auto_says_what_it_took() {
    let (table, series) = measure("link --transport service --mib 9 --objects 50 --pairs 3 --minutes 0.1");
    let of = |case: &str| series.iter().filter(move |series| series.case == case).collect::<Vec<_>>();
    for case in ["memory-to-memory", "memory-to-disk", "disk-to-memory", "disk-to-disk"] {
        let series = of(case);
        let names: Vec<_> = series.iter().map(|series| series.contestant.as_str()).collect();
        assert_eq!(names, ["service auto", "service auto, first", "service quic", "service tcp"], "{case}");
        assert_eq!(series[1].samples.len(), 1, "the first transfer of a link is none of the others");
        for one in &series {
            assert_eq!(one.absent, None, "{one:?}");
            let ends =
                one.samples.iter().all(|sample| sample.cpu_seconds_by_end.keys().eq(&["owner", "reader", "service"]));
            assert!(ends && one.settings["path"] == "loopback", "{one:?}");
        }
        assert!(series[0].note.as_ref().is_some_and(|note| note.contains("took")), "{:?}", series[0].note);
    }
    assert!(table.contains("service auto took"), "{table}");
    let small = of("small");
    assert_eq!(small.len(), 4, "three by ours and one by rsync: {small:?}");
    for one in small {
        // What is not installed need not take part.
        assert!(one.absent.is_none() || one.kind == Kind::Rival, "{one:?}");
        assert!(one.samples.iter().all(|sample| sample.operations == 50 && sample.cpu_seconds > Some(0.0)), "{one:?}");
    }
    assert!(table.contains("CPU µs/op"), "{table}");
}

#[test]
fn a_link_of_a_deployment_is_measured_from_memory_and_disk_to_memory_and_disk() {
    let deployment = Deployment::start(&["--lease", "2s", "--heartbeat", "500ms"]);
    let (one, mut other) = (deployment.join("one", &[]), deployment.join("other", &[]));
    let reach =
        |token: &str| format!("--server {} --ca {} --token-file {token}", deployment.url(), deployment.ca().display());
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let token = |scope: &str| {
        let made = deployment.admin(&["token", "create", "--owner", "tester", "--scope", scope]);
        let path = folder.path().join(scope);
        fs::write(&path, made.stdout).unwrap();
        path.display().to_string()
    };
    let admin = reach(&token("admin"));
    let ends = format!("one:{} other:{}", one.root().display(), other.root().display());
    let (table, series) = measure(&format!("link {ends} {admin} --mib 3 --pairs 3 --minutes 0.1"));
    let cases = ["memory-to-memory", "disk-to-memory", "memory-to-disk", "disk-to-disk"];
    let found: Vec<_> = series.iter().map(|one| (one.case.as_str(), one.contestant.as_str())).collect();
    let each = ["service auto", "service quic", "service tcp"];
    let mut wanted: Vec<_> = cases.iter().flat_map(|case| each.map(|contestant| (*case, contestant))).collect();
    // Nothing had crossed this link before.
    wanted.insert(1, (cases[0], "service auto, first"));
    assert_eq!(found, wanted);
    for one in &series {
        let samples = if one.contestant.ends_with("first") { 1 } else { 3 };
        assert!(one.absent.is_none() && one.samples.len() >= samples, "{one:?}");
        assert_eq!(one.settings["path"], "one to other");
    }
    assert!(table.contains("service auto took"), "{table}");
    let left = |root: &Path| names(root).iter().map(|name| fs::metadata(root.join(name)).unwrap().len()).sum::<u64>();
    assert_eq!((names(&one.root()).len(), left(&one.root())), (1, 0), "one file, and it is empty");
    assert_eq!((names(&other.root()).len(), left(&other.root())), (1, 0), "one file, and it is empty");
    assert_eq!(deployment.service.get("/v1/transfers").body, serde_json::json!([]), "transfers are forgotten");

    let refused = |arguments: &str, why: &str| {
        let output = command().arg("bench").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{arguments}: {said}");
    };
    refused(&format!("link one nobody {admin}"), "the service knows no host nobody; it knows ");
    refused(&format!("link one one {admin}"), "a link has two hosts");
    refused(&format!("link one {admin}"), "HOST_B");
    refused(&format!("link one other third {admin}"), "unexpected argument");
    refused(&format!("link one other {admin} --loopback"), "cannot be used with");
    refused(&format!("link one other {admin} --case disk-to-disk"), "HOST:/FOLDER");
    refused(&format!("link one other:/etc {admin}"), "/etc/staccato-bench-");
    refused(&format!("link one other {}", reach(&token("read"))), "scope");
    refused("link one other --server http://127.0.0.1:1", "cannot be reached");
    other.kill();
    deployment.wait_for_health("other", "down");
    refused(&format!("link one other {admin}"), "other is away");
}

/// What a bench that measures prints, and the series that it writes down. It works in the folder where it is, as by
/// default, and leaves nothing else there. That folder lies deep, as some do: Unix sockets' paths are short.
pub fn measure(arguments: &str) -> (String, Vec<Series>) {
    let folder = tempfile::Builder::new().prefix(&"deep".repeat(25)).tempdir_in(scratch()).unwrap();
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
