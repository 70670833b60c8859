//! Objects of another executor, over TCP and QUIC on loopback: the conformance suite of sources, and what
//! tickets refuse.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    net::{Shutdown, SocketAddr},
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use futures_util::future::{LocalBoxFuture, join_all, select};
use glommio::{LocalExecutorBuilder, net::TcpListener};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use staccato_protocols::{
    BufferPool, ByteRange, CRC_BLOCK, Capabilities, Code, Disposition, Error, Interrupt, Lane, ObjectUrl, Options,
    Protocol, Registry, Runtime, Session, Source,
    conformance::{self, Made, SourceHarness, on_lane, sample},
    contract::{DestinationRequest, SharedProtocol, SourceRequest, SweepRequest},
    file::{FileProtocol, Root, RootAccess, Roots},
};

use super::{
    authority::Authority,
    frame::{Frame, VERSIONS},
    quic::{Accepted, Endpoint, EndpointConfig, Quic},
    remote::{RemoteProtocol, Transport},
    serve::{Owner, Patience},
    tcp::{Tcp, accept, accept_tls},
    ticket::{KeyDigest, Ticket},
    tls::Identity,
};

mod ahead;
mod misbehaviour;
mod whole;

const READER: KeyDigest = [7; 32];
const NOW_MS: u64 = 1_000_000;

fn control_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

/// A ticket for a whole object, signed by the control plane.
fn ticket(url: &ObjectUrl) -> Ticket {
    let range = ByteRange::new(0, u64::MAX).unwrap();
    let url = url.as_str().to_owned();
    Ticket { transfer: "t".into(), epoch: 1, url, range, reader: READER, until_ms: NOW_MS + 1 }
}

/// An executor on a thread of its own, which owns a folder and serves it on loopback.
struct Host {
    folder: Rc<tempfile::TempDir>,
    /// The time on the control plane's clock.
    now_ms: Arc<AtomicU64>,
    /// How it is reached.
    way: Way,
    address: SocketAddr,
    owner: Arc<Owner>,
    /// Connections so far.
    accepted: Arc<AtomicU64>,
    stop: Option<flume::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How readers reach an owner; with who either is.
#[derive(Clone)]
enum Way {
    Plain,
    Tls { owner: Identity, reader: Identity },
    Quic { owner: Identity, reader: Identity },
}

impl Way {
    fn tls() -> Self {
        let authority = Authority::new();
        Self::Tls { owner: authority.identity("owner"), reader: authority.identity("reader") }
    }

    fn quic() -> Self {
        let authority = Authority::new();
        Self::Quic { owner: authority.identity("owner"), reader: authority.identity("reader") }
    }

    fn reader(&self) -> KeyDigest {
        match self {
            Self::Plain => READER,
            Self::Tls { reader, .. } | Self::Quic { reader, .. } => reader.key_digest(),
        }
    }

    fn transport(&self, address: SocketAddr) -> Arc<dyn Transport> {
        match self.clone() {
            Self::Plain => Arc::new(Tcp::plain(address)),
            Self::Tls { reader, .. } => Arc::new(Tcp::secure(address, "owner", reader)),
            Self::Quic { reader, .. } => Arc::new(Quic::new(address, "owner", reader, EndpointConfig::default())),
        }
    }
}

/// Serves all who come over TCP.
async fn serve_tcp(listener: TcpListener, way: Way, owner: Arc<Owner>, lane: Rc<Lane>, count: &AtomicU64) {
    while let Ok((stream, from)) = accept(&listener).await {
        count.fetch_add(1, Ordering::Relaxed);
        let (owner, lane, way) = (owner.clone(), lane.clone(), way.clone());
        let serve = async move {
            let (stream, key) = match way {
                Way::Tls { owner: own, .. } => accept_tls(stream, &own).await.unwrap(),
                _ => (stream, READER),
            };
            owner.serve(&lane, Some(&key), stream, from.to_string()).await
        };
        glommio::spawn_local(serve).detach();
    }
    panic!("accepting failed")
}

/// Serves all who come over QUIC.
async fn serve_quic(endpoint: Rc<Endpoint>, owner: Arc<Owner>, lane: Rc<Lane>) {
    while let Ok(Accepted { stream, reader, from }) = endpoint.accept().await {
        let (owner, lane) = (owner.clone(), lane.clone());
        let serve = async move { owner.serve(&lane, Some(&reader), stream, from.to_string()).await };
        glommio::spawn_local(serve).detach();
    }
    panic!("accepting failed")
}

impl Host {
    fn start() -> Rc<Self> {
        Self::start_on(Way::Plain)
    }

