//! What the commands that measure cases have in common: which, how often, and where results go.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use super::{
    install,
    output::{Output, tell_where},
    report::write_page,
};
use crate::{
    contest::{Effort, PAIRS_DEFAULT, PAIRS_MIN, Progress},
    contestants::TOOLS,
    host,
    record::{Record, Sample, Series},
    report::table,
};

/// Arguments of such a command.
#[derive(Clone, Debug, Args)]
pub struct Measuring {
    /// Pairs of each contestant with Staccato
    #[arg(long, default_value_t = PAIRS_DEFAULT)]
    pairs: usize,
    /// Minutes for all cases together: a case that would take longer ends with fewer pairs, at least three
    #[arg(long, default_value_t = 8.0)]
    minutes: f64,
    /// Cases to measure (the start of a name suffices); all when absent
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Contestants to measure beside Staccato (the start of a name suffices); all when absent
    #[arg(long = "contestant", value_name = "NAME")]
    pub contestants: Vec<String>,
    /// Install who is absent first: Debian's packages, as root
    #[arg(long)]
    install_rivals: bool,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a page of this run's results goes
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Results of a run.
pub struct Results {
    output: Output,
    cores: usize,
    path: Option<PathBuf>,
    page: Option<PathBuf>,
}

impl Measuring {
    /// Of these cases, those that are wanted.
    pub fn wanted<T>(&self, all: Vec<T>, name: impl Fn(&T) -> String) -> io::Result<Vec<T>> {
        let mut names: Vec<String> = all.iter().map(&name).collect();
        let unknown = self.cases.iter().find(|start| !names.iter().any(|name| name.starts_with(start.as_str())));
        if let Some(unknown) = unknown {
            names.dedup();
            return Err(io::Error::other(format!("there is no case {unknown}; there are {}", names.join(", "))));
        }
        let is_wanted = |name: &str| self.cases.iter().any(|start| name.starts_with(start.as_str()));
        Ok(all.into_iter().filter(|one| self.cases.is_empty() || is_wanted(&name(one))).collect())
    }

    /// What may be spent on a case that has this share of all minutes.
    pub fn effort(&self, share: f64, count_system_calls: bool) -> io::Result<Effort> {
        let time_max = Duration::try_from_secs_f64(self.minutes * 60.0 * share).map_err(io::Error::other)?;
        Ok(Effort { pairs: self.pairs.max(PAIRS_MIN), time_max, count_system_calls })
    }

    /// Installs rivals, if that was asked for, and notes what runs where: the disk that is measured has `folder`.
    pub fn begin(&self, folder: &Path) -> io::Result<Results> {
        if self.install_rivals {
            install::rivals()?;
        }
        let run = host::this_run(folder, TOOLS.iter().map(|tool| (tool.program, tool.version)));
        let cores = run.host.cores;
        let mut output = Output::open(self.output.as_deref(), Vec::new())?;
        output.write(Record::Run(Box::new(run)))?;
        Ok(Results { output, cores, path: self.output.clone(), page: self.html.clone() })
    }
}

impl Results {
    /// Shows a case in a table, and keeps it.
    pub fn take(&mut self, series: Vec<Series>) -> io::Result<()> {
        println!("{}", table::of_case(&series, self.cores));
        series.into_iter().try_for_each(|one| self.output.write(Record::Series(one)))
    }

    /// Everything that was measured.
    pub fn series(&self) -> impl Iterator<Item = &Series> {
        self.output.records.iter().filter_map(|record| match record {
            Record::Series(series) => Some(series),
            Record::Run(_) => None,
        })
    }

    /// Makes the page, and says where results are.
    pub fn finish(self) -> io::Result<()> {
        if let Some(page) = &self.page {
            write_page(page, self.output.records)?;
        }
        tell_where(self.path.as_deref(), self.page.as_deref());
        Ok(())
    }
}

/// Tells each sample on a line of standard error.
pub struct Lines;

impl Progress for Lines {
    fn taken(&mut self, contestant: &str, sample: &Sample) {
        let rate = match sample.bytes {
            0 => format!("{:>8.0} /s", sample.rate()),
            _ => format!("{:>8.0} MB/s", sample.rate() / 1e6),
        };
        eprintln!("{contestant:<22} {:>7.2} s {rate}", sample.seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measuring(cases: &[&str]) -> Measuring {
        Measuring {
            pairs: 1,
            minutes: 8.0,
            cases: cases.iter().map(ToString::to_string).collect(),
            contestants: Vec::new(),
            install_rivals: false,
            output: None,
            html: None,
        }
    }

    #[test]
    fn cases_are_named_by_their_starts() {
        let wanted =
            |cases: &[&str]| measuring(cases).wanted(vec!["disk-read", "disk-write", "small"], ToString::to_string);
        assert_eq!(wanted(&[]).unwrap().len(), 3);
        assert_eq!(wanted(&["disk", "small"]).unwrap().len(), 3);
        assert_eq!(wanted(&["disk-w"]).unwrap(), ["disk-write"]);
        let unknown = wanted(&["small", "large"]).unwrap_err().to_string();
        assert_eq!(unknown, "there is no case large; there are disk-read, disk-write, small");
    }

    #[test]
    fn fewer_pairs_than_three_are_no_measurement() {
        let effort = measuring(&[]).effort(0.5, false).unwrap();
        assert_eq!((effort.pairs, effort.time_max), (PAIRS_MIN, Duration::from_secs(240)));
    }
}
