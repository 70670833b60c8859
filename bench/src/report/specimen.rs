//! Made-up results for tests: everything that a page can show, with names that would break it if they were not escaped.

use std::collections::BTreeMap;

use super::gathered::Group;
use crate::record::{Host, Kind, MachineLoad, Record, Run, Sample, Series, Timeline};

/// Pairs in each series.
const PAIRS: usize = 7;

/// A contestant at this rate in MB/s, within 10 %: the same in the same round for everybody.
pub fn series(contestant: &str, kind: Kind, rate: f64) -> Series {
    let bytes = 512 << 20;
    let samples = (0..PAIRS).map(|round| {
        let seconds = bytes as f64 / 1e6 / rate * (1.0 + 0.02 * (round as f64 - 3.0));
        Sample {
            round,
            seconds,
            bytes,
            cpu_seconds: Some(seconds * 0.2),
            rss_bytes_max: Some(96 << 20),
            system_calls: (kind != Kind::Limit).then_some(4321),
            machine: MachineLoad {
                seconds,
                busy_seconds: seconds * 0.25,
                own_seconds: seconds * 0.2,
                ..MachineLoad::default()
            },
            timelines: timelines(bytes, seconds),
            ..Sample::default()
        }
    });
    Series {
        case: "file-to-file".into(),
        settings: BTreeMap::from([("size".to_owned(), bytes.to_string())]),
        contestant: contestant.into(),
        kind,
        absent: None,
        note: None,
        samples: samples.collect(),
    }
}

fn timelines(bytes: u64, seconds: f64) -> Vec<Timeline> {
    let intervals = (seconds / 0.1).ceil().max(1.0) as u64;
    let of = |meter: &str, bend: u64| Timeline {
        meter: meter.to_owned(),
        interval_seconds: 0.1,
        bytes: (0..intervals).map(|at| bytes / intervals * (8 + (at * bend) % 5) / 10).collect(),
    };
    vec![of("disk read", 3), of("disk written", 7)]
}

/// Several of them, the first being the reference.
pub fn group(contestants: &[(&str, Kind, f64)]) -> Group {
    let mut series: Vec<Series> =
        contestants.iter().map(|(contestant, kind, rate)| series(contestant, *kind, *rate)).collect();
    pair(&mut series);
    Group { settings: BTreeMap::new(), cores: 2, series }
}

/// Everybody in pairs with the first: that has a sample in each round for each of the others.
fn pair(all: &mut [Series]) {
    let Some((reference, others)) = all.split_first_mut() else { return };
    let others: Vec<&mut Series> = others.iter_mut().filter(|one| !one.samples.is_empty()).collect();
    let names: Vec<String> = others.iter().map(|one| one.contestant.clone()).collect();
    for sample in others.into_iter().flat_map(|one| &mut one.samples) {
        sample.beside = Some(reference.contestant.clone());
    }
    let besides = |sample: &Sample| {
        let sample = sample.clone();
        names.clone().into_iter().map(move |name| Sample { beside: Some(name), ..sample.clone() })
    };
    reference.samples = reference.samples.iter().flat_map(besides).collect();
}

/// A run with every kind of case.
pub fn records() -> Vec<Record> {
    let mut records = vec![Record::Run(Box::new(run()))];
    records.extend(machine());
    for (memory, slower) in [("touched before", 1.0), ("as found", 1.4)] {
        records.extend(copies(memory, slower));
    }
    records.extend(sweep());
    records.extend(submissions());
    records
}

fn run() -> Run {
    Run {
        started_at: "2026-11-28T09:00:00Z".into(),
        command: ["local", "--folder", "<b>&\"quoted\"</b>"].map(String::from).into(),
        versions: [("staccato", "0.1.0"), ("cp", "cp (GNU coreutils) 9.1"), ("fio", "fio-3.33")]
            .map(|(program, version)| (program.to_owned(), version.to_owned()))
            .into(),
        host: Host {
            kernel: "6.18.0".into(),
            cpu: "A processor with a long name & <angle brackets> @ 2.90 GHz".into(),
            cores: 2,
            memory_bytes: 24 << 30,
            product: Some("Virtual Machine".into()),
            storage: Some("/dev/vda ext4 (rw,relatime,discard)".into()),
        },
    }
}

