//! QUIC on loopback: who may talk to whom, streams of any sizes, ends of all kinds, and noise.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, future::join};
use glommio::{LocalExecutorBuilder, timer::Timer};

use super::*;
use crate::transport::authority::{Authority, DAY_MS, DAYS};

fn on_glommio<T: 'static>(test: impl AsyncFnOnce() -> T + 'static) -> T {
    LocalExecutorBuilder::default().make().unwrap().run(async move { test().await })
}

fn bind(identity: &Identity, config: EndpointConfig) -> Rc<Endpoint> {
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, config).unwrap()
}

/// Ends all, at once: one that waits for another one's goodbye hears it.
async fn close(endpoints: impl IntoIterator<Item = Rc<Endpoint>>) {
    futures_util::future::join_all(endpoints.into_iter().map(|endpoint| async move { endpoint.close().await })).await;
}

/// An owner and a reader on one lane.
struct Pair {
    authority: Authority,
    identity: Identity,
    owner: Rc<Endpoint>,
    reader: Rc<Endpoint>,
}

impl Pair {
    fn new(config: &EndpointConfig) -> Self {
        let authority = Authority::new();
        let identity = authority.identity("reader");
        let owner = bind(&authority.identity("owner"), config.clone());
        let reader = bind(&identity, config.clone());
        Self { authority, identity, owner, reader }
    }

    /// Both ends of a new stream, the reader's first; one byte has gone over it.
    async fn stream(&self) -> (QuicStream, Accepted) {
        let opening = async {
            let mut stream = self.reader.connect(self.owner.local_addr(), "owner", CONNECT_TIMEOUT).await.unwrap();
            stream.write_all(b"!").await.unwrap();
            stream
        };
        let accepting = async {
            let mut accepted = self.owner.accept().await.unwrap();
            accepted.stream.read_exact(&mut [0]).await.unwrap();
            accepted
        };
        join(opening, accepting).await
    }

    async fn close(self) {
        close([self.owner, self.reader]).await;
    }
}

/// What came of a connection at the reader's end, and whom the owner saw.
struct Met {
    reader: Result<(), Error>,
    owner: Option<[u8; 32]>,
}

/// A reader that looks for `wanted` meets an owner, which says a word.
async fn meet(reader: &Identity, wanted: &str, owner: &Identity) -> Met {
    let (from, to) = (bind(reader, EndpointConfig::default()), bind(owner, EndpointConfig::default()));
    let owning = async {
        let mut accepted = to.accept().await.ok()?;
        let _ = accepted.stream.write_all(b"word").await;
        // Until the reader has had enough.
        let _ = accepted.stream.read_to_end(&mut Vec::new()).await;
        Some(accepted.reader)
    };
    let reading = async {
        let heard = async {
            let quic = Quic::new(to.local_addr(), wanted, reader.clone(), EndpointConfig::default());
            let mut stream = quic.connect().await?;
            let said = async {
                stream.write_all(b"!").await?;
                stream.read_exact(&mut [0; 4]).await
            };
            said.await.map_err(|error| Error::retry(Code::TlsFailed, error.to_string()))
        };
        let heard = heard.await;
        close([from.clone(), to.clone()]).await;
        heard
    };
    let (reader, owner) = join(reading, owning).await;
    Met { reader, owner }
}

#[test]
fn executors_of_one_deployment_meet_and_strangers_do_not() {
    on_glommio(async || {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let (a, b) = (ours.identity("a"), ours.identity("b"));
        let met = meet(&a, "b", &b).await;
        assert_eq!((met.reader, met.owner), (Ok(()), Some(a.key_digest())));
        let refused = meet(&a, "c", &b).await.reader.unwrap_err();
        assert!(refused.code == Code::TlsFailed && refused.message.contains("not valid for name \"c\""), "{refused}");
        let met = meet(&a, "b", &theirs.identity("b")).await;
        let refused = met.reader.unwrap_err();
        assert!(refused.message.contains("invalid peer certificate") && met.owner.is_none(), "{refused}");
        let met = meet(&theirs.identity("a"), "b", &b).await;
        assert!(met.reader.is_err() && met.owner.is_none());
    });
}

#[test]
fn ipv6_is_spoken() {
    on_glommio(async || {
        let authority = Authority::new();
        let owner = Endpoint::bind("[::1]:0".parse().unwrap(), &authority.identity("owner"), EndpointConfig::default())
            .unwrap();
        let reader = authority.identity("reader");
        // Its endpoint is bound by itself, once.
        let quic = Quic::new(owner.local_addr(), "owner", reader.clone(), EndpointConfig::default());
        let accepting = async { [owner.accept().await.unwrap(), owner.accept().await.unwrap()] };
        let connecting = async {
            let mut streams = [quic.connect().await.unwrap(), quic.connect().await.unwrap()];
            for stream in &mut streams {
                stream.write_all(b"!").await.unwrap();
            }
            streams
        };
        let (accepted, _streams) = join(accepting, connecting).await;
        assert!(accepted.iter().all(|accepted| accepted.reader == reader.key_digest()));
        assert_eq!(owner.connections(), 1);
        let own = Endpoint::of_lane(&reader, owner.local_addr()).unwrap();
        close([owner, own]).await;
    });
}

