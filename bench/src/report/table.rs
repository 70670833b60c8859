//! Results in a terminal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    figures::{
        counts_operations, cpu_seconds_per_gib, cpu_seconds_per_operation, further, largest_stages, latency,
        memory_max, rate, rate_digits, system_calls_per_gib,
    },
    gathered::{CaseResults, Group, describe},
};
use crate::{record::Series, statistics::ratio};

/// The widest line.
pub const WIDTH_MAX: usize = 140;
/// Most columns of a contestant's name.
const NAME_WIDTH_MAX: usize = 40;

/// A column: its header, its width, and its text for a contestant.
type Column = (&'static str, usize, Box<dyn Fn(&Group, &Series) -> String>);

/// The contestants of one case, the reference first. Ratios are medians over pairs of neighbours.
pub fn of_case(series: &[Series], cores: usize) -> String {
    let settings = series.first().map(|reference| reference.settings.clone()).unwrap_or_default();
    of_group(&Group { settings, cores, series: series.to_vec() })
}

/// The same of results that were read.
pub fn of_group(group: &Group) -> String {
    let mut text = String::new();
    let Some(reference) = group.reference() else { return text };
    let settings = group.settings.iter();
    writeln!(text, "{}{}", reference.case, in_brackets(&describe(settings))).expect(WRITES);
    let columns = if group.counts_operations() { of_operations() } else { of_bytes() };
    let names = group.series.iter().map(|series| series.contestant.chars().count());
    let width = names.max().unwrap_or(0).clamp("contestant".len(), NAME_WIDTH_MAX);
    let header = columns.iter().map(|(header, width, _)| format!(" {header:>width$}"));
    writeln!(text, "  {:<width$}{}  where the time went", "contestant", header.collect::<String>()).expect(WRITES);
    for one in &group.series {
        let name = shortened(&one.contestant, width);
        if one.samples.is_empty() {
            let why = one.absent.as_deref().unwrap_or("no sample");
            writeln!(text, "  {name:<width$}  absent: {why}").expect(WRITES);
            continue;
        }
        let cells = columns.iter().map(|(_, width, cell)| format!(" {:>width$}", cell(group, one)));
        let mut line = format!("  {name:<width$}{}", cells.collect::<String>());
        let mut between = "  ";
        for stage in further(one).into_iter().chain(largest_stages(one)) {
            if line.chars().count() + between.len() + stage.len() > WIDTH_MAX {
                break;
            }
            line.push_str(between);
            line.push_str(&stage);
            between = ", ";
        }
        writeln!(text, "{}", line.trim_end()).expect(WRITES);
    }
    for (one, note) in group.series.iter().filter_map(|one| Some((one, one.note.as_ref()?))) {
        writeln!(text, "  {} {note}", one.contestant).expect(WRITES);
    }
    if let Some(why) = group.noise() {
        writeln!(text, "  NOISY: {why}; these figures are worth little").expect(WRITES);
    }
    text
}

/// A sweep: a line for each combination of settings, named by those in which they differ.
pub fn of_sweep(case: &CaseResults) -> String {
    let Some(first) = case.groups.first() else { return String::new() };
    let varying = case.varying();
    let (mut settings, mut series) = (first.settings.clone(), Vec::new());
    settings.retain(|name, _| !varying.contains_key(name));
    for group in &case.groups {
        let differing = describe(group.settings.iter().filter(|(name, _)| varying.contains_key(*name)));
        series.extend(group.series.iter().map(|one| Series {
            contestant: if differing.is_empty() { one.contestant.clone() } else { differing.clone() },
            ..one.clone()
        }));
    }
    of_group(&Group { settings, cores: first.cores, series })
}

/// All cases of a run in one table: a line for each case and contestant, a column for each combination of the settings in
/// which they differ. Median MB/s; cases about operations are left out.
pub fn across<'a>(all: impl IntoIterator<Item = &'a Series>) -> String {
    let all: Vec<&Series> = all.into_iter().collect();
    let of_operations: BTreeSet<&str> =
        all.iter().filter(|one| counts_operations(one)).map(|one| one.case.as_str()).collect();
    let all: Vec<&Series> = all.into_iter().filter(|one| !of_operations.contains(one.case.as_str())).collect();
    if all.is_empty() {
        return String::new();
    }
    let of_link = |name: &str| !["memory", "size", "streams", "transport"].contains(&name);
    let link = |one: &Series| {
        one.settings
            .iter()
            .filter(|(name, _)| of_link(name))
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    // A service's transfers have as many as they find good.
    let streams_of = |one: &Series| one.settings.get("streams").cloned().unwrap_or_default();
    let mut links: Vec<BTreeMap<String, String>> = Vec::new();
    let mut lines: Vec<(String, String, String)> = Vec::new();
    for one in &all {
        let line = (one.case.clone(), one.contestant.clone(), streams_of(one));
        if !links.contains(&link(one)) {
            links.push(link(one));
        }
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    // What is the same everywhere is said once.
    let same: BTreeMap<String, String> = links
        .first()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, value)| links.iter().all(|link| link.get(name) == Some(value)))
        .collect();
    let mut text = String::new();
    writeln!(text, "median MB/s{}", in_brackets(&describe(&same))).expect(WRITES);
    for (index, link) in links.iter().enumerate() {
        let differs = describe(link.iter().filter(|(name, _)| !same.contains_key(*name)));
        writeln!(text, "  [{}] {}", index + 1, if differs.is_empty() { "all" } else { &differs }).expect(WRITES);
    }
    let header: String = (1..=links.len()).map(|index| format!(" {:>8}", format!("[{index}]"))).collect();
    writeln!(text, "  {:<18} {:<20} {:>7}{header}", "case", "contestant", "streams").expect(WRITES);
    for (case, contestant, streams) in &lines {
        let cells: String = links
            .iter()
            .map(|of| {
                let found = all.iter().find(|one| {
                    one.case == *case
                        && one.contestant == *contestant
                        && streams_of(one) == *streams
                        && link(one) == *of
                });
                let cell = match found {
                    Some(one) if one.samples.is_empty() => "absent".to_owned(),
                    Some(one) => optional(rate(one).map(|rate| rate.median / 1e6), 1),
                    None => String::new(),
                };
                format!(" {cell:>8}")
            })
            .collect();
        writeln!(text, "  {case:<18} {:<20} {streams:>7}{cells}", shortened(contestant, 20)).expect(WRITES);
    }
    text
}

