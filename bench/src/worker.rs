//! What the bench does in a process of its own, so that it can be measured like everybody else: one attempt of the
//! dataplane, and the probes of the hardware. Each prints one line of JSON.

use std::{
    io,
    path::PathBuf,
    process::Command,
    sync::mpsc,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use staccato_dataplane::{
    Dataplane, DataplaneConfig,
    attempt::{
        AttemptHandle, AttemptSpec, CheckpointReport, Completion, LaneChoice, Outcome, Part, Reply, Reporter,
        StageTimes,
    },
    yardstick,
};
use staccato_protocols::{
    ObjectUrl, Options, Registry,
    contract::Overwrite,
    file::{FileProtocol, Root, RootAccess, Roots},
    glance::GlanceProtocol,
    http::HttpProtocol,
    plugin::{Patience, find},
    s3::S3Protocol,
    swift::SwiftProtocol,
    synthetic::{NullProtocol, ZeroProtocol},
    web::Web,
};

use crate::{
    link,
    measure::own_cpu_seconds,
    probe,
    service::{self, Service},
    small::{Small, SmallBetween},
    spread::{cast::Casting, ours::Distributing},
};

/// What a worker is told that is more than words and numbers: one argument.
pub fn argument<T: Serialize>(what: &T) -> String {
    serde_json::to_string(what).expect("it is words and numbers")
}

/// Reads such an argument.
pub fn from_argument<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text)
}

/// The program that serves as its own worker, and the arguments that make it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// What comes before a subcommand of the bench: `bench` where the executable is `staccato`.
    pub prefix: Vec<String>,
}

impl Program {
    /// This very executable.
    pub fn of_this_process(prefix: &[&str]) -> io::Result<Self> {
        Ok(Self { path: std::env::current_exe()?, prefix: prefix.iter().map(|part| (*part).to_owned()).collect() })
    }

    /// A command that makes it do this work.
    pub fn command(&self, work: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.prefix).args(["worker", work]);
        command
    }
}

/// The work of a worker.
#[derive(Clone, Debug, Subcommand)]
pub enum Work {
    /// One attempt of the dataplane
    Attempt(Attempt),
    /// The I/O of an attempt without the attempt
    Bare(Bare),
    /// One transfer by a service that is started for it
    Transfer(Transfer),
    /// Reads one file and writes another beside it, with a bare io_uring
    Disk(probe::disk::Disk),
    /// Many small transfers by a service that is started for them
    Small(Small),
    /// The same between two hosts, by a service that is there
    SmallBetween(SmallBetween),
    /// One transfer between two hosts, by a service that is there
    Through(link::through::Through),
    /// One distribution, by a service that is there
    Distribute(Distributing),
    /// Servers, and a client for each of many hosts
    Cast(Casting),
    /// Copies or checks bytes in memory
    Compute(probe::compute::Compute),
    /// Both ends of a link
    Pair(link::pair::Pair),
    /// Our end of a link that has the objects
    Own(link::ends::Own),
    /// Our end of a link that reads
    Fetch(link::ends::Fetch),
    /// TLS over TCP with as little as there can be
    Rustls(probe::rustls::Tls),
    /// QUIC by quinn on tokio
    Quinn(probe::quinn::Quic),
}

impl Work {
    /// Does it, and prints what came of it.
    pub fn run(self) -> io::Result<()> {
        match self {
            Self::Attempt(attempt) => print(&attempt.run()?),
            Self::Bare(bare) => print(&bare.run()?),
            Self::Transfer(transfer) => print(&transfer.run()?),
            Self::Disk(disk) => print(&disk.run()?),
            Self::Small(small) => print(&small.run()?),
            Self::SmallBetween(small) => print(&small.run()?),
            Self::Through(through) => print(&through.run()?),
            Self::Distribute(distributing) => print(&distributing.run()?),
            Self::Cast(cast) => print(&cast.run()?),
            Self::Compute(compute) => print(&compute.run()?),
            Self::Pair(pair) => print(&pair.run()?),
            Self::Own(own) => own.run(),
            Self::Fetch(fetch) => print(&fetch.run()?),
            Self::Rustls(tls) => tls.run().and_then(|told| told.map_or(Ok(()), |told| print(&told))),
            Self::Quinn(quic) => quic.run().and_then(|told| told.map_or(Ok(()), |told| print(&told))),
        }
    }
}

