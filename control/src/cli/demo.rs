//! `demo`: the main job, shown in one minute.

use clap::Args;

use super::{Common, Exit, Failure, on_client};
use crate::{
    demo::{
        self, DemoOptions,
        hosts::{self, DISTRIBUTED_MIN, HostsOptions},
    },
    signals::Signals,
};

/// Size of the image in MiB unless told.
fn size_default(hosts: Option<u8>) -> u64 {
    match hosts {
        None => 1024,
        // It is moved several times, or many times at once.
        Some(hosts) if usize::from(hosts) < DISTRIBUTED_MIN => 512,
        Some(_) => 192,
    }
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Show so many hosts (2 to 16). Two or three: the image goes from one to the next over QUIC and TCP, and two executors
    /// are killed. Four and more: it goes from a web server to all of them at once, undisturbed first, then while the executor
    /// of a host that reads the source and the service are killed. As root each host is in a network namespace, else all are on
    /// loopback
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=16))]
    hosts: Option<u8>,
    /// With --hosts: stay on loopback, also as root
    #[arg(long, requires = "hosts")]
    loopback: bool,
    /// Size of the image in MiB [default: 1024; 512 with two or three hosts, 192 with more]
    #[arg(long, value_name = "MIB")]
    size: Option<u64>,
    /// The limit in MiB per second of a transfer whose executor is killed, and with four hosts and more of each host; less
    /// where that would leave no time to kill anybody
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
        let mib = self.size.unwrap_or_else(|| size_default(self.hosts)).max(1);
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
