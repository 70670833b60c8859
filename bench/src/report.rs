//! Medians and ratios.

use std::fmt::Write as _;

use serde_json::json;

use crate::cases::{Result, Sample};

/// A table for people; ratios are medians of the ratios within each round.
pub fn table(results: &[Result]) -> String {
    let mut text = String::new();
    let ours = results.first().map(|result| result.samples.as_slice()).unwrap_or_default();
    let header = ["contestant", "MB/s", "min", "max", "CPU s/GiB", "first vs. it"];
    writeln!(
        text,
        "{:<22} {:>8} {:>8} {:>8} {:>10} {:>13}",
        header[0], header[1], header[2], header[3], header[4], header[5]
    )
    .expect("writing to a string");
    for result in results {
        let Some(summary) = Summary::of(result) else {
            writeln!(text, "{:<22} {:>8}", result.contestant, "absent").expect("writing to a string");
            continue;
        };
        let ratio = ratio(ours, &result.samples);
        writeln!(
            text,
            "{:<22} {:>8.0} {:>8.0} {:>8.0} {:>10.2} {:>12.2}x",
            result.contestant, summary.median, summary.min, summary.max, summary.cpu_seconds_per_gib, ratio
        )
        .expect("writing to a string");
    }
    text
}

/// One JSON object a line, schema `staccato-bench/1`; rates in bytes per second.
pub fn json_lines(results: &[Result]) -> String {
    results
        .iter()
        .map(|result| {
            let samples: Vec<_> = result
                .samples
                .iter()
                .map(|sample| json!({"seconds": sample.seconds, "cpu_seconds": sample.cpu_seconds}))
                .collect();
            let line = json!({
                "schema": "staccato-bench/1",
                "case": "file-to-file",
                "contestant": result.contestant,
                "bytes": result.bytes,
                "goodput_median": Summary::of(result).map(|summary| summary.median * 1e6),
                "samples": samples,
            });
            format!("{line}\n")
        })
        .collect()
}

/// Megabytes (10^6) per second.
struct Summary {
    median: f64,
    min: f64,
    max: f64,
    cpu_seconds_per_gib: f64,
}

impl Summary {
    fn of(result: &Result) -> Option<Self> {
        let rates: Vec<f64> = result.samples.iter().map(|sample| result.bytes as f64 / 1e6 / sample.seconds).collect();
        let gib = result.bytes as f64 / f64::from(1 << 30);
        Some(Self {
            median: median(rates.clone())?,
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            cpu_seconds_per_gib: median(result.samples.iter().map(|sample| sample.cpu_seconds / gib).collect())?,
        })
    }
}

/// How many times faster `ours` was than `theirs`, round by round.
fn ratio(ours: &[Sample], theirs: &[Sample]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| theirs.seconds / ours.seconds).collect()).unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
        let samples = |seconds: &[f64]| -> Vec<Sample> {
            seconds.iter().map(|seconds| Sample { seconds: *seconds, cpu_seconds: 0.0 }).collect()
        };
        assert_eq!(ratio(&samples(&[1.0, 2.0]), &samples(&[2.0, 4.0])), 2.0);
    }

    #[test]
    fn an_absent_rival_is_listed_as_absent() {
        let absent = Result { contestant: "cp".into(), bytes: 1, samples: vec![] };
        assert!(table(&[absent]).contains("absent"));
    }
}
