//! How fast QUIC between two executors is by itself: from memory to memory on loopback, with a CRC-32 of everything that
//! is received, and no disk, no frames and no engine.
//!
//! ```text
//! cargo run --release -p staccato-dataplane --example quic_speed -- [MTU] [GiB] [delivery|cubic|bbr|newreno]
//! ```
//!
//! Two lanes on two cores; the CPU that either end takes is told, too. With `OWNER_NETNS` and `READER_NETNS`, which are
//! paths such as `/run/netns/a`, the lanes are in network namespaces, and `OWNER_ADDRESS` is where the owner listens.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::{LocalExecutorBuilder, Placement};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use staccato_dataplane::{
    lane::placement,
    transport::{
        quic::{Congestion, Endpoint, EndpointConfig, Quic},
        remote::Transport as _,
        tls::Identity,
    },
};

/// Written and read at once.
const PIECE_BYTES: usize = 1 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    let mtu_max = args.next().map_or(1452, |mtu| mtu.parse().expect("a number of bytes"));
    let gibs: f64 = args.next().map_or(4.0, |gibs| gibs.parse().expect("a number of GiB"));
    let congestion = match args.next().as_deref() {
        None | Some("delivery") => Congestion::Delivery,
        Some("cubic") => Congestion::Cubic,
        Some("bbr") => Congestion::Bbr,
        Some("newreno") => Congestion::NewReno,
        Some(other) => panic!("{other} is no congestion control"),
    };
    let config = EndpointConfig { mtu_max, congestion, ..EndpointConfig::default() };
    let total = (gibs * (1_u64 << 30) as f64) as u64 / PIECE_BYTES as u64 * PIECE_BYTES as u64;
    let [owner, reader] = identities();
    let cores = placement::cores();
    let on = |core: Option<&usize>| core.map_or(Placement::Unbound, |core| Placement::Fixed(*core));
    let (tell, told) = flume::bounded::<SocketAddr>(1);
    let owner_config = config.clone();
    let serving = LocalExecutorBuilder::new(on(cores.first())).name("owner").spawn(move || async move {
        enter("OWNER_NETNS");
        let address =
            std::env::var("OWNER_ADDRESS").map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.parse().unwrap());
        let endpoint = Endpoint::bind(SocketAddr::new(address, 0), &owner, owner_config).unwrap();
        tell.send(endpoint.local_addr()).unwrap();
        let mut stream = endpoint.accept().await.unwrap().stream;
        let mut word = [0; 1];
        stream.read_exact(&mut word).await.unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(1..)).take(4 * PIECE_BYTES).collect();
        let cpu = cpu_time();
        let mut left = total;
        for piece in bytes.chunks(PIECE_BYTES).cycle() {
            if left == 0 {
                break;
            }
            stream.write_all(piece).await.unwrap();
            left -= piece.len() as u64;
        }
        stream.close().await.unwrap();
        // The reader says that it has everything.
        stream.read_exact(&mut word).await.unwrap();
        endpoint.close().await;
        cpu_time() - cpu
    });
    let reading = LocalExecutorBuilder::new(on(cores.get(1))).name("reader").spawn(move || async move {
        let address = told.recv().unwrap();
        enter("READER_NETNS");
        let transport = Quic::new(address, "owner", reader.clone(), config);
        let mut stream = transport.connect().await.unwrap().stream;
        stream.write_all(b"!").await.unwrap();
        let mut buffer = vec![0; 4 * PIECE_BYTES];
        let mut crc = crc32fast::Hasher::new();
        let (began, cpu) = (Instant::now(), cpu_time());
        let mut got = 0;
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            crc.update(&buffer[..read]);
            got += read as u64;
        }
        let (took, cpu) = (began.elapsed(), cpu_time() - cpu);
        assert_eq!(got, total);
        stream.write_all(b"!").await.unwrap();
        let endpoint = Endpoint::of_lane(&reader, address).unwrap();
        drop(stream);
        endpoint.close().await;
        (took, cpu, crc.finalize())
    });
    let (took, reader_cpu, crc) = reading.unwrap().join().unwrap();
    let owner_cpu = serving.unwrap().join().unwrap();
    println!(
        "mtu {mtu_max} {congestion:?}: {:.2} Gbit/s; CPU seconds per GiB: owner {:.2}, reader {:.2}; crc {crc:08x}",
        total as f64 * 8.0 / took.as_secs_f64() / 1e9,
        owner_cpu.as_secs_f64() / gibs,
        reader_cpu.as_secs_f64() / gibs,
    );
}

/// Moves the calling thread into a network namespace, if the environment names one.
fn enter(variable: &str) {
    let Some(path) = std::env::var_os(variable) else { return };
    let namespace = std::fs::File::open(path).expect("a network namespace");
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("only root may enter a namespace");
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// An owner and a reader of one deployment.
fn identities() -> [Identity; 2] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    ["owner", "reader"].map(|host| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        Identity::new(vec![leaf], key, std::slice::from_ref(&root), Arc::new(Box::new(now))).unwrap()
    })
}
