//! `swarm`: one object to many hosts, simulated.

use std::{io, time::Duration};

use clap::Args;
use staccato_dataplane::swarm::{SwarmConfig, seeds::SEEDS_MAX, uploads::SLOTS};

use crate::{
    relay::{parse_rate, parse_share},
    swarm::{self, Setup},
};

/// Arguments of `swarm`.
#[derive(Debug, Args)]
pub struct Swarm {
    /// Hosts that get the object
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hosts: u32,
    /// Chunks of the object
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    chunks: u32,
    /// MiB of a chunk: 1 is what a distribution has, unless it says otherwise
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    chunk_mib: u64,
    /// Bits per second of a host's link, each way
    #[arg(long, default_value = "1gbit", value_parser = parse_rate)]
    rate: u64,
    /// Bits per second of the source's link; those of a host when absent
    #[arg(long, value_parser = parse_rate)]
    source_rate: Option<u64>,
    /// Hosts in a rack
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    rack: u32,
    /// How many times a rack's uplink would be needed if all its hosts sent at once
    #[arg(long, default_value_t = 4.0, value_parser = times)]
    rack_oversubscription: f64,
    /// How many times the core would be needed if all racks sent at once
    #[arg(long, default_value_t = 2.0, value_parser = times)]
    core_oversubscription: f64,
    /// From any host to any other, one way
    #[arg(long, default_value = "250us", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Share of hosts with a tenth of the bandwidth
    #[arg(long, default_value = "5%", value_parser = parse_share)]
    stragglers: f64,
    /// Share of hosts that die for good, without a word
    #[arg(long, default_value = "1%", value_parser = parse_share)]
    failures: f64,
    /// Share of hosts that die and come back
    #[arg(long, default_value = "0", value_parser = parse_share)]
    churn: f64,
    /// Share of hosts that join late
    #[arg(long, default_value = "0", value_parser = parse_share)]
    late: f64,
    /// Members that may read the source
    #[arg(long, default_value_t = SEEDS_MAX, value_parser = clap::value_parser!(u32).range(1..=SEEDS_MAX.into()))]
    seeds: u32,
    /// How many times the source may be read
    #[arg(long, default_value_t = 2.0, value_parser = times)]
    source_budget: f64,
    /// Peers that each host is told of
    #[arg(long, default_value_t = 16)]
    peers: usize,
    /// From one heartbeat of a host to the next
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
    /// How long a host is silent before others notice that it died
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration)]
    silence: Duration,
    /// Uploads of a host at a time
    #[arg(long, default_value_t = SLOTS)]
    slots: usize,
    /// Questions of a host to its peers at a time
    #[arg(long, default_value_t = usual().asks_max)]
    asks: usize,
    /// Questions of a host to one peer at a time
    #[arg(long, default_value_t = usual().asks_per_peer_max)]
    asks_per_peer: usize,
    /// Questions of a seed to the source at a time
    #[arg(long, default_value_t = usual().source_asks_max)]
    source_asks: usize,
    /// What everything random comes from: the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What an attempt has, too.
fn usual() -> SwarmConfig {
    SwarmConfig::new(0, 0)
}

fn times(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().map_err(|error| error.to_string())?;
    if number.is_finite() && number >= 1.0 { Ok(number) } else { Err("it is not a number of at least 1".to_owned()) }
}

impl Swarm {
    /// Simulates, and prints what came of it.
    pub fn run(self) -> io::Result<()> {
        let json = self.json;
        let outcome = swarm::simulate(&self.setup());
        if json {
            println!("{}", serde_json::to_string_pretty(&outcome).map_err(io::Error::other)?);
        } else {
            println!("{outcome}");
        }
        Ok(())
    }

    fn setup(self) -> Setup {
        Setup {
            hosts: self.hosts,
            chunks: self.chunks,
            chunk_bytes: self.chunk_mib << 20,
            link_bits: self.rate,
            source_bits: self.source_rate.unwrap_or(self.rate),
            rack_hosts: self.rack,
            rack_oversubscription: self.rack_oversubscription,
            core_oversubscription: self.core_oversubscription,
            latency: self.latency,
            stragglers: self.stragglers,
            failures: self.failures,
            churn: self.churn,
            late: self.late,
            seeds: self.seeds,
            source_budget: self.source_budget,
            peers: self.peers,
            heartbeat: self.heartbeat,
            silence: self.silence,
            slots: self.slots,
            asks_max: self.asks.max(1),
            asks_per_peer_max: self.asks_per_peer.max(1),
            source_asks_max: self.source_asks.max(1),
            seed: self.seed,
        }
    }
}
