//! `report`: a page of results.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    record::{self, Record},
    report::{gathered, html, table},
};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Files of results (JSON lines)
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Where the page goes; without, tables go to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Report {
    /// Writes the page, or prints the tables.
    pub fn run(self) -> io::Result<()> {
        let mut records = Vec::new();
        for path in &self.results {
            records.extend(read(path)?);
        }
        if let Some(output) = &self.output {
            return write_page(output, records);
        }
        print_tables(records);
        Ok(())
    }
}

/// Prints a table of each group of results.
pub fn print_tables(records: Vec<Record>) {
    for group in gathered::gather(records).cases.iter().flat_map(|case| &case.groups) {
        println!("{}", table::of_group(group));
    }
}

/// The records of a file.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(explain)?;
    record::read(BufReader::new(file)).map_err(explain)
}

/// Writes a page of records to a file.
pub fn write_page(path: &Path, records: Vec<Record>) -> io::Result<()> {
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    fs::write(path, html::page(records)).map_err(explain)
}
