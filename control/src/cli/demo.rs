//! `demo`: the main job, shown in one minute.

use clap::Args;

use super::{Common, Exit, Failure, on_client};
use crate::demo::{self, DemoOptions};

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Size of the image in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// The transfer's limit in MiB per second
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    rate: u64,
    /// Keep the service running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Demo {
    /// Runs the demonstration.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        if common.json {
            return Err(Failure::new(Exit::Usage, "demo is for people to watch and has no result in JSON"));
        }
        let options = DemoOptions { mib: self.size.max(1), rate_mib: self.rate.max(1), keep: self.keep };
        on_client(async { demo::run(options).await.map_err(|why| Failure::new(Exit::Failed, why)) })
    }
}