    fn start_on(way: Way) -> Rc<Self> {
        let executable = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
        Self::start_at("127.0.0.1:0".parse().unwrap(), Rc::new(folder), way, Patience::default())
    }

    fn start_with(patience: Patience) -> Rc<Self> {
        let executable = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(executable.parent().unwrap()).unwrap();
        Self::start_at("127.0.0.1:0".parse().unwrap(), Rc::new(folder), Way::Plain, patience)
    }

    fn start_at(address: SocketAddr, folder: Rc<tempfile::TempDir>, way: Way, patience: Patience) -> Rc<Self> {
        let root = Root::new(folder.path(), RootAccess::ReadOnly).unwrap();
        let registry = Registry::new().with(FileProtocol::new(Roots::new(vec![root])));
        let key = control_key().public_key().as_ref().to_vec();
        let now_ms = Arc::new(AtomicU64::new(NOW_MS));
        let clock = now_ms.clone();
        let owner = Owner::new(registry, key, Box::new(move || clock.load(Ordering::Relaxed)));
        let owner = Arc::new(owner.with_patience(patience));
        let (stop, stopped) = flume::bounded::<()>(0);
        let (tell, told) = flume::bounded(1);
        let (serving, reached) = (owner.clone(), way.clone());
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let run = move || {
            let executor = LocalExecutorBuilder::default().name("owner").make().unwrap();
            executor.run(async move {
                let (pool, _) = BufferPool::new(Runtime::Glommio, 64 << 20, 0, 0);
                let lane = Rc::new(Lane { index: 0, runtime: Runtime::Glommio, pool });
                let stopped = stopped.into_recv_async();
                if let Way::Quic { owner: own, .. } = &reached {
                    let endpoint = Endpoint::bind(address, own, EndpointConfig::default()).unwrap();
                    tell.send(endpoint.local_addr()).unwrap();
                    select(Box::pin(serve_quic(endpoint.clone(), serving, lane)), stopped).await;
                    endpoint.close().await;
                } else {
                    let listener = TcpListener::bind(address).unwrap();
                    tell.send(listener.local_addr().unwrap()).unwrap();
                    select(Box::pin(serve_tcp(listener, reached, serving, lane, &count)), stopped).await;
                }
            });
        };
        let thread = thread::spawn(run);
        let address = told.recv().unwrap();
        Rc::new(Self { folder, now_ms, way, address, owner, accepted, stop: Some(stop), thread: Some(thread) })
    }

    fn ticketed(&self) -> Ticketed {
        Ticketed { address: self.address, way: self.way.clone(), short_ones_whole: false }
    }

    fn url(&self, name: &str) -> ObjectUrl {
        let url = url::Url::from_file_path(self.folder.path().join(name)).unwrap();
        ObjectUrl::parse(url.as_str()).unwrap()
    }

    fn path(url: &ObjectUrl) -> PathBuf {
        url.url().to_file_path().unwrap()
    }

    /// What a reader with this ticket gets when it opens an object.
    fn open(&self, lane: &Lane, url: &ObjectUrl, ticket: &[u8]) -> impl Future<Output = Result<Rc<dyn Source>, Error>> {
        let module = RemoteProtocol::new(self.way.transport(self.address), ticket.to_vec());
        let request = request(url);
        async move { module.open_source(&request, lane).await }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }
}

const HELLO: Frame = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };

