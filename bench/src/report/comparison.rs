//! What changed between two files of results, and whether it is more than noise. Pure.
//!
//! Rates of a contestant before and after are compared by an exact Mann-Whitney U test ([`mann_whitney`]), which asks
//! nothing of their distribution: they differ when such a difference would come about by chance in less than 1 of 100
//! comparisons ([`LEVEL`]). That takes at least [`SAMPLES_MIN`] samples on each side. The test knows the noise within
//! runs only. A machine that is slower as a whole is found by its limits: where these changed too, that is said.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    figures::{counts_operations, rate},
    gathered::{Gathered, Group, describe},
};
use crate::{
    record::{Kind, Run, Sample, Series},
    statistics::{Spread, mann_whitney},
};

/// Differences less likely than this to be chance are changes.
pub const LEVEL: f64 = 0.01;
/// With fewer samples on a side no difference is unlikely enough: of 5 and 5, the most extreme has a probability of 0.008.
pub const SAMPLES_MIN: usize = 5;

/// Two files of results, one against the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What was different around the measurement: machines and versions.
    pub surroundings: Vec<String>,
    /// Whatever is in both.
    pub lines: Vec<Line>,
    /// What is in the first file only.
    pub only_before: Vec<Key>,
    /// What is in the second file only.
    pub only_after: Vec<Key>,
}

/// What tells a series from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Which case.
    pub case: String,
    /// With which settings.
    pub settings: BTreeMap<String, String>,
    /// Who.
    pub contestant: String,
}

/// One contestant in one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Which one.
    #[serde(flatten)]
    pub key: Key,
    /// What it is there for.
    pub kind: Kind,
    /// `bytes per second` or `operations per second`.
    pub unit: &'static str,
    /// Its rate in the first file.
    pub before: Spread,
    /// Its rate in the second.
    pub after: Spread,
    /// By how much the median rate rose, as a share of the first; negative when it fell.
    pub change: f64,
    /// How likely a difference as large as this is by chance; nothing where there are too few samples.
    pub p: Option<f64>,
    /// What that means.
    pub verdict: Verdict,
}

/// Whether a difference is more than noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Faster, and more than by noise.
    Faster,
    /// Slower, and more than by noise.
    Slower,
    /// Noise can have made the difference.
    Noise,
    /// Too few samples to tell.
    TooFewSamples,
}

/// Compares two files of results.
pub fn compare(before: &Gathered, after: &Gathered) -> Comparison {
    let (old, new) = (keyed(before), keyed(after));
    let missing = |from: &[(Key, &Series)], other: &[(Key, &Series)]| {
        let only = from.iter().filter(|(key, _)| !other.iter().any(|(known, _)| known == key));
        only.map(|(key, _)| key.clone()).collect()
    };
    let both = old.iter().filter_map(|(key, one)| {
        let (_, other) = new.iter().find(|(known, _)| known == key)?;
        line(key, one, other)
    });
    Comparison {
        surroundings: surroundings(before.runs.first(), after.runs.first()),
        lines: both.collect(),
        only_before: missing(&old, &new),
        only_after: missing(&new, &old),
    }
}

/// Every series with samples. The setting `run`, which keeps machines apart within a file, is none here.
fn keyed(gathered: &Gathered) -> Vec<(Key, &Series)> {
    let groups = gathered.cases.iter().flat_map(|case| &case.groups);
    let keyed = groups.flat_map(|Group { settings, series, .. }| {
        series.iter().filter(|one| !one.samples.is_empty()).map(move |one| {
            let key = Key { case: one.case.clone(), settings: settings.clone(), contestant: one.contestant.clone() };
            (key, one)
        })
    });
    keyed.collect()
}

