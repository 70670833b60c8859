//! `link`: from one host to another.

mod hosts;

use std::{collections::BTreeMap, io, path::PathBuf, rc::Rc, str::FromStr, time::Duration};

use clap::Args;
use staccato_dataplane::yardstick::link;

use super::measuring::{Lines, Measuring};
use crate::{
    cases::{self, link::Crossing, service::THROUGH},
    contest::Effort,
    contestants::Storage,
    link::Testbed,
    network::Wiring,
    record::Series,
    relay::{Conditions, parse_rate, parse_share},
    report::table,
    worker::Program,
};
use hosts::HostArgument;

/// Every pair of where an object is and where it goes.
const STORAGES: [(Storage, Storage); 4] = [
    (Storage::Memory, Storage::Memory),
    (Storage::Disk, Storage::Memory),
    (Storage::Memory, Storage::Disk),
    (Storage::Disk, Storage::Disk),
];
/// Bytes of a small object.
const SMALL_BYTES: usize = 64 << 10;
/// Small objects under way at a time.
const SMALL_SLOTS: usize = 64;

/// Arguments of `link`. Those that take several values measure every combination.
#[derive(Debug, Args)]
pub struct Link {
    /// Of two hosts of a deployment that is there (--server, --token-file and --ca say which), the one that has the object;
    /// with a folder (HOST:/FOLDER, as URLs write it) its disk is measured, too
    #[arg(value_name = "HOST_A[:FOLDER]", requires = "to")]
    #[arg(conflicts_with_all = ["loopback", "namespaces", "delay", "loss", "rate", "congestion", "transports"])]
    from: Option<HostArgument>,
    /// The one that gets it
    #[arg(value_name = "HOST_B[:FOLDER]")]
    to: Option<HostArgument>,
    /// Measure on loopback (the default)
    #[arg(long)]
    loopback: bool,
    /// Measure between two network namespaces (as root)
    #[arg(long)]
    namespaces: bool,
    /// Largest packets between namespaces, in bytes
    #[arg(long, value_delimiter = ',', default_value = "1500")]
    mtu: Vec<u16>,
    /// Round trip between namespaces, for instance 50ms: half of it in each direction, by a relay
    #[arg(long, value_delimiter = ',', value_parser = humantime::parse_duration)]
    delay: Vec<Duration>,
    /// Share of packets that a relay loses in each direction, for instance 0.1%
    #[arg(long, value_delimiter = ',', value_parser = parse_share)]
    loss: Vec<f64>,
    /// Bits per second in each direction, for instance 200mbit
    #[arg(long, value_delimiter = ',', value_parser = parse_rate)]
    rate: Vec<u64>,
    /// TCP's congestion control between namespaces, for instance bbr; the machine's own when absent. On long paths ours asks
    /// for bbr whatever it is
    #[arg(long, value_delimiter = ',')]
    congestion: Vec<String>,
    /// Folder on the disk to measure
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// MiB of the object
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Connections at a time
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    streams: Vec<usize>,
    /// How ours crosses: both ends alone over tcp, tcp-tls or quic (with another congestion control: quic-cubic, quic-bbr,
    /// quic-newreno); or service, through a service whose executors have joined
    #[arg(long = "transport", value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Small objects, of 64 KiB each
    #[arg(long, default_value_t = 2_000)]
    objects: usize,
    /// Seconds after which a contestant's sample is given up
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    #[command(flatten)]
    measuring: Measuring,
}

/// A link to measure on, and what tells it from others.
#[derive(Clone, Debug, PartialEq)]
struct Route {
    /// None: loopback.
    wiring: Option<Wiring>,
    settings: BTreeMap<String, String>,
}

/// How ours crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    /// Two ends without anything around them.
    Ends(link::Transport),
    /// As transfers.
    Service,
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == THROUGH { Ok(Self::Service) } else { text.parse().map(Self::Ends) }
    }
}

/// A case, and a way through it: what is measured on each link.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Planned {
    Ends { storages: (Storage, Storage), transport: link::Transport, streams: usize },
    Service { storages: (Storage, Storage) },
    Small,
}

impl Planned {
    fn case(&self) -> String {
        match self {
            Self::Ends { storages, .. } | Self::Service { storages } => cases::link::name(*storages),
            Self::Small => cases::small::NAME.into(),
        }
    }
}

impl Link {
    /// Measures, and prints a table for each case and one of them all.
    pub fn run(self, program: &Program, client: Vec<String>) -> io::Result<()> {
        if let (Some(from), Some(to)) = (&self.from, &self.to) {
            return hosts::run(&self, program, client, from, to);
        }
        let (routes, planned) = (self.routes(), self.measuring.wanted(self.planned(), Planned::case)?);
        let mut results = self.measuring.begin(&self.folder)?;
        let effort = self.measuring.effort(1.0 / (routes.len() * planned.len()).max(1) as f64, false)?;
        for route in routes {
            let bed = Rc::new(route.wiring.as_ref().map_or_else(|| Ok(Testbed::loopback()), Testbed::network)?);
            for planned in &planned {
                results.take(self.measure(program, &bed, &route, *planned, effort)?)?;
            }
        }
        println!("{}", table::across(results.series()));
        results.finish()
    }

