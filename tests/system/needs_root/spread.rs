//! One object to many hosts, as the bench measures it.

use staccato_bench::record::{Kind, Series};

use crate::bench::measure;

#[test]
fn an_object_comes_from_a_file_and_from_a_server_to_several_hosts() {
    let arguments = "distribute --hosts 2 --mib 4 --rate 200mbit --pairs 3 --minutes 0.1 --contestant staccato";
    let (table, from_file) = measure(arguments);
    let (_, from_server) = measure(&format!("{arguments} --origin 100mbit"));
    assert_eq!((from_file.len(), from_server.len()), (1, 1), "only ours was asked for");
    // 4 MiB at 200 Mbit/s take 168 ms, at 100 twice as long; what fills a bucket goes at once.
    for (series, case, seconds_min) in [(&from_file[0], "file-to-hosts", 0.15), (&from_server[0], "http-to-hosts", 0.3)]
    {
        let Series { case: found, contestant, kind, absent, samples, .. } = series;
        assert_eq!((found.as_str(), contestant.as_str(), *kind, absent), (case, "staccato auto", Kind::Ours, &None));
        assert!(table.contains("source read") && samples.len() >= 3, "{table}");
        for sample in samples {
            assert!(sample.seconds > seconds_min && sample.copies == Some(2), "{sample:?}");
            // The budget of a distribution that says nothing; and nobody reads less than all of it.
            let read = sample.figures["source read"];
            assert!((1.0..=2.0).contains(&read) && sample.figures["source sent"] > 1.0, "{sample:?}");
            assert!(sample.rss_bytes_max.is_some() && sample.cpu_seconds > Some(0.0), "{sample:?}");
        }
    }
}
