//! One case: its plots, and every figure in a table.

use maud::{Markup, html};

use super::{
    anchor, figure, legend,
    summary::{differing, millis},
};
use crate::{
    record::{Kind, Series},
    report::{
        figures::{
            counts_operations, cpu_ratio, cpu_seconds_per_gib, cpu_seconds_per_operation, largest_stages, latency,
            memory_max, rate, rate_digits, stages, system_calls_per_gib,
        },
        gathered::{CaseResults, Group},
        plots::{self, Plot, grouped},
    },
    statistics::ratio,
};

/// More groups than these get one table together, and no plots of single samples: that is a sweep.
const GROUPS_MAX: usize = 2;

/// Everything about a case.
pub fn section(case: &CaseResults) -> Markup {
    let sweep = plots::sweep(case);
    let apart = case.groups.len() <= GROUPS_MAX;
    html! {
        section id=(anchor(&case.name)) {
            h2 { (case.name) }
            @if !sweep.is_empty() { (grid(&sweep, "plots")) }
            @if let Some(plot) = latencies(case) { (figure(&plot)) }
            @if apart {
                @for group in &case.groups {
                    @let title = differing(case, group);
                    @if !title.is_empty() { h3 { (title) } }
                    (of_group(case, group, &title))
                }
            } @else {
                (table(case, &case.groups.iter().collect::<Vec<_>>(), "all combinations"))
            }
        }
    }
}

fn of_group(case: &CaseResults, group: &Group, title: &str) -> Markup {
    let strip = plots::strip(group);
    let named: Vec<(String, &Series)> = group.series.iter().map(|one| (one.contestant.clone(), one)).collect();
    let bars = plots::stages(&named);
    let timelines = plots::timelines(group);
    let both: Vec<Plot> = strip.into_iter().chain(bars).collect();
    html! {
        @if let Some(why) = group.noise() {
            p.noisy role="note" { strong { "NOISY: " } (why) "; these figures are worth little." }
        }
        (table(case, &[group], title))
        @for (one, note) in group.series.iter().filter_map(|one| Some((one, one.note.as_ref()?))) {
            p { (one.contestant) " " (note) "." }
        }
        (grid(&both, "plots"))
        (stage_table(group))
        @if !timelines.is_empty() {
            h4 { "Throughput over time: MB/s by second, of the sample in the middle" }
            (grid(&timelines, "plots small"))
            (legend(&timelines[0]))
        }
    }
}

/// Plots beside one another as far as there is room.
fn grid(plots: &[Plot], class: &str) -> Markup {
    let small = class.contains("small");
    html! {
        div class=(class) {
            @for plot in plots {
                @if small { (figure(&Plot { legend: Vec::new(), ..plot.clone() })) } @else { (figure(plot)) }
            }
        }
    }
}

fn latencies(case: &CaseResults) -> Option<Plot> {
    let groups = case.groups.iter().flat_map(|group| group.series.iter().map(move |one| (group, one)));
    let alone = case.groups.iter().all(|group| group.series.len() == 1);
    let named: Vec<(String, &Series)> = groups
        .map(|(group, one)| match (differing(case, group), alone) {
            (settings, _) if settings.is_empty() => (one.contestant.clone(), one),
            (settings, true) => (settings, one),
            (settings, false) => (format!("{}, {settings}", one.contestant), one),
        })
        .collect();
    plots::latency(&named)
}

/// Work per second with its unit.
pub fn amount(series: &Series, rate: f64) -> String {
    if counts_operations(series) {
        let digits = rate_digits(rate);
        format!("{}/s", grouped(&format!("{rate:.digits$}")))
    } else {
        format!("{} MB/s", megabytes(rate))
    }
}

fn megabytes(rate: f64) -> String {
    let digits = if rate < 10e6 { 1 } else { 0 };
    grouped(&format!("{:.digits$}", rate / 1e6))
}

