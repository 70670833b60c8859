//! How a lane gets at another executor: over one transport, or over the one that suits their link, which is found out on the
//! way ([`choose`](super::choose)).

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use staccato_protocols::{Code, Error};

use super::{
    choose::{Chooser, Kind},
    connection::Connection,
    gauge::{Connected, Gauge},
    path::Path,
    patience::within,
    remote::Transport,
    tcp::CONNECT_TIMEOUT,
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Way {
    routes: Routes,
    link: Link,
    /// Whether what crosses it tells which transport suits the link.
    learns: bool,
}

#[derive(Clone)]
enum Routes {
    One(Arc<dyn Transport>),
    Either { tcp: Arc<dyn Transport>, quic: Arc<dyn Transport> },
}

/// What is known of the link to one other host, by all who use it. Clones are one and the same.
#[derive(Clone)]
pub struct Link {
    known: Arc<Mutex<Known>>,
    began: Instant,
}

#[derive(Default)]
struct Known {
    chooser: Chooser,
    path: Path,
}

/// What is known of a link, to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkState {
    /// The transport in use, and why; none before one was to be chosen.
    pub choice: Option<(Kind, String)>,
    /// What was measured of each (TCP first), in bytes per second.
    pub goodput: [Option<f64>; 2],
    /// The shortest round trip of late, over either.
    pub delay: Option<Duration>,
    /// The share of the other host's packets that were lost of late, over either.
    pub loss: Option<f64>,
}

impl Default for Link {
    fn default() -> Self {
        Self { known: Arc::default(), began: Instant::now() }
    }
}

impl Link {
    /// What is known of it; nothing before it was used.
    pub fn state(&self) -> Option<LinkState> {
        let (known, now) = self.known();
        let Known { chooser, path } = &*known;
        let choice = chooser.reason(now);
        let goodput = [Kind::Tcp, Kind::Quic].map(|kind| chooser.goodput(kind));
        let (delay, loss) = (path.delay(), path.loss());
        (choice.is_some() || delay.is_some()).then_some(LinkState { choice, goodput, delay, loss })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Chooser, Duration) -> T) -> T {
        let (mut known, now) = self.known();
        act(&mut known.chooser, now)
    }

    fn known(&self) -> (MutexGuard<'_, Known>, Duration) {
        (self.known.lock().unwrap_or_else(PoisonError::into_inner), self.began.elapsed())
    }
}

impl Way {
    /// Over this one.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self::only(transport, Link::default())
    }

    /// The same, to a host of which something is to be known.
    pub fn only(transport: Arc<dyn Transport>, link: Link) -> Self {
        Self { routes: Routes::One(transport), link, learns: false }
    }

    /// Over whichever suits the link.
    pub fn either(tcp: Arc<dyn Transport>, quic: Arc<dyn Transport>, link: Link) -> Self {
        Self { routes: Routes::Either { tcp, quic }, link, learns: true }
    }

    /// Over what is known to suit the link, without trials: where many hosts are read from at a time, each is as fast as the
    /// others leave room for, over either, and a trial of each link would be most of what crosses it.
    pub fn without_trials(self) -> Self {
        Self { learns: false, ..self }
    }

    /// What to use for the next question.
    pub(super) fn choose(&self) -> Kind {
        match &self.routes {
            Routes::One(_) => Kind::Tcp,
            Routes::Either { .. } => self.link.with(|chooser, now| self.chosen(chooser, now)),
        }
    }

    fn chosen(&self, chooser: &mut Chooser, now: Duration) -> Kind {
        if self.learns { chooser.choose(now) } else { chooser.settled(now) }
    }

    /// Who is at the other end, over this transport.
    pub(super) fn peer(&self, kind: Kind) -> String {
        self.transport(kind).peer()
    }

    /// Makes a connection.
    pub(super) async fn connect(&self, kind: Kind) -> Result<(Connection, Gauge), Error> {
        let (Connected { stream, gauge }, peer) = (self.transport(kind).connect().await?, self.peer(kind));
        let greeted = within(CONNECT_TIMEOUT, Connection::begin(stream, peer.clone())).await;
        let greeted = greeted.unwrap_or_else(|| Err(Error::retry(Code::Stalled, format!("{peer} does not greet"))));
        Ok((greeted?, gauge))
    }

    /// A connection has had such a round trip, and the other end has told how many packets it sent and how many of them
    /// were lost.
    pub(super) fn seen(&self, round_trip: Option<Duration>, (packets, lost): (u64, u64)) {
        let (mut known, now) = self.link.known();
        if let Some(round_trip) = round_trip {
            known.path.handle_round_trip(round_trip, now);
        }
        known.path.handle_sent(packets, lost);
    }

    /// Bytes have come.
    pub(super) fn moved(&self, kind: Kind, bytes: u64) {
        if self.learns {
            self.link.with(|chooser, now| chooser.handle_moved(kind, bytes, now));
        }
    }

    /// A connection could not be made, or broke. Whether there is another way now.
    pub(super) fn failed(&self, kind: Kind) -> bool {
        self.is_choice()
            && self.link.with(|chooser, now| {
                chooser.handle_failed(kind, now);
                self.chosen(chooser, now) != kind
            })
    }

    /// Nothing is under way any more.
    pub(super) fn rests(&self) {
        if self.learns {
            self.link.with(|chooser, _| chooser.handle_idle());
        }
    }

    fn is_choice(&self) -> bool {
        matches!(self.routes, Routes::Either { .. })
    }

    fn transport(&self, kind: Kind) -> &Arc<dyn Transport> {
        match (&self.routes, kind) {
            (Routes::One(only), _) => only,
            (Routes::Either { tcp, .. }, Kind::Tcp) => tcp,
            (Routes::Either { quic, .. }, Kind::Quic) => quic,
        }
    }
}
