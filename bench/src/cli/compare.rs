//! `compare`: what changed between two files of results.

use std::{io, path::PathBuf};

use clap::Args;

use super::report::read;
use crate::report::{comparison::compare, gathered::gather};

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// Results from before (JSON lines)
    before: PathBuf,
    /// Results from after
    after: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Fail, with exit code 1, when Staccato got slower by more than this and by more than noise
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_if_slower: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { Err("it is not a positive percentage".to_owned()) }
}

impl Compare {
    /// Compares, and prints what it found.
    pub fn run(self) -> io::Result<()> {
        let comparison = compare(&gather(read(&self.before)?), &gather(read(&self.after)?));
        if self.json {
            println!("{}", serde_json::to_string_pretty(&comparison).map_err(io::Error::other)?);
        } else {
            print!("{}", comparison.to_table());
        }
        let Some(percent) = self.fail_if_slower else { return Ok(()) };
        let mut slower = comparison.slower_than(percent / 100.0).peekable();
        if slower.peek().is_none() {
            return Ok(());
        }
        let named =
            slower.map(|line| format!("{} of {} ({:+.1} %)", line.key.contestant, line.key.case, line.change * 100.0));
        let named = named.collect::<Vec<_>>().join(", ");
        Err(io::Error::other(format!("slower by more than {percent} %: {named}")))
    }
}