/// A column of figures: its header, and its text for a contestant, empty where it has none.
type Column = (&'static str, Box<dyn Fn(&Group, &Series) -> String>);

fn table(case: &CaseResults, groups: &[&Group], title: &str) -> Markup {
    let operations = groups.iter().any(|group| group.counts_operations());
    let lines: Vec<(&Group, &Series)> =
        groups.iter().flat_map(|group| group.series.iter().map(move |one| (*group, one))).collect();
    let mut columns = if operations { of_operations() } else { of_bytes() };
    columns.retain(|(_, text)| lines.iter().any(|(group, one)| !text(group, one).is_empty()));
    let settings = groups.len() > 1;
    let limited = lines.iter().any(|(_, one)| !largest_stages(one).is_empty());
    html! {
        div.scrolls tabindex="0" role="group" aria-label={ "Figures of " (case.name) " " (title) } {
            table {
                thead {
                    tr {
                        @if settings { th scope="col" { "Settings" } }
                        th scope="col" { "Contestant" }
                        @for (header, _) in &columns { th.number scope="col" { (header) } }
                        @if limited { th scope="col" { "What limited" } }
                    }
                }
                tbody {
                    @for (group, one) in lines {
                        tr class=(class(one)) {
                            @if settings { td.what { (differing(case, group)) } }
                            th scope="row" { (one.contestant) }
                            @if one.samples.is_empty() {
                                td colspan=(columns.len() + usize::from(limited)) { "absent: " (one.absent.as_deref().unwrap_or("no sample")) }
                            } @else {
                                @for (_, text) in &columns { td.number { (or_dash(text(group, one))) } }
                                @if limited { td.what { (largest_stages(one).into_iter().take(3).collect::<Vec<_>>().join(", ")) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(series: &Series) -> &'static str {
    match series.kind {
        _ if series.samples.is_empty() => "absent",
        Kind::Ours => "ours",
        Kind::Rival => "rival",
        Kind::Limit => "limit",
    }
}

fn of_bytes() -> Vec<Column> {
    let against = |of: fn(&Series, &Series) -> Option<f64>| {
        move |group: &Group, one: &Series| {
            let other = group.ours().filter(|ours| ours.contestant != one.contestant);
            figure_of(other.and_then(|ours| of(ours, one)), 2)
        }
    };
    vec![
        ("MB/s", Box::new(|_, one| rate(one).map_or_else(String::new, |rate| megabytes(rate.median)))),
        ("Min", Box::new(|_, one| rate(one).map_or_else(String::new, |rate| megabytes(rate.min)))),
        ("Max", Box::new(|_, one| rate(one).map_or_else(String::new, |rate| megabytes(rate.max)))),
        ("N", Box::new(|_, one| count(one))),
        ("Of limit", Box::new(|group, one| figure_of(group.of_limit(one), 2))),
        ("Staccato ÷ it", Box::new(against(|ours, other| Some(ratio(ours, other)?.median)))),
        ("CPU s/GiB", Box::new(|_, one| figure_of(cpu_seconds_per_gib(one), 2))),
        ("CPU ÷ its", Box::new(against(cpu_ratio))),
        ("System calls/GiB", Box::new(|_, one| figure_of(system_calls_per_gib(one), 0))),
        ("Peak MiB", Box::new(|_, one| figure_of(memory_max(one).map(|bytes| bytes / 1_048_576.0), 0))),
    ]
}

fn of_operations() -> Vec<Column> {
    let at = |quantile: f64| move |_: &Group, one: &Series| latency(one, quantile).map_or_else(String::new, millis);
    vec![
        ("Operations/s", Box::new(|_, one| per_second(rate(one).map(|rate| rate.median)))),
        ("Min", Box::new(|_, one| per_second(rate(one).map(|rate| rate.min)))),
        ("Max", Box::new(|_, one| per_second(rate(one).map(|rate| rate.max)))),
        ("N", Box::new(|_, one| count(one))),
        ("p50 ms", Box::new(at(0.5))),
        ("p99 ms", Box::new(at(0.99))),
        ("p99.9 ms", Box::new(at(0.999))),
        ("Max ms", Box::new(at(1.0))),
        ("CPU µs/op", Box::new(|_, one| figure_of(cpu_seconds_per_operation(one).map(|seconds| seconds * 1e6), 1))),
        ("Peak MiB", Box::new(|_, one| figure_of(memory_max(one).map(|bytes| bytes / 1_048_576.0), 0))),
    ]
}

fn count(series: &Series) -> String {
    if series.samples.is_empty() { String::new() } else { series.samples.len().to_string() }
}

fn per_second(rate: Option<f64>) -> String {
    figure_of(rate, rate.map_or(0, rate_digits))
}

fn figure_of(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| grouped(&format!("{value:.digits$}")))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "–".to_owned() } else { text }
}

/// Seconds of every stage, those included that run beside the chunks.
fn stage_table(group: &Group) -> Markup {
    let telling: Vec<(&Series, Vec<(String, f64)>)> =
        group.series.iter().map(|one| (one, stages(one))).filter(|(_, stages)| !stages.is_empty()).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in telling.iter().flat_map(|(_, stages)| stages) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    html! {
        @if !telling.is_empty() {
            details {
                summary { "Seconds in every stage" }
                div.scrolls tabindex="0" role="group" aria-label="Seconds in every stage" {
                    table {
                        thead { tr { th scope="col" { "Stage" } @for (one, _) in &telling { th.number scope="col" { (one.contestant) } } } }
                        tbody {
                            @for name in names {
                                tr {
                                    th scope="row" { (name.replace('_', " ")) }
                                    @for (_, stages) in &telling {
                                        td.number { (or_dash(figure_of(stages.iter().find(|(one, _)| one == name).map(|(_, seconds)| *seconds), 3))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::Sample;

    #[test]
    fn slow_operations_are_not_rounded_to_nothing() {
        let samples = vec![Sample { operations: 1, seconds: 2.9, ..Sample::default() }];
        let (case, contestant) = ("rest-restart".to_owned(), "ready".to_owned());
        let slow =
            Series { case, settings: BTreeMap::new(), contestant, kind: Kind::Ours, absent: None, note: None, samples };
        assert_eq!(amount(&slow, 0.345), "0.34/s");
        assert_eq!(amount(&slow, 28_537.6), "28,538/s");
        assert_eq!((per_second(Some(0.345)), per_second(None)), ("0.34".into(), String::new()));
    }
}
