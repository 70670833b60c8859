//! An executor among others: who it is, how it reaches their objects, and the door through which they come for its own.
//!
//! One thread accepts connections and gives each to the glommio lane that has the fewest. A connection that begins with
//! TLS is of an executor whose certificate says who it is; others are plain, and turned away unless that was allowed.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use staccato_protocols::{
    Code, Disposition, Error, Interrupt, Lane, ObjectUrl, Options, Registry,
    contract::{Overwrite, SourceRequest},
};

use super::{
    gauge::Connected,
    offer::{
        Offer, Offers,
        store::{CopyStore, Whole},
    },
    quic::{Accepted, Endpoint, EndpointConfig, Quic, TurnedAway},
    remote::{RemoteProtocol, Transport},
    seats::{Seat, Seats},
    serve::{ControlTime, Owner},
    tcp::{self, Tcp},
    tls::Identity,
    way::{Link, LinkState, Way},
};
use crate::{
    attempt::{AttemptSpec, SourceOwner, TransportChoice},
    lane::{LaneHandle, message::Command},
};

/// Connections of readers at a time; further ones are closed.
pub const VISITS_MAX: usize = 4096;
/// Connections at a time from one address (IPv6: one network of 64 bits); further ones are closed.
pub const VISITS_EACH_MAX: usize = 1024;
/// Links that are remembered; of more, all are forgotten.
const LINKS_MAX: usize = 10_000;
/// Connections to another executor's copy at a time, beside the one on which it tells what it has. Each further one begins
/// slowly, on links that are full by then: it is made where two chunks are asked for at a time.
const OFFER_CONNECTIONS_MAX: usize = 2;
/// How long QUIC may take to connect where TCP is there as well: a path that is blocked shall not cost much.
const TRIAL_PATIENCE: Duration = Duration::from_secs(3);
/// How often the door looks whether it shall close.
const LOOK: Duration = Duration::from_millis(100);
/// The pause after the operating system refused a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an executor needs to be one among others.
pub struct PeersConfig {
    /// Its certificate, and whose certificates it believes.
    pub identity: Identity,
    /// Where others may connect; none: they may not.
    pub listen: Option<SocketAddr>,
    /// UDP ports for QUIC, one for each lane; none: that of `listen`, and those behind it.
    pub quic_ports: Option<RangeInclusive<u16>>,
    /// Whether bytes may travel unencrypted, to and from executors that allow it, too.
    pub plain: bool,
    /// What verifies tickets: the control plane's public key (Ed25519).
    pub ticket_key: Vec<u8>,
    /// The control plane's clock.
    pub control_time: ControlTime,
    /// The folder with what is known of copies that many fetch from one another; none: they are not shown again by another
    /// process.
    pub copies: Option<PathBuf>,
}

/// Where other executors may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Over TCP.
    pub tcp: SocketAddr,
    /// Over QUIC: one for each lane.
    pub quic: Vec<SocketAddr>,
}

/// What an executor knows of its link to another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The other host, from which it reads.
    pub host: String,
    /// The transport that suits the link: `tcp` or `quic`; none before one was to be chosen.
    pub transport: Option<String>,
    /// Why it does.
    pub reason: Option<String>,
    /// Bytes per second over TCP, when that was last measured.
    pub tcp_goodput: Option<u64>,
    /// Bytes per second over QUIC, when that was last measured.
    pub quic_goodput: Option<u64>,
    /// The shortest round trip of late, in microseconds.
    pub delay_us: Option<u64>,
    /// Packets of the other host that were lost of late, in a million that it sent; none before it had sent many.
    pub loss_ppm: Option<u32>,
}

/// Who was turned away since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// Connections and questions that no certificate, or no ticket, allowed.
    pub not_allowed: u64,
    /// Connections beyond [`VISITS_MAX`] or [`VISITS_EACH_MAX`], or those of a port for QUIC.
    pub too_many: u64,
}

