//! How a lane gets at another executor: over one transport, or over the one that suits their link, which is found out on the
//! way ([`choose`](super::choose)).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use staccato_protocols::{Code, Error};

use super::{
    choose::{Chooser, Kind},
    connection::Connection,
    patience::within,
    remote::Transport,
    tcp::CONNECT_TIMEOUT,
};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Way {
    routes: Routes,
}

#[derive(Clone)]
enum Routes {
    One(Arc<dyn Transport>),
    Either { tcp: Arc<dyn Transport>, quic: Arc<dyn Transport>, link: Link },
}

/// What is known of the link to one other host, by all who use it. Clones are one and the same.
#[derive(Clone)]
pub struct Link {
    chooser: Arc<Mutex<Chooser>>,
    began: Instant,
}

impl Default for Link {
    fn default() -> Self {
        Self { chooser: Arc::default(), began: Instant::now() }
    }
}

impl Link {
    /// The transport in use, why, and what was measured of each (TCP first), in bytes per second.
    pub fn shown(&self) -> Option<(Kind, String, [Option<f64>; 2])> {
        self.with(|chooser, now| {
            let (kind, why) = chooser.reason(now)?;
            Some((kind, why, [Kind::Tcp, Kind::Quic].map(|kind| chooser.goodput(kind))))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Chooser, Duration) -> T) -> T {
        act(&mut self.chooser.lock().unwrap_or_else(PoisonError::into_inner), self.began.elapsed())
    }
}

impl Way {
    /// Over this one.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Self { routes: Routes::One(transport) }
    }

    /// Over whichever suits the link.
    pub fn either(tcp: Arc<dyn Transport>, quic: Arc<dyn Transport>, link: Link) -> Self {
        Self { routes: Routes::Either { tcp, quic, link } }
    }

    /// What to use for the next question.
    pub(super) fn choose(&self) -> Kind {
        match &self.routes {
            Routes::One(_) => Kind::Tcp,
            Routes::Either { link, .. } => link.with(Chooser::choose),
        }
    }

    /// Who is at the other end, over this transport.
    pub(super) fn peer(&self, kind: Kind) -> String {
        self.transport(kind).peer()
    }

    /// Makes a connection.
    pub(super) async fn connect(&self, kind: Kind) -> Result<Connection, Error> {
        let (stream, peer) = (self.transport(kind).connect().await?, self.peer(kind));
        let greeted = within(CONNECT_TIMEOUT, Connection::begin(stream, peer.clone())).await;
        greeted.unwrap_or_else(|| Err(Error::retry(Code::Stalled, format!("{peer} does not greet"))))
    }

    /// Bytes have come.
    pub(super) fn moved(&self, kind: Kind, bytes: u64) {
        if let Routes::Either { link, .. } = &self.routes {
            link.with(|chooser, now| chooser.handle_moved(kind, bytes, now));
        }
    }

    /// A connection could not be made, or broke. Whether there is another way now.
    pub(super) fn failed(&self, kind: Kind) -> bool {
        let Routes::Either { link, .. } = &self.routes else { return false };
        link.with(|chooser, now| {
            chooser.handle_failed(kind, now);
            chooser.choose(now) != kind
        })
    }

    /// Nothing is under way any more.
    pub(super) fn rests(&self) {
        if let Routes::Either { link, .. } = &self.routes {
            link.with(|chooser, _| chooser.handle_idle());
        }
    }

    fn transport(&self, kind: Kind) -> &Arc<dyn Transport> {
        match (&self.routes, kind) {
            (Routes::One(only), _) => only,
            (Routes::Either { tcp, .. }, Kind::Tcp) => tcp,
            (Routes::Either { quic, .. }, Kind::Quic) => quic,
        }
    }
}