#[test]
fn certificates_end_by_the_control_planes_clock() {
    on_glommio(async || {
        let authority = Authority::new();
        let (a, b) = (authority.identity("a"), authority.identity("b"));
        let day = |day: i64| authority.now_ms.store(day as u64 * DAY_MS, Ordering::Relaxed);
        for outside in [DAYS.0 - 1, DAYS.1 + 1] {
            day(outside);
            let met = meet(&a, "b", &b).await;
            assert!(met.reader.is_err() && met.owner.is_none(), "day {outside}");
        }
        day(DAYS.1);
        assert_eq!(meet(&a, "b", &b).await.reader, Ok(()));
    });
}

#[test]
fn streams_share_a_connection_until_the_certificate_is_renewed() {
    on_glommio(async || {
        let pair = Pair::new(&EndpointConfig::default());
        let (mut first, seen) = pair.stream().await;
        let (second, also_seen) = pair.stream().await;
        assert_eq!((pair.reader.connections(), pair.owner.connections()), (1, 1));
        let before = pair.identity.key_digest();
        assert_eq!([seen.reader, also_seen.reader], [before; 2]);
        assert_eq!(seen.from, pair.reader.local_addr());

        let (chain, key) = pair.authority.issue("reader");
        pair.identity.renew(chain, key).unwrap();
        let (_third, renewed) = pair.stream().await;
        assert!(renewed.reader == pair.identity.key_digest() && renewed.reader != before);
        assert_eq!(pair.owner.connections(), 2);

        // The old ones go on.
        let mut old = seen.stream;
        old.write_all(b"on").await.unwrap();
        let mut word = [0; 2];
        first.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"on");
        drop(second);
        pair.close().await;
    });
}

#[test]
fn bytes_come_as_they_went_in_pieces_of_any_size_both_ways_at_once() {
    on_glommio(async || {
        let pair = Pair::new(&EndpointConfig::default());
        let mut random = fastrand::Rng::with_seed(7);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(9 << 20).collect();
        let mut ends = Vec::new();
        // Two streams at once: they share the connection's windows.
        for _ in 0..2 {
            let (here, there) = pair.stream().await;
            ends.extend([here, there.stream]);
        }
        let talks = ends.into_iter().map(|stream| {
            let (mut from, mut to) = stream.split();
            let bytes = &bytes;
            let (mut sizes, mut reads) = (fastrand::Rng::with_seed(random.u64(..)), fastrand::Rng::with_seed(11));
            async move {
                let writing = async {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let (now, later) = rest.split_at((1 << sizes.usize(0..22)).min(rest.len()));
                        to.write_all(now).await.unwrap();
                        rest = later;
                    }
                    to.close().await.unwrap();
                };
                let receiving = async {
                    let (mut got, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
                    loop {
                        match from.read(&mut buffer[..1 << reads.usize(0..21)]).await.unwrap() {
                            0 => break got,
                            read => got.extend_from_slice(&buffer[..read]),
                        }
                    }
                };
                let ((), got) = join(writing, receiving).await;
                assert!(got == *bytes);
            }
        });
        futures_util::future::join_all(talks).await;
        pair.close().await;
    });
}