/// See the module.
pub(crate) struct Peers {
    identity: Identity,
    plain: bool,
    owner: Owner,
    /// Where readers are served.
    lanes: Vec<LaneHandle>,
    copies: Option<CopyStore>,
    /// Connections that were closed because there were too many.
    too_many: AtomicU64,
    links: Mutex<BTreeMap<String, Link>>,
    /// Raised when readers shall be left.
    closing: Interrupt,
}

impl Peers {
    /// What another executor offers of an object that many fetch from one another.
    pub fn offer_of(&self, owner: &SourceOwner, transport: TransportChoice) -> RemoteProtocol {
        let ways = self.ways_to(owner, transport).into_iter().map(Way::without_trials).collect();
        RemoteProtocol::over(ways, owner.ticket.0.clone()).with_connections(OFFER_CONNECTIONS_MAX)
    }

    /// The same of this one.
    pub fn offers(&self) -> &Offers {
        self.owner.offers()
    }

    /// What is known of copies, on disk.
    pub fn copies(&self) -> Option<&CopyStore> {
        self.copies.as_ref()
    }

    /// Offers what another process has written, as far as it still is what was written.
    fn offer_again(&self, registry: &Registry) {
        let found = self.copies.as_ref().map(CopyStore::whole);
        for (file, known) in found.into_iter().flat_map(|found| found.unwrap_or_default()) {
            let Some(whole) = known.whole.clone() else { continue };
            let offer = Offer::new(whole.copy.clone(), whole.object.object());
            let key = offer.key();
            if let Err(error) = self.show_kept(&key, &whole, registry) {
                tracing::info!(%error, url = whole.url, "a copy is not shown");
                // A lane may have opened it before another one could not.
                self.withdraw(&key);
                let is_over = error.disposition == Disposition::SourceChanged || error.code == Code::SourceMissing;
                self.copies.iter().filter(|_| is_over).for_each(|copies| copies.remove(&key));
                continue;
            }
            offer.limit_uploads(whole.upload_limit);
            offer.remember(file, known, |_| true);
            self.owner.offers().add(Arc::new(offer));
        }
    }

    fn show_kept(&self, key: &str, whole: &Whole, registry: &Registry) -> Result<(), Error> {
        let url = ObjectUrl::parse(&whole.url)?;
        let module = registry.source(&url, &Options::new())?;
        for lane in &self.lanes {
            let (told, hear) = flume::bounded(1);
            let (options, interrupt) = (Options::new(), Interrupt::default());
            let request =
                SourceRequest { url: url.clone(), options, pinned: whole.validator.clone(), aligned: true, interrupt };
            let (key, module, request) = (key.to_owned(), module.clone(), Box::new(request));
            lane.send(Command::ShowKept { key, module, request, told });
            let ended = || Err(Error::retry(Code::Internal, "the lane has ended"));
            hear.recv().unwrap_or_else(|_| ended())?;
        }
        Ok(())
    }

    /// Nothing of a copy is shown any more, and nothing is known of it.
    pub fn forget(&self, key: &str) {
        self.withdraw(key);
        self.copies.iter().for_each(|copies| copies.remove(key));
    }

    /// Offers nothing of this copy any more, and reads nothing of it.
    pub fn withdraw(&self, key: &str) {
        self.owner.offers().remove(key);
        let (done, all_done) = flume::bounded::<()>(0);
        for lane in &self.lanes {
            lane.send(Command::Withdraw { key: key.to_owned(), done: done.clone() });
        }
        drop(done);
        // Each lane drops its end when it is through.
        let _ = all_done.recv();
    }

