//! Results in the format of the bench's records.

use std::collections::BTreeMap;

use super::{Filling, Measured, Operation};
use crate::{
    record::{Kind, Sample, Series},
    statistics::Spread,
};

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

/// One series for the filling, and one for the restarts.
pub fn of_filling(filling: &Filling) -> Vec<Series> {
    let mut fill = of("rest-fill", filling.fill.operation.to_string(), settings(filling.fill.clients, 0));
    fill.samples.push(Sample { rss_bytes_max: Some(filling.rss_bytes_max), ..sample(&filling.fill) });
    let stored = BTreeMap::from([("stored".to_owned(), filling.stored.to_string())]);
    let mut restart = of("rest-restart", "ready after SIGKILL".to_owned(), stored);
    restart.samples.extend(filling.restarts.iter().enumerate().map(|(round, restart)| Sample {
        round,
        seconds: restart.time.as_secs_f64(),
        operations: 1,
        latency: vec![(0.0, restart.time.as_secs_f64()), (1.0, restart.time.as_secs_f64())],
        rss_bytes_max: Some(restart.rss_bytes_max),
        ..Sample::default()
    }));
    [fill, restart].into_iter().filter(|series| !series.samples.is_empty()).collect()
}

/// What each operation reached with more stored, as a share of what it reached with the least in the same round.
pub fn with_more_stored(measured: &[Measured]) -> Vec<(Operation, Spread)> {
    let mut shares: Vec<(Operation, Vec<f64>)> = Vec::new();
    for full in measured {
        let same = |one: &&Measured| (one.operation, one.round) == (full.operation, full.round);
        let least = measured.iter().filter(same).min_by_key(|one| one.stored);
        let Some(fresh) = least.filter(|fresh| fresh.stored < full.stored) else { continue };
        let share = full.rate() / fresh.rate();
        match shares.iter_mut().find(|(operation, _)| *operation == full.operation) {
            Some((_, shares)) => shares.push(share),
            None => shares.push((full.operation, vec![share])),
        }
    }
    shares.into_iter().filter_map(|(operation, shares)| Some((operation, Spread::of(shares)?))).collect()
}

fn of(case: &str, contestant: String, settings: BTreeMap<String, String>) -> Series {
    Series {
        case: case.to_owned(),
        settings,
        contestant,
        kind: Kind::Ours,
        absent: None,
        note: None,
        samples: Vec::new(),
    }
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

    fn measured(operation: Operation, round: usize, stored: u64) -> Measured {
        let mut latency_us = Histogram::new(3).unwrap();
        latency_us.record_n(2_000, 99).unwrap();
        latency_us.record(50_000).unwrap();
        Measured {
            operation,
            clients: 4,
            round,
            stored,
            requests: 100,
            items: 1000,
            seconds: 2.0,
            cpu_seconds: 1.0,
            machine: MachineLoad::default(),
            latency_us,
        }
    }

    #[test]
    fn results_become_series() {
        let measured = |round, stored| measured(Operation::Bulk(10), round, stored);
        let filling = Filling {
            stored: 7,
            fill: measured(0, 0),
            rss_bytes_max: 1,
            restarts: vec![Restart { time: Duration::from_secs(3), rss_bytes_max: 2 }],
            bytes_filled: 3,
            bytes_restarted: Some(4),
        };
        let all = [measured(0, 0), measured(0, 7), measured(1, 0)];
        let [empty, full] = &of_rounds(&all)[..] else { panic!("two series") };
        let [fill, restart] = &of_filling(&filling)[..] else { panic!("two series") };
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

    #[test]
    fn full_services_are_compared_with_the_fresh_ones_of_their_rounds() {
        let measured = |operation, round, stored, seconds| Measured { seconds, ..measured(operation, round, stored) };
        let (read, submit) = (Operation::Read, Operation::Submit);
        let all = [
            measured(read, 0, 1, 1.0),
            measured(read, 0, 9, 2.0),
            measured(read, 1, 1, 10.0),
            measured(read, 1, 9, 10.0),
            measured(submit, 0, 1, 1.0),
        ];
        let [(operation, spread)] = with_more_stored(&all)[..] else { panic!("one comparison") };
        assert_eq!((operation, spread.min, spread.max, spread.count), (read, 0.5, 1.0, 2));
    }
}
