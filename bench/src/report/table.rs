//! Results in a terminal.

use std::fmt::Write as _;

use crate::{
    measure::noise,
    record::{Kind, Sample, Series},
    statistics::{Spread, median, ratio},
};

/// The contestants of one case, the reference first. Ratios are medians over pairs of neighbours.
pub fn of_case(series: &[Series], cores: usize) -> String {
    let mut text = String::new();
    let Some(reference) = series.first() else { return text };
    let settings: Vec<String> = reference.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    writeln!(text, "{} ({})", reference.case, settings.join(", ")).expect(WRITES);
    // A case about operations is told in those.
    let is_about_bytes = series.iter().flat_map(|one| &one.samples).any(|sample| sample.bytes > 0);
    let (unit, per_unit) = if is_about_bytes { ("MB/s", 1e6) } else { ("1/s", 1.0) };
    let header = ["contestant", unit, "min", "max", "N", "ours to it", "CPU s/GiB", "RSS MiB"];
    writeln!(
        text,
        "  {:<22} {:>8} {:>8} {:>8} {:>4} {:>11} {:>10} {:>9}  where its chunks spent their time",
        header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7]
    )
    .expect(WRITES);
    for one in series {
        match Spread::of(one.samples.iter().map(Sample::rate)) {
            None => writeln!(text, "  {:<22} absent: {}", one.contestant, one.absent.as_deref().unwrap_or("no sample")),
            Some(rate) => {
                let ratio = if one.contestant == reference.contestant { None } else { ratio(reference, one) };
                writeln!(
                    text,
                    "  {:<22} {:>8.0} {:>8.0} {:>8.0} {:>4} {:>11} {:>10} {:>9}  {}",
                    one.contestant,
                    rate.median / per_unit,
                    rate.min / per_unit,
                    rate.max / per_unit,
                    rate.count,
                    ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.median)),
                    optional(cpu_seconds_per_gib(one), 2),
                    optional(median(one.samples.iter().filter_map(|s| Some(s.rss_bytes_max? as f64 / 1048576.0))), 0),
                    stages(one),
                )
            }
        }
        .expect(WRITES);
    }
    let ours = series.iter().filter(|one| one.kind == Kind::Ours).flat_map(|one| &one.samples);
    if let Some(why) = noise(ours, cores) {
        writeln!(text, "  NOISY: {why}; these figures are worth little").expect(WRITES);
    }
    text
}

const WRITES: &str = "writing to a string";

/// User and system CPU seconds for each GiB of the object.
pub fn cpu_seconds_per_gib(series: &Series) -> Option<f64> {
    let each = series.samples.iter().filter(|sample| sample.bytes > 0);
    median(each.filter_map(|sample| Some(sample.cpu_seconds? / (sample.bytes as f64 / f64::from(1 << 30)))))
}

/// The shares of the stages that chunks pass, for instance `read 61 %, write 37 %`.
fn stages(series: &Series) -> String {
    const OF_CHUNKS: [&str; 7] = ["idle", "queue", "memory", "read", "checksum", "write", "read_back"];
    let of = |stage: &str| median(series.samples.iter().filter_map(|sample| sample.stages.get(stage).copied()));
    let times: Vec<(&str, f64)> = OF_CHUNKS.iter().filter_map(|stage| Some((*stage, of(stage)?))).collect();
    let all: f64 = times.iter().map(|(_, time)| time).sum();
    let mut shares: Vec<(&str, f64)> = times.into_iter().map(|(stage, time)| (stage, time / all)).collect();
    shares.sort_by(|one, other| other.1.total_cmp(&one.1));
    let shown = shares.iter().filter(|(_, share)| *share >= 0.02);
    shown.map(|(stage, share)| format!("{stage} {:.0} %", share * 100.0)).collect::<Vec<_>>().join(", ")
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_table_and_who_is_absent_is_named() {
        let series = |contestant: &str, seconds: &[f64]| Series {
            case: "c".into(),
            settings: [("size".to_owned(), "1".to_owned())].into(),
            contestant: contestant.into(),
            kind: Kind::Ours,
            absent: seconds.is_empty().then(|| "cp is not installed".to_owned()),
            samples: seconds
                .iter()
                .map(|seconds| Sample {
                    seconds: *seconds,
                    bytes: 2_000_000,
                    beside: Some("ours".into()),
                    stages: [("read".to_owned(), 3.0), ("write".to_owned(), 1.0)].into(),
                    ..Sample::default()
                })
                .collect(),
        };
        let text = of_case(&[series("ours", &[1.0]), series("dd", &[2.0]), series("cp", &[])], 2);
        assert!(text.contains("c (size 1)") && text.contains("absent: cp is not installed"), "{text}");
        assert!(text.contains("read 75 %, write 25 %"), "{text}");
        assert!(text.lines().any(|line| line.contains("dd") && line.contains("2.00")), "{text}");

        let mut small = series("ours", &[0.5]);
        small.samples[0] = Sample { bytes: 0, operations: 100, ..small.samples[0].clone() };
        let text = of_case(&[small], 2);
        assert!(text.contains("1/s") && text.contains(" 200 "), "{text}");
    }
}
