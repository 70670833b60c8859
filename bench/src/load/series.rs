//! Results in the format of the bench's records.

use std::collections::BTreeMap;

use super::{Full, Measured};
use crate::record::{Kind, Sample, Series};

/// Quantiles of latency that are written down: enough to draw the curve.
const QUANTILES: [f64; 9] = [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0];

/// A series for each operation with each number of stored transfers.
pub fn of_rounds(measured: &[Measured]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for one in measured {
        let new = of("rest", one.operation.to_string(), settings(one.clients, one.stored));
        let known = all.iter().position(|old| (&old.contestant, &old.settings) == (&new.contestant, &new.settings));
        let place = known.unwrap_or_else(|| {
            all.push(new);
            all.len() - 1
        });
        all[place].samples.push(sample(one));
    }
    all
}

/// The same, and one series for the filling, and one for the restarts.
pub fn of_full(full: &Full) -> Vec<Series> {
    let mut fill = of("rest-fill", full.fill.operation.to_string(), settings(full.fill.clients, 0));
    fill.samples.push(Sample { rss_bytes_max: Some(full.rss_bytes_max), ..sample(&full.fill) });
    let stored = BTreeMap::from([("stored".to_owned(), full.stored.to_string())]);
    let mut restart = of("rest-restart", "ready after SIGKILL".to_owned(), stored);
    restart.samples.extend(full.restarts.iter().enumerate().map(|(round, restart)| Sample {
        round,
        seconds: restart.time.as_secs_f64(),
        operations: 1,
        latency: vec![(0.0, restart.time.as_secs_f64()), (1.0, restart.time.as_secs_f64())],
        rss_bytes_max: Some(restart.rss_bytes_max),
        ..Sample::default()
    }));
    let beside = [fill, restart].into_iter().filter(|series| !series.samples.is_empty());
    of_rounds(&full.measured).into_iter().chain(beside).collect()
}

fn of(case: &str, contestant: String, settings: BTreeMap<String, String>) -> Series {
    Series { case: case.to_owned(), settings, contestant, kind: Kind::Ours, absent: None, samples: Vec::new() }
}

fn settings(clients: usize, stored: u64) -> BTreeMap<String, String> {
    BTreeMap::from([("clients".to_owned(), clients.to_string()), ("stored".to_owned(), stored.to_string())])
}

fn sample(one: &Measured) -> Sample {
    Sample {
        round: one.round,
        seconds: one.seconds,
        operations: one.items,
        cpu_seconds: Some(one.cpu_seconds),
        latency: QUANTILES.iter().map(|quantile| (*quantile, one.latency_seconds(*quantile))).collect(),
        machine: one.machine,
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;
    use crate::{
        load::{Operation, Restart},
        record::MachineLoad,
    };

    #[test]
    fn results_become_series() {
        let mut latency_us = Histogram::new(3).unwrap();
        latency_us.record_n(2_000, 99).unwrap();
        latency_us.record(50_000).unwrap();
        let measured = |round, stored| Measured {
            operation: Operation::Bulk(10),
            clients: 4,
            round,
            stored,
            requests: 100,
            items: 1000,
            seconds: 2.0,
            cpu_seconds: 1.0,
            machine: MachineLoad::default(),
            latency_us: latency_us.clone(),
        };
        let full = Full {
            measured: vec![measured(0, 7)],
            stored: 7,
            fill: measured(0, 0),
            rss_bytes_max: 1,
            restarts: vec![Restart { time: Duration::from_secs(3), rss_bytes_max: 2 }],
            bytes_filled: 3,
            bytes_restarted: Some(4),
        };
        let empty = of_rounds(&[measured(0, 0), measured(1, 0)]);
        let [empty] = &empty[..] else { panic!("one series") };
        let [full, fill, restart] = &of_full(&full)[..] else { panic!("three series") };
        let rounds = |series: &Series| series.samples.iter().map(|sample| sample.round).collect::<Vec<_>>();
        assert_eq!((rounds(empty), rounds(full)), (vec![0, 1], vec![0]));
        assert_eq!((empty.contestant.as_str(), empty.samples[0].rate()), ("bulk-10", 500.0));
        assert_eq!((empty.settings["stored"].as_str(), full.settings["stored"].as_str()), ("0", "7"));
        let latency = &empty.samples[0].latency;
        let at = |wanted: f64| latency.iter().find(|(quantile, _)| *quantile == wanted).unwrap().1;
        assert!((at(0.5) - 0.002).abs() < 1e-5 && (at(1.0) - 0.05).abs() < 1e-3, "{latency:?}");
        assert_eq!((fill.case.as_str(), fill.samples[0].rss_bytes_max), ("rest-fill", Some(1)));
        assert_eq!((restart.samples[0].seconds, restart.samples[0].rss_bytes_max), (3.0, Some(2)));
    }
}
