//! Accepts connections and serves the routes on them, within limits of time, size and number.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::{access::Peer, peer};

/// Connections at a time; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 1024;
/// Connections at a time from one address of another host (IPv6: one network of 64 bits); further ones are closed.
pub const PEER_CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take to arrive, and a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head that are read. What is accepted is less: see [`super::access`].
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most header fields of a request that are read.
pub const HEADERS_MAX: usize = 256;
/// How long requests under way may still take when the service stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after the operating system refused a connection, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where to accept connections.
pub enum Listener {
    /// On loopback TCP.
    Tcp(TcpListener),
    /// On TCP, with TLS.
    Tls(TcpListener, TlsAcceptor),
    /// On a Unix socket.
    Unix(UnixListener),
    /// On the admin socket.
    Admin(UnixListener),
}

/// Serves `router` until `stopping` becomes `true`, then lets requests under way finish, for [`DRAIN_TIMEOUT`] at most.
pub async fn serve(listener: Listener, router: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let peers = Peers::default();
    let mut connections = JoinSet::new();
    loop {
        let (place, accepted) = tokio::select! {
            accepted = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                (place, listener.accept().await)
            } => accepted,
            () = stopped(&mut stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        let (router, stopping) = (router.clone(), stopping.clone());
        match accepted {
            Ok(Accepted::Tcp(stream, peer_address, local_address)) => {
                connections.spawn(async move {
                    let look_up = move || peer::of_tcp(peer_address, local_address);
                    let peer = tokio::task::spawn_blocking(look_up).await;
                    let peer = peer.unwrap_or_else(|_| Peer::Unknown("the look-up failed".into()));
                    connection(stream, router, peer, stopping).await;
                    drop(place);
                });
            }
            Ok(Accepted::Tls(stream, from, acceptor)) => {
                let Some(seat) = peers.seat(from) else {
                    tracing::debug!(%from, "too many connections from one address");
                    continue;
                };
                connections.spawn(async move {
                    let _seat = seat;
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => connection(stream, router, Peer::Remote, stopping).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                    drop(place);
                });
            }
            Ok(Accepted::Unix(stream, peer)) => {
                connections.spawn(async move {
                    connection(stream, router, peer, stopping).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not finish in time and are cut off");
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A connection that counts for its address until this is dropped.
struct Seat {
    peers: Peers,
    of: IpAddr,
}

impl Peers {
    /// A seat for one more connection; none where its address has too many.
    fn seat(&self, from: IpAddr) -> Option<Seat> {
        let of = match from.to_canonical() {
            // Whoever has one address there has all of its network.
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
            v4 => v4,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(of).or_default();
        (*count < PEER_CONNECTIONS_MAX).then(|| {
            *count += 1;
            Seat { peers: self.clone(), of }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = all.entry(self.of) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

enum Accepted {
    Tcp(tokio::net::TcpStream, std::net::SocketAddr, std::net::SocketAddr),
    Tls(tokio::net::TcpStream, IpAddr, TlsAcceptor),
    Unix(tokio::net::UnixStream, Peer),
}

impl Listener {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok(Accepted::Tcp(stream, peer, local))
            }
            Self::Tls(listener, acceptor) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tls(stream, from.ip(), acceptor.clone()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = peer::of_unix(&stream);
                Ok(Accepted::Unix(stream, peer))
            }
            Self::Admin(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = match peer::of_unix(&stream) {
                    Peer::User(name) => Peer::Admin(name),
                    unknown => unknown,
                };
                Ok(Accepted::Unix(stream, peer))
            }
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    peer: Peer,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = router.oneshot(request).await;
            Ok::<_, Infallible>(response.unwrap_or_else(|never| match never {}))
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stopping) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // Clients that break off or are too slow: theirs to notice.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Resolves when the service begins to stop.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that whoever could say so is gone.
    let _ = stopping.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_all_connections() {
        let peers = Peers::default();
        let network: [IpAddr; 2] = ["2001:db8::1", "2001:db8::ffff:2"].map(|text| text.parse().unwrap());
        let v4: [IpAddr; 2] = ["192.0.2.1", "::ffff:192.0.2.1"].map(|text| text.parse().unwrap());
        for alike in [network, v4] {
            let seats: Vec<_> =
                (0..PEER_CONNECTIONS_MAX).map(|number| peers.seat(alike[number % 2]).unwrap()).collect();
            assert!(alike.iter().all(|from| peers.seat(*from).is_none()));
            assert!(peers.seat("192.0.2.2".parse().unwrap()).is_some());
            drop(seats);
            assert!(peers.seat(alike[0]).is_some());
        }
        assert!(peers.0.lock().unwrap().is_empty(), "what is over takes no memory");
    }
}