fn line(key: &Key, before: &Series, after: &Series) -> Option<Line> {
    let rates = |series: &Series| series.samples.iter().map(Sample::rate).collect::<Vec<_>>();
    let (old, new) = (rate(before)?, rate(after)?);
    let enough = old.count.min(new.count) >= SAMPLES_MIN;
    let p = if enough { mann_whitney(&rates(before), &rates(after)) } else { None };
    let change = new.median / old.median - 1.0;
    let verdict = match p {
        None => Verdict::TooFewSamples,
        Some(p) if p >= LEVEL => Verdict::Noise,
        Some(_) if change < 0.0 => Verdict::Slower,
        Some(_) => Verdict::Faster,
    };
    let unit = if counts_operations(before) { "operations per second" } else { "bytes per second" };
    Some(Line { key: key.clone(), kind: before.kind, unit, before: old, after: new, change, p, verdict })
}

fn surroundings(before: Option<&Run>, after: Option<&Run>) -> Vec<String> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    let mut told = Vec::new();
    let mut differ = |what: &str, one: &str, other: &str| {
        if one != other {
            told.push(format!("{what}: {one} before, {other} after"));
        }
    };
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let (one, other) = (&before.host, &after.host);
    differ("machine", &or_unknown(&one.product), &or_unknown(&other.product));
    differ("processor", &one.cpu, &other.cpu);
    differ("cores", &one.cores.to_string(), &other.cores.to_string());
    differ("memory in bytes", &one.memory_bytes.to_string(), &other.memory_bytes.to_string());
    differ("kernel", &one.kernel, &other.kernel);
    differ("storage", &or_unknown(&one.storage), &or_unknown(&other.storage));
    let programs =
        before.versions.keys().chain(after.versions.keys().filter(|name| !before.versions.contains_key(*name)));
    for program in programs {
        let of = |run: &Run| run.versions.get(program).cloned().unwrap_or_else(|| "not installed".to_owned());
        differ(program, &of(before), &of(after));
    }
    told
}

impl Comparison {
    /// What of ours got slower by more than this share, and by more than noise.
    pub fn slower_than(&self, share: f64) -> impl Iterator<Item = &Line> {
        let ours = self.lines.iter().filter(|line| line.kind == Kind::Ours && line.verdict == Verdict::Slower);
        ours.filter(move |line| -line.change > share)
    }

    /// Limits that changed by more than noise: then the machine did, and everything else with it.
    fn machine_changes(&self) -> impl Iterator<Item = &Line> {
        let limits = self.lines.iter().filter(|line| line.kind == Kind::Limit);
        limits.filter(|line| matches!(line.verdict, Verdict::Faster | Verdict::Slower))
    }

    /// For a terminal.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        for difference in &self.surroundings {
            writeln!(text, "not the same: {difference}").expect(WRITES);
        }
        let mut last: Option<(&str, &BTreeMap<String, String>)> = None;
        for line in &self.lines {
            let group = (line.key.case.as_str(), &line.key.settings);
            if last != Some(group) {
                let settings = describe(&line.key.settings);
                let settings = if settings.is_empty() { String::new() } else { format!(" ({settings})") };
                writeln!(text, "\n{}{settings}, {}", line.key.case, unit(line)).expect(WRITES);
                writeln!(
                    text,
                    "  {:<28} {:>9} {:>19} {:>9} {:>19} {:>8} {:>7}  verdict",
                    "contestant", "before", "min to max, N", "after", "min to max, N", "change", "p"
                )
                .expect(WRITES);
                last = Some(group);
            }
            writeln!(
                text,
                "  {:<28} {:>9} {:>19} {:>9} {:>19} {:>+7.1}% {:>7}  {}",
                line.key.contestant,
                figure(line, line.before.median),
                range(line, line.before),
                figure(line, line.after.median),
                range(line, line.after),
                line.change * 100.0,
                line.p.map_or_else(|| "-".to_owned(), |p| format!("{p:.4}")),
                words(line.verdict),
            )
            .expect(WRITES);
        }
        for (only, which) in [(&self.only_before, "first"), (&self.only_after, "second")] {
            for key in only {
                let settings = describe(&key.settings);
                writeln!(text, "\nonly in the {which} file: {}, {} ({settings})", key.case, key.contestant)
                    .expect(WRITES);
            }
        }
        for line in self.machine_changes() {
            let (limit, change) = (&line.key.contestant, line.change * 100.0);
            writeln!(text, "\nthe machine changed: {}, {limit}, {change:+.1}%", line.key.case).expect(WRITES);
        }
        writeln!(
            text,
            "\nA change is more than noise where an exact Mann-Whitney U test gives p < {LEVEL}, with at least {SAMPLES_MIN} samples on each side."
        )
        .expect(WRITES);
        text
    }
}

