//! What crossing a link costs by itself: an owner that serves objects, and a reader that reads one of them, over a
//! transport, on glommio lanes. The same modules, frames, CRCs and buffers as an attempt's, but no engine, no sidecar, no
//! checkpoint and no ledger.

use std::{
    fmt,
    net::SocketAddr,
    rc::Rc,
    str::FromStr,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use glommio::{
    Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle, executor, net::TcpListener,
    timer::TimerActionRepeat,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use staccato_protocols::{
    BufferPool, ByteRange, Code, Destination, Error, Interrupt, Lane, ObjectUrl, Options, Protocol as _, Registry,
    Runtime,
    contract::{CommitError, DestinationRequest, Overwrite, SourceRequest, WriteShape},
};
use tokio::sync::Semaphore;

use crate::transport::{
    quic::{Accepted, Congestion, Endpoint, EndpointConfig, Quic},
    remote::{self, RemoteProtocol},
    serve::Owner,
    tcp::{Tcp, accept, accept_tls},
    ticket::{KeyDigest, Ticket},
    tls::Identity,
};

/// How bytes cross. Whoever adds one adds an arm to `Transport::way` (the reader's side), one to `Transport::serve` (the
/// owner's), and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, plain.
    Tcp,
    /// TCP, inside TLS.
    TcpTls,
    /// QUIC, with this congestion control.
    Quic(Congestion),
}

impl Transport {
    /// What is measured unless something else is asked for.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::TcpTls, Self::Quic(Congestion::Delivery)];
    /// QUIC with a congestion control that is not its usual one.
    const OTHERS: [Self; 3] =
        [Self::Quic(Congestion::Cubic), Self::Quic(Congestion::Bbr), Self::Quic(Congestion::NewReno)];

    /// The reader's way to an owner's lane.
    fn way(self, end: &End, to: SocketAddr) -> Result<Arc<dyn remote::Transport>, Error> {
        Ok(match self {
            Self::Tcp => Arc::new(Tcp::plain(to)),
            Self::TcpTls => Arc::new(Tcp::secure(to, OWNER_NAME, end.identity()?.clone())),
            Self::Quic(congestion) => {
                Arc::new(Quic::new(to, OWNER_NAME, end.identity()?.clone(), quic_config(congestion)))
            }
        })
    }

    /// Serves whoever connects to an owner's lane, for ever.
    async fn serve(
        self,
        end: &End,
        at: SocketAddr,
        owner: Arc<Owner>,
        lane: Rc<Lane>,
        queue: TaskQueueHandle,
    ) -> Result<(), Error> {
        match self {
            Self::Tcp | Self::TcpTls => {
                let listener =
                    TcpListener::bind(at).map_err(|error| broken(&format!("cannot listen at {at}: {error}")))?;
                let identity = if self == Self::TcpTls { Some(end.identity()?.clone()) } else { None };
                loop {
                    let (stream, from) = accept(&listener).await.map_err(|error| broken(&error))?;
                    let (owner, lane, identity) = (owner.clone(), lane.clone(), identity.clone());
                    let serve = async move {
                        let accepted = match &identity {
                            Some(identity) => accept_tls(stream, identity).await,
                            None => Ok((stream, PLAIN_READER)),
                        };
                        let served = match accepted {
                            Ok((stream, reader)) => owner.serve(&lane, Some(&reader), stream, from.to_string()).await,
                            Err(error) => Err(broken(&error)),
                        };
                        if let Err(error) = served {
                            tracing::warn!(%from, %error, "a reader's connection failed");
                        }
                    };
                    glommio::spawn_local_into(serve, queue).map_err(|error| broken(&error))?.detach();
                }
            }
            Self::Quic(congestion) => {
                let endpoint = Endpoint::bind(at, end.identity()?, quic_config(congestion));
                let endpoint = endpoint.map_err(|error| broken(&format!("cannot listen at {at}: {error}")))?;
                loop {
                    let accepted = endpoint.accept().await.map_err(|error| broken(&error))?;
                    let (owner, lane) = (owner.clone(), lane.clone());
                    let serve = async move {
                        let Accepted { stream, reader, from } = accepted;
                        if let Err(error) = owner.serve(&lane, Some(&reader), stream, from.to_string()).await {
                            tracing::warn!(%from, %error, "a reader's stream failed");
                        }
                    };
                    glommio::spawn_local_into(serve, queue).map_err(|error| broken(&error))?.detach();
                }
            }
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::TcpTls => "tcp-tls",
            Self::Quic(Congestion::Delivery) => "quic",
            Self::Quic(Congestion::Cubic) => "quic-cubic",
            Self::Quic(Congestion::Bbr) => "quic-bbr",
            Self::Quic(Congestion::NewReno) => "quic-newreno",
        })
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter().chain(Self::OTHERS);
        all.clone().find(|transport| transport.to_string() == text).ok_or_else(|| {
            let names: Vec<_> = all.by_ref().map(|one| one.to_string()).collect();
            format!("there is no transport {text}; there are {}", names.join(", "))
        })
    }
}

