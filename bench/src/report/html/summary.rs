//! The answers, before everything else: how fast this host can be, how fast Staccato is, what limits it.

use maud::{Markup, html};

use super::{anchor, case::amount};
use crate::{
    record::{Kind, Series},
    report::{
        figures::{
            Against, cores_busy, counts_operations, cpu_seconds_per_gib, cpu_seconds_per_operation, largest_stages,
            latency, rate,
        },
        gathered::{CaseResults, Gathered, Group, describe},
    },
    statistics::Spread,
};

/// More groups than these do not stand side by side: only the fastest and the slowest are told.
const COLUMNS_MAX: usize = 3;

/// Who reaches this share of a limit is limited by the host.
const REACHED: f64 = 0.9;

/// All answers.
pub fn summary(gathered: &Gathered) -> Markup {
    let (ours, machine): (Vec<&CaseResults>, Vec<&CaseResults>) =
        gathered.cases.iter().partition(|case| case.groups.iter().any(|group| group.ours().is_some()));
    html! {
        section #summary {
            h2 { "Summary" }
            @if gathered.cases.is_empty() { p { "There are no results in this file." } }
            @if let Some(warning) = noise(gathered) { (warning) }
            @if !machine.is_empty() {
                h3 { "How fast can this host be?" }
                (of_machine(&machine))
            }
            @for case in ours { (of_case(case)) }
        }
    }
}

/// Cases whose figures are worth little.
fn noise(gathered: &Gathered) -> Option<Markup> {
    let noisy: Vec<(String, String)> = gathered
        .cases
        .iter()
        .flat_map(|case| case.groups.iter().map(move |group| (case, group)))
        .filter_map(|(case, group)| Some((title(case, group), group.noise()?)))
        .collect();
    (!noisy.is_empty()).then(|| {
        html! {
            div.noisy role="note" {
                p { strong { "NOISY. " } "This machine did other things meanwhile; these figures are worth little:" }
                ul { @for (case, why) in noisy { li { (case) ": " (why) "." } } }
            }
        }
    })
}

/// The name of a case, with the settings in which this group differs from its siblings.
pub fn title(case: &CaseResults, group: &Group) -> String {
    let settings = differing(case, group);
    if settings.is_empty() { case.name.clone() } else { format!("{}, {settings}", case.name) }
}

/// The settings in which a group differs from its siblings.
pub fn differing(case: &CaseResults, group: &Group) -> String {
    let varying = case.varying();
    describe(group.settings.iter().filter(|(name, _)| varying.contains_key(*name)))
}

