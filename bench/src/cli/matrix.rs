//! `matrix`: sweeps.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    output::Output,
    report::{read, write_page},
};
use crate::{
    cases::Workplace,
    contest::{Case, PAIRS_MIN, Progress},
    contestants::Attempt,
    host,
    matrix::{Combination, Destination, Matrix, Source, in_turns, time_left},
    measure::Meter,
    record::{Record, Sample, Series},
    report::{gathered::gather, table},
    worker::Program,
};

/// Arguments of `matrix`.
#[derive(Debug, Args)]
pub struct Sweep {
    /// What to measure (TOML; bench/examples/sweep.toml explains it)
    file: PathBuf,
    /// Where results go, as JSON lines (appended, sample by sample)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a page of the results goes
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Go on where an earlier sweep ended: what is in the output is not measured again
    #[arg(long, requires = "output")]
    resume: bool,
    /// Folder on the disk to measure, in place of the file's
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// The name of our contestant in results.
const NAME: &str = "staccato";

impl Sweep {
    /// Measures every combination.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let text = fs::read_to_string(&self.file).map_err(|error| explain(&self.file, &error.to_string()))?;
        let matrix = Matrix::parse(&text).map_err(|why| explain(&self.file, &why))?;
        let folder = self.folder.clone().or_else(|| matrix.folder.clone()).unwrap_or_else(|| PathBuf::from("."));
        let place = Workplace::new(&folder)?;
        let records = match &self.output {
            Some(output) if output.exists() && self.resume => {
                cut_torn_line(output)?;
                read(output)?
            }
            Some(output) if output.exists() => {
                let why = "it is there already; add --resume to go on with it, or name another file";
                return Err(explain(output, why));
            }
            _ => Vec::new(),
        };
        let measured = measured(&records);
        let cases = cases(program, &place, &matrix)?;
        let mut output = Output::open(self.output.as_deref(), records)?;
        output.write(Record::Run(Box::new(host::this_run(&folder, []))))?;
        let plan = plan(&cases, matrix.pairs, &measured);
        let (began, bar) = (Instant::now(), bar(plan.len()));
        let mut taken = Vec::new();
        for (done, (round, index)) in plan.iter().enumerate() {
            let short = plan[done..].iter().map(|(_, index)| *index);
            bar.set_message(left(time_left(&taken, short), &cases[*index]));
            if *round >= PAIRS_MIN && began.elapsed() > matrix.time_max {
                bar.suspend(|| eprintln!("time is up: every combination has {round} samples at least"));
                break;
            }
            let started = Instant::now();
            let series = sample(&cases[*index], *round);
            if let Some(why) = &series.absent {
                bar.suspend(|| eprintln!("{} ({:?}): {why}", series.case, series.settings));
            }
            output.write(Record::Series(series))?;
            taken.push((*index, started.elapsed()));
            bar.inc(1);
        }
        bar.finish_and_clear();
        for case in &gather(output.records.clone()).cases {
            println!("{}", table::of_sweep(case));
        }
        self.html.as_deref().map_or(Ok(()), |page| write_page(page, output.records))
    }
}

fn explain(path: &Path, why: &str) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}

/// Takes away a last line that was not written to its end.
fn cut_torn_line(path: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if whole == text.len() { Ok(()) } else { File::options().write(true).open(path)?.set_len(whole as u64) }
}

/// How many samples there are of each case and settings.
fn measured(records: &[Record]) -> BTreeMap<(String, BTreeMap<String, String>), usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        if let Record::Series(series) = record {
            *counts.entry((series.case.clone(), series.settings.clone())).or_insert(0) += series.samples.len();
        }
    }
    counts
}

/// Rounds and indices of what is left to measure: forwards in one round, backwards in the next.
fn plan(
    cases: &[Case],
    pairs: usize,
    measured: &BTreeMap<(String, BTreeMap<String, String>), usize>,
) -> Vec<(usize, usize)> {
    let there: Vec<usize> = cases.iter().map(|case| measured.get(&key(case)).copied().unwrap_or(0)).collect();
    let round = |round: usize| in_turns(round, cases.len()).into_iter().map(move |index| (round, index));
    (0..pairs).flat_map(round).filter(|(round, index)| *round >= there[*index]).collect()
}

