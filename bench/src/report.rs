//! Medians and ratios.

use std::fmt::Write as _;

use serde_json::json;

use crate::cases::{Kind, Result, Sample};

/// A table for people; ratios are medians of the ratios within each round.
pub fn table(results: &[Result]) -> String {
    let mut text = String::new();
    let ours = results.first().map(|result| result.samples.as_slice()).unwrap_or_default();
    let limit = best_limit(results);
    let header = ["contestant", "MB/s", "min", "max", "CPU s/GiB", "first vs. it", "of limit"];
    writeln!(
        text,
        "{:<22} {:>8} {:>8} {:>8} {:>10} {:>13} {:>9}",
        header[0], header[1], header[2], header[3], header[4], header[5], header[6]
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
            "{:<22} {:>8.0} {:>8.0} {:>8.0} {:>10.2} {:>12.2}x {:>9.2}",
            result.contestant,
            summary.median,
            summary.min,
            summary.max,
            summary.cpu_seconds_per_gib,
            ratio,
            limit.map_or(f64::NAN, |limit| self::ratio(&result.samples, &limit.samples)),
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
                "kind": format!("{:?}", result.kind).to_lowercase(),
                "bytes": result.bytes,
                "goodput_median": Summary::of(result).map(|summary| summary.median * 1e6),
                "samples": samples,
            });
            format!("{line}\n")
        })
        .collect()
}

/// The limit that others are held against: the highest that was found.
fn best_limit(results: &[Result]) -> Option<&Result> {
    let limits = results.iter().filter(|result| result.kind == Kind::Limit);
    let rate = |result: &Result| Summary::of(result).map_or(0.0, |summary| summary.median);
    limits.max_by(|one, other| rate(one).total_cmp(&rate(other))).filter(|limit| !limit.samples.is_empty())
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
        let absent = Result { contestant: "cp".into(), kind: Kind::Rival, bytes: 1, samples: vec![] };
        assert!(table(&[absent]).contains("absent"));
    }

    #[test]
    fn everybody_is_held_against_the_highest_limit() {
        let result = |contestant: &str, kind, seconds: f64| Result {
            contestant: contestant.into(),
            kind,
            bytes: 1_000_000,
            samples: vec![Sample { seconds, cpu_seconds: 0.0 }],
        };
        let all = [
            result("ours", Kind::Ours, 2.0),
            result("slow", Kind::Limit, 1.5),
            result("fast", Kind::Limit, 1.0),
            Result { samples: vec![], ..result("absent", Kind::Limit, 0.0) },
        ];
        assert_eq!(best_limit(&all).map(|limit| limit.contestant.as_str()), Some("fast"));
        assert!(table(&all).lines().nth(1).is_some_and(|line| line.ends_with("0.50")), "{}", table(&all));
        assert_eq!(best_limit(&all[..1]), None);
    }
}
