//! The bench of storage systems, as a user runs it: every server, both ways, with everybody who is installed.

use staccato_bench::record::Kind;

use crate::bench::measure;

#[test]
fn every_storage_system_is_measured_both_ways() {
    let (table, series) = measure("storage --mib 9 --pairs 3 --minutes 0.1");
    for system in ["http", "webdav", "glance", "swift", "s3", "swift-s3"] {
        for case in [format!("{system}-to-file"), format!("file-to-{system}")] {
            let of_case: Vec<_> = series.iter().filter(|series| series.case == case).collect();
            assert!(table.contains(&case) && of_case.len() >= 2, "{case}: {table}");
            for one in of_case {
                // Of the rivals, rclone and curl are what tests/run installs.
                let must =
                    one.kind == Kind::Ours || one.contestant.contains("rclone") || one.contestant.contains("curl");
                assert!(one.absent.is_none() || !must, "{} in {case}: {:?}", one.contestant, one.absent);
                let is_whole = |seconds: f64, cpu: Option<f64>| seconds > 0.0 && cpu > Some(0.0);
                let samples = &one.samples;
                assert!(samples.iter().all(|sample| is_whole(sample.seconds, sample.cpu_seconds)), "{one:?}");
            }
        }
    }
}
