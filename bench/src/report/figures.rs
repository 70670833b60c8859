//! The figures that answer the questions: how fast, against which limit, what limited. Pure.

use std::collections::BTreeSet;

use super::gathered::Group;
use crate::{
    measure::noise,
    record::{Kind, Sample, Series},
    statistics::{Spread, median, pairs, ratio},
};

/// Somebody whom the reference was measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Against<'a> {
    /// Whom.
    pub series: &'a Series,
    /// How many times as fast the reference was, over pairs of neighbours.
    pub ratio: Spread,
}

impl Group {
    /// Whom everybody is paired with.
    pub fn reference(&self) -> Option<&Series> {
        self.series.first()
    }

    /// The reference, where it is ours and has samples.
    pub fn ours(&self) -> Option<&Series> {
        self.reference().filter(|series| series.kind == Kind::Ours && !series.samples.is_empty())
    }

    /// The limit that counts. Where several tools put one question to the hardware (`limit: fio both` and `limit:
    /// io_uring both`), the best answer is nearest to what the hardware can do; of several questions (`limit: fetch`,
    /// `limit: fio write`), the one with the slowest answer limits.
    pub fn limit(&self) -> Option<Against<'_>> {
        let ours = self.ours()?;
        let limits = against(ours, &self.series, Kind::Limit);
        let best = |limit: &&Against<'_>| {
            let same = limits.iter().filter(|other| question(other.series) == question(limit.series));
            same.min_by(|one, other| one.ratio.median.total_cmp(&other.ratio.median)) == Some(*limit)
        };
        limits.iter().filter(best).copied().max_by(|one, other| one.ratio.median.total_cmp(&other.ratio.median))
    }

    /// The fastest of the rivals.
    pub fn rival(&self) -> Option<Against<'_>> {
        let rivals = against(self.ours()?, &self.series, Kind::Rival);
        rivals.into_iter().min_by(|one, other| one.ratio.median.total_cmp(&other.ratio.median))
    }

    /// How much of the limit a contestant reaches: measured in pairs for the reference, and through the reference for
    /// others.
    pub fn of_limit(&self, series: &Series) -> Option<f64> {
        let limit = self.limit()?;
        if series.kind == Kind::Limit {
            return None;
        }
        let ours = self.ours()?;
        if series.contestant == ours.contestant {
            return Some(limit.ratio.median);
        }
        Some(limit.ratio.median / ratio(ours, series)?.median)
    }

    /// Why its figures are worth little, if so.
    pub fn noise(&self) -> Option<String> {
        let judged = self.series.iter().filter(|series| series.kind == Kind::Ours);
        noise(judged.flat_map(|series| &series.samples), self.cores)
    }

    /// Whether it is about operations and not about bytes.
    pub fn counts_operations(&self) -> bool {
        self.series.iter().any(counts_operations)
    }
}

fn against<'a>(ours: &Series, all: &'a [Series], kind: Kind) -> Vec<Against<'a>> {
    let those = all.iter().filter(|series| series.kind == kind);
    those.filter_map(|series| Some(Against { series, ratio: ratio(ours, series)? })).collect()
}

/// What a limit asks of the hardware: its name without who asks.
fn question(limit: &Series) -> &str {
    let name = limit.contestant.strip_prefix("limit: ").unwrap_or(&limit.contestant);
    match name.split_once(' ') {
        Some(("fio" | "io_uring", question)) => question,
        _ => name,
    }
}

/// Whether a contestant's work is counted in operations.
pub fn counts_operations(series: &Series) -> bool {
    series.samples.iter().any(|sample| sample.bytes == 0 && sample.operations > 0)
}

/// Goodput, or operations per second.
pub fn rate(series: &Series) -> Option<Spread> {
    Spread::of(series.samples.iter().map(Sample::rate))
}

/// Digits behind the point that operations per second are shown with: what is slower than 10 would be a round nothing.
pub fn rate_digits(rate: f64) -> usize {
    if rate < 10.0 { 2 } else { 0 }
}

/// User and system CPU seconds for each GiB of the object, or of all its copies.
pub fn cpu_seconds_per_gib(series: &Series) -> Option<f64> {
    per_gib(series, |sample| sample.cpu_seconds)
}