fn print(told: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(told).map_err(io::Error::other)?;
    use io::Write as _;
    writeln!(io::stdout(), "{text}")
}

/// One attempt: everything but the service, with checksums, sidecar and checkpoints that are granted at once.
#[derive(Clone, Debug, Args)]
pub struct Attempt {
    /// Source URL
    source: String,
    /// Destination URL
    destination: String,
    #[command(flatten)]
    lanes: Lanes,
    /// Connections to a source behind a network; as many as bring something when absent
    #[arg(long)]
    connections: Option<u32>,
    /// An option of the source
    #[arg(long = "source-option", value_name = "NAME=VALUE")]
    source_options: Vec<String>,
    /// An option of the destination
    #[arg(long = "destination-option", value_name = "NAME=VALUE")]
    destination_options: Vec<String>,
    /// Folder with protocols from outside
    #[arg(long, value_name = "DIR")]
    plugin_path: Option<PathBuf>,
}

/// How a dataplane is built; the defaults are those of the service.
#[derive(Clone, Debug, Args)]
pub struct Lanes {
    /// Kind of lane
    #[arg(long, default_value = "auto")]
    lane: LaneChoice,
    /// Lanes; one for each core, at most 4, when absent
    #[arg(long)]
    lanes: Option<usize>,
    /// MiB of memory for buffers
    #[arg(long, default_value_t = 256)]
    memory_mib: u64,
    /// MiB of a chunk
    #[arg(long, default_value_t = 4)]
    chunk_mib: u64,
    /// Attempts that share the memory
    #[arg(long, default_value_t = 4)]
    slots: usize,
}

impl Lanes {
    fn config(&self) -> DataplaneConfig {
        DataplaneConfig {
            memory_bytes: self.memory_mib << 20,
            lanes: self.lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from).min(4)),
            lane_choice: self.lane,
            chunk_bytes: self.chunk_mib << 20,
            attempts_max: self.slots,
            spool: None,
            among_others: false,
        }
    }
}

/// What an attempt tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptTold {
    /// Length of the object.
    pub bytes_total: u64,
    /// Its CRC-32.
    pub crc32: Option<u32>,
    /// Where its time went.
    pub stages: StageTimes,
    /// Wall time that the lanes took to start, before it.
    pub start_seconds: f64,
    /// Wall time while it ran, without the start and the end of the lanes.
    pub seconds: f64,
    /// CPU seconds of the same.
    pub cpu_seconds: f64,
}

impl Attempt {
    fn run(self) -> io::Result<AttemptTold> {
        let starting = Instant::now();
        let path: Vec<PathBuf> = self.plugin_path.iter().cloned().collect();
        let registry = registry()?.with_found(find::all(&path, None, Patience::default()));
        let dataplane = Dataplane::start(self.lanes.config(), registry).map_err(io::Error::other)?;
        let (began, before) = (Instant::now(), own_cpu_seconds());
        let (ended, end) = mpsc::channel();
        dataplane.attempt(self.spec()?, |handle| Box::new(Keeper { handle, ended }));
        match end.recv().map_err(io::Error::other)? {
            Outcome::Committed(Completion { bytes_total, crc32, stages, .. }) => {
                let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), own_cpu_seconds() - before);
                let start_seconds = began.duration_since(starting).as_secs_f64();
                Ok(AttemptTold { bytes_total, crc32, stages, start_seconds, seconds, cpu_seconds })
            }
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    fn spec(&self) -> io::Result<AttemptSpec> {
        Ok(AttemptSpec {
            // Glance takes it for the image's id, and no id twice.
            transfer: uuid::Uuid::now_v7().to_string(),
            epoch: 1,
            source_url: url(&self.source)?,
            destination_url: url(&self.destination)?,
            source_options: options(&self.source_options)?,
            destination_options: options(&self.destination_options)?,
            part: Part::default(),
            overwrite: Overwrite::Never,
            checksum: None,
            rate_limit: None,
            chunk_size: None,
            connections: self.connections,
            validator: None,
            checkpoint: Vec::new(),
            upload: None,
            prepared: None,
            owner: None,
            swarm: None,
            transport: Default::default(),
            window: None,
        })
    }
}

