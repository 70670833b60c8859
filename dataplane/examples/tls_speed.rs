//! How fast TLS between two executors is by itself: from memory to memory over TCP on loopback, beside rustls in a loop on
//! blocking sockets, with the same suite. No disk, no frames and no engine.
//!
//! ```text
//! cargo run --release -p staccato-dataplane --example tls_speed -- [GiB] [ROUNDS]
//! ```
//!
//! Two threads on two cores; rounds take turns. What either end takes of a core is told, too: on a machine with others on
//! it, that is what can be compared.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::{LocalExecutorBuilder, Placement};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
    pki_types::{PrivateKeyDer, ServerName},
    version::TLS13,
};
use staccato_dataplane::{
    lane::placement,
    transport::{
        remote::Transport as _,
        tcp::{Tcp, accept, accept_tls},
        tls::Identity,
    },
};
use staccato_protocols::tls::provider;

/// Written and read at once.
const PIECE_BYTES: usize = 1 << 20;

/// How long it took, and of a core: writing, reading.
struct Took {
    time: Duration,
    cpu: [Duration; 2],
}

fn main() {
    let mut args = std::env::args().skip(1);
    let gibs: usize = args.next().map_or(2, |gibs| gibs.parse().expect("a number of GiB"));
    let rounds: usize = args.next().map_or(3, |rounds| rounds.parse().expect("a number of rounds"));
    let pieces = gibs << 10;
    for _ in 0..rounds {
        for (name, took) in [("ours", ours(pieces)), ("bare", bare(pieces))] {
            let rate = pieces as f64 * PIECE_BYTES as f64 / took.time.as_secs_f64() / 1e6;
            let [writing, reading] = took.cpu.map(|cpu| cpu.as_secs_f64() / gibs as f64);
            println!("{name}: {rate:.0} MB/s; CPU seconds per GiB: writing {writing:.3}, reading {reading:.3}");
        }
    }
}

fn ours(pieces: usize) -> Took {
    let [owner, reader] = identities();
    let cores = placement::cores();
    let on = |core: Option<&usize>| core.map_or(Placement::Unbound, |core| Placement::Fixed(*core));
    let (tell, told) = flume::bounded::<SocketAddr>(1);
    let writing = LocalExecutorBuilder::new(on(cores.first())).spawn(move || async move {
        let listener = glommio::net::TcpListener::bind("127.0.0.1:0").unwrap();
        tell.send(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = accept(&listener).await.unwrap();
        let (mut stream, _) = accept_tls(stream, &owner).await.unwrap();
        let (bytes, cpu) = (vec![7; PIECE_BYTES], cpu_time());
        for _ in 0..pieces {
            stream.write_all(&bytes).await.unwrap();
        }
        stream.flush().await.unwrap();
        let cpu = cpu_time() - cpu;
        stream.read_exact(&mut [0]).await.unwrap();
        cpu
    });
    let reading = LocalExecutorBuilder::new(on(cores.get(1))).spawn(move || async move {
        let mut stream = Tcp::secure(told.recv().unwrap(), "owner", reader).connect().await.unwrap().stream;
        let (mut buffer, began, cpu) = (vec![0; PIECE_BYTES], Instant::now(), cpu_time());
        for _ in 0..pieces {
            stream.read_exact(&mut buffer).await.unwrap();
        }
        let took = (began.elapsed(), cpu_time() - cpu);
        stream.write_all(b"!").await.unwrap();
        stream.flush().await.unwrap();
        took
    });
    let (time, reading) = reading.unwrap().join().unwrap();
    Took { time, cpu: [writing.unwrap().join().unwrap(), reading] }
}

fn bare(pieces: usize) -> Took {
    let (chain, key, root) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = Arc::new(provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]).unwrap();
    let server = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let client = builder.with_root_certificates(roots).with_no_client_auth();
    let writing = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(server)).unwrap();
        connection.set_buffer_limit(Some(2 * PIECE_BYTES));
        let mut stream = Stream::new(&mut connection, &mut socket);
        stream.read_exact(&mut [0]).unwrap();
        let (bytes, cpu) = (vec![7; PIECE_BYTES], cpu_time());
        for _ in 0..pieces {
            stream.write_all(&bytes).unwrap();
        }
        let cpu = cpu_time() - cpu;
        stream.read_exact(&mut [0]).unwrap();
        cpu
    });
    let mut socket = TcpStream::connect(address).unwrap();
    let mut connection = ClientConnection::new(Arc::new(client), ServerName::try_from("owner").unwrap()).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(b"!").unwrap();
    let (mut buffer, began, cpu) = (vec![0; PIECE_BYTES], Instant::now(), cpu_time());
    for _ in 0..pieces {
        stream.read_exact(&mut buffer).unwrap();
    }
    let (time, reading) = (began.elapsed(), cpu_time() - cpu);
    stream.write_all(b"!").unwrap();
    Took { time, cpu: [writing.join().unwrap(), reading] }
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

type Certificate = rustls::pki_types::CertificateDer<'static>;

fn certificate() -> (Vec<Certificate>, PrivateKeyDer<'static>, Certificate) {
    let (issuer, root) = authority();
    let (leaf, key) = issue(&issuer, "owner");
    (vec![leaf], key, root)
}

fn authority() -> (Issuer<'static, KeyPair>, Certificate) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().der().clone();
    (Issuer::new(params, key), root)
}

fn issue(issuer: &Issuer<'static, KeyPair>, host: &str) -> (Certificate, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, issuer).unwrap().der().clone();
    (leaf, PrivateKeyDer::Pkcs8(key.serialize_der().into()))
}

/// An owner and a reader of one deployment.
fn identities() -> [Identity; 2] {
    let (issuer, root) = authority();
    ["owner", "reader"].map(|host| {
        let (leaf, key) = issue(&issuer, host);
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        Identity::new(vec![leaf], key, std::slice::from_ref(&root), Arc::new(Box::new(now))).unwrap()
    })
}
