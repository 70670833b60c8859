//! `protocol check`: whether a protocol from outside keeps its promises; [`orphans`](super::orphans) has its own file.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use staccato_protocols::{
    Options,
    outside::Launch,
    plugin::{Patience, Plan, PluginProtocol, check, find},
};

use super::{Common, Exit, Failure, log, orphans::Orphans, output, protocol_options::parse_pair};

/// Commands about protocols and their storage.
#[derive(Debug, Subcommand)]
pub enum Protocol {
    /// Run the conformance suite on an executable that adds a protocol. It makes objects in the storage that the settings
    /// name, and removes them at the end
    Check(Check),
    /// List uploads to an object store (s3, swift) that nobody has completed, and give up old ones
    Orphans(Orphans),
}

/// Arguments of `protocol check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The executable
    program: PathBuf,
    /// What the plug-in is told at its start, besides what the file PROGRAM.toml says
    #[arg(long = "setting", value_name = "NAME=VALUE", value_parser = parse_pair)]
    settings: Vec<(String, String)>,
    /// An option of every transfer
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_pair)]
    options: Vec<(String, String)>,
    /// What is logged to standard error
    #[arg(long, value_name = "FILTER", env = "STACCATO_LOG", default_value = "warn")]
    log: String,
}

impl Protocol {
    /// Does it.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        match self {
            Self::Check(check) => check.run(common),
            Self::Orphans(orphans) => orphans.run(common),
        }
    }
}

impl Check {
    fn run(self, common: &Common) -> Result<(), Failure> {
        log::to_standard_error(&self.log);
        let unusable = |why: String| Failure::new(Exit::Failed, format!("the plug-in {why}"));
        let program = std::path::absolute(&self.program).map_err(|error| unusable(error.to_string()))?;
        let find::Beside { mut settings, environment } = find::beside(&program, false).map_err(unusable)?;
        settings.extend(self.settings);
        let launch = Launch { environment, ..Launch::of(program) };
        let module = PluginProtocol::meet(Plan { launch, settings, patience: Patience::default() });
        let module = module.map_err(unusable)?;
        // The report says what a check that panics has to say.
        std::panic::set_hook(Box::new(|_| ()));
        let options: Options = self.options.into_iter().collect();
        let checked = check::run(module, options, |checked| {
            if common.json {
                return;
            }
            match &checked.wrong {
                None => output::line(format!("ok      {}", checked.name)),
                Some(why) => output::line(format!("failed  {}: {why}", checked.name)),
            }
        })?;
        let failed = checked.iter().filter(|checked| checked.wrong.is_some()).count();
        if common.json {
            let document = |checked: &check::Checked| json!({"check": checked.name, "wrong": checked.wrong});
            output::json(&json!(checked.iter().map(document).collect::<Vec<_>>()));
        }
        if failed == 0 {
            return Ok(());
        }
        let why = "a promise is not kept: what follows it on the same side was not checked";
        Err(Failure::new(Exit::Failed, why))
    }
}
