//! Results in the format of the bench's records.

use std::{collections::BTreeMap, time::Duration};

use super::{Measured, Results};
use crate::record::{Kind, Sample, Series};

/// Quantiles of latency that are written down: enough to draw the curve.
const QUANTILES: [f64; 9] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0];

/// A series for each operation with each number of stored transfers, and one for the restarts.
pub fn series(results: &Results) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for one in results.empty.iter().chain(&results.fill).chain(&results.full) {
        all.push(of("rest", settings(one), vec![sample(one)]));
    }
    if !results.restarts.is_empty() {
        let settings = BTreeMap::from([("stored".to_owned(), results.stored.to_string())]);
        let sample = |(round, time): (usize, &Duration)| Sample {
            round,
            seconds: time.as_secs_f64(),
            operations: 1,
            ..Sample::default()
        };
        all.push(of("rest-restart", settings, results.restarts.iter().enumerate().map(sample).collect()));
    }
    all
}

fn of(case: &str, settings: BTreeMap<String, String>, samples: Vec<Sample>) -> Series {
    let (case, contestant) = (case.to_owned(), "staccato".to_owned());
    Series { case, settings, contestant, kind: Kind::Ours, absent: None, samples }
}

fn settings(one: &Measured) -> BTreeMap<String, String> {
    [("operation", one.operation.to_string()), ("clients", one.clients.to_string()), ("stored", one.stored.to_string())]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

fn sample(one: &Measured) -> Sample {
    Sample {
        seconds: one.seconds,
        operations: one.items,
        cpu_seconds: Some(one.cpu_seconds),
        latency: QUANTILES.iter().map(|quantile| (*quantile, one.latency_ms(*quantile) / 1000.0)).collect(),
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::load::Operation;

    #[test]
    fn results_become_series() {
        let mut latency_us = Histogram::new(3).unwrap();
        latency_us.record_n(2_000, 99).unwrap();
        latency_us.record(50_000).unwrap();
        let measured = Measured {
            operation: Operation::Bulk(10),
            clients: 4,
            stored: 7,
            requests: 100,
            items: 1000,
            seconds: 2.0,
            cpu_seconds: 1.0,
            latency_us,
        };
        let results = Results {
            empty: vec![measured],
            fill: None,
            full: Vec::new(),
            restarts: vec![Duration::from_secs(3)],
            stored: 1007,
            heap_bytes_each: None,
            heap_bytes_each_filled: None,
        };
        let [rest, restart] = &series(&results)[..] else { panic!("two series") };
        assert_eq!((rest.samples[0].rate(), rest.settings["operation"].as_str()), (500.0, "bulk-10"));
        let at = |wanted: f64| rest.samples[0].latency.iter().find(|(quantile, _)| *quantile == wanted).unwrap().1;
        assert!((at(0.5) - 0.002).abs() < 1e-5 && (at(1.0) - 0.05).abs() < 1e-3, "{:?}", rest.samples[0].latency);
        assert_eq!((restart.samples[0].seconds, restart.settings["stored"].as_str()), (3.0, "1007"));
    }
}