    /// Who this executor is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The objects of another executor that its ticket allows to read, for one attempt on so many lanes.
    pub fn objects_of(&self, owner: &SourceOwner, spec: &AttemptSpec, lanes: usize) -> RemoteProtocol {
        let mut ways = self.ways_to(owner, spec.transport);
        if spec.swarm.is_some() {
            // Its owner is read by many at a time.
            ways = ways.into_iter().map(Way::without_trials).collect();
        }
        let mut objects = RemoteProtocol::over(ways, owner.ticket.0.clone());
        let wants_all = spec.part.start == 0 && spec.part.end.is_none() && spec.checkpoint.is_empty();
        // What is to be repaired may be right already: then nothing shall travel. What many fetch is read in chunks.
        if wants_all && spec.overwrite != Overwrite::Repair && spec.swarm.is_none() {
            objects = objects.with_short_ones_whole();
        }
        match spec.connections {
            Some(connections) => objects.with_connections((connections as usize).div_ceil(lanes)),
            None => objects,
        }
    }

    /// The ways to another executor, over the transport that was chosen.
    fn ways_to(&self, owner: &SourceOwner, transport: TransportChoice) -> Vec<Way> {
        let tcp: Arc<dyn Transport> = Arc::new(self.tcp(owner));
        let quic = |address: &SocketAddr, patience: Duration| -> Arc<dyn Transport> {
            let (host, identity) = (owner.host.clone(), self.identity.clone());
            Arc::new(Quic::new(*address, host, identity, EndpointConfig::default()).patience(patience))
        };
        let link = self.link_to(&owner.host);
        match transport {
            TransportChoice::Quic if !owner.quic.is_empty() => {
                let only = |address| Way::only(quic(address, tcp::CONNECT_TIMEOUT), link.clone());
                owner.quic.iter().map(only).collect()
            }
            TransportChoice::Auto if !owner.quic.is_empty() => {
                let either = |address| Way::either(tcp.clone(), quic(address, TRIAL_PATIENCE), link.clone());
                owner.quic.iter().map(either).collect()
            }
            _ => vec![Way::only(tcp, link)],
        }
    }

    /// What is known of the link to a host.
    fn link_to(&self, host: &str) -> Link {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= LINKS_MAX && !links.contains_key(host) {
            links.clear();
        }
        links.entry(host.to_owned()).or_default().clone()
    }

    /// What is known of the links to other hosts that were used.
    pub fn links(&self) -> Vec<LinkReport> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let report = |(host, link): (&String, &Link)| {
            let LinkState { choice, goodput, delay, loss } = link.state()?;
            let (transport, reason) = choice.map(|(kind, why)| (kind.to_string(), why)).unzip();
            let [tcp_goodput, quic_goodput] = goodput.map(|goodput| goodput.map(|goodput| goodput as u64));
            let delay_us = delay.map(|delay| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
            let loss_ppm = loss.map(|share| (share * 1e6) as u32);
            let host = host.clone();
            Some(LinkReport { host, transport, reason, tcp_goodput, quic_goodput, delay_us, loss_ppm })
        };
        links.iter().filter_map(report).collect()
    }

    /// Who was turned away.
    pub fn refusals(&self) -> Refusals {
        Refusals { not_allowed: self.owner.refused(), too_many: self.too_many.load(Ordering::Relaxed) }
    }

    /// Somebody was turned away whose certificate is none of this deployment, or not valid.
    fn refuse_stranger(&self, from: SocketAddr, why: &dyn fmt::Display) {
        self.owner.count_refused();
        tracing::warn!(%from, %why, "refused a connection: it is of no executor of this deployment");
    }

    fn tcp(&self, owner: &SourceOwner) -> Tcp {
        if self.plain && owner.plain {
            Tcp::plain(owner.tcp)
        } else {
            Tcp::secure(owner.tcp, owner.host.clone(), self.identity.clone())
        }
    }
}

/// An executor that others can find, until this is dropped.
pub(crate) struct Served {
    peers: Arc<Peers>,
    door: Option<Door>,
}