/// The I/O of an attempt without engine, sidecar and checkpoints.
#[derive(Clone, Debug, Args)]
pub struct Bare {
    /// Source URL
    source: String,
    /// Destination URL
    destination: String,
    /// Bytes of the object
    bytes: u64,
    /// Compute the CRCs all the same
    #[arg(long)]
    checksums: bool,
    #[command(flatten)]
    lanes: Lanes,
}

/// What it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CostTold {
    /// Wall time.
    pub seconds: f64,
    /// CPU seconds.
    pub cpu_seconds: f64,
}

impl Bare {
    fn run(&self) -> io::Result<CostTold> {
        let (config, registry) = (self.lanes.config(), registry()?);
        let (source, destination) = (url(&self.source)?, url(&self.destination)?);
        let mut begun = None;
        let begin = || begun = Some((Instant::now(), own_cpu_seconds()));
        yardstick::copy(&config, &registry, &source, &destination, self.bytes, self.checksums, begin)
            .map_err(io::Error::other)?;
        let (began, before) = begun.ok_or_else(|| io::Error::other("the yardstick did not begin"))?;
        Ok(CostTold { seconds: began.elapsed().as_secs_f64(), cpu_seconds: own_cpu_seconds() - before })
    }
}

/// One transfer by a service that is started for it, from the submission to the end.
#[derive(Clone, Debug, Args)]
pub struct Transfer {
    /// Source URL
    source: String,
    /// Destination URL
    destination: String,
    /// Folder for the service's data; it must be new
    #[arg(long)]
    data: PathBuf,
}

impl Transfer {
    fn run(&self) -> io::Result<CostTold> {
        let service = Service::start(&service::binary()?, &self.data, &["--root".into(), "/:rw".into()])?;
        service.warm_up()?;
        let (began, before) = (Instant::now(), service.cpu_seconds()?);
        let submitted =
            service.api().submit(&json!({"source_url": self.source, "destination_url": self.destination}))?;
        service.api().complete(&submitted)?;
        Ok(CostTold { seconds: began.elapsed().as_secs_f64(), cpu_seconds: service.cpu_seconds()? - before })
    }
}

/// Options as command lines write them.
fn options(pairs: &[String]) -> io::Result<Options> {
    let pair = |text: &String| {
        let pair = text.split_once('=').ok_or_else(|| io::Error::other(format!("{text:?} is not NAME=VALUE")))?;
        Ok((pair.0.to_owned(), pair.1.to_owned()))
    };
    pairs.iter().map(pair).collect()
}

fn url(text: &str) -> io::Result<ObjectUrl> {
    ObjectUrl::parse(text).map_err(io::Error::other)
}

fn registry() -> io::Result<Registry> {
    let everything = Root::new("/", RootAccess::ReadWrite).map_err(io::Error::other)?;
    let web = Web::new();
    Ok(Registry::new()
        .with(FileProtocol::new(Roots::new(vec![everything])))
        .with(HttpProtocol::new(web.clone()))
        .with(GlanceProtocol::new(web.clone()))
        .with(SwiftProtocol::new(web.clone()))
        .with(S3Protocol::new(web))
        .with(ZeroProtocol)
        .with(NullProtocol))
}

/// Grants everything at once: the ledger is not what is measured here.
struct Keeper {
    handle: AttemptHandle,
    ended: mpsc::Sender<Outcome>,
}

impl Reporter for Keeper {
    fn checkpoint(&mut self, _report: CheckpointReport) {
        self.handle.reply(Reply::Checkpointed);
    }

    fn prepare(&mut self, _completion: Completion) {
        self.handle.reply(Reply::Prepared { lease_until: Duration::MAX });
    }

    fn finished(self: Box<Self>, outcome: Outcome) {
        // Whoever measures is waiting; if it is gone, nobody wants to know.
        let _ = self.ended.send(outcome);
    }
}