/// System calls for each GiB of the object.
pub fn system_calls_per_gib(series: &Series) -> Option<f64> {
    per_gib(series, |sample| sample.system_calls.map(|calls| calls as f64))
}

fn per_gib(series: &Series, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let each = series.samples.iter().filter(|sample| sample.bytes > 0);
    median(each.filter_map(|sample| Some(of(sample)? / sample.gib_delivered())))
}

/// Medians of what else the case asks for, for instance `source read 1.01`.
pub fn further(series: &Series) -> Vec<String> {
    let names: BTreeSet<&String> = series.samples.iter().flat_map(|sample| sample.figures.keys()).collect();
    let of = |name: &String| median(series.samples.iter().filter_map(|sample| sample.figures.get(name).copied()));
    names.into_iter().filter_map(|name| Some(format!("{name} {:.2}", of(name)?))).collect()
}

/// How many times the CPU seconds of `theirs` ours took: the median over pairs of neighbours.
pub fn cpu_ratio(ours: &Series, theirs: &Series) -> Option<f64> {
    let each = pairs(ours, theirs).filter_map(|(ours, theirs)| Some(ours.cpu_seconds? / theirs.cpu_seconds?));
    median(each.filter(|ratio| ratio.is_finite()))
}

/// CPU seconds for each operation.
pub fn cpu_seconds_per_operation(series: &Series) -> Option<f64> {
    let each = series.samples.iter().filter(|sample| sample.operations > 0);
    median(each.filter_map(|sample| Some(sample.cpu_seconds? / sample.operations as f64)))
}

/// How many cores it kept busy.
pub fn cores_busy(series: &Series) -> Option<f64> {
    median(series.samples.iter().filter_map(|sample| Some(sample.cpu_seconds? / sample.seconds.max(f64::EPSILON))))
}

/// Most memory at a time, in bytes.
pub fn memory_max(series: &Series) -> Option<f64> {
    median(series.samples.iter().filter_map(|sample| Some(sample.rss_bytes_max? as f64)))
}

/// Seconds of latency at a quantile (0 to 1): the median over samples.
pub fn latency(series: &Series, quantile: f64) -> Option<f64> {
    median(series.samples.iter().filter_map(|sample| at_quantile(&sample.latency, quantile)))
}

/// Between the two nearest quantiles that are known, on a straight line.
fn at_quantile(known: &[(f64, f64)], wanted: f64) -> Option<f64> {
    let above = known.iter().position(|(quantile, _)| *quantile >= wanted - 1e-9)?;
    let (high, seconds) = known[above];
    let Some((low, before)) = above.checked_sub(1).map(|below| known[below]) else { return Some(seconds) };
    let share = ((wanted - low) / (high - low)).clamp(0.0, 1.0);
    Some(before + (seconds - before) * share)
}

/// The stages that chunks pass, in the order of the pipeline. Others run beside them or after the last chunk.
pub const CHUNK_STAGES: [&str; 8] = ["idle", "sync_wait", "queue", "memory", "read", "checksum", "write", "read_back"];

/// Median seconds in each stage, in the order of the pipeline; stages that this list does not know come last.
pub fn stages(series: &Series) -> Vec<(String, f64)> {
    const REST: [&str; 6] = ["start", "open", "sync", "verify", "ledger", "commit"];
    let mut names: Vec<&String> = series.samples.iter().flat_map(|sample| sample.stages.keys()).collect();
    let order = |name: &str| {
        let place = CHUNK_STAGES.iter().chain(&REST).position(|known| *known == name);
        place.unwrap_or(usize::MAX)
    };
    names.sort_by_key(|name| (order(name), name.as_str()));
    names.dedup();
    let of = |name: &String| median(series.samples.iter().map(|s| s.stages.get(name).copied().unwrap_or(0.0)));
    names.into_iter().filter_map(|name| Some((name.clone(), of(name)?))).collect()
}

