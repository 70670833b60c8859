//! `rest`: the service's REST interface under load.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use clap::Args;

use crate::{
    host,
    load::{self, Config, Measured, Operation, Results},
    record::{self, Record, Run},
    service,
};

/// Arguments of `rest`.
#[derive(Debug, Args)]
pub struct Rest {
    /// The binary to measure; `staccato` beside this one when absent
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Folder for the service's data
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Clients at a time: connections with one request under way
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Seconds for each operation
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Transfers to store before everything is measured once more
    #[arg(long, default_value_t = 0)]
    stored: u64,
    /// Operations: submit, bulk-N, read, list-marker, list-state
    #[arg(long = "operation", value_name = "NAME", default_values = ["submit", "bulk-1000", "read", "list-marker", "list-state"])]
    operations: Vec<Operation>,
    /// How often to kill the service at the end, and to time its return
    #[arg(long, default_value_t = 3)]
    restarts: usize,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Rest {
    /// Measures, and prints a table.
    pub fn run(self) -> io::Result<()> {
        let binary = match self.binary {
            Some(binary) => binary,
            None => service::binary()?,
        };
        let config = Config {
            binary,
            folder: self.folder,
            clients: self.clients.max(1),
            time: Duration::from_secs_f64(self.seconds),
            stored: self.stored,
            operations: self.operations,
            restarts: self.restarts,
        };
        let results = load::run(&config, |what| eprintln!("{what}"))?;
        print!("{}", table(&results));
        match self.output {
            Some(path) => write(&path, &config.folder, &results),
            None => Ok(()),
        }
    }
}

fn write(path: &Path, folder: &Path, results: &Results) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let run = Run {
        started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command: std::env::args().skip(1).collect(),
        versions: host::versions([]),
        host: host::describe(folder),
    };
    let records = load::series(results).into_iter().map(Record::Series);
    for record in std::iter::once(Record::Run(Box::new(run))).chain(records) {
        file.write_all(record::to_line(&record).as_bytes())?;
    }
    Ok(())
}

/// Rates, and latencies of requests in milliseconds.
fn table(results: &Results) -> String {
    let mut text = format!(
        "{:<12} {:>9} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
        "operation", "stored", "clients", "items/s", "CPU us", "p50 ms", "p90", "p99", "p99.9", "max"
    );
    for one in results.empty.iter().chain(&results.fill).chain(&results.full) {
        text.push_str(&row(one));
    }
    if !results.restarts.is_empty() {
        let times: Vec<String> = results.restarts.iter().map(|time| format!("{:.2}", time.as_secs_f64())).collect();
        text.push_str(&format!("ready after SIGKILL with {} stored: {} s\n", results.stored, times.join(", ")));
    }
    for (what, bytes) in [("after a restart", results.heap_bytes_each), ("before it", results.heap_bytes_each_filled)] {
        if let Some(bytes) = bytes {
            text.push_str(&format!("anonymous memory for each stored transfer, {what}: {bytes:.0} bytes\n"));
        }
    }
    text
}

fn row(one: &Measured) -> String {
    let cpu_us = one.cpu_seconds * 1e6 / one.items.max(1) as f64;
    let ms: Vec<String> =
        [0.5, 0.9, 0.99, 0.999, 1.0].iter().map(|quantile| format!("{:>8.2}", one.latency_ms(*quantile))).collect();
    format!(
        "{:<12} {:>9} {:>8} {:>9.0} {:>9.1} {}\n",
        one.operation.to_string(),
        one.stored,
        one.clients,
        one.rate(),
        cpu_us,
        ms.join(" ")
    )
}