const WRITES: &str = "writing to a string";

fn in_brackets(settings: &str) -> String {
    if settings.is_empty() { String::new() } else { format!(" ({settings})") }
}

fn shortened(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width - 1).chain(['…']).collect()
}

fn of_bytes() -> Vec<Column> {
    vec![
        ("MB/s", 7, Box::new(|_, one| optional(rate(one).map(|rate| rate.median / 1e6), 0))),
        ("min", 7, Box::new(|_, one| optional(rate(one).map(|rate| rate.min / 1e6), 0))),
        ("max", 7, Box::new(|_, one| optional(rate(one).map(|rate| rate.max / 1e6), 0))),
        count(),
        ("of limit", 8, Box::new(|group, one| optional(group.of_limit(one), 2))),
        ours_to_it(),
        ("CPU s/GiB", 9, Box::new(|_, one| optional(cpu_seconds_per_gib(one), 2))),
        ("calls/GiB", 9, Box::new(|_, one| optional(system_calls_per_gib(one), 0))),
        memory(),
    ]
}

fn of_operations() -> Vec<Column> {
    let millis = |quantile: f64| move |_: &Group, one: &Series| optional(latency(one, quantile).map(|s| s * 1e3), 2);
    vec![
        ("ops/s", 8, Box::new(|_, one| per_second(rate(one).map(|rate| rate.median)))),
        ("min", 8, Box::new(|_, one| per_second(rate(one).map(|rate| rate.min)))),
        ("max", 8, Box::new(|_, one| per_second(rate(one).map(|rate| rate.max)))),
        count(),
        ours_to_it(),
        ("p50 ms", 8, Box::new(millis(0.5))),
        ("p99 ms", 8, Box::new(millis(0.99))),
        ("max ms", 8, Box::new(millis(1.0))),
        ("CPU µs/op", 9, Box::new(|_, one| optional(cpu_seconds_per_operation(one).map(|s| s * 1e6), 1))),
        memory(),
    ]
}

