//! What changed between two files of results, and whether it is more than noise. Pure.
//!
//! Two questions are asked about a contestant, each of them round by round (samples of one round are neighbours, and
//! are no independent witnesses), by an exact Mann-Whitney U test ([`mann_whitney`]), which asks nothing of
//! distributions:
//!
//! 1. Do its rates differ?
//! 2. Do its ratios to its neighbours differ, rivals and limits that were measured right beside it in both files?
//!
//! It changed when both are less likely than 1 of 100 to be chance ([`LEVEL`]), and in the same direction. The first
//! alone would call it a change whenever a disk or a hypervisor was slower during the second run: the samples of a run
//! share its minute, so that their spread knows nothing of the next one. The second alone would call it a change of
//! ours when a rival got slower. A test takes at least [`ROUNDS_MIN`] rounds on each side. Ours alone has the second
//! question: rivals and limits stand for the machine.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{
    figures::{counts_operations, rate},
    gathered::{Gathered, Group, describe},
};
use crate::{
    record::{Kind, Run, Series},
    statistics::{Spread, mann_whitney, median, rates_by_round, ratios_by_round},
};

/// Differences less likely than this to be chance are changes.
pub const LEVEL: f64 = 0.01;
/// With fewer rounds on a side no difference is unlikely enough: of 5 and 5, the most extreme has a probability of
/// 0.008.
pub const ROUNDS_MIN: usize = 5;

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
    /// By how much the median rate of rounds rose, as a share of the first; negative when it fell.
    pub change: f64,
    /// How likely a difference as large as this is by chance; nothing where there are too few rounds.
    pub p: Option<f64>,
    /// By how much the median ratio to its neighbours rose, as a share of the first; nothing where it has none.
    pub change_beside: Option<f64>,
    /// How likely that is by chance.
    pub p_beside: Option<f64>,
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
    /// Its rate differs, but not against its neighbours: the machine did.
    Machine,
    /// Noise can have made the difference.
    Noise,
    /// Too few rounds to tell.
    TooFewRounds,
}

/// Compares two files of results.
pub fn compare(before: &Gathered, after: &Gathered) -> Comparison {
    let (old, new) = (keyed(before), keyed(after));
    let missing = |from: &[Found<'_>], other: &[Found<'_>]| {
        let only = from.iter().filter(|one| !other.iter().any(|known| known.key == one.key));
        only.map(|one| one.key.clone()).collect()
    };
    let both = old.iter().filter_map(|one| line(one, new.iter().find(|known| known.key == one.key)?));
    Comparison {
        surroundings: surroundings(before.runs.first(), after.runs.first()),
        lines: both.collect(),
        only_before: missing(&old, &new),
        only_after: missing(&new, &old),
    }
}

/// A series with samples, and those it was measured with.
struct Found<'a> {
    key: Key,
    series: &'a Series,
    group: &'a Group,
}

impl Found<'_> {
    /// Its ratios to those neighbours that stand for the machine and are in `other`, too.
    fn ratios(&self, other: &Found<'_>) -> Vec<f64> {
        let in_both = |one: &&Series| {
            let known = other.group.series.iter().find(|known| known.contestant == one.contestant);
            one.kind != Kind::Ours && !one.samples.is_empty() && known.is_some_and(|known| !known.samples.is_empty())
        };
        ratios_by_round(self.series, &self.group.series.iter().filter(in_both).collect::<Vec<_>>())
    }
}

fn keyed(gathered: &Gathered) -> Vec<Found<'_>> {
    let groups = gathered.cases.iter().flat_map(|case| &case.groups);
    let keyed = groups.flat_map(|group| {
        group.series.iter().filter(|one| !one.samples.is_empty()).map(move |series| {
            let (case, contestant) = (series.case.clone(), series.contestant.clone());
            Found { key: Key { case, settings: group.settings.clone(), contestant }, series, group }
        })
    });
    keyed.collect()
}

fn line(before: &Found<'_>, after: &Found<'_>) -> Option<Line> {
    let (old, new) = (rate(before.series)?, rate(after.series)?);
    let (change, p) = test(&rates_by_round(before.series), &rates_by_round(after.series))?;
    let beside = (before.series.kind == Kind::Ours).then(|| test(&before.ratios(after), &after.ratios(before)));
    let beside = beside.flatten();
    let verdict = match (p, beside) {
        (None, _) => Verdict::TooFewRounds,
        (Some(p), _) if p >= LEVEL => Verdict::Noise,
        (_, Some((relative, p))) if p.is_none_or(|p| p >= LEVEL) || relative * change < 0.0 => Verdict::Machine,
        _ if change < 0.0 => Verdict::Slower,
        _ => Verdict::Faster,
    };
    Some(Line {
        key: before.key.clone(),
        kind: before.series.kind,
        unit: if counts_operations(before.series) { "operations per second" } else { "bytes per second" },
        before: old,
        after: new,
        change,
        p,
        change_beside: beside.map(|(change, _)| change),
        p_beside: beside.and_then(|(_, p)| p),
        verdict,
    })
}

