//! `config`: the configuration in force.

use clap::Args;
use serde_json::json;

use super::{Common, Exit, Failure, output};
use crate::config::{Config as Loaded, Environment, Flags, reference_table};

/// Arguments of `config`: those of `serve`.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    flags: Flags,
    /// Print the reference of all settings (Markdown) instead
    #[arg(long)]
    reference: bool,
}

impl Config {
    /// Prints every value with its origin, or why the configuration cannot be used.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        if self.reference {
            output::line(reference_table().trim_end());
            return Ok(());
        }
        let shown = load(&self.flags)?.shown();
        if common.json {
            let rows =
                shown.iter().map(|row| (row.key.to_owned(), json!({ "value": row.value, "origin": row.origin })));
            output::json(&serde_json::Value::Object(rows.collect()));
            return Ok(());
        }
        let width = |column: fn(&crate::config::Shown) -> usize| shown.iter().map(column).max().unwrap_or(0);
        let (keys, values) = (width(|row| row.key.len()), width(|row| row.value.chars().count()));
        for row in &shown {
            output::line(format!("{:keys$}  {:values$}  {}", row.key, row.value, row.origin));
        }
        Ok(())
    }
}

/// The configuration that these flags and this process's environment make.
pub(super) fn load(flags: &Flags) -> Result<Loaded, Failure> {
    Loaded::load(flags, &Environment::of_process()).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}