    fn measure(
        &self,
        program: &Program,
        bed: &Rc<Testbed>,
        route: &Route,
        planned: Planned,
        effort: Effort,
    ) -> io::Result<Vec<Series>> {
        let (folder, contestants) = (&self.folder, &self.measuring.contestants);
        match planned {
            Planned::Ends { storages, transport, streams } => {
                let crossing = self.crossing(storages, &route.settings);
                let (mut case, _places) =
                    cases::link::cross(program, folder, bed, &crossing, transport, streams.max(1))?;
                case.keep(contestants);
                case.run(effort, &mut Lines)
            }
            Planned::Service { storages } => {
                let crossing = self.crossing(storages, &route.settings);
                let mut service = cases::service::own(program, folder, bed, &crossing)?;
                service.case.keep(contestants);
                service.run(effort, &mut Lines)
            }
            Planned::Small => {
                let objects = cases::small::Objects {
                    count: self.objects,
                    bytes: SMALL_BYTES,
                    slots: SMALL_SLOTS,
                    settings: route.settings.clone(),
                    seconds_max: self.patience,
                };
                let (_place, mut case) = cases::small::between_hosts(program, folder, bed, &objects)?;
                case.keep(contestants);
                case.run(effort, &mut Lines)
            }
        }
    }

    fn crossing(&self, storages: (Storage, Storage), settings: &BTreeMap<String, String>) -> Crossing {
        Crossing { storages, bytes: self.mib << 20, settings: settings.clone(), seconds_max: self.patience }
    }

    /// Everything that could be measured on a link.
    fn planned(&self) -> Vec<Planned> {
        let ends = link::Transport::ALL.map(Transport::Ends);
        let transports = match &self.transports[..] {
            [] => ends.into_iter().chain([Transport::Service]).collect(),
            some => some.to_vec(),
        };
        let mut planned = Vec::new();
        for storages in STORAGES {
            for transport in &transports {
                match *transport {
                    Transport::Service => planned.push(Planned::Service { storages }),
                    Transport::Ends(transport) => {
                        planned.extend(self.streams.iter().map(|streams| Planned::Ends {
                            storages,
                            transport,
                            streams: *streams,
                        }));
                    }
                }
            }
        }
        planned.extend(transports.contains(&Transport::Service).then_some(Planned::Small));
        planned
    }

    /// Loopback, and every combination of what namespaces are asked for.
    fn routes(&self) -> Vec<Route> {
        let namespaces = self.namespaces || self.has_conditions() || !self.congestion.is_empty();
        let mut routes = Vec::new();
        if self.loopback || !namespaces {
            routes.push(Route { wiring: None, settings: BTreeMap::from([("path".into(), "loopback".into())]) });
        }
        if namespaces {
            let optional = |count: usize| (0..count.max(1)).collect::<Vec<_>>();
            for (mtu, congestion) in combined(&self.mtu, &optional(self.congestion.len())) {
                for (rate, (delay, loss)) in combined(
                    &optional(self.rate.len()),
                    &combined(&optional(self.delay.len()), &optional(self.loss.len())),
                ) {
                    let wiring = self.wiring(
                        mtu,
                        self.delay.get(delay).copied(),
                        self.loss.get(loss).copied(),
                        self.rate.get(rate).copied(),
                    );
                    let congestion = self.congestion.get(congestion).cloned();
                    routes.push(route(Wiring { congestion, ..wiring }));
                }
            }
        }
        routes
    }

    fn has_conditions(&self) -> bool {
        !self.delay.is_empty() || !self.loss.is_empty() || !self.rate.is_empty()
    }

    /// A relay where something is delayed or lost; a rate alone is the cable's.
    fn wiring(&self, mtu: u16, round_trip: Option<Duration>, loss: Option<f64>, rate: Option<u64>) -> Wiring {
        if round_trip.is_none() && loss.is_none() {
            return Wiring { mtu, rate, ..Wiring::default() };
        }
        let (delay, loss) = (round_trip.unwrap_or_default() / 2, loss.unwrap_or(0.0));
        Wiring { mtu, relay: Some(Conditions { delay, loss, rate, ..Conditions::default() }), ..Wiring::default() }
    }
}

fn combined<A: Clone, B: Clone>(one: &[A], other: &[B]) -> Vec<(A, B)> {
    one.iter().flat_map(|one| other.iter().map(move |other| (one.clone(), other.clone()))).collect()
}

fn route(wiring: Wiring) -> Route {
    let mut settings =
        BTreeMap::from([("path".to_owned(), "namespaces".to_owned()), ("mtu".into(), wiring.mtu.to_string())]);
    let rate = wiring.rate.or(wiring.relay.and_then(|relay| relay.rate));
    if let Some(rate) = rate {
        settings.insert("rate".into(), format!("{} Mbit/s", rate as f64 / 1e6));
    }
    if let Some(relay) = wiring.relay {
        settings.insert("round trip".into(), humantime::format_duration(relay.delay * 2).to_string());
        settings.insert("loss".into(), format!("{} %", relay.loss * 100.0));
    }
    if let Some(congestion) = &wiring.congestion {
        settings.insert("congestion".into(), congestion.clone());
    }
    Route { wiring: Some(wiring), settings }
}