fn count() -> Column {
    ("N", 3, Box::new(|_, one| one.samples.len().to_string()))
}

fn ours_to_it() -> Column {
    let cell = |group: &Group, one: &Series| {
        let other = group.ours().filter(|ours| ours.contestant != one.contestant);
        other.and_then(|ours| ratio(ours, one)).map_or_else(String::new, |ratio| format!("{:.2}", ratio.median))
    };
    ("ours to it", 10, Box::new(cell))
}

fn memory() -> Column {
    ("RSS MiB", 7, Box::new(|_, one| optional(memory_max(one).map(|bytes| bytes / 1_048_576.0), 0)))
}

/// A number, or a dash where there is none.
fn per_second(rate: Option<f64>) -> String {
    optional(rate, rate.map_or(0, rate_digits))
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::Kind,
        report::{gathered::gather, specimen},
    };

    #[test]
    fn a_case_is_a_table_and_who_is_absent_is_named() {
        let gathered = gather(specimen::records());
        let group = &gathered.cases.iter().find(|case| case.name == "file-to-file").unwrap().groups[0];
        let text = of_group(group);
        assert!(text.starts_with("file-to-file (memory touched before, size 512 MiB)\n"), "{text}");
        assert!(text.contains("rclone") && text.contains("absent: rclone is not installed"), "{text}");
        assert!(text.contains("  read 59 %, write 34 %"), "{text}");
        let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        let cells = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // MB/s, min, max, N, of limit, ours to it, CPU s/GiB, calls/GiB, RSS MiB
        assert_eq!(cells("dd direct")[2..], ["559", "527", "595", "7", "0.69", "1.39", "0.38", "8642", "96"]);
        assert_eq!(cells("limit: fio")[3..], ["812", "766", "864", "7", "-", "0.96", "0.26", "-", "96"]);
    }

    #[test]
    fn operations_have_columns_of_their_own() {
        let gathered = gather(specimen::records());
        let group = &gathered.cases.iter().find(|case| case.name == "submit").unwrap().groups[2];
        let text = of_group(group);
        assert!(text.contains("ops/s") && text.contains("p99 ms") && !text.contains("MB/s"), "{text}");
        assert!(text.contains(" 10.56 "), "the 99th percentile: {text}");
    }

    #[test]
    fn what_somebody_says_of_itself_stands_below_the_table() {
        let mut group = specimen::group(&[("service auto", Kind::Ours, 9.0), ("service tcp", Kind::Ours, 5.0)]);
        group.series[0].note = Some("took quic in the end (measured)".into());
        let text = of_group(&group);
        assert_eq!(text.lines().last(), Some("  service auto took quic in the end (measured)"), "{text}");
    }

    #[test]
    fn operations_are_not_among_megabytes() {
        let mut small = specimen::series("service auto", Kind::Ours, 1.0);
        small.case = "small".into();
        small.samples.iter_mut().for_each(|sample| (sample.bytes, sample.operations) = (0, 10));
        let large = specimen::series("service auto", Kind::Ours, 1.0);
        let text = across([&small, &large]);
        assert!(text.contains("file-to-file") && !text.contains("small"), "{text}");
        let line = text.lines().find(|line| line.contains("service auto")).unwrap();
        assert_eq!(line.split_whitespace().last(), Some("1.0"), "it has no number of streams: {text}");
        assert_eq!(across([&small]), "");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for case in gather(specimen::records()).cases {
            for line in
                case.groups.iter().flat_map(|group| of_group(group).lines().map(str::to_owned).collect::<Vec<_>>())
            {
                assert!(line.chars().count() <= WIDTH_MAX, "{line}");
            }
        }
    }
}
