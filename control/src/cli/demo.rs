//! `demo`: the main job, shown in one minute.

use clap::Args;

use super::{Common, Exit, Failure, on_client};
use crate::{
    demo::{
        self, DemoOptions,
        hosts::{self, HostsOptions},
    },
    signals::Signals,
};

/// Size of the image in MiB unless told, alone and between hosts (where it is moved several times).
const SIZE_DEFAULT: (u64, u64) = (1024, 512);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Show so many hosts (2 to 16): their executors read from one another over QUIC and TCP, and two of them are killed.
    /// As root each is in a network namespace, else all are on loopback
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=16))]
    hosts: Option<u8>,
    /// With --hosts: stay on loopback, also as root
    #[arg(long, requires = "hosts")]
    loopback: bool,
    /// Size of the image in MiB [default: 1024; 512 with --hosts]
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// The limit in MiB per second of a transfer whose executor is killed
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
        let (alone, between_hosts) = SIZE_DEFAULT;
        let mib = self.size.unwrap_or(if self.hosts.is_some() { between_hosts } else { alone }).max(1);
        let (rate_mib, keep, loopback) = (self.rate.max(1), self.keep, self.loopback);
        let shown = async {
            match self.hosts {
                Some(hosts) => hosts::run(HostsOptions { hosts: hosts.into(), mib, rate_mib, loopback, keep }).await,
                None => demo::run(DemoOptions { mib, rate_mib, keep }).await,
            }
        };
        on_client(async {
            let failed = |why: String| Failure::new(Exit::Failed, why);
            let mut signals = Signals::new().map_err(|error| failed(error.to_string()))?;
            // What was begun ends, and goes, with the future that began it.
            tokio::select! {
                ended = shown => ended.map_err(failed),
                name = signals.next() => match keep {
                    true => Ok(()),
                    false => Err(failed(format!("stopped by {name}; nothing is left of it"))),
                },
            }
        })
    }
}
