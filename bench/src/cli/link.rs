//! `link`: from one host to another.

use std::{collections::BTreeMap, io, path::PathBuf, rc::Rc, time::Duration};

use clap::Args;
use staccato_dataplane::yardstick::link::Transport;

use super::{
    install,
    local::Lines,
    output::{Output, tell_where},
    report::write_page,
};
use crate::{
    cases::link::{self, Crossing},
    contest::{Effort, PAIRS_DEFAULT, PAIRS_MIN, run_all},
    contestants::{Storage, TOOLS},
    host,
    link::Testbed,
    network::Wiring,
    record::Record,
    relay::{Conditions, parse_rate, parse_share},
    report::table,
    worker::Program,
};

/// Arguments of `link`. Those that take several values measure every combination.
#[derive(Debug, Args)]
pub struct Link {
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
    /// TCP's congestion control between namespaces, for instance bbr; the machine's own when absent
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
    /// How ours crosses: tcp, tcp-tls, quic; with another congestion control quic-cubic, quic-bbr, quic-newreno
    #[arg(long = "transport", value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Pairs of each contestant with Staccato
    #[arg(long, default_value_t = PAIRS_DEFAULT)]
    pairs: usize,
    /// Minutes for all cases together: a case that would take longer ends with fewer pairs, at least three
    #[arg(long, default_value_t = 8.0)]
    minutes: f64,
    /// Seconds after which a contestant's sample is given up
    #[arg(long, default_value_t = 120.0)]
    patience: f64,
    /// Cases to measure (the start of a name suffices); all when absent
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Contestants to measure beside Staccato (the start of a name suffices); all when absent
    #[arg(long = "contestant", value_name = "NAME")]
    contestants: Vec<String>,
    /// Install who is absent first: Debian's packages, as root
    #[arg(long)]
    install_rivals: bool,
    /// Where results go, as JSON lines (appended)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Where a page of this run's results goes
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A link to measure on, and what tells it from others.
#[derive(Clone, Debug, PartialEq)]
struct Route {
    /// None: loopback.
    wiring: Option<Wiring>,
    settings: BTreeMap<String, String>,
}

impl Link {
    /// Measures, and prints a table for each case and one of them all.
    pub fn run(self, program: &Program) -> io::Result<()> {
        let (routes, storages) = (self.routes(), self.storages()?);
        if self.install_rivals {
            install::rivals()?;
        }
        let run = host::this_run(&self.folder, TOOLS.iter().map(|tool| (tool.program, tool.version)));
        let cores = run.host.cores;
        let mut output = Output::open(self.output.as_deref(), Vec::new())?;
        output.write(Record::Run(Box::new(run)))?;
        let transports = if self.transports.is_empty() { Transport::ALL.to_vec() } else { self.transports.clone() };
        let count = routes.len() * storages.len() * transports.len() * self.streams.len();
        let minutes = self.minutes / count.max(1) as f64;
        let effort = Effort {
            pairs: self.pairs.max(PAIRS_MIN),
            time_max: Duration::try_from_secs_f64(minutes * 60.0).map_err(io::Error::other)?,
            count_system_calls: false,
        };
        let mut all = Vec::new();
        for route in routes {
            let bed = Rc::new(route.wiring.as_ref().map_or_else(|| Ok(Testbed::loopback()), Testbed::network)?);
            for storages in &storages {
                for (transport, streams) in
                    transports.iter().flat_map(|one| self.streams.iter().map(move |n| (*one, *n)))
                {
                    let crossing = Crossing {
                        storages: *storages,
                        bytes: self.mib << 20,
                        transport,
                        streams: streams.max(1),
                        settings: route.settings.clone(),
                        seconds_max: self.patience,
                    };
                    let (mut case, _places) = link::cross(program, &self.folder, &bed, &crossing)?;
                    case.keep(&self.contestants);
                    for series in run_all(&[case], effort, &mut Lines)? {
                        println!("{}", table::of_case(&series, cores));
                        for one in series {
                            output.write(Record::Series(one.clone()))?;
                            all.push(one);
                        }
                    }
                }
            }
        }
        println!("{}", table::across(&all));
        if let Some(page) = &self.html {
            write_page(page, output.records)?;
        }
        tell_where(self.output.as_deref(), self.html.as_deref());
        Ok(())
    }

    fn storages(&self) -> io::Result<Vec<(Storage, Storage)>> {
        use Storage::{Disk, Memory};
        let all = [(Memory, Memory), (Disk, Memory), (Memory, Disk), (Disk, Disk)];
        let names = all.map(link::name);
        if let Some(unknown) =
            self.cases.iter().find(|start| !names.iter().any(|name| name.starts_with(start.as_str())))
        {
            return Err(io::Error::other(format!("there is no case {unknown}; there are {}", names.join(", "))));
        }
        let wanted = |storages: &(Storage, Storage)| {
            let name = link::name(*storages);
            self.cases.is_empty() || self.cases.iter().any(|start| name.starts_with(start.as_str()))
        };
        Ok(all.into_iter().filter(wanted).collect())
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
