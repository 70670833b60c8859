//! Everything of an endpoint that its driver turns: the socket, quinn's state machines, and what goes between them.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    ops::RangeInclusive,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use quinn_proto::{DatagramEvent, Incoming, ServerConfig, StreamId, Transmit, crypto::rustls::QuicClientConfig};

use super::{
    config::{CONNECTIONS_MAX, EndpointConfig, HANDSHAKES_MAX, HANDSHAKES_TRUSTED},
    endpoint::TurnedAway,
    link::{Link, Lost, State},
    pool::Pieces,
    socket::{Received, Socket, ecn, route_mtu},
};
use crate::transport::{tcp::CONNECT_TIMEOUT, ticket::KeyDigest, tls::Identity};

/// How often it is looked whether something has taken too long.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a connection to an owner is kept for the next stream, when it has none.
const UNUSED_OUT: Duration = Duration::from_secs(10);
/// How long a reader may have a connection without a stream.
const UNUSED_IN: Duration = Duration::from_secs(60);
/// A connection that is older takes no new streams: it is looked again who is at the other end, and shown who is here.
const SHARED_FOR: Duration = Duration::from_secs(3600);
/// A connection whose other end has been silent for so much longer than it takes to keep it alive has no new streams: it
/// may be gone, and somebody else be there.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often a turn goes around, at most, before others on the lane have theirs.
const ROUNDS_MAX: usize = 2;
/// Most calls in a round that receive, and that send for one connection.
const RECEIVES_MAX: usize = 1;
const SENDS_MAX: usize = 16;
/// Most calls in a round that send, for all connections: the others have the next round.
const SENDS_ALL_MAX: usize = 64;
/// How long to wait when the kernel takes no more: there is no way to be told.
const FULL_WAIT: Duration = Duration::from_micros(100);

/// So much of a round trip, and no more, datagrams may wait for others. On short paths nothing waits.
const PAUSE_SHARE: u32 = 32;
const PAUSES: RangeInclusive<Duration> = Duration::from_micros(500)..=Duration::from_millis(2);

/// A connection, shared by its streams and the driver.
pub type SharedLink = Rc<RefCell<Link>>;

/// Which connection a stream can be opened on: where to, to whom, and with which key of one's own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Route {
    pub address: SocketAddr,
    pub host: String,
    pub own: KeyDigest,
}

/// A stream that a reader has opened.
pub struct Opened {
    pub link: SharedLink,
    pub id: StreamId,
    pub reader: KeyDigest,
    pub from: SocketAddr,
}

/// See the module.
pub struct Port {
    pub socket: Socket,
    endpoint: quinn_proto::Endpoint,
    config: EndpointConfig,
    /// Bounds of each connection's windows.
    windows: RangeInclusive<u64>,
    client: Arc<QuicClientConfig>,
    server: ServerConfig,
    pieces: Pieces,
    /// By the number of their handle.
    links: Vec<Option<SharedLink>>,
    routes: HashMap<Route, SharedLink>,
    /// Those that have something to do.
    ready: Vec<SharedLink>,
    /// Opened by readers and not taken yet: no more than all may open.
    pub opened: VecDeque<Opened>,
    pub acceptors: Vec<Waker>,
    /// Hears of readers that get no connection.
    pub turned_away: Option<Box<dyn Fn(SocketAddr, TurnedAway)>>,
    /// What the kernel did not take; its bytes are in `out`.
    unsent: Option<Transmit>,
    out: Vec<u8>,
    sweep_at: Instant,
    /// Whether much came or left since the last sweep.
    moved: bool,
    /// Nothing new is begun any more.
    pub closing: bool,
}

impl Port {
    pub fn new(socket: Socket, identity: &Identity, config: EndpointConfig) -> io::Result<Self> {
        let mut server = ServerConfig::with_crypto(identity.quic_server());
        server.transport_config(config.transport(0, None)?).migration(false).max_incoming(HANDSHAKES_MAX);
        let whole = socket.keeps_datagrams_whole();
        let endpoint = quinn_proto::Endpoint::new(
            Arc::new(config.endpoint(identity, socket.local_addr()?.port())?),
            Some(Arc::new(server.clone())),
            whole,
            None,
        );
        Ok(Self {
            socket,
            endpoint,
            windows: config.windows(1),
            config,
            client: identity.quic_client(),
            server,
            pieces: Pieces::default(),
            links: Vec::new(),
            routes: HashMap::new(),
            ready: Vec::new(),
            opened: VecDeque::new(),
            acceptors: Vec::new(),
            turned_away: None,
            unsent: None,
            out: Vec::new(),
            sweep_at: Instant::now() + SWEEP,
            moved: false,
            closing: false,
        })
    }

