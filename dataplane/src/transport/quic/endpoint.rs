//! One UDP port of a lane, and the connections on it.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};

use glommio::GlommioError;

use super::{
    super::{
        tcp::{IDLE_TIMEOUT, STALL_TIMEOUT},
        ticket::KeyDigest,
        tls::Identity,
    },
    config::EndpointConfig,
    driver::{Shared, start},
    port::{Opened, Port, Route, SharedLink},
    socket::Socket,
    stream::QuicStream,
};

thread_local! {
    /// The endpoints of this thread's lane, those that were bound last in the end.
    static ENDPOINTS: RefCell<Vec<Weak<Endpoint>>> = const { RefCell::new(Vec::new()) };
}

/// See the module. It belongs to the lane that it was bound on. When the last one who holds it is gone, and with it the
/// last of its streams, it ends: what was written still leaves, then its peers hear goodbye.
pub struct Endpoint {
    shared: Rc<Shared>,
    identity: Identity,
    address: SocketAddr,
}

/// Why a reader has no connection.
#[derive(Clone, Debug)]
pub enum TurnedAway {
    /// Its certificate, or what else it showed, was not accepted, or it did not accept the owner's; says why.
    Stranger(String),
    /// What came first does not begin what executors say; says why. Anybody may have sent it, from any address.
    Nonsense(String),
    /// There are as many connections as may be.
    TooMany,
}

/// A stream that a reader has opened.
pub struct Accepted {
    /// The stream.
    pub stream: QuicStream,
    /// The key in the reader's certificate: what its tickets name it by.
    pub reader: KeyDigest,
    /// Where it comes from.
    pub from: SocketAddr,
}

impl Endpoint {
    /// Takes a port on the calling lane, and starts to drive it on the current task queue.
    pub fn bind(address: SocketAddr, identity: &Identity, config: EndpointConfig) -> io::Result<Rc<Self>> {
        let socket = Socket::bind(address, config.socket_buffer_bytes)?;
        let address = socket.local_addr()?;
        let shared = Shared::new(Port::new(socket, identity, config)?);
        start(shared.clone())?;
        let endpoint = Rc::new(Self { shared, identity: identity.clone(), address });
        ENDPOINTS.with_borrow_mut(|endpoints| {
            endpoints.retain(|endpoint| endpoint.strong_count() > 0);
            endpoints.push(Rc::downgrade(&endpoint));
        });
        Ok(endpoint)
    }

    /// An endpoint that the calling lane has for this identity already, and that can reach `remote`.
    pub fn of_lane(identity: &Identity, remote: SocketAddr) -> Option<Rc<Self>> {
        ENDPOINTS.with_borrow(|endpoints| {
            endpoints.iter().rev().filter_map(Weak::upgrade).find(|endpoint| {
                let fits = endpoint.address.is_ipv4() == remote.is_ipv4();
                fits && endpoint.identity.is_same(identity) && !endpoint.shared.is_ending()
            })
        })
    }

    /// Its address.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has, also such as are about to begin or end.
    pub fn connections(&self) -> usize {
        self.shared.port.borrow().links().count()
    }

    /// Opens a stream to the executor `host` at `address`, on the connection that is there, or on a new one, for which it
    /// waits as long as its patience lasts. That TLS
    /// failed is an error of the kind `InvalidData`.
    pub async fn connect(
        self: &Rc<Self>,
        address: SocketAddr,
        host: &str,
        patience: Duration,
    ) -> io::Result<QuicStream> {
        if self.shared.is_ending() {
            return Err(closed());
        }
        let route = Route { address, host: host.to_owned(), own: self.identity.key_digest() };
        let link = self.shared.port.borrow_mut().link_to(&route)?;
        self.shared.wake();
        let opening = async {
            let opened = poll_fn(|context| link.borrow_mut().poll_open(context.waker())).await;
            Ok::<_, GlommioError<()>>(opened)
        };
        let opened = glommio::timer::timeout(patience, opening).await;
        let id = opened.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "nobody answers"))??;
        Ok(QuicStream::new(self.clone(), link, id, STALL_TIMEOUT, STALL_TIMEOUT))
    }

    /// The next stream that a reader opens. An error is that the endpoint was closed.
    pub async fn accept(self: &Rc<Self>) -> io::Result<Accepted> {
        let Opened { link, id, reader, from } = poll_fn(|context| {
            let mut port = self.shared.port.borrow_mut();
            if let Some(opened) = port.opened.pop_front() {
                return Poll::Ready(Ok(opened));
            }
            if port.closing {
                return Poll::Ready(Err(closed()));
            }
            if !port.acceptors.iter().any(|waiting| waiting.will_wake(context.waker())) {
                port.acceptors.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await?;
        let stream = QuicStream::new(self.clone(), link, id, IDLE_TIMEOUT, STALL_TIMEOUT);
        Ok(Accepted { stream, reader, from })
    }

    /// Has each reader that is turned away told of, at once. What is called must not use the endpoint.
    pub fn when_turned_away(&self, tell: impl Fn(SocketAddr, TurnedAway) + 'static) {
        self.shared.port.borrow_mut().turned_away = Some(Box::new(tell));
    }

    /// Ends all connections with a word to their other ends, and the driver. A lane does this before it ends: what is on
    /// its ring when it does is not safe.
    pub async fn close(&self) {
        self.shared.begin_end(false);
        self.shared.ended().await;
    }

    /// Sends nothing more, as a process that is killed.
    #[cfg(test)]
    pub(super) fn vanish(&self) {
        self.shared.vanish();
    }

    /// How long the datagrams of each connection may be.
    #[cfg(test)]
    pub(super) fn mtus(&self) -> Vec<u16> {
        let port = self.shared.port.borrow();
        port.links().map(|link| link.borrow().connection.stats().path.current_mtu).collect()
    }

    pub(super) fn attend_to(&self, link: &SharedLink) {
        self.shared.ask(link);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.begin_end(true);
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the endpoint is closed")
}