#[test]
fn datagrams_grow_to_what_the_path_takes() {
    on_glommio(async || {
        let config = EndpointConfig::default();
        let pair = Pair::new(&config);
        let (mut here, mut there) = pair.stream().await;
        let writing = async {
            there.stream.write_all(&vec![1; 8 << 20]).await.unwrap();
            there.stream.close().await.unwrap();
        };
        let mut all = Vec::new();
        let ((), read) = join(writing, here.read_to_end(&mut all)).await;
        assert_eq!(read.unwrap(), 8 << 20);
        // Loopback takes 64 KiB.
        let mtus = pair.owner.mtus();
        assert!(mtus.iter().all(|mtu| (config.mtu_max - 100..=config.mtu_max).contains(mtu)), "{mtus:?}");
        pair.close().await;
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_up() {
    const WINDOW: u64 = 1 << 20;
    on_glommio(async || {
        let config = EndpointConfig { window_bytes: WINDOW..=2 * WINDOW, ..EndpointConfig::default() };
        let pair = Pair::new(&config);
        let (mut here, mut there) = pair.stream().await;
        let written = std::cell::Cell::new(0);
        let writing = async {
            let piece = vec![7; 300_000];
            while written.get() < 20 * WINDOW {
                written.set(written.get() + there.stream.write(&piece).await.unwrap() as u64);
            }
            there.stream.close().await.unwrap();
        };
        let reading = async {
            Timer::new(Duration::from_millis(500)).await;
            let before = written.get();
            assert!((WINDOW / 2..=2 * WINDOW).contains(&before), "{before} bytes were taken");
            let mut all = Vec::new();
            here.read_to_end(&mut all).await.unwrap();
            assert_eq!(all.len() as u64, written.get());
        };
        join(writing, reading).await;
        pair.close().await;
    });
}

#[test]
fn a_peer_that_vanishes_is_noticed() {
    let authority = Authority::new();
    let (owner, reader) = (authority.identity("owner"), authority.identity("reader"));
    let config = EndpointConfig {
        keep_alive: Duration::from_millis(300),
        idle_timeout: Duration::from_secs(1),
        ..EndpointConfig::default()
    };
    let owner_config = config.clone();
    let (tell, told) = flume::bounded::<SocketAddr>(1);
    let (release, released) = flume::bounded::<()>(0);
    let vanishing = thread::spawn(move || {
        on_glommio(async move || {
            let endpoint = bind(&owner, owner_config);
            tell.send(endpoint.local_addr()).unwrap();
            let mut accepted = endpoint.accept().await.unwrap();
            accepted.stream.write_all(b"word").await.unwrap();
            Timer::new(Duration::from_millis(1500)).await;
            // Its lane stands still: nothing is answered any more.
            let _ = released.recv();
            endpoint.close().await;
        });
    });
    on_glommio(async move || {
        let endpoint = bind(&reader, config);
        let mut stream = endpoint.connect(told.recv().unwrap(), "owner", CONNECT_TIMEOUT).await.unwrap();
        stream.write_all(b"!").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        let began = Instant::now();
        let error = stream.read(&mut [0]).await.unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        // Kept alive while it lives, noticed soon after it.
        assert!((1500..15_000).contains(&took.as_millis()), "{took:?}");
        assert_eq!(stream.write(b"!").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        endpoint.close().await;
    });
    drop(release);
    vanishing.join().unwrap();
}

/// A lane that ends as if its process was killed, behind the first stream of a reader.
fn crash_after_a_stream(
    address: SocketAddr,
    owner: Identity,
    config: EndpointConfig,
    tell: flume::Sender<SocketAddr>,
) -> SocketAddr {
    on_glommio(async move || {
        // The port may be held still by what was killed before.
        let endpoint = loop {
            match Endpoint::bind(address, &owner, config.clone()) {
                Ok(endpoint) => break endpoint,
                Err(_) => Timer::new(Duration::from_millis(10)).await,
            };
        };
        tell.send(endpoint.local_addr()).unwrap();
        let mut accepted = endpoint.accept().await.unwrap();
        accepted.stream.write_all(b"word").await.unwrap();
        accepted.stream.read_exact(&mut [0; 2]).await.unwrap();
        endpoint.vanish();
        endpoint.local_addr()
    })
}

#[test]
fn an_owner_that_was_restarted_says_that_its_connections_are_gone() {
    let authority = Authority::new();
    let (owner, reader) = (authority.identity("owner"), authority.identity("reader"));
    let config = EndpointConfig { keep_alive: Duration::from_millis(200), ..EndpointConfig::default() };
    let (tell, told) = flume::unbounded::<SocketAddr>();
    let (owner_config, again) = (config.clone(), owner.clone());
    let owning = thread::spawn(move || {
        let any = "127.0.0.1:0".parse().unwrap();
        let address = crash_after_a_stream(any, owner, owner_config.clone(), tell.clone());
        crash_after_a_stream(address, again, owner_config, tell);
    });
    on_glommio(async move || {
        let endpoint = bind(&reader, config);
        let address = told.recv().unwrap();
        for life in 0..2 {
            let mut stream = endpoint.connect(address, "owner", CONNECT_TIMEOUT).await.unwrap();
            stream.write_all(b"!").await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.write_all(b"!").await.unwrap();
            if life == 0 {
                let began = Instant::now();
                let error = stream.read(&mut [0]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
            }
        }
        endpoint.close().await;
    });
    owning.join().unwrap();
}

#[test]
fn nobody_at_home_is_no_connection() {
    on_glommio(async || {
        let authority = Authority::new();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let quic = Quic::new(address, "owner", authority.identity("reader"), EndpointConfig::default());
        let began = Instant::now();
        let error = quic.connect().await.err().unwrap();
        assert_eq!(error.code, Code::ConnectFailed, "{error}");
        assert!((9..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    });
}

#[test]
fn ends_are_in_order() {
    on_glommio(async || {
        let pair = Pair::new(&EndpointConfig::default());
        // What was written before a stream was dropped arrives, and then its end.
        let (mut here, mut there) = pair.stream().await;
        let bytes = vec![3; 3 << 20];
        let writing = async {
            there.stream.write_all(&bytes).await.unwrap();
            drop(there);
        };
        let mut all = Vec::new();
        let (read, ()) = join(here.read_to_end(&mut all), writing).await;
        assert!(read.is_ok() && all == bytes);
        // Nobody reads any more at the other end.
        let broken = loop {
            if let Err(error) = here.write_all(&bytes).await {
                break error;
            }
        };
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);

        // A goodbye in the middle of a stream is no end of the stream, but comes at once.
        let (mut here, there) = pair.stream().await;
        let began = Instant::now();
        let (closed, read) = join(pair.owner.close(), here.read(&mut [0])).await;
        assert_eq!((closed, read.unwrap_err().kind()), ((), io::ErrorKind::UnexpectedEof));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert!(pair.owner.accept().await.is_err());
        assert!(pair.owner.connect(pair.reader.local_addr(), "reader", CONNECT_TIMEOUT).await.is_err());
        drop(there);

        // The last one who lets go of an endpoint does not cut off what was written.
        let address = pair.reader.local_addr();
        let last = bind(&pair.authority.identity("last"), EndpointConfig::default());
        let accepting = async { pair.reader.accept().await.unwrap() };
        let sending = async {
            let mut stream = last.connect(address, "reader", CONNECT_TIMEOUT).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream.close().await.unwrap();
        };
        let (mut accepted, ()) = join(accepting, sending).await;
        drop(last);
        let mut all = Vec::new();
        accepted.stream.read_to_end(&mut all).await.unwrap();
        assert!(all == bytes);
        drop(accepted);
        pair.close().await;
    });
}

/// Datagrams that are no QUIC, or look as if they were.
fn noise(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut datagram = vec![0; random.usize(0..1500)];
    random.fill(&mut datagram);
    // Every other one has the head of a first packet: version 1, and identifiers of connections.
    if random.bool() && datagram.len() > 40 {
        datagram[..5].copy_from_slice(&[0xC0 | random.u8(..16), 0, 0, 0, random.u8(..3)]);
        datagram[5] = random.u8(..21);
        let at = 6 + usize::from(datagram[5]);
        datagram[at] = random.u8(..21);
    }
    datagram
}

#[test]
fn noise_does_no_harm() {
    on_glommio(async || {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let pair = Pair::new(&EndpointConfig::default());
        let (mut here, mut there) = pair.stream().await;
        let noisy = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            for _ in 0..100 {
                noisy.send_to(&noise(&mut random), pair.owner.local_addr()).unwrap();
            }
            let word = [random.u8(..); 9];
            there.stream.write_all(&word).await.unwrap();
            let mut heard = [0; 9];
            here.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, word);
        }
        let (_stream, _) = pair.stream().await;
        assert_eq!(pair.reader.connections(), 1);
        pair.close().await;
    });
}

/// First packets of a reader that never answers, each from an identifier of its own.
fn knocks(identity: &Identity, address: SocketAddr, count: usize) -> Vec<Vec<u8>> {
    let config = Arc::new(quinn_proto::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(config, None, true, None);
    let now = Instant::now();
    let knock = |_| {
        let config = quinn_proto::ClientConfig::new(identity.quic_client());
        let (_, mut connection) = endpoint.connect(now, config, address, "owner").unwrap();
        let mut datagram = Vec::new();
        let sent = connection.poll_transmit(now, 1, &mut datagram);
        assert!(sent.is_some_and(|sent| sent.size == datagram.len()));
        datagram
    };
    (0..count).map(knock).collect()
}

#[test]
fn whoever_only_knocks_keeps_nobody_out() {
    on_glommio(async || {
        let pair = Pair::new(&EndpointConfig::default());
        let address = pair.owner.local_addr();
        let knocking = UdpSocket::bind("127.0.0.1:0").unwrap();
        knocking.set_nonblocking(true).unwrap();
        for datagram in knocks(&pair.identity, address, 200) {
            knocking.send_to(&datagram, address).unwrap();
        }
        let (_stream, _) = pair.stream().await;
        // The real one is among them, after it has shown its address.
        assert_eq!(pair.owner.connections(), HANDSHAKES_TRUSTED + 1);
        let (mut retries, mut answer) = (0, [0; 2048]);
        while let Ok(len) = knocking.recv(&mut answer) {
            // RFC 9000, 17.2.5.
            retries += usize::from(len > 0 && answer[0] & 0xF0 == 0xF0);
        }
        assert!(retries >= 200 - HANDSHAKES_TRUSTED, "{retries}");
        pair.close().await;
    });
}
