//! QUIC by quinn on tokio, as it comes, with the windows and socket buffers of our own transport: what driving quinn-proto
//! from a lane is held against. One connection with several streams; a thread at each end.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use clap::Args;
use quinn::{
    Connection, Endpoint, EndpointConfig, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version::TLS13};
use staccato_dataplane::yardstick::link::OWNER_NAME;

use super::rustls::provider;
use crate::{
    link::{
        ends::FetchTold,
        pki::{self, Files},
    },
    measure::own_cpu_seconds,
};

/// Written at a time.
const PIECE_BYTES: usize = 1 << 20;
/// What a stream may have under way.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// What a connection may have under way.
const WINDOW_BYTES: u32 = 32 << 20;
/// What a sender keeps until it is acknowledged.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Buffers that are asked for of the kernel, in each direction.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// Largest datagram that is tried.
const MTU_MAX: u16 = 8952;

/// Sends bytes to whoever connects, or connects and takes them.
#[derive(Clone, Debug, Args)]
pub struct Quic {
    /// Where the sender listens
    address: SocketAddr,
    /// Bytes of each stream
    bytes: u64,
    /// Folder with certificates
    #[arg(long)]
    pki: PathBuf,
    /// Connects, and takes so many streams at a time; listens when absent
    #[arg(long)]
    streams: Option<usize>,
}

impl Quic {
    /// Does it; who connects tells what it took.
    pub fn run(&self) -> io::Result<Option<FetchTold>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self.streams {
                Some(streams) => self.take(streams).await.map(Some),
                None => self.send().await.map(|()| None),
            }
        })
    }

    async fn send(&self) -> io::Result<()> {
        let Files { certificate, key, .. } = pki::read(&self.pki, OWNER_NAME)?;
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.with_no_client_auth();
        let config = config.with_single_cert(vec![certificate], key).map_err(io::Error::other)?;
        let config = QuicServerConfig::try_from(config).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(config));
        config.transport_config(transport());
        let endpoint = endpoint(self.address, Some(config))?;
        while let Some(incoming) = endpoint.accept().await {
            let bytes = self.bytes;
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((mut to, _from)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        let mut piece = vec![0; PIECE_BYTES];
                        fastrand::Rng::with_seed(1).fill(&mut piece);
                        let mut left = bytes;
                        while left > 0 {
                            let now = left.min(PIECE_BYTES as u64);
                            if to.write_all(&piece[..now as usize]).await.is_err() {
                                return;
                            }
                            left -= now;
                        }
                        // Who took everything ends the connection.
                        let _ = to.finish();
                        let _ = to.stopped().await;
                    });
                }
            });
        }
        Ok(())
    }

    async fn take(&self, streams: usize) -> io::Result<FetchTold> {
        let mut roots = RootCertStore::empty();
        roots.add(pki::read(&self.pki, pki::READER_NAME)?.ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
        let config = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(config));
        config.transport_config(transport());
        let any = SocketAddr::new(if self.address.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() }, 0);
        let endpoint = endpoint(any, None)?;
        let (began, before) = (Instant::now(), own_cpu_seconds());
        let connecting = endpoint.connect_with(config, self.address, OWNER_NAME).map_err(io::Error::other)?;
        let connection = connecting.await?;
        let taking: Vec<_> = (0..streams).map(|_| tokio::spawn(take_one(connection.clone()))).collect();
        for taken in taking {
            let taken = taken.await.map_err(io::Error::other)??;
            if taken != self.bytes {
                return Err(io::Error::other(format!("{taken} bytes came where {} were sent", self.bytes)));
            }
        }
        Ok(FetchTold { seconds: began.elapsed().as_secs_f64(), cpu_seconds: own_cpu_seconds() - before })
    }
}

async fn take_one(connection: Connection) -> io::Result<u64> {
    let (mut to, mut from) = connection.open_bi().await?;
    // A stream is not there for the other end until something is said on it.
    to.write_all(b"?").await?;
    let mut taken = 0;
    while let Some(chunk) = from.read_chunk(usize::MAX, false).await.map_err(io::Error::other)? {
        taken += chunk.bytes.len() as u64;
    }
    Ok(taken)
}

fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    // The kernel gives what it may; it is no error to get less.
    set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
    set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MTU_MAX).map_err(io::Error::other)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}

fn transport() -> Arc<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MTU_MAX);
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .send_fairness(false)
        .mtu_discovery_config(Some(discovery));
    Arc::new(config)
}