/// The shares of the stages that work passes: of those of chunks, or of all where there are none of chunks.
pub fn stage_shares(series: &Series) -> Vec<(String, f64)> {
    let all = stages(series);
    let of_chunks: Vec<_> = all.iter().filter(|(name, _)| CHUNK_STAGES.contains(&name.as_str())).cloned().collect();
    let shown = if of_chunks.is_empty() { all } else { of_chunks };
    let sum: f64 = shown.iter().map(|(_, seconds)| seconds).sum();
    if sum <= 0.0 {
        return Vec::new();
    }
    shown.into_iter().map(|(name, seconds)| (name, seconds / sum)).collect()
}

/// The largest stages first, those of at least 2 %, for instance `read 61 %`.
pub fn largest_stages(series: &Series) -> Vec<String> {
    let mut shares = stage_shares(series);
    shares.sort_by(|one, other| other.1.total_cmp(&one.1));
    let shown = shares.iter().filter(|(_, share)| *share >= 0.02);
    shown.map(|(stage, share)| format!("{} {:.0} %", stage.replace('_', " "), share * 100.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::specimen;

    #[test]
    fn the_best_answer_to_one_question_counts_and_the_slowest_of_several_questions() {
        let mut contestants = vec![
            ("ours", Kind::Ours, 100.0),
            ("limit: fio both", Kind::Limit, 125.0),
            ("limit: io_uring both", Kind::Limit, 110.0),
            ("cp", Kind::Rival, 50.0),
            ("dd", Kind::Rival, 80.0),
        ];
        let group = specimen::group(&contestants);
        let limit = group.limit().unwrap();
        assert_eq!(limit.series.contestant, "limit: fio both");
        assert!((limit.ratio.median - 0.8).abs() < 1e-9);
        assert_eq!(group.rival().unwrap().series.contestant, "dd");
        assert!((group.of_limit(&group.series[3]).unwrap() - 0.4).abs() < 1e-9);
        assert_eq!(group.of_limit(&group.series[1]), None);
        contestants.push(("limit: fetch", Kind::Limit, 105.0));
        assert_eq!(specimen::group(&contestants).limit().unwrap().series.contestant, "limit: fetch");
        let machine =
            specimen::group(&[("limit: fio read", Kind::Limit, 1.0), ("limit: io_uring read", Kind::Limit, 2.0)]);
        assert!(machine.limit().is_none() && machine.ours().is_none());
    }

    #[test]
    fn what_else_was_asked_for_is_told_by_its_name_and_cpu_is_for_all_copies() {
        let mut series = specimen::series("ours", Kind::Ours, 1.0);
        series.samples.truncate(3);
        for (sample, read) in series.samples.iter_mut().zip([1.0, 1.5, 1.02]) {
            sample.figures = [("source read".to_owned(), read)].into();
            (sample.bytes, sample.copies, sample.cpu_seconds) = (1 << 30, Some(8), Some(16.0));
        }
        assert_eq!(further(&series), ["source read 1.02"]);
        assert_eq!(cpu_seconds_per_gib(&series), Some(2.0));
    }

    #[test]
    fn quantiles_in_between_are_interpolated() {
        let known = [(0.5, 1.0), (0.9, 3.0), (1.0, 5.0)];
        assert_eq!(at_quantile(&known, 0.5), Some(1.0));
        assert_eq!(at_quantile(&known, 0.1), Some(1.0));
        assert!((at_quantile(&known, 0.7).unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(at_quantile(&known, 1.0), Some(5.0));
        assert_eq!(at_quantile(&[], 0.5), None);
    }

    #[test]
    fn shares_are_of_the_stages_that_chunks_pass() {
        let mut series = specimen::series("ours", Kind::Ours, 1.0);
        let stages = [("commit", 9.0), ("write", 1.0), ("read", 3.0)];
        series.samples[0].stages = stages.map(|(name, seconds)| (name.to_owned(), seconds)).into();
        series.samples.truncate(1);
        assert_eq!(stage_shares(&series), [("read".to_owned(), 0.75), ("write".to_owned(), 0.25)]);
        assert_eq!(largest_stages(&series), ["read 75 %", "write 25 %"]);
        series.samples[0].stages = [("connect".to_owned(), 2.0)].into();
        assert_eq!(largest_stages(&series), ["connect 100 %"]);
    }
}