struct Door {
    addresses: Addresses,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Opens the door, if there is to be one, to `registry`'s objects on these lanes, which are glommio's.
    pub fn start(config: PeersConfig, registry: Registry, lanes: &[LaneHandle]) -> Result<Self, Error> {
        let PeersConfig { identity, listen, quic_ports, plain, ticket_key, control_time, copies } = config;
        let owner = Owner::new(registry.clone(), ticket_key, control_time);
        let copies = copies.and_then(|folder| {
            let opened = CopyStore::open(&folder);
            opened.inspect_err(|error| tracing::warn!(%error, "copies are not shown again by another process")).ok()
        });
        let (links, closing) = (Mutex::default(), Interrupt::default());
        let peers = Arc::new(Peers {
            identity,
            plain,
            owner,
            lanes: lanes.to_vec(),
            copies,
            too_many: AtomicU64::new(0),
            links,
            closing,
        });
        peers.offer_again(&registry);
        let door = listen.map(|address| Door::open(address, quic_ports, &peers, lanes)).transpose()?;
        Ok(Self { peers, door })
    }

    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Where readers may connect.
    pub fn addresses(&self) -> Option<&Addresses> {
        self.door.as_ref().map(|door| &door.addresses)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.peers.closing.raise();
    }
}

impl Door {
    fn open(
        address: SocketAddr,
        quic_ports: Option<RangeInclusive<u16>>,
        peers: &Arc<Peers>,
        lanes: &[LaneHandle],
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            let why = format!("other executors cannot be let in at {address}: {error}; choose another address");
            Error::fatal(Code::ConnectFailed, why)
        };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // Without a port of its own choice, there is none for QUIC to follow.
        let first_port = address.port();
        let address = listener.local_addr().map_err(failed)?;
        let mut quic = Vec::new();
        for (number, lane) in lanes.iter().enumerate() {
            let port = match (&quic_ports, first_port) {
                (Some(ports), _) => ports.clone().nth(number),
                (None, 0) => Some(0),
                (None, first) => first.checked_add(number as u16),
            };
            let port = port.ok_or_else(|| failed(io::Error::other("there are fewer UDP ports than lanes")))?;
            let (told, hear) = flume::bounded(1);
            let address = SocketAddr::new(address.ip(), port);
            lane.send(Command::OpenPort(Box::new(QuicPort { address, peers: peers.clone(), told })));
            let opened = hear.recv().unwrap_or_else(|_| Err(io::Error::other("the lane has ended")));
            quic.push(opened.map_err(failed)?);
        }
        let addresses = Addresses { tcp: address, quic };
        let closed = Arc::<AtomicBool>::default();
        let lanes = lanes.iter().map(|lane| (lane.clone(), Arc::default())).collect();
        let porter = Porter { listener, lanes, peers: peers.clone(), seats: Seats::new(VISITS_EACH_MAX) };
        let stop = closed.clone();
        let thread = thread::Builder::new().name("peers".into()).spawn(move || porter.work(&stop)).map_err(failed)?;
        Ok(Self { addresses, closed, thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // A porter that has panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Accepts connections and hands them out.
struct Porter {
    listener: TcpListener,
    /// Glommio's lanes, and how many readers each has.
    lanes: Vec<(LaneHandle, Arc<AtomicUsize>)>,
    peers: Arc<Peers>,
    seats: Seats,
}

impl Porter {
    fn work(&self, closed: &AtomicBool) {
        let look = Timespec { tv_sec: 0, tv_nsec: LOOK.as_nanos() as i64 };
        while !closed.load(Ordering::Relaxed) {
            let _ = poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&look));
            match self.listener.accept() {
                Ok((socket, from)) => self.hand_over(socket, from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection of another executor could not be accepted");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn hand_over(&self, socket: TcpStream, from: SocketAddr) {
        let visits: usize = self.lanes.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum();
        let seat = self.seats.seat(from.ip()).filter(|_| visits < VISITS_MAX);
        let Some(seat) = seat else {
            self.peers.too_many.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%from, "too many connections of readers");
            return;
        };
        let least = self.lanes.iter().min_by_key(|(_, count)| count.load(Ordering::Relaxed));
        let (lane, count) = least.expect("there is a lane");
        count.fetch_add(1, Ordering::Relaxed);
        let _place = Place { count: count.clone(), _seat: seat };
        lane.send(Command::Serve(Box::new(Visit { socket, from, peers: self.peers.clone(), _place })));
    }
}

/// Counts a reader until it is dropped.
struct Place {
    count: Arc<AtomicUsize>,
    _seat: Seat,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reader that was accepted, on its way to a lane.
pub(crate) struct Visit {
    socket: TcpStream,
    from: SocketAddr,
    peers: Arc<Peers>,
    _place: Place,
}

impl Visit {
    /// Answers the reader until it has gone, or shall go.
    pub async fn serve(self, lane: &Lane) {
        let Self { socket, from, peers, _place } = self;
        let served = peers.closing.cut(async {
            let (reader, connected) = match tcp::greet(socket).await {
                Ok((Connected { stream, gauge }, true)) => {
                    let accepted = tcp::accept_tls(stream, &peers.identity).await;
                    let (stream, key) = accepted.map_err(|error| {
                        peers.refuse_stranger(from, &error);
                        Error::fatal(Code::TlsFailed, error.to_string())
                    })?;
                    (Some(key), Connected { stream, gauge })
                }
                Ok((connected, false)) if peers.plain => (None, connected),
                Ok((_, false)) => {
                    peers.owner.count_refused();
                    tracing::warn!(%from, "refused a plain connection: executors here speak TLS");
                    return Err(Error::fatal(Code::TlsFailed, "it does not speak TLS"));
                }
                Err(error) => return Err(Error::retry(Code::ConnectionLost, error.to_string())),
            };
            peers.owner.serve(lane, reader.as_ref(), connected, from.to_string()).await
        });
        if let Err(error) = served.await {
            // Theirs to notice, and to come again.
            tracing::debug!(%from, %error, "a reader's connection ended early");
        }
    }
}

/// A UDP port that a lane shall open, and where to say which it was.
pub(crate) struct QuicPort {
    address: SocketAddr,
    peers: Arc<Peers>,
    told: flume::Sender<io::Result<SocketAddr>>,
}

impl QuicPort {
    /// Opens it, and answers readers until they shall be left.
    pub async fn serve(self, lane: &Lane) {
        let Self { address, peers, told } = self;
        let endpoint = match Endpoint::bind(address, &peers.identity, EndpointConfig::default()) {
            Ok(endpoint) => endpoint,
            Err(error) => return drop(told.send(Err(error))),
        };
        let _ = told.send(Ok(endpoint.local_addr()));
        let counting = peers.clone();
        endpoint.when_turned_away(move |from, why| match why {
            TurnedAway::Stranger(why) => counting.refuse_stranger(from, &why),
            TurnedAway::Nonsense(why) => {
                counting.owner.count_refused();
                tracing::debug!(%from, why, "refused what is of no executor");
            }
            TurnedAway::TooMany => {
                counting.too_many.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%from, "too many connections of readers");
            }
        });
        let mut visits = FuturesUnordered::new();
        let serving = peers.closing.cut(async {
            loop {
                let mut accept = pin!(endpoint.accept());
                let accepted = poll_fn(|context| {
                    while let Poll::Ready(Some(())) = visits.poll_next_unpin(context) {}
                    accept.as_mut().poll(context)
                });
                let Ok(Accepted { stream, reader, from }) = accepted.await else { return Ok(()) };
                let owner = &peers.owner;
                visits.push(async move {
                    if let Err(error) = owner.serve(lane, Some(&reader), stream, from.to_string()).await {
                        // Theirs to notice, and to come again.
                        tracing::debug!(%from, %error, "a reader's stream ended early");
                    }
                });
            }
        });
        let _: Result<(), Error> = serving.await;
        drop(visits);
        endpoint.close().await;
    }
}