fn quic_config(congestion: Congestion) -> EndpointConfig {
    EndpointConfig { congestion, ..EndpointConfig::default() }
}

/// What an owner's certificate calls it.
pub const OWNER_NAME: &str = "owner";
/// Whom tickets name where connections are plain.
const PLAIN_READER: KeyDigest = [7; 32];
/// How long a ticket of a measurement lives.
const TICKET_MS: u64 = 3_600_000;

/// One end of a link.
#[derive(Clone)]
pub struct End {
    /// How bytes cross.
    pub transport: Transport,
    /// Where the owner's first lane listens; each of the others one port further.
    pub address: SocketAddr,
    /// Lanes of the owner.
    pub owner_lanes: usize,
    /// Who this end is, where the transport wants to know: the owner's certificate is one of [`OWNER_NAME`].
    pub identity: Option<Identity>,
    /// Seed of the key that signs tickets: a secret of the two.
    pub ticket_seed: [u8; 32],
    /// Bytes of memory for buffers of each lane.
    pub lane_memory_bytes: usize,
}

impl End {
    fn identity(&self) -> Result<&Identity, Error> {
        self.identity.as_ref().ok_or_else(|| broken(&"TLS needs an identity"))
    }

    fn ticket_key(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.ticket_seed).expect("every seed is one of a key")
    }

    fn address(&self, lane: usize) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + (lane % self.owner_lanes.max(1)) as u16)
    }
}

/// Serves everything that the registry can read to whoever has a ticket, until the process ends. An error is a failure.
pub fn own(end: &End, registry: Registry) -> Result<(), Error> {
    let key = end.ticket_key().public_key().as_ref().to_vec();
    let owner = Arc::new(Owner::new(registry, key, Box::new(now_ms)));
    let lanes: Vec<_> = (0..end.owner_lanes.max(1))
        .map(|index| {
            let (own, owner, at) = (end.clone(), owner.clone(), end.address(index));
            on_lane(format!("owner-{index}"), index, end.lane_memory_bytes, async move |lane, queue| {
                own.transport.serve(&own, at, owner, Rc::new(lane), queue).await
            })
        })
        .collect();
    joined(lanes)
}

/// What a reader reads, and where it goes.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The object, as its owner knows it.
    pub source: ObjectUrl,
    /// Where it goes.
    pub destination: ObjectUrl,
    /// Its length.
    pub length: u64,
    /// Bytes of a chunk: a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// Connections, over all lanes.
    pub connections: usize,
    /// Lanes of the reader; no more than connections.
    pub lanes: usize,
}

/// Reads an object from an owner, and commits it. `begin` is called when lanes are there, and nothing has been said.
pub fn read(end: &End, reading: &Reading, registry: &Registry, begin: impl FnOnce()) -> Result<(), Error> {
    let mut session = registry.destination(&reading.destination, &Options::new())?.begin(&DestinationRequest {
        url: reading.destination.clone(),
        options: Options::new(),
        transfer: "link".into(),
        epoch: 1,
        overwrite: Overwrite::Never,
        resume: false,
        upload: None,
        prepared: None,
        interrupt: Interrupt::default(),
    })?;
    let lanes = reading.lanes.clamp(1, reading.connections.max(1));
    // The lanes, and whoever calls `begin`: twice, before it and behind it.
    let (begins, next) = (Arc::new(Barrier::new(lanes + 1)), Arc::new(AtomicU64::new(0)));
    let opens =
        (0..lanes).map(|_| session.open_on_lane(WriteShape { aligned: true })).collect::<Result<Vec<_>, _>>()?;
    session.set_length(reading.length)?;
    let running: Vec<_> = opens
        .into_iter()
        .enumerate()
        .map(|(index, open)| {
            let (end, reading, begins, next) = (end.clone(), reading.clone(), begins.clone(), next.clone());
            on_lane(format!("reader-{index}"), index, end.lane_memory_bytes, async move |lane, _| {
                begins.wait();
                begins.wait();
                let connections = (0..reading.connections).filter(|connection| connection % lanes == index);
                let ways: Vec<_> = connections
                    .map(|connection| end.transport.way(&end, end.address(connection)))
                    .collect::<Result<_, _>>()?;
                let destination = open(&lane).await?;
                let tasks = ways.into_iter().map(|way| read_chunks(&end, &reading, way, &lane, &*destination, &next));
                // To their ends, all of them: what is in flight must not be dropped.
                let read: Result<(), Error> = join_all(tasks).await.into_iter().collect();
                let synced = destination.sync().await;
                destination.close().await;
                read.and(synced)
            })
        })
        .collect();
    begins.wait();
    begin();
    begins.wait();
    joined(running)?;
    session.set_length(reading.length)?;
    session.commit().map_err(|error| match error {
        CommitError::NotDone(error) | CommitError::Unknown(error) => error,
    })
}