/// The question for an object, as a reader asks it.
fn open(request: u32, object: u32, url: &ObjectUrl) -> Frame {
    let ticket = ticket(url).sign(&control_key());
    let url = url.as_str().to_owned();
    Frame::Open { request, object, ticket, url, pinned: None, aligned: false, whole_up_to: 0 }
}

/// What a host says to whoever asks all this at once, and the bytes that follow.
fn answers(host: &Host, asked: &[Frame]) -> Vec<(Frame, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect(host.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&encoded(asked)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (mut bytes, mut said) = (Vec::new(), Vec::new());
    let _ = stream.read_to_end(&mut bytes);
    let mut rest = &bytes[..];
    while let Some((frame, len)) = Frame::decode(rest).unwrap() {
        let payload;
        (payload, rest) = rest[len..].split_at(frame.payload_bytes() as usize);
        said.push((frame, payload.to_vec()));
    }
    said
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    bytes
}

fn request(url: &ObjectUrl) -> SourceRequest {
    let (url, interrupt) = (url.clone(), Interrupt::default());
    SourceRequest { url, options: Options::new(), pinned: None, aligned: false, interrupt }
}

/// Gets a ticket for whatever is opened.
struct Ticketed {
    address: SocketAddr,
    way: Way,
    short_ones_whole: bool,
}

impl Protocol for Ticketed {
    fn schemes(&self) -> &'static [&'static str] {
        &["file"]
    }

    fn capabilities(&self) -> Capabilities {
        RemoteProtocol::new(self.way.transport(self.address), Vec::new()).capabilities()
    }

    fn check_source(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _: &ObjectUrl, _: &Options) -> Result<(), Error> {
        unreachable!("sources are checked")
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        Box::pin(async move {
            let ticket = Ticket { reader: self.way.reader(), ..ticket(&request.url) }.sign(&control_key());
            let objects = RemoteProtocol::new(self.way.transport(self.address), ticket);
            let objects = if self.short_ones_whole { objects.with_short_ones_whole() } else { objects };
            objects.open_source(request, lane).await
        })
    }

    fn begin(&self, _: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        unreachable!("sources are checked")
    }

    fn sweep(&self, _: &SweepRequest) -> Result<(), Error> {
        unreachable!("sources are checked")
    }
}

impl SourceHarness for Host {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(self.ticketed())
    }

    /// Every third block is a hole, every third is zero and stored.
    fn make(&self, name: &str, len: usize) -> Made {
        let url = self.url(name);
        let mut bytes = sample(name, len);
        let mut file = fs::File::create(Self::path(&url)).unwrap();
        for (index, block) in bytes.chunks_mut(CRC_BLOCK as usize).enumerate() {
            if index % 3 > 0 {
                block.fill(0);
            }
            if index % 3 < 2 {
                file.seek(SeekFrom::Start(index as u64 * CRC_BLOCK)).unwrap();
                file.write_all(block).unwrap();
            }
        }
        file.set_len(len as u64).unwrap();
        Made { url, bytes }
    }

    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        fs::write(Self::path(&made.url), bytes).unwrap();
        true
    }

    fn missing(&self) -> Option<ObjectUrl> {
        Some(self.url("missing"))
    }
}

#[test]
fn objects_of_another_executor_conform() {
    conformance::check_source(Host::start(), Runtime::Glommio);
}

#[test]
fn objects_of_another_executor_conform_inside_tls() {
    conformance::check_source(Host::start_on(Way::tls()), Runtime::Glommio);
}

#[test]
fn objects_of_another_executor_conform_over_quic() {
    conformance::check_source(Host::start_on(Way::quic()), Runtime::Glommio);
}

