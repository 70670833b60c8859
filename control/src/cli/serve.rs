//! `serve`: the service, in the foreground.

use clap::Args;

use super::{Common, Exit, Failure, config::load, log, output};
use crate::{config::Flags, serve};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    /// Runs the service until it is told to stop.
    pub fn run(self, common: &Common) -> Result<(), Failure> {
        let config = load(&self.flags)?;
        log::to_standard_error(&config.log);
        let offer = config
            .check_roots()
            .and_then(|()| config.check_peers())
            .and_then(|()| config.offer(|name| std::env::var(name).ok()))
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        let roots: Vec<_> = config.roots.iter().map(ToString::to_string).collect();
        let roots = if roots.is_empty() { "none; file is off".to_owned() } else { roots.join(", ") };
        tracing::info!(%roots, "the service starts");
        let json = common.json;
        let ready = move |ready: &serve::Ready| {
            if json {
                output::line(serde_json::to_string(ready).expect("addresses and paths"));
            } else {
                output::line(ready);
            }
        };
        serve::run(config, offer, ready).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }
}