/// What tells a case in results.
fn key(case: &Case) -> (String, BTreeMap<String, String>) {
    let mut settings = case.settings.clone();
    settings.insert("memory".to_owned(), case.memory.to_string());
    (case.name.clone(), settings)
}

fn cases(program: &Program, place: &Workplace, matrix: &Matrix) -> io::Result<Vec<Case>> {
    let mut files: BTreeMap<u64, PathBuf> = BTreeMap::new();
    matrix.combinations.iter().map(|one| case(program, place, one, &mut files)).collect()
}

fn case(
    program: &Program,
    place: &Workplace,
    one: &Combination,
    files: &mut BTreeMap<u64, PathBuf>,
) -> io::Result<Case> {
    let (mut bytes, mut cold) = (one.size_bytes, Vec::new());
    let source = match &one.source {
        Source::Zero => format!("zero:///{bytes}?seed=1"),
        Source::File => {
            let path = match files.entry(bytes) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(missing) => missing.insert(place.fill(&format!("source-{bytes}"), bytes)?),
            };
            cold.push(path.clone());
            format!("file://{}", path.display())
        }
        Source::Url(url) => {
            bytes = length(url).map_err(|why| io::Error::other(format!("{url}: {why}")))?;
            cold.extend(url.strip_prefix("file://").map(PathBuf::from));
            url.clone()
        }
    };
    let mut attempt = Attempt::new(program, NAME, source);
    for argument in &one.arguments {
        attempt = attempt.with(argument);
    }
    let target = (one.destination == Destination::File).then(|| place.path("target"));
    let attempt = if target.is_some() { attempt } else { attempt.to("null:///") };
    let meters = if target.is_some() || !cold.is_empty() { Meter::of_disk(&place.path("")) } else { Vec::new() };
    let mut settings = one.settings.clone();
    settings.entry("size".to_owned()).or_insert_with(|| bytes.to_string());
    Ok(Case {
        settings,
        target,
        cold,
        memory: one.memory,
        meters,
        ..Case::new(one.case(), bytes, vec![Box::new(attempt)])
    })
}

/// The length of what a URL names.
fn length(url: &str) -> Result<u64, String> {
    if let Some(path) = url.strip_prefix("file://") {
        return fs::metadata(path).map(|found| found.len()).map_err(|error| error.to_string());
    }
    let answer = ureq::head(url).call().map_err(|error| error.to_string())?;
    let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    length.ok_or_else(|| "its server does not say how long it is".to_owned())
}

/// One sample. A combination that does not work is noted as absent with its reason, and the sweep goes on.
fn sample(case: &Case, round: usize) -> Series {
    let mut series = case.nobody_yet();
    let result = case.round(round, &mut series, &mut Silent);
    let mut ours = series.swap_remove(0);
    if let Err(error) = result {
        ours.absent = Some(error.to_string());
    }
    ours
}

fn bar(samples: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} samples, {msg}").expect("the template is right");
    ProgressBar::new(samples as u64).with_style(style)
}

fn left(time: Option<Duration>, case: &Case) -> String {
    let settings = crate::report::gathered::describe(&case.settings);
    match time {
        None => format!("{} ({settings})", case.name),
        Some(time) => {
            let time = Duration::from_secs(time.as_secs());
            format!("about {} left; {} ({settings})", humantime::format_duration(time), case.name)
        }
    }
}

/// Single samples are told by the bar.
struct Silent;

impl Progress for Silent {
    fn taken(&mut self, _: &str, _: &Sample) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(folder: &Path) -> Vec<Case> {
        let text =
            "[sweep]\nsource = \"zero\"\ndestination = [\"null\", \"file\"]\nsize_mib = 1\nlane = \"tokio-uring\"";
        let program = Program { path: "/no/such/program".into(), prefix: Vec::new() };
        cases(&program, &Workplace::new(folder).unwrap(), &Matrix::parse(text).unwrap()).unwrap()
    }

    #[test]
    fn what_is_there_is_not_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let cases = example(folder.path());
        assert_eq!(plan(&cases, 3, &BTreeMap::new()), [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
        let there = BTreeMap::from([(key(&cases[0]), 2), (key(&cases[1]), 1)]);
        assert_eq!(plan(&cases, 3, &there), [(1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn a_combination_that_fails_is_noted_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let series = sample(&example(folder.path())[0], 1);
        assert!(series.samples.is_empty() && series.absent.unwrap().contains("/no/such/program"));
    }
}
