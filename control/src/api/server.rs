//! Accepts connections and serves the routes on them, within limits of time, size and number.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

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

use staccato_dataplane::transport::{seats::Seats, tls::key_digest};

use super::{access::Peer, peer};
use crate::executor::routes::{PREFIX, Speaker};

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

/// What is answered to whom. Cheap to clone.
#[derive(Clone)]
pub struct Routes {
    /// To clients.
    pub clients: Router,
    /// To executors of other hosts; only over TLS.
    pub executors: Router,
}

/// Serves `routes` until `stopping` becomes `true`, then lets requests under way finish, for [`DRAIN_TIMEOUT`] at most.
pub async fn serve(listener: Listener, routes: Routes, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let seats = Seats::new(PEER_CONNECTIONS_MAX);
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
        let (routes, stopping) = (routes.clone(), stopping.clone());
        match accepted {
            Ok(Accepted::Tcp(stream, peer_address, local_address)) => {
                connections.spawn(async move {
                    let look_up = move || peer::of_tcp(peer_address, local_address);
                    let peer = tokio::task::spawn_blocking(look_up).await;
                    let peer = peer.unwrap_or_else(|_| Peer::Unknown("the look-up failed".into()));
                    connection(stream, routes, peer, None, stopping).await;
                    drop(place);
                });
            }
            Ok(Accepted::Tls(stream, from, acceptor)) => {
                let Some(seat) = seats.seat(from) else {
                    tracing::debug!(%from, "too many connections from one address");
                    continue;
                };
                connections.spawn(async move {
                    let _seat = seat;
                    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => {
                            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                            let key = shown.and_then(|certificate| key_digest(certificate).ok());
                            let speaker = key.map_or(Speaker::Stranger, |key| Speaker::Known(key, from));
                            connection(stream, routes, Peer::Remote, Some(speaker), stopping).await;
                        }
                        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!("a TLS handshake took too long"),
                    }
                    drop(place);
                });
            }
            Ok(Accepted::Unix(stream, peer)) => {
                connections.spawn(async move {
                    connection(stream, routes, peer, None, stopping).await;
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
    routes: Routes,
    peer: Peer,
    speaker: Option<Speaker>,
    mut stopping: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (routes, peer, speaker) = (routes.clone(), peer.clone(), speaker.clone());
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = match speaker.filter(|_| request.uri().path().starts_with(PREFIX)) {
                Some(speaker) => {
                    request.extensions_mut().insert(speaker);
                    routes.executors.oneshot(request).await
                }
                None => routes.clients.oneshot(request).await,
            };
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
