//! TLS 1.3 over TCP by rustls' own blocking stream, with 1 MiB at a time and nothing else: what a transport inside TLS is held
//! against. A thread for each connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Instant,
};

use clap::Args;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::CryptoProvider, pki_types::ServerName, version::TLS13,
};
use staccato_dataplane::yardstick::link::OWNER_NAME;

use crate::{
    link::{
        ends::FetchTold,
        pki::{self, Files},
    },
    measure::own_cpu_seconds,
};

/// Written and read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Sends bytes to whoever connects, or connects and takes them.
#[derive(Clone, Debug, Args)]
pub struct Tls {
    /// Where the sender listens
    address: SocketAddr,
    /// Bytes of each connection
    bytes: u64,
    /// Folder with certificates
    #[arg(long)]
    pki: PathBuf,
    /// Connects, so often at a time; listens when absent
    #[arg(long)]
    connections: Option<usize>,
}

impl Tls {
    /// Does it; who connects tells what it took.
    pub fn run(&self) -> io::Result<Option<FetchTold>> {
        match self.connections {
            Some(connections) => self.take(connections).map(Some),
            None => self.send().map(|()| None),
        }
    }

    fn send(&self) -> io::Result<()> {
        let Files { certificate, key, .. } = pki::read(&self.pki, OWNER_NAME)?;
        let config = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).map_err(io::Error::other)?);
        let listener = TcpListener::bind(self.address)?;
        loop {
            let (tcp, _) = listener.accept()?;
            tcp.set_nodelay(true)?;
            let (config, bytes) = (config.clone(), self.bytes);
            thread::spawn(move || -> io::Result<()> {
                let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
                // What is encrypted at a time: the usual 64 KiB cost several writes for each piece.
                tls.set_buffer_limit(Some(2 * PIECE_BYTES));
                let mut stream = StreamOwned::new(tls, tcp);
                let mut piece = vec![0; PIECE_BYTES];
                fastrand::Rng::with_seed(1).fill(&mut piece);
                let mut left = bytes;
                while left > 0 {
                    let now = left.min(PIECE_BYTES as u64);
                    stream.write_all(&piece[..now as usize])?;
                    left -= now;
                }
                stream.conn.send_close_notify();
                stream.flush()
            });
        }
    }

    fn take(&self, connections: usize) -> io::Result<FetchTold> {
        let mut roots = RootCertStore::empty();
        roots.add(pki::read(&self.pki, pki::READER_NAME)?.ca).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let config = config.map_err(io::Error::other)?.with_root_certificates(roots);
        let config = Arc::new(config.with_no_client_auth());
        let (began, before) = (Instant::now(), own_cpu_seconds());
        thread::scope(|scope| {
            let taking: Vec<_> = (0..connections).map(|_| scope.spawn(|| take_one(&config, self.address))).collect();
            for taken in taking {
                let taken = taken.join().map_err(|_| io::Error::other("a connection panicked"))??;
                if taken != self.bytes {
                    return Err(io::Error::other(format!("{taken} bytes came where {} were sent", self.bytes)));
                }
            }
            Ok(())
        })?;
        Ok(FetchTold { seconds: began.elapsed().as_secs_f64(), cpu_seconds: own_cpu_seconds() - before })
    }
}

fn take_one(config: &Arc<ClientConfig>, address: SocketAddr) -> io::Result<u64> {
    let name = ServerName::try_from(OWNER_NAME).map_err(io::Error::other)?;
    let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, TcpStream::connect(address)?);
    let (mut piece, mut taken) = (vec![0; PIECE_BYTES], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(taken),
            read => taken += read as u64,
        }
    }
}

/// The same order of ciphers as between executors.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}