#[test]
fn what_no_ticket_allows_is_refused_and_counted() {
    let host = Host::start();
    let (made, other) = (host.make("a", 10_000), host.make("b", 10));
    let counted = host.clone();
    on_lane(Runtime::Glommio, async move |lane| {
        let good = ticket(&made.url);
        let stranger = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).unwrap();
        let mut altered = good.sign(&control_key());
        altered[20] ^= 1;
        let refused = [
            good.sign(&stranger),
            altered,
            Vec::new(),
            Ticket { until_ms: NOW_MS, ..good.clone() }.sign(&control_key()),
            Ticket { reader: [8; 32], ..good.clone() }.sign(&control_key()),
            ticket(&other.url).sign(&control_key()),
        ];
        for (number, bytes) in refused.iter().enumerate() {
            let error = host.open(&lane, &made.url, bytes).await.err().expect("refused");
            assert_eq!((error.code, error.disposition), (Code::PermissionDenied, Disposition::Fatal), "{number}");
            assert_eq!(host.owner.refused(), number as u64 + 1);
        }
        // Of an object that may be opened, only the part that the ticket names.
        let part = Ticket { range: ByteRange::new(100, 200).unwrap(), ..good };
        let source = host.open(&lane, &made.url, &part.sign(&control_key())).await.unwrap();
        let read = |start, end| {
            let source = source.clone();
            let lane = lane.clone();
            async move { source.read(ByteRange::new(start, end).unwrap(), &lane.pool).await }
        };
        assert_eq!(read(100, 200).await.unwrap().bytes(), Some(&made.bytes[100..200]));
        assert_eq!(read(99, 200).await.err().map(|error| error.code), Some(Code::PermissionDenied));
        assert_eq!(read(100, 200).await.unwrap().bytes(), Some(&made.bytes[100..200]), "the next one is answered");
        source.close().await;
    });
    assert_eq!(counted.owner.refused(), 7);
}

#[test]
fn a_ticket_that_expires_ends_the_reading() {
    let host = Host::start();
    let made = host.make("a", 100);
    on_lane(Runtime::Glommio, async move |lane| {
        let source = host.open(&lane, &made.url, &ticket(&made.url).sign(&control_key())).await.unwrap();
        let all = ByteRange::new(0, 100).unwrap();
        assert_eq!(source.read(all, &lane.pool).await.unwrap().bytes(), Some(&made.bytes[..]));
        host.now_ms.store(NOW_MS + 1, Ordering::Relaxed);
        for error in [source.read(all, &lane.pool).await.err(), source.revalidate().await.err()] {
            assert_eq!(error.map(|error| error.code), Some(Code::PermissionDenied));
        }
        source.close().await;
    });
}

#[test]
fn questions_behind_an_object_that_is_refused_are_refused_alike() {
    let host = Host::start();
    let made = host.make("a", 100);
    let missing = host.url("missing");
    let range = ByteRange::new(0, 100).unwrap();
    let asked = [
        HELLO,
        open(1, 1, &missing),
        Frame::Fetch { request: 2, object: 1, range },
        Frame::Ping { nonce: 5 },
        open(3, 2, &made.url),
        Frame::Sums { request: 4, object: 2, range },
        Frame::Close { object: 2 },
        Frame::Fetch { request: 5, object: 2, range },
        // One number twice ends the connection.
        open(6, 3, &made.url),
        open(7, 3, &made.url),
        Frame::Ping { nonce: 6 },
    ];
    let said: Vec<_> = answers(&host, &asked).into_iter().map(|(frame, _)| frame).collect();
    let [greeting, first, second, pong, opened, sums, closed, again] = &said[..] else { panic!("{said:?}") };
    assert_eq!((greeting, pong), (&HELLO, &Frame::Pong { nonce: 5 }));
    for (number, refused) in [(1, first), (2, second)] {
        let Frame::Refused { request, error } = refused else { panic!("{refused:?}") };
        assert_eq!((*request, error.code), (number, Code::SourceMissing));
    }
    assert!(matches!(opened, Frame::Opened { request: 3, size: Some(100), .. }), "{opened:?}");
    assert_eq!(sums, &Frame::Summed { request: 4, range, crcs: vec![crc32fast::hash(&made.bytes)] });
    assert!(matches!(closed, Frame::Refused { request: 5, .. }), "{closed:?}");
    assert!(matches!(again, Frame::Opened { request: 6, .. }), "{again:?}");
}

