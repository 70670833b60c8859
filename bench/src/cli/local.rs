//! `local`: this machine.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use clap::Args;

use crate::{
    cases::{self, Workplace},
    contest::{Case, Effort, PAIRS_DEFAULT, PAIRS_MIN, Progress},
    host,
    measure::MemoryState,
    record::{self, Record, Run, Sample},
    report::table,
    worker::Program,
};

/// Arguments of `local`.
#[derive(Debug, Args)]
pub struct Local {
    /// Folder on the disk to measure; needs three times the size free
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object
    #[arg(long, default_value_t = 512)]
    mib: u64,
    /// Pairs of each contestant with Staccato
    #[arg(long, default_value_t = PAIRS_DEFAULT)]
    pairs: usize,
    /// Minutes for all cases together: a case that would take longer ends with fewer pairs, at least three
    #[arg(long, default_value_t = 8.0)]
    minutes: f64,
    /// Cases to measure; all when absent
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Contestants to measure beside Staccato (the start of a name suffices); all when absent
    #[arg(long = "contestant", value_name = "NAME")]
    contestants: Vec<String>,
    /// Count system calls, in a further run of each contestant (needs strace)
    #[arg(long)]
    system_calls: bool,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Programs whose versions are noted.
const PROGRAMS: [(&str, &str); 8] = [
    ("cp", "--version"),
    ("dd", "--version"),
    ("rsync", "--version"),
    ("rclone", "version"),
    ("fio", "--version"),
    ("curl", "--version"),
    ("aria2c", "--version"),
    ("nginx", "-v"),
];

impl Local {
    /// Measures, and prints a table for each case.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let place = Workplace::new(&self.folder)?;
        let host = host::describe(&self.folder);
        let cores = host.cores;
        let mut output =
            self.output.as_ref().map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        let mut write = |record: &Record| match &mut output {
            Some(file) => file.write_all(record::to_line(record).as_bytes()),
            None => Ok(()),
        };
        write(&Record::Run(Box::new(Run {
            started_at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command: std::env::args().skip(1).collect(),
            versions: host::versions(&PROGRAMS),
            host,
        })))?;
        for memory in [MemoryState::Touched, MemoryState::AsFound] {
            let mut case = cases::file::copy(program, &place, self.mib << 20, memory)?;
            case.keep(&self.contestants);
            let effort = Effort {
                pairs: self.pairs.max(PAIRS_MIN),
                time_max: Duration::from_secs_f64(self.minutes * 60.0 / 2.0),
                count_system_calls: self.system_calls,
            };
            let series = case.run(effort, &mut Lines)?;
            println!("{}", table::of_case(&series, cores));
            for one in series {
                write(&Record::Series(one))?;
            }
        }
        Ok(())
    }
}

/// Tells each sample on a line of standard error.
struct Lines;

impl Progress for Lines {
    fn sample(&mut self, _case: &Case, _contestant: &str, _done: usize, _all: usize) {}

    fn taken(&mut self, contestant: &str, sample: &Sample) {
        eprintln!("{contestant:<22} {:>7.2} s {:>8.0} MB/s", sample.seconds, sample.rate() / 1e6);
    }
}
