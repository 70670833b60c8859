//! Results as one page that needs nothing else: no network, no other file, no script.
//!
//! It answers, from top to bottom: which machine this was; how fast it can be, how fast Staccato is on it, and what
//! limits it; and then, case by case, everything that was measured.

mod case;
#[cfg(test)]
mod in_chromium;
mod summary;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    gathered::{Gathered, gather},
    plots::{self, Mark, Plot},
};
use crate::{
    measure::NOISY_SHARE,
    record::{Record, Run},
};

const STYLE: &str = include_str!("style.css");

/// The page of some records.
pub fn page(records: impl IntoIterator<Item = Record>) -> String {
    let gathered = gather(records);
    let title = match gathered.runs.first() {
        Some(run) => format!("Staccato bench, {}", date(&run.started_at)),
        None => "Staccato bench".to_owned(),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) "@media screen and (prefers-color-scheme: dark) {\n" (PreEscaped(plots::style_of_colours())) "}" }
            }
            body {
                header {
                    h1 { (title) }
                    @for run in different(&gathered.runs) { (machine(run)) }
                    (contents(&gathered))
                }
                main {
                    (summary::summary(&gathered))
                    @for case in &gathered.cases { (case::section(case)) }
                }
                footer { (reading()) }
            }
        }
    };
    page.into_string()
}

/// The day of a point in time.
fn date(rfc3339: &str) -> &str {
    rfc3339.split('T').next().unwrap_or(rfc3339)
}

/// One run of each machine and set of versions.
fn different(runs: &[Run]) -> Vec<&Run> {
    let mut seen: Vec<&Run> = Vec::new();
    for run in runs {
        if !seen.iter().any(|known| (&known.host, &known.versions) == (&run.host, &run.versions)) {
            seen.push(run);
        }
    }
    seen
}

fn machine(run: &Run) -> Markup {
    let host = &run.host;
    let cores = if host.cores == 1 { "1 core".to_owned() } else { format!("{} cores", host.cores) };
    let memory = format!("{:.1} GiB", host.memory_bytes as f64 / f64::from(1 << 30));
    html! {
        dl.facts {
            div { dt { "Machine" } dd { (host.product.as_deref().unwrap_or("unknown")) ", " (cores) ", " (memory) } }
            div { dt { "Processor" } dd { (host.cpu) } }
            div { dt { "Storage" } dd { (host.storage.as_deref().unwrap_or("unknown")) } }
            div { dt { "Kernel" } dd { (host.kernel) } }
            div { dt { "Begun" } dd { time datetime=(run.started_at) { (run.started_at) } } }
            div { dt { "Command" } dd { code { (command(&run.command)) } } }
        }
        details {
            summary { "Versions of what took part" }
            dl.facts {
                @for (program, version) in &run.versions { div { dt { (program) } dd { (version) } } }
            }
        }
    }
}

/// As it was typed: the bench is a program of its own, and a command of `staccato`.
fn command(arguments: &[String]) -> String {
    let program = if arguments.first().is_some_and(|first| first == "bench") { "staccato" } else { "staccato-bench" };
    [program].into_iter().chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

fn contents(gathered: &Gathered) -> Markup {
    html! {
        nav aria-label="Cases" {
            a href="#summary" { "Summary" }
            @for case in &gathered.cases { a href={ "#" (anchor(&case.name)) } { (case.name) } }
        }
    }
}

/// The name of a case as the target of a link.
fn anchor(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    format!("case-{}", name.chars().map(plain).collect::<String>())
}

/// A plot with its caption and legend.
fn figure(plot: &Plot) -> Markup {
    let (width, height) = plot.size;
    html! {
        figure style={ "--width: " (width) "px" } {
            div.scrolls tabindex="0" role="group" aria-label=(plot.caption) {
                svg.plot role="img" aria-label=(plot.caption) viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) {
                    (PreEscaped(&plot.elements))
                }
            }
            figcaption { (plot.caption) }
            (legend(plot))
        }
    }
}

fn legend(plot: &Plot) -> Markup {
    html! {
        @if !plot.legend.is_empty() {
            ul.legend { @for (colour, mark, name) in &plot.legend { li { (sign(*mark, &colour.attribute())) (name) } } }
        }
    }
}

/// The mark that a plot uses, for its legend.
fn sign(mark: Mark, colour: &str) -> Markup {
    html! {
        svg.sign viewBox="0 0 16 12" width="16" height="12" aria-hidden="true" {
            @match mark {
                Mark::Circle => circle cx="8" cy="6" r="4.5" fill=(colour) {},
                Mark::Triangle => polygon points="8,1 13.5,11 2.5,11" fill=(colour) {},
                Mark::Square => rect x="3.5" y="1.5" width="9" height="9" fill=(colour) {},
                Mark::Line => line x1="0" y1="6" x2="16" y2="6" stroke=(colour) stroke-width="3" {},
                Mark::Bar => rect x="1" y="0" width="14" height="12" fill=(colour) {},
            }
        }
    }
}

/// What the words on the page mean.
fn reading() -> Markup {
    html! {
        h2 { "How to read this page" }
        dl.words {
            dt { "Goodput" }
            dd { "Bytes of the object for each second of wall time until the work was done, and durable where it had to be. 1 MB is 1,000,000 bytes. The median of N samples, the smallest and the largest." }
            dt { "Ratios" }
            dd { "Everybody is measured in pairs with Staccato, one right after the other, in turns. A ratio is the median over such pairs, with the smallest and the largest in brackets: neighbours share what the machine did at the time." }
            dt { "Limit" }
            dd { "What the hardware gives to whoever only moves bytes, without checksums, checkpoints or names, taken again in every round. Where several tools ask the same of the hardware, the best answer counts; where different things were asked, the slowest of them is the limit." }
            dt { "Memory touched before, as found" }
            dd { "Virtual machines often give back memory that they do not use, and get it again slowly. “Touched before”: it was made sure that memory is there. “As found”: nothing was done." }
            dt { "Start" }
            dd { "Programs are timed from their start to their end, ours with the start of its lanes (in “Seconds in every stage”), limits without. In sweeps (chunk size, depth) ours are timed without it too." }
            dt { "Stages" }
            dd { "Time that the chunks of an object spent in each stage, summed over chunks; several are under way at a time. " b { "read" } " and " b { "write" } ": storage or network had it. " b { "checksum" } ": the processor. " b { "queue" } ": waited for a lane’s turn. " b { "memory" } ": waited for a buffer. " b { "sync wait" } ": what was written had to become durable first. " b { "idle" } ": a place in the window that no chunk took. " b { "read back" } ": compared with what an earlier attempt wrote." }
            dt { "Noisy" }
            dd { "The hypervisor, or other work on the machine, took more than " (format!("{:.0}", NOISY_SHARE * 100.0)) " % of all cores while Staccato was measured. Whatever its own processes did, preparing and putting away included, is no noise; what the kernel’s threads did for them counts as other work." }
        }
        p { "Schema of the results: " (crate::record::SCHEMA) ". Memory is in MiB of 1,048,576 bytes." }
    }
}