    pub fn links(&self) -> impl Iterator<Item = &SharedLink> {
        self.links.iter().flatten()
    }

    /// The connection to somebody; a new one where there is none that can take one more stream.
    pub fn link_to(&mut self, route: &Route) -> io::Result<SharedLink> {
        let now = Instant::now();
        if let Some(link) = self.routes.get(route) {
            let mut held = link.borrow_mut();
            held.listen(now);
            let alive = now - held.heard_at < self.config.keep_alive + SILENCE_MAX;
            if !matches!(held.state, State::Lost(_)) && alive && now - held.since < SHARED_FOR {
                return Ok(link.clone());
            }
        }
        if self.links().count() >= CONNECTIONS_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "there are too many connections already"));
        }
        let mut config = quinn_proto::ClientConfig::new(self.client.clone());
        let beside = self.links().count();
        config.transport_config(self.config.transport(beside, route_mtu(route.address))?);
        let begun = self.endpoint.connect(now, config, route.address, &route.host);
        let (handle, connection) = begun.map_err(io::Error::other)?;
        let link = self.add(Link::new(handle, connection, self.pieces.clone(), now));
        self.routes.insert(route.clone(), link.clone());
        Ok(link)
    }

    fn add(&mut self, link: Link) -> SharedLink {
        let at = link.handle.0;
        let link = Rc::new(RefCell::new(link));
        if self.links.len() <= at {
            self.links.resize(at + 1, None);
        }
        self.links[at] = Some(link.clone());
        self.make_ready(&link);
        self.share_memory();
        link
    }

    /// All connections together stay within their memory.
    fn share_memory(&mut self) {
        self.windows = self.config.windows(self.links().count());
        let now = Instant::now();
        self.links().for_each(|link| link.borrow_mut().make_room(&self.windows, true, now));
    }

    /// There is something to do for a connection.
    pub fn make_ready(&mut self, link: &SharedLink) {
        if !std::mem::replace(&mut link.borrow_mut().ready, true) {
            self.ready.push(link.clone());
        }
    }

    /// Takes up what streams have asked for.
    pub fn take_up(&mut self, asked: &mut Vec<SharedLink>) {
        self.ready.append(asked);
    }

    /// Does what there is to do, for a while; whether there was anything.
    pub fn turn(&mut self) -> bool {
        let mut worked = false;
        for round in 0..ROUNDS_MAX {
            let now = Instant::now();
            let mut busy = self.receive(now);
            self.tell_time(now);
            busy |= self.attend(now);
            worked |= busy;
            self.moved |= busy && round > 0;
            if !busy || glommio::executor().need_preempt() {
                break;
            }
        }
        worked
    }

    /// Until when nothing happens unless something comes. No time: until something comes.
    pub fn idle_until(&self) -> Option<Instant> {
        if self.unsent.is_some() {
            return Some(Instant::now() + FULL_WAIT);
        }
        let times = self.links().filter_map(|link| link.borrow().timeout);
        times.chain(self.links().next().map(|_| self.sweep_at)).min()
    }

    /// How long what comes next may wait for more, that it is worth waking for: little beside a round trip.
    pub fn pause(&self) -> Duration {
        let round_trip = |link: &SharedLink| match link.borrow().state {
            State::Shaking => Duration::ZERO,
            State::Open(_) => link.borrow().connection.rtt(),
            State::Lost(_) => Duration::MAX,
        };
        pause_within(self.links().map(round_trip).min().unwrap_or_default())
    }

    fn receive(&mut self, now: Instant) -> bool {
        let mut received = Vec::new();
        for _ in 0..RECEIVES_MAX {
            match self.socket.receive(|message| received.push(message)) {
                Ok(true) => {}
                Ok(false) => break,
                // Errors of single datagrams (such as that nobody listens) are no errors of the port.
                Err(error) => {
                    tracing::debug!(%error, "receiving datagrams failed");
                    break;
                }
            }
        }
        let any = !received.is_empty();
        for Received { mut bytes, stride, meta } in received {
            let (ecn, local) = (ecn(&meta), meta.dst_ip);
            while !bytes.is_empty() {
                let datagram = bytes.split_to(stride.min(bytes.len()));
                let mut answer = Vec::new();
                let event = self.endpoint.handle(now, meta.addr, local, ecn, datagram, &mut answer);
                match event {
                    Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                        if let Some(link) = self.links.get(handle.0).and_then(Clone::clone) {
                            link.borrow_mut().connection.handle_event(event);
                            self.make_ready(&link);
                        }
                    }
                    Some(DatagramEvent::NewConnection(incoming)) => self.meet(incoming, now),
                    Some(DatagramEvent::Response(transmit)) => self.answer(&transmit, &answer),
                    None => {}
                }
            }
        }
        any
    }

    /// Somebody wants to connect.
    fn meet(&mut self, incoming: Incoming, now: Instant) {
        let mut answer = Vec::new();
        let shaking = |link: &&SharedLink| matches!(link.borrow().state, State::Shaking);
        let handshakes = self.links().filter(shaking).count();
        let from = incoming.remote_address();
        if self.closing || self.links().count() >= CONNECTIONS_MAX {
            if !self.closing {
                self.tell_turned_away(from, TurnedAway::TooMany);
            }
            let transmit = self.endpoint.refuse(incoming, &mut answer);
            self.answer(&transmit, &answer);
        } else if handshakes >= HANDSHAKES_MAX {
            self.endpoint.ignore(incoming);
        } else if handshakes >= HANDSHAKES_TRUSTED && incoming.may_retry() && !incoming.remote_address_validated() {
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut answer) {
                self.answer(&transmit, &answer);
            }
        } else {
            let mut server = self.server.clone();
            if let Ok(transport) = self.config.transport(self.links().count(), route_mtu(incoming.remote_address())) {
                server.transport_config(transport);
            }
            match self.endpoint.accept(incoming, now, &mut answer, Some(Arc::new(server))) {
                Ok((handle, connection)) => drop(self.add(Link::new(handle, connection, self.pieces.clone(), now))),
                Err(error) => {
                    self.tell_turned_away(from, TurnedAway::Nonsense(error.cause.to_string()));
                    if let Some(transmit) = error.response {
                        self.answer(&transmit, &answer);
                    }
                }
            }
        }
    }

    fn tell_turned_away(&self, from: SocketAddr, why: TurnedAway) {
        if let Some(tell) = &self.turned_away {
            tell(from, why);
        }
    }

    /// Sends what belongs to no connection. If the kernel does not take it, it is lost, as it might be on its way.
    fn answer(&self, transmit: &Transmit, bytes: &[u8]) {
        let _ = self.socket.send(transmit, bytes);
    }

    /// Connections that wait for a time hear that it has come.
    fn tell_time(&mut self, now: Instant) {
        let due = |link: &&SharedLink| link.borrow().timeout.is_some_and(|timeout| timeout <= now);
        let due: Vec<_> = self.links().filter(due).cloned().collect();
        for link in due {
            link.borrow_mut().connection.handle_timeout(now);
            self.make_ready(&link);
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.sweep(now);
        }
    }

    /// What has taken too long ends.
    fn sweep(&mut self, now: Instant) {
        self.routes.retain(|_, link| !matches!(link.borrow().state, State::Lost(_)));
        let links: Vec<_> = self.links().cloned().collect();
        if !std::mem::take(&mut self.moved) {
            self.pieces.shrink();
            self.socket.shrink();
        }
        for shared in links {
            let mut link = shared.borrow_mut();
            link.wake_impatient(now);
            link.listen(now);
            link.make_room(&self.windows, false, now);
            let unused = if link.connection.side().is_client() { UNUSED_OUT } else { UNUSED_IN };
            match link.state {
                State::Shaking if now - link.since >= CONNECT_TIMEOUT => link.close(now, "the handshake took too long"),
                State::Open(_) if link.is_unused() && now - link.unused_since >= unused => {
                    link.close(now, "nobody used the connection");
                }
                _ => continue,
            }
            drop(link);
            self.make_ready(&shared);
        }
    }

    /// Does what connections ask for; whether anything was sent. (Who was told of something has its turn anyway.)
    fn attend(&mut self, now: Instant) -> bool {
        if self.unsent.is_some() && !self.send_unsent() {
            return false;
        }
        let ready = std::mem::take(&mut self.ready);
        let (mut sends, mut full) = (0, false);
        for shared in ready {
            shared.borrow_mut().ready = false;
            if !self.knows(&shared) {
                continue;
            }
            if full || sends >= SENDS_ALL_MAX {
                self.make_ready(&shared);
                continue;
            }
            self.handle_events(&shared, now);
            let sent = self.transmit(&shared, now);
            sends += sent;
            full = self.unsent.is_some();
            if sent == SENDS_MAX || full {
                self.make_ready(&shared);
            }
            // Sending may have brought new ones.
            self.settle(&shared, now);
        }
        sends > 0
    }

    fn handle_events(&mut self, shared: &SharedLink, now: Instant) {
        let mut link = shared.borrow_mut();
        self.exchange(&mut link);
        let shaking = matches!(link.state, State::Shaking);
        let opened = link.handle_events(now);
        self.exchange(&mut link);
        if let State::Lost(lost) = &link.state
            && shaking
            && lost.kind == io::ErrorKind::InvalidData
            && link.connection.side().is_server()
        {
            self.tell_turned_away(link.connection.remote_address(), TurnedAway::Stranger(lost.reason.clone()));
        }
        let State::Open(reader) = link.state else { return };
        let from = link.connection.remote_address();
        for id in opened {
            link.hold(id);
            self.opened.push_back(Opened { link: shared.clone(), id, reader, from });
        }
        if !self.opened.is_empty() {
            self.acceptors.drain(..).for_each(Waker::wake);
        }
    }

    /// Carries events between a connection and its endpoint.
    fn exchange(&mut self, link: &mut Link) {
        while let Some(event) = link.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(link.handle, event) {
                link.connection.handle_event(event);
            }
        }
    }

    /// Sends what a connection has to say; with how many calls.
    fn transmit(&mut self, shared: &SharedLink, now: Instant) -> usize {
        let mut link = shared.borrow_mut();
        link.make_room(&self.windows, false, now);
        let mtu = link.connection.stats().path.current_mtu;
        let segments = self.socket.segments_max(mtu.into());
        let mut sent = 0;
        while sent < SENDS_MAX {
            self.out.clear();
            let Some(transmit) = link.connection.poll_transmit(now, segments, &mut self.out) else { break };
            if self.socket.send(&transmit, &self.out).is_err() {
                self.unsent = Some(transmit);
                break;
            }
            sent += 1;
        }
        let sent_bytes = link.connection.stats().udp_tx.bytes;
        link.note_sent(sent_bytes);
        sent
    }

    /// Tries once more what the kernel did not take.
    fn send_unsent(&mut self) -> bool {
        if let Some(transmit) = &self.unsent
            && self.socket.send(transmit, &self.out).is_err()
        {
            return false;
        }
        self.unsent = None;
        true
    }

    /// Notes when a connection wants to hear the time, and lets it go when it is over.
    fn settle(&mut self, shared: &SharedLink, now: Instant) {
        let mut link = shared.borrow_mut();
        self.exchange(&mut link);
        link.timeout = link.connection.poll_timeout();
        if link.connection.is_drained() {
            let reason = "the connection is over".to_owned();
            link.lose(now, Lost { kind: io::ErrorKind::ConnectionAborted, reason });
            link.timeout = None;
            self.links[link.handle.0] = None;
            drop(link);
            self.routes.retain(|_, routed| !Rc::ptr_eq(routed, shared));
            self.share_memory();
        }
    }

    /// Whether the connection is not over. Somebody may hold a stream of one that is; its number may be another one's.
    fn knows(&self, shared: &SharedLink) -> bool {
        let at = shared.borrow().handle.0;
        self.links.get(at).is_some_and(|link| link.as_ref().is_some_and(|link| Rc::ptr_eq(link, shared)))
    }

    /// Says goodbye to everybody.
    pub fn say_goodbye(&mut self) {
        let now = Instant::now();
        let links: Vec<_> = self.links().cloned().collect();
        for link in links {
            link.borrow_mut().close(now, "the executor stops serving");
            self.make_ready(&link);
        }
        self.opened.clear();
        self.acceptors.drain(..).for_each(Waker::wake);
    }
}

/// Packets of a long path come one by one, and each would wake the lane: more than all else that is done for it.
fn pause_within(round_trip: Duration) -> Duration {
    let pause = round_trip / PAUSE_SHARE;
    if pause < *PAUSES.start() { Duration::ZERO } else { pause.min(*PAUSES.end()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_long_paths_datagrams_wait_for_others() {
        let millis = Duration::from_millis;
        assert_eq!(pause_within(Duration::ZERO), Duration::ZERO);
        assert_eq!(pause_within(millis(15)), Duration::ZERO);
        assert_eq!(pause_within(millis(32)), millis(1));
        assert_eq!((pause_within(millis(300)), pause_within(Duration::MAX)), (millis(2), millis(2)));
    }
}