const WRITES: &str = "writing to a string";

fn unit(line: &Line) -> &'static str {
    if line.unit == "bytes per second" { "MB/s" } else { "operations per second" }
}

fn figure(line: &Line, rate: f64) -> String {
    let shown = if line.unit == "bytes per second" { rate / 1e6 } else { rate };
    let digits = if shown < 10.0 { 2 } else { 0 };
    format!("{shown:.digits$}")
}

fn range(line: &Line, spread: Spread) -> String {
    format!("{} to {}, {}", figure(line, spread.min), figure(line, spread.max), spread.count)
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "FASTER",
        Verdict::Slower => "SLOWER",
        Verdict::Noise => "noise",
        Verdict::TooFewSamples => "too few samples",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{Host, Record},
        report::{gathered::gather, specimen},
    };

    fn file(kernel: &str, contestants: &[(&str, Kind, f64, usize)]) -> Gathered {
        let host = Host { kernel: kernel.to_owned(), ..Host::default() };
        let run = Record::Run(Box::new(Run { host, ..Run::default() }));
        let series = contestants.iter().map(|(contestant, kind, rate, count)| {
            let mut series = specimen::series(contestant, *kind, *rate);
            series.samples.truncate(*count);
            Record::Series(series)
        });
        gather(std::iter::once(run).chain(series))
    }

    #[test]
    fn what_changed_is_told_from_noise() {
        let before = file(
            "6.1",
            &[
                ("ours", Kind::Ours, 100.0, 7),
                ("cp", Kind::Rival, 50.0, 7),
                ("few", Kind::Rival, 50.0, 4),
                ("gone", Kind::Rival, 9.0, 7),
                ("limit: fio both", Kind::Limit, 110.0, 7),
            ],
        );
        let after = file(
            "6.2",
            &[
                ("ours", Kind::Ours, 80.0, 7),
                ("cp", Kind::Rival, 50.5, 7),
                ("few", Kind::Rival, 90.0, 7),
                ("new", Kind::Rival, 9.0, 7),
                ("limit: fio both", Kind::Limit, 150.0, 7),
            ],
        );
        let comparison = compare(&before, &after);
        let verdicts: Vec<Verdict> = comparison.lines.iter().map(|line| line.verdict).collect();
        assert_eq!(verdicts, [Verdict::Slower, Verdict::Noise, Verdict::TooFewSamples, Verdict::Faster]);
        assert!((comparison.lines[0].change + 0.2).abs() < 1e-9);
        assert_eq!(comparison.only_before[0].contestant, "gone");
        assert_eq!(comparison.only_after[0].contestant, "new");
        assert_eq!(comparison.surroundings, ["kernel: 6.1 before, 6.2 after"]);
        assert_eq!((comparison.slower_than(0.1).count(), comparison.slower_than(0.25).count()), (1, 0));
        let text = comparison.to_table();
        for part in
            ["SLOWER", "-20.0%", "only in the first file", "the machine changed: file-to-file, limit: fio both, +36.4%"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }

    #[test]
    fn the_same_file_has_no_changes() {
        let file = gather(specimen::records());
        let comparison = compare(&file, &file);
        assert!(comparison.lines.len() > 20 && comparison.lines.iter().all(|line| line.verdict == Verdict::Noise));
        assert!(comparison.surroundings.is_empty() && comparison.only_before.is_empty());
    }
}
