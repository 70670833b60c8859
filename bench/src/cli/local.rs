//! `local`: this machine.

use std::{io, path::PathBuf, time::Duration};

use clap::Args;

use super::{
    install,
    output::{Output, tell_where},
    report::write_page,
};
use crate::{
    cases::{self, Workplace},
    contest::{Case, Effort, PAIRS_DEFAULT, PAIRS_MIN, Progress, run_all},
    contestants::TOOLS,
    host,
    measure::MemoryState,
    probe::disk::Direction,
    record::{Record, Sample},
    report::table,
    worker::Program,
};

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct Local {
    /// Folder on the disk to measure; needs three times the object free, or all small objects of all pairs twice
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object; some cases have one that is larger, by a factor that they name
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Small objects, of 64 KiB each
    #[arg(long, default_value_t = 2_000)]
    objects: usize,
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
    contestants: Vec<String>,
    /// Install who is absent first: Debian's packages, as root
    #[arg(long)]
    install_rivals: bool,
    /// Count system calls, in a further run of each contestant (needs strace)
    #[arg(long)]
    system_calls: bool,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a page of this run's results goes
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Cases that are made when their turn comes, and the share of the time that they may take together.
struct Planned {
    name: &'static str,
    share: f64,
    make: Make,
}

type Make = Box<dyn Fn(&Program, &Workplace) -> io::Result<Vec<Case>>>;

impl Local {
    /// Measures, and prints a table for each case.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let planned = self.planned()?;
        if self.install_rivals {
            install::rivals()?;
        }
        let run = host::this_run(&self.folder, TOOLS.iter().map(|tool| (tool.program, tool.version)));
        let cores = run.host.cores;
        let mut output = Output::open(self.output.as_deref(), Vec::new())?;
        output.write(Record::Run(Box::new(run)))?;
        let shares: f64 = planned.iter().map(|planned| planned.share).sum();
        for Planned { share, make, .. } in planned {
            // Of its own for each case: nothing of one takes space from the next.
            let place = Workplace::new(&self.folder)?;
            let mut cases = make(program, &place)?;
            cases.iter_mut().for_each(|case| case.keep(&self.contestants));
            let effort = Effort {
                pairs: self.pairs.max(PAIRS_MIN),
                time_max: Duration::try_from_secs_f64(self.minutes * 60.0 * share / shares)
                    .map_err(io::Error::other)?,
                count_system_calls: self.system_calls,
            };
            for series in run_all(&cases, effort, &mut Lines)? {
                println!("{}", table::of_case(&series, cores));
                for one in series {
                    output.write(Record::Series(one))?;
                }
            }
        }
        if let Some(page) = &self.html {
            write_page(page, output.records)?;
        }
        tell_where(self.output.as_deref(), self.html.as_deref());
        Ok(())
    }

    /// The cases that are wanted, in their order.
    fn planned(&self) -> io::Result<Vec<Planned>> {
        let bytes = self.mib << 20;
        let mut all = Vec::new();
        let mut plan = |name, share, make: Make| all.push(Planned { name, share, make });
        for (name, direction) in
            [("disk-read", Direction::Read), ("disk-write", Direction::Write), ("disk-both", Direction::Both)]
        {
            plan(name, 0.5, one(move |program, place| cases::machine::disk(program, place, bytes, direction)));
        }
        plan("disk-write-again", 0.5, one(move |program, place| cases::machine::disk_again(program, place, bytes)));
        plan("processor", 0.3, one(|program, _| Ok(cases::machine::processor(program))));
        plan("lanes", 0.3, one(move |program, _| Ok(cases::machine::lanes(program, 4 * bytes))));
        for memory in [MemoryState::Touched, MemoryState::AsFound] {
            plan(cases::file::NAME, 3.0, one(move |program, place| cases::file::copy(program, place, bytes, memory)));
        }
        for (name, secure) in [(cases::http::NAME, false), (cases::http::NAME_SECURE, true)] {
            plan(name, 2.0, one(move |program, place| cases::http::fetch(program, place, bytes, secure)));
        }
        plan(
            cases::sweep::NAME_CHUNKS,
            1.5,
            Box::new(move |program, place| cases::sweep::chunk_sizes(program, place, bytes)),
        );
        plan(
            cases::sweep::NAME_DEPTHS,
            1.0,
            Box::new(move |program, place| cases::sweep::depths(program, place, bytes)),
        );
        plan(
            cases::sparse::NAME,
            1.0,
            one(move |program, place| cases::sparse::copy(program, place, 4 * bytes, bytes / 4)),
        );
        plan(cases::overhead::NAME, 1.0, one(move |program, place| cases::overhead::copy(program, place, bytes)));
        let (objects, size, slots) = (self.objects, 64 << 10, 64);
        plan(
            cases::small::NAME,
            1.0,
            one(move |program, place| Ok(cases::small::transfers(program, place, objects, size, slots))),
        );
        for size in [4 << 30, 64 << 30] {
            plan(
                cases::footprint::NAME,
                0.3,
                one(move |program, place| cases::footprint::of_size(program, place, size)),
            );
        }
        let wanted =
            |name: &str| self.cases.is_empty() || self.cases.iter().any(|start| name.starts_with(start.as_str()));
        let names: Vec<&str> = all.iter().map(|planned| planned.name).collect();
        if let Some(unknown) =
            self.cases.iter().find(|start| !names.iter().any(|name| name.starts_with(start.as_str())))
        {
            let mut names = names;
            names.dedup();
            return Err(io::Error::other(format!("there is no case {unknown}; there are {}", names.join(", "))));
        }
        Ok(all.into_iter().filter(|planned| wanted(planned.name)).collect())
    }
}

/// A case by itself.
fn one(make: impl Fn(&Program, &Workplace) -> io::Result<Case> + 'static) -> Make {
    Box::new(move |program, place| Ok(vec![make(program, place)?]))
}

/// Tells each sample on a line of standard error.
pub(super) struct Lines;

impl Progress for Lines {
    fn taken(&mut self, contestant: &str, sample: &Sample) {
        let rate = match sample.bytes {
            0 => format!("{:>8.0} /s", sample.rate()),
            _ => format!("{:>8.0} MB/s", sample.rate() / 1e6),
        };
        eprintln!("{contestant:<22} {:>7.2} s {rate}", sample.seconds);
    }
}