#[test]
fn a_connection_that_was_lost_while_it_idled_is_made_again() {
    let host = Host::start();
    let made = host.make("a", 100);
    on_lane(Runtime::Glommio, async move |lane| {
        let source = host.open(&lane, &made.url, &ticket(&made.url).sign(&control_key())).await.unwrap();
        let (address, folder) = (host.address, host.folder.clone());
        // Its connections do not end with it, as in a power cut: that it is gone shows when nothing comes for 20 s.
        drop(host);
        let _again = Host::start_at(address, folder, Way::Plain, Patience::default());
        let all = ByteRange::new(0, 100).unwrap();
        assert_eq!(source.read(all, &lane.pool).await.unwrap().bytes(), Some(&made.bytes[..]));
        source.revalidate().await.unwrap();
        source.close().await;
    });
}

#[test]
fn there_are_never_more_connections_than_may_be_also_after_one_was_lost() {
    let host = Host::start();
    let made = host.make("a", (9 << 20) + 17);
    on_lane(Runtime::Glommio, async move |lane| {
        let ticket = ticket(&made.url).sign(&control_key());
        let module = RemoteProtocol::new(host.way.transport(host.address), ticket).with_connections(1);
        let source = module.open_source(&request(&made.url), &lane).await.unwrap();
        let read = async |index: u64| {
            let range = ByteRange::at(index * 700_000, 1_500_000).unwrap();
            source.read(range, &lane.pool).await.unwrap();
        };
        let mut reads: Vec<_> = (0..8).map(|index| Box::pin(read(index))).collect();
        for read in &mut reads {
            let polled = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
            assert!(polled.is_pending());
        }
        // All have asked on one connection, and the first takes it along.
        drop(reads.remove(0));
        join_all(reads).await;
        assert_eq!(host.accepted.load(Ordering::Relaxed), 2, "the first one, and one instead of it");
        source.close().await;
    });
}

#[test]
fn questions_that_are_asked_at_once_share_connections_and_each_hears_its_own_answer() {
    for way in [Way::Plain, Way::tls()] {
        let host = Host::start_on(way);
        let made = host.make("a", (9 << 20) + 17);
        on_lane(Runtime::Glommio, async move |lane| {
            let ticket = Ticket { reader: host.way.reader(), ..ticket(&made.url) }.sign(&control_key());
            for max in [1, 3] {
                let before = host.accepted.load(Ordering::Relaxed);
                let module =
                    RemoteProtocol::new(host.way.transport(host.address), ticket.clone()).with_connections(max);
                let source = module.open_source(&request(&made.url), &lane).await.unwrap();
                let read = async |index: u64| {
                    let range = ByteRange::new(index * 700_000, (index * 700_000 + 1_500_000).min(9 << 20)).unwrap();
                    let chunk = source.read(range, &lane.pool).await.unwrap();
                    let wanted = &made.bytes[range.start() as usize..range.end() as usize];
                    assert!(chunk.bytes() == Some(wanted) || wanted.iter().all(|byte| *byte == 0), "{range}");
                    source.revalidate().await.unwrap();
                };
                join_all((0..12).map(read)).await;
                // Those that waited from the time before count, too.
                assert!(host.accepted.load(Ordering::Relaxed) - before <= max as u64);
                // One that is not waited for takes its connection with it, and nobody hears its answer instead.
                let range = ByteRange::new(0, 1 << 20).unwrap();
                let mut given_up = Box::pin(source.read(range, &lane.pool));
                let polled = std::future::poll_fn(|context| Poll::Ready(given_up.as_mut().poll(context))).await;
                assert!(polled.is_pending());
                drop(given_up);
                join_all((0..12).map(read)).await;
                source.close().await;
            }
        });
    }
}