/// The best answer of the hardware to each question.
fn of_machine(cases: &[&CaseResults]) -> Markup {
    html! {
        div.scrolls tabindex="0" role="group" aria-label="What the hardware can do" {
            table {
                thead { tr { th scope="col" { "Case" } th scope="col" { "Asked by" } th.number scope="col" { "Median" } th.number scope="col" { "Min" } th.number scope="col" { "Max" } th.number scope="col" { "N" } } }
                tbody {
                    @for case in cases {
                        @for group in &case.groups {
                            @for (series, rate) in group.series.iter().filter_map(|one| Some((one, rate(one)?))) {
                                tr {
                                    th scope="row" { a href={ "#" (anchor(&case.name)) } { (title(case, group)) } }
                                    td { (series.contestant.strip_prefix("limit: ").unwrap_or(&series.contestant)) }
                                    td.number { (amount(series, rate.median)) }
                                    td.number { (amount(series, rate.min)) }
                                    td.number { (amount(series, rate.max)) }
                                    td.number { (rate.count) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The three questions, and one column for each group.
fn of_case(case: &CaseResults) -> Markup {
    let mut groups: Vec<&Group> = case.groups.iter().filter(|group| group.ours().is_some()).collect();
    let all = groups.len();
    if all > COLUMNS_MAX {
        groups = extremes(&groups);
    }
    let groups: Vec<(String, &Group)> = groups.into_iter().map(|group| (differing(case, group), group)).collect();
    let common = case.groups.first().map(|group| {
        let varying = case.varying();
        describe(group.settings.iter().filter(|(name, _)| !varying.contains_key(*name)))
    });
    let has = |of: fn(&Group) -> Option<Against<'_>>| groups.iter().any(|(_, group)| of(group).is_some());
    html! {
        h3 { a href={ "#" (anchor(&case.name)) } { (case.name) } @if let Some(common) = common.filter(|text| !text.is_empty()) { small { " " (common) } } }
        @if all > COLUMNS_MAX { p { "Of " (all) " combinations of settings, the fastest and the slowest:" } }
        div.scrolls tabindex="0" role="group" aria-label={ "Summary of " (case.name) } {
            table.answers {
                @if groups.len() > 1 {
                    thead { tr { td {} @for (title, _) in &groups { th scope="col" { (title) } } } }
                }
                tbody {
                    @if has(Group::limit) {
                        (row("How fast can this host be?", &groups, |group| {
                            group.limit().map(|limit| html! { (fastest(limit.series)) })
                        }))
                    }
                    (row("How fast is Staccato?", &groups, |group| group.ours().map(ours)))
                    @if has(Group::limit) {
                        (row("Of the limit", &groups, |group| group.limit().map(|limit| html! {
                            strong { (percent(limit.ratio.median)) } " (" (percent(limit.ratio.min)) " to " (percent(limit.ratio.max)) " over " (limit.ratio.count) " pairs)"
                        })))
                    }
                    @if has(Group::rival) {
                        (row("Fastest other tool", &groups, |group| group.rival().map(|rival| html! { (fastest(rival.series)) })))
                        (row("Staccato is", &groups, |group| group.rival().map(|rival| html! { (times(rival.ratio)) })))
                    }
                    @if groups.iter().filter_map(|(_, group)| group.ours()).any(|ours| !largest_stages(ours).is_empty()) {
                        (row("What limits it?", &groups, limits))
                    }
                    (row("What does it cost?", &groups, |group| cost(group.ours()?, group.cores)))
                }
            }
        }
    }
}

/// The fastest and the slowest.
fn extremes<'a>(groups: &[&'a Group]) -> Vec<&'a Group> {
    let speed = |group: &&&Group| group.ours().and_then(rate).map_or(0.0, |rate| rate.median);
    let by_speed = |one: &&&'a Group, other: &&&'a Group| speed(one).total_cmp(&speed(other));
    let most = groups.iter().max_by(|one, other| by_speed(one, other));
    let least = groups.iter().min_by(|one, other| by_speed(one, other));
    most.into_iter().chain(least).copied().collect()
}

/// An answer for each of these groups, under these titles.
fn row(question: &str, groups: &[(String, &Group)], answer: impl Fn(&Group) -> Option<Markup>) -> Markup {
    html! {
        tr {
            th scope="row" { (question) }
            @for (title, group) in groups { td data-of=[(groups.len() > 1).then_some(title)] { @match answer(group) { Some(answer) => (answer), None => "not measured" } } }
        }
    }
}

fn ours(series: &Series) -> Markup {
    let Some(rate) = rate(series) else { return html! { "not measured" } };
    html! {
        strong { (amount(series, rate.median)) } " (" (amount(series, rate.min)) " to " (amount(series, rate.max)) ", " (rate.count) " samples)"
        @if let (Some(median), Some(tail)) = (latency(series, 0.5), latency(series, 0.99)) {
            br; "latency " (millis(median)) " ms, 99th percentile " (millis(tail)) " ms"
        }
    }
}

fn fastest(series: &Series) -> Markup {
    let name = series.contestant.strip_prefix("limit: ").unwrap_or(&series.contestant);
    html! { @if let Some(rate) = rate(series) { strong { (amount(series, rate.median)) } " by " } (name) @if series.kind == Kind::Limit { ", bytes only" } }
}

/// The host, where nearly all of what it can do is reached; and what chunks spent their time on in any case.
fn limits(group: &Group) -> Option<Markup> {
    let stages = largest_stages(group.ours()?);
    let first = stages.first()?;
    let rest = &stages[1..stages.len().min(4)];
    let reached = group.limit().map(|limit| limit.ratio.median).filter(|reached| *reached >= REACHED);
    Some(html! {
        @if let Some(reached) = reached { strong { "The host" } ": " (percent(reached)) " of what it can do is reached." br; }
        strong { (first) } " of the time" @if let Some(meaning) = meaning(first) { " (" (meaning) ")" }
        @if !rest.is_empty() { ", then " (rest.join(", ")) }
    })
}

/// What somebody does who spends time in a stage.
fn meaning(stage: &str) -> Option<&'static str> {
    let meanings = [
        ("read back", "compares what is there"),
        ("read", "waits for the source"),
        ("write", "waits for the destination"),
        ("checksum", "the processor"),
        ("queue", "waits for a lane"),
        ("memory", "waits for a buffer"),
        ("sync wait", "the destination makes durable what is written"),
        ("idle", "places for chunks that none took"),
    ];
    meanings.into_iter().find(|(name, _)| stage.starts_with(name)).map(|(_, meaning)| meaning)
}

fn cost(ours: &Series, cores: usize) -> Option<Markup> {
    let each = if counts_operations(ours) {
        format!("{:.1} CPU µs per operation", cpu_seconds_per_operation(ours)? * 1e6)
    } else {
        format!("{:.2} CPU seconds per GiB", cpu_seconds_per_gib(ours)?)
    };
    let busy = cores_busy(ours)?;
    Some(
        html! { (each) " (" (format!("{busy:.2}")) " of " (cores) @if cores == 1 { " core" } @else { " cores" } " busy)" },
    )
}

fn times(ratio: Spread) -> Markup {
    html! { strong { (format!("{:.2}", ratio.median)) " times as fast" } " (" (format!("{:.2} to {:.2}", ratio.min, ratio.max)) " over " (ratio.count) " pairs)" }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn millis(seconds: f64) -> String {
    let millis = seconds * 1e3;
    if millis < 10.0 { format!("{millis:.2}") } else { format!("{millis:.0}") }
}