/// What the hardware can do, without anybody of ours.
fn machine() -> Vec<Record> {
    let of = |case: &str, contestants: &[(&str, f64)]| {
        let all = contestants
            .iter()
            .map(|(contestant, rate)| Series { case: case.to_owned(), ..series(contestant, Kind::Limit, *rate) });
        all.map(Record::Series).collect::<Vec<_>>()
    };
    let mut records = of("disk-read", &[("limit: io_uring read", 1510.0), ("limit: fio read", 1544.0)]);
    records.extend(of("processor", &[("limit: CRC-32 in cache", 46_900.0), ("limit: copy, streamed", 11_200.0)]));
    records
}

fn copies(memory: &str, slower: f64) -> Vec<Record> {
    let contestants = [
        ("staccato tokio-uring", Kind::Ours, 776.0),
        ("staccato glommio", Kind::Ours, 799.0 / slower),
        ("limit: fio both", Kind::Limit, 812.0),
        ("limit: io_uring both", Kind::Limit, 780.0),
        ("cp <script>alert(1)</script>", Kind::Rival, 520.0 / slower),
        ("dd direct", Kind::Rival, 559.0),
        ("rclone", Kind::Rival, 0.0),
    ];
    let each = contestants.into_iter().map(|(contestant, kind, rate)| {
        let mut one = series(contestant, kind, if rate > 0.0 { rate } else { 1.0 });
        one.settings.insert("memory".to_owned(), memory.to_owned());
        if rate == 0.0 {
            one.samples.clear();
            one.absent = Some("rclone is not installed".to_owned());
        }
        for sample in &mut one.samples {
            if kind == Kind::Ours {
                let stages = [("open", 0.01), ("idle", 0.3), ("queue", 0.2), ("read", 5.1), ("checksum", 0.1)];
                sample.stages = stages
                    .into_iter()
                    .chain([("write", 3.0), ("sync", 0.2), ("commit", 0.03)])
                    .map(|(stage, seconds)| (stage.to_owned(), seconds * sample.seconds))
                    .collect();
            }
            if memory == "as found" {
                sample.machine.steal_seconds = 0.3 * sample.seconds;
            }
        }
        one
    });
    let mut all: Vec<Series> = each.collect();
    pair(&mut all);
    all.into_iter().map(Record::Series).collect()
}

/// Chunk size × depth × lane, with one contestant.
fn sweep() -> Vec<Record> {
    let mut records = Vec::new();
    for lane in ["tokio-uring", "glommio"] {
        for (step, chunk) in ["1 MiB", "4 MiB", "16 MiB"].into_iter().enumerate() {
            for depth in [2_u32, 8, 32] {
                let rate = 300.0 + 120.0 * step as f64 + 60.0 * f64::from(depth.ilog2());
                let mut one = series("staccato", Kind::Ours, rate);
                one.case = "zero-to-file".to_owned();
                let settings = [("lane", lane), ("chunk", chunk), ("depth", &depth.to_string())];
                one.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
                records.push(Record::Series(one));
            }
        }
    }
    records
}

/// Operations with latencies, by number of clients.
fn submissions() -> Vec<Record> {
    let mut records = Vec::new();
    for clients in [1_u32, 8, 32, 128] {
        let mut one = series("staccato", Kind::Ours, 1.0);
        one.case = "submit".to_owned();
        one.settings = [("clients".to_owned(), clients.to_string())].into();
        for sample in &mut one.samples {
            let per_second = 9000.0 * f64::from(clients) / (f64::from(clients) + 6.0);
            let usual = f64::from(clients) / per_second;
            sample.bytes = 0;
            sample.timelines.clear();
            sample.operations = (per_second * sample.seconds) as u64;
            let quantiles = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0];
            let slowness = [0.5, 0.7, 0.8, 1.0, 1.2, 1.5, 2.5, 5.0, 8.0, 12.0];
            sample.latency = quantiles.into_iter().zip(slowness.map(|times| times * usual)).collect();
        }
        records.push(Record::Series(one));
    }
    records
}