/// By how much the median differs, and how likely that is by chance.
fn test(before: &[f64], after: &[f64]) -> Option<(f64, Option<f64>)> {
    let change = median(after.iter().copied())? / median(before.iter().copied())? - 1.0;
    let enough = before.len().min(after.len()) >= ROUNDS_MIN;
    Some((change, if enough { mann_whitney(before, after) } else { None }))
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
                    "  {:<24} {:>7} {:>19} {:>7} {:>19} {:>8} {:>7} {:>8} {:>7}  verdict",
                    "contestant", "before", "min to max, N", "after", "min to max, N", "change", "p", "beside", "p"
                )
                .expect(WRITES);
                last = Some(group);
            }
            writeln!(
                text,
                "  {:<24} {:>7} {:>19} {:>7} {:>19} {:>+7.1}% {:>7} {:>8} {:>7}  {}",
                line.key.contestant,
                figure(line, line.before.median),
                range(line, line.before),
                figure(line, line.after.median),
                range(line, line.after),
                line.change * 100.0,
                probability(line.p),
                line.change_beside.map_or_else(String::new, |change| format!("{:+.1}%", change * 100.0)),
                line.change_beside.map_or_else(String::new, |_| probability(line.p_beside)),
                words(line),
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
            "\nA change is more than noise where rates by round differ with p < {LEVEL} (exact Mann-Whitney U test), and of ours also \
             \nthe ratios to who ran beside it (beside). It takes at least {ROUNDS_MIN} rounds on each side."
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

fn probability(p: Option<f64>) -> String {
    p.map_or_else(|| "-".to_owned(), |p| format!("{p:.4}"))
}

fn words(line: &Line) -> &'static str {
    match line.verdict {
        // A limit is the machine.
        Verdict::Faster if line.kind == Kind::Limit => "machine faster",
        Verdict::Slower if line.kind == Kind::Limit => "machine slower",
        Verdict::Faster => "FASTER",
        Verdict::Slower => "SLOWER",
        Verdict::Machine => "the machine",
        Verdict::Noise => "noise",
        Verdict::TooFewRounds => "too few rounds",
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
        assert_eq!(verdicts, [Verdict::Slower, Verdict::Noise, Verdict::TooFewRounds, Verdict::Faster]);
        assert!((comparison.lines[0].change + 0.2).abs() < 1e-9);
        assert_eq!(comparison.only_before[0].contestant, "gone");
        assert_eq!(comparison.only_after[0].contestant, "new");
        assert_eq!(comparison.surroundings, ["kernel: 6.1 before, 6.2 after"]);
        assert_eq!((comparison.slower_than(0.1).count(), comparison.slower_than(0.25).count()), (1, 0));
        let text = comparison.to_table();
        for part in [
            "SLOWER",
            "machine faster",
            "-20.0%",
            "only in the first file",
            "the machine changed: file-to-file, limit: fio both, +36.4%",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }

    /// Two runs of one build on a disk that was slower during the second, as was measured: 21 samples of ours in 7
    /// rounds, and whoever ran beside them slower too.
    #[test]
    fn a_slower_minute_of_the_machine_is_no_change_of_ours() {
        let run = |ours: f64, limit: f64| {
            let mut file = file("6.1", &[("ours", Kind::Ours, ours, 7), ("limit: fio both", Kind::Limit, limit, 7)]);
            let group = &mut file.cases[0].groups[0];
            group.series[0].samples.iter_mut().for_each(|sample| sample.beside = Some("limit: fio both".to_owned()));
            group.series[1].samples.iter_mut().for_each(|sample| sample.beside = Some("ours".to_owned()));
            file
        };
        let verdict = |after: &Gathered| compare(&run(259.0, 282.0), after).lines[0].verdict;
        assert_eq!(verdict(&run(211.0, 229.0)), Verdict::Machine);
        assert_eq!(verdict(&run(211.0, 282.0)), Verdict::Slower);
        assert_eq!(verdict(&run(320.0, 282.0)), Verdict::Faster);
        // The machine became slower by more than ours did: not "slower", whatever the rate says.
        assert_eq!(verdict(&run(211.0, 150.0)), Verdict::Machine);
    }

    #[test]
    fn samples_of_one_round_are_one_witness() {
        let run = |rate: f64| {
            let mut file = file("6.1", &[("ours", Kind::Ours, rate, 4)]);
            let samples = &mut file.cases[0].groups[0].series[0].samples;
            *samples = samples.iter().flat_map(|sample| vec![sample.clone(); 3]).collect();
            file
        };
        assert_eq!(compare(&run(100.0), &run(50.0)).lines[0].verdict, Verdict::TooFewRounds);
    }

    #[test]
    fn the_same_file_has_no_changes() {
        let file = gather(specimen::records());
        let comparison = compare(&file, &file);
        assert!(comparison.lines.len() > 20 && comparison.lines.iter().all(|line| line.verdict == Verdict::Noise));
        assert!(comparison.surroundings.is_empty() && comparison.only_before.is_empty());
    }
}
