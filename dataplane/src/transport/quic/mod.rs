//! QUIC between two executors (RFC 9000), driven on the lane itself.
//!
//! `quinn-proto` is QUIC without I/O; here is the rest. `socket` sends and receives datagrams in batches. `link` is
//! one connection with those who wait for it, `port` all connections on one port, `driver` the task that turns them,
//! `stream` what others read and write; `delivery` decides how much may be under way, `window` how much there is room
//! for. [`Endpoint`] is one port of a lane; [`Quic`] the way to the owner of an object.
//!
//! Streams to one owner share a connection: its handshake, and what it has learned about the path. Sending costs one copy
//! into quinn's buffer and one into the datagram that is encrypted, receiving one into the reader's buffer.

mod config;
mod delivery;
mod driver;
mod endpoint;
mod filter;
mod link;
mod pool;
mod port;
mod socket;
mod stream;
mod window;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{Code, Error};

pub use self::{
    config::{CONNECTIONS_MAX, Congestion, EndpointConfig, HANDSHAKES_MAX, HANDSHAKES_TRUSTED, STREAMS_MAX},
    endpoint::{Accepted, Endpoint, TurnedAway},
    stream::QuicStream,
};
use super::{gauge::Connected, remote::Transport, tcp::CONNECT_TIMEOUT, tls::Identity};

/// QUIC to one executor. It may be used on any lane: each has an endpoint of its own.
pub struct Quic {
    address: SocketAddr,
    host: String,
    identity: Identity,
    config: EndpointConfig,
    patience: Duration,
}

impl Quic {
    /// To the executor `host`, which listens there. On lanes that have an endpoint of this identity, connections are made
    /// from it; on others, from one that is bound to any port, with this configuration, and lasts as long as they do.
    pub fn new(address: SocketAddr, host: impl Into<String>, identity: Identity, config: EndpointConfig) -> Self {
        Self { address, host: host.into(), identity, config, patience: CONNECT_TIMEOUT }
    }

    /// The same, giving up sooner or later where nobody answers.
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    async fn connect(&self) -> Result<QuicStream, Error> {
        let connected = async { self.endpoint()?.connect(self.address, &self.host, self.patience).await }.await;
        connected.map_err(|error| match error.kind() {
            // A certificate may be renewed, a clock set.
            io::ErrorKind::InvalidData => {
                Error::retry(Code::TlsFailed, format!("no TLS with {}: {error}", self.peer()))
            }
            _ => Error::retry(Code::ConnectFailed, format!("cannot connect to {}: {error}", self.peer())),
        })
    }

    fn endpoint(&self) -> io::Result<Rc<Endpoint>> {
        if let Some(endpoint) = Endpoint::of_lane(&self.identity, self.address) {
            return Ok(endpoint);
        }
        let any = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Endpoint::bind(SocketAddr::new(any, 0), &self.identity, self.config.clone())
    }
}

impl Transport for Quic {
    fn peer(&self) -> String {
        format!("{} ({} over quic)", self.host, self.address)
    }

    fn connect(&self) -> LocalBoxFuture<'_, Result<Connected, Error>> {
        async { Ok(self.connect().await?.into()) }.boxed_local()
    }
}