/// One connection: chunk after chunk. While one is written, the next one is being read.
async fn read_chunks(
    end: &End,
    reading: &Reading,
    way: Arc<dyn remote::Transport>,
    lane: &Lane,
    destination: &dyn Destination,
    next: &AtomicU64,
) -> Result<(), Error> {
    let remote = RemoteProtocol::new(way, ticket(end, &reading.source).sign(&end.ticket_key())).with_connections(1);
    let (options, interrupt) = (Options::new(), Interrupt::default());
    let request = SourceRequest { url: reading.source.clone(), options, pinned: None, aligned: true, interrupt };
    let source = remote.open_source(&request, lane).await?;
    let asking = Semaphore::new(ASKED_FOR);
    let places = (0..ASKED_FOR + WRITTEN).map(|_| async {
        loop {
            let asked = asking.acquire().await.expect("it is never closed");
            let start = next.fetch_add(1, Ordering::Relaxed) * reading.chunk_bytes;
            let range = ByteRange::new(start, reading.length.min(start.saturating_add(reading.chunk_bytes)));
            let Some(range) = range.filter(|range| !range.is_empty()) else { return Ok(()) };
            let chunk = source.read(range, &lane.pool).await?;
            drop(asked);
            destination.write(range.start(), chunk).await?;
        }
    });
    let read: Result<(), Error> = join_all(places).await.into_iter().collect();
    source.close().await;
    read
}

/// Chunks that are asked for at a time on a connection: 16 MiB of the usual ones are on their way at 1 Gbit/s and 100 ms.
const ASKED_FOR: usize = 4;
/// Chunks of a connection that are being written meanwhile.
const WRITTEN: usize = 2;

/// Bytes of memory for the buffers of a reader's lane that has so many connections.
pub fn reader_memory_bytes(connections: usize, chunk_bytes: u64) -> usize {
    (connections * (ASKED_FOR + WRITTEN)).max(1) * chunk_bytes as usize
}

fn ticket(end: &End, url: &ObjectUrl) -> Ticket {
    Ticket {
        transfer: "link".into(),
        epoch: 1,
        url: url.as_str().to_owned(),
        range: ByteRange::new(0, u64::MAX).expect("0 is the smallest start"),
        reader: end
            .identity
            .as_ref()
            .filter(|_| end.transport != Transport::Tcp)
            .map_or(PLAIN_READER, Identity::key_digest),
        until_ms: now_ms() + TICKET_MS,
    }
}

/// Runs something on a glommio lane of its own, which the kernel may put on any core.
fn on_lane<W>(name: String, index: usize, memory_bytes: usize, work: W) -> JoinHandle<Result<(), Error>>
where
    W: AsyncFnOnce(Lane, TaskQueueHandle) -> Result<(), Error> + Send + 'static,
{
    // See `lane/glommio.rs` for the queue's latency and the pulse.
    const TURN_MAX: Duration = Duration::from_millis(100);
    const PULSE: Duration = Duration::from_millis(50);
    let run = move || {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).name(&name).io_memory(memory_bytes);
        let executor_of_lane = builder.make().map_err(|error| broken(&error))?;
        executor_of_lane.run(async move {
            let queue = executor().create_task_queue(Shares::Static(1000), Latency::Matters(TURN_MAX), "lane");
            let pulse = TimerActionRepeat::repeat(async || Some(PULSE));
            let (pool, _) = BufferPool::new(Runtime::Glommio, memory_bytes, 0, 0);
            let lane = Lane { index, runtime: Runtime::Glommio, pool };
            let task = glommio::spawn_local_into(async move { work(lane, queue).await }, queue);
            let done = match task {
                Ok(task) => task.await,
                Err(error) => Err(broken(&error)),
            };
            pulse.cancel().await;
            done
        })
    };
    thread::spawn(run)
}

fn joined(lanes: Vec<JoinHandle<Result<(), Error>>>) -> Result<(), Error> {
    let ended = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|_| Err(broken(&"a lane panicked"))));
    ended.collect::<Vec<_>>().into_iter().collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn broken(why: &dyn fmt::Display) -> Error {
    Error::fatal(Code::Internal, format!("the link's measurement broke: {why}"))
}
