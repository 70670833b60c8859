//! An HTTP/1.1 server that answers well, or exactly as badly as it is told.
//!
//! It is written over blocking sockets, one thread for each connection, so that no HTTP library keeps it from breaking
//! the protocol. What it serves are [`Page`]s; a page answers honestly but where a [`Trick`] stands for the number of
//! the request.
//!
//! ```
//! use staccato_protocols::testing::http_server::{HttpServer, Page, Trick};
//!
//! let server = HttpServer::start();
//! // Requests 0 and 1 are answered honestly, all later ones with nonsense.
//! server.put("/image", Page::new(b"some bytes").trick(2.., Trick::Garbage));
//! assert!(server.url("/image").starts_with("http://127.0.0.1:"));
//! ```

mod answer;
mod handler;
mod wire;

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::{Bound, RangeBounds},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use self::{
    answer::{Answer, Meter, Pace, Then},
    wire::{Wire, read_body, read_head},
};

pub use handler::{Handler, Reply};

/// A running server; stops, and waits for its threads, when it is dropped.
pub struct HttpServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    host: &'static str,
    acceptor: Option<JoinHandle<()>>,
}

/// What a server answers under one path.
#[derive(Clone, Debug)]
pub struct Page {
    body: Arc<Vec<u8>>,
    etag: Option<String>,
    last_modified: Option<String>,
    ranges: bool,
    framing: Framing,
    tricks: Vec<(RequestNumbers, Trick)>,
    pace: Option<Arc<Pace>>,
    requests: Arc<AtomicUsize>,
}

/// From which request to which, counted from 0.
type RequestNumbers = (Bound<usize>, Bound<usize>);

/// How a page tells where its whole body ends. Parts always have a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// By closing the connection, as HTTP/1.0 does.
    UntilClose,
}

/// A way to misbehave.
#[derive(Clone, Debug)]
pub enum Trick {
    /// Ignores `Range`: sends everything.
    IgnoreRange,
    /// Ignores `If-Range`: sends parts of whatever is there now.
    IgnoreIfRange,
    /// Says another tag than the page's.
    OtherEtag(&'static str),
    /// Says no tag.
    NoEtag,
    /// Says a part begins one byte later than was asked for, and sends that.
    ShiftedRange,
    /// Says the whole is this long.
    OtherTotal(u64),
    /// Sends a part without `Content-Range`.
    NoContentRange,
    /// Sends a part in chunks, with this many bytes more than was asked for.
    SurplusChunked(usize),
    /// Sends a part in chunks, properly ended, with this many bytes less than was asked for.
    MissingChunked(usize),
    /// Says `Content-Encoding: gzip`.
    Encoded,
    /// Promises the right length, sends this many bytes, and then nothing, the connection open.
    HangAfter(usize),
    /// Promises the right length (or chunks), sends this many bytes and closes, under TLS without saying so.
    CloseAfter(usize),
    /// The same, with a reset.
    ResetAfter(usize),
    /// Reads the request and never answers.
    Silence,
    /// Closes the connection instead of answering.
    CloseUnanswered,
    /// Sends bytes that are no HTTP.
    Garbage,
    /// Chunks whose length is no number.
    GarbageChunk,
    /// One byte at a time, this far apart.
    Trickle(Duration),
    /// An answer with this status, these headers and no bytes.
    Status(u16, Vec<(&'static str, String)>),
}

/// A request that the server read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET` and the like.
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// Its body, as far as it came: what breaks off is seen, too.
    pub body: Vec<u8>,
    /// Whether its body came whole.
    pub whole: bool,
    /// Number of the connection it came over, from 0.
    pub connection: usize,
    /// When it had been read.
    pub at: Instant,
}

/// Whoever answers requests by a program: none leaves it to the pages.
type Program = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;

struct Shared {
    program: Mutex<Option<Arc<Program>>>,
    pages: Mutex<BTreeMap<String, Page>>,
    handler: Option<Arc<dyn Handler>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    bytes_sent: AtomicU64,
    open: Mutex<BTreeMap<usize, TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl HttpServer {
    /// A server on a free port of loopback.
    pub fn start() -> Self {
        Self::launch(None, None)
    }

    /// The same, where `handler` is asked before the pages are.
    pub fn start_with(handler: Arc<dyn Handler>) -> Self {
        Self::launch(None, Some(handler))
    }

    /// The same with TLS; its certificate should be for `localhost`.
    pub fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::launch(Some(Arc::new(config)), None)
    }

    fn launch(tls: Option<Arc<rustls::ServerConfig>>, handler: Option<Arc<dyn Handler>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let shared = Arc::new(Shared {
            program: Mutex::default(),
            pages: Mutex::default(),
            handler,
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            bytes_sent: AtomicU64::new(0),
            open: Mutex::default(),
            threads: Mutex::default(),
            stop: AtomicBool::new(false),
            tls,
        });
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Self { shared, address, scheme, host, acceptor: Some(acceptor) }
    }

    /// Puts or replaces a page. `path` is as in the request: percent-encoded, with its query.
    pub fn put(&self, path: &str, page: Page) {
        lock(&self.shared.pages).insert(path.to_owned(), page);
    }

    /// Answers by a program from now on: requests of any method are shown to it once their bodies have come, also those
    /// that broke off. What it has no answer for, the pages answer.
    pub fn program(&self, program: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        lock(&self.shared.program).replace(Arc::new(program));
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}:{}{path}", self.scheme, self.host, self.address.port())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Connections that were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that sockets have taken so far.
    pub fn bytes_sent(&self) -> u64 {
        self.shared.bytes_sent.load(Ordering::SeqCst)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the acceptor; when even that cannot connect, the acceptor is gone already.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
        for connection in lock(&self.shared.open).values() {
            drop(connection.shutdown(Shutdown::Both));
        }
        let threads: Vec<_> = lock(&self.shared.threads).drain(..).collect();
        for thread in threads {
            drop(thread.join());
        }
    }
}

impl Page {
    /// An honest page: ranges, a length and a strong tag made from its bytes.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            etag: Some(format!("\"{:08x}\"", crc32fast::hash(&body))),
            body: Arc::new(body),
            last_modified: None,
            ranges: true,
            framing: Framing::Length,
            tricks: Vec::new(),
            pace: None,
            requests: Arc::default(),
        }
    }

    /// The same page with this `ETag` header.
    pub fn etag(mut self, etag: Option<&str>) -> Self {
        self.etag = etag.map(str::to_owned);
        self
    }

    /// The same page with this `Last-Modified` header.
    pub fn last_modified(mut self, date: &str) -> Self {
        self.last_modified = Some(date.to_owned());
        self
    }

    /// The same page from a server that knows no ranges.
    pub fn without_ranges(mut self, framing: Framing) -> Self {
        (self.ranges, self.framing) = (false, framing);
        self
    }

    /// The same page at so many bytes per second, over all its connections together.
    pub fn pace(mut self, bytes_per_second: u64) -> Self {
        self.pace = Some(Arc::new(Pace::new(bytes_per_second)));
        self
    }

    /// The same page, with a trick for the requests of these numbers, counted from 0. The first that fits is played.
    pub fn trick(mut self, requests: impl RangeBounds<usize>, trick: Trick) -> Self {
        self.tricks.push(((requests.start_bound().cloned(), requests.end_bound().cloned()), trick));
        self
    }

    fn next_trick(&self) -> Option<Trick> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        self.tricks.iter().find(|(requests, _)| requests.contains(&number)).map(|(_, trick)| trick.clone())
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let number = self.connections.fetch_add(1, Ordering::SeqCst);
            let shared = self.clone();
            if let Ok(handle) = stream.try_clone() {
                lock(&self.open).insert(number, handle);
            }
            let thread = thread::spawn(move || {
                // Clients break connections all the time; that is what many tests are about.
                drop(shared.serve(stream, number));
            });
            lock(&self.threads).push(thread);
        }
    }

    fn serve(&self, stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let wire = match &self.tls {
            None => Wire::Plain(stream),
            Some(config) => {
                let session = rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Wire::Tls(Box::new(rustls::StreamOwned::new(session, stream)))
            }
        };
        let mut wire = BufReader::new(wire);
        let result = self.converse(&mut wire, connection);
        // Before the socket is dropped: it is closed with its last handle.
        lock(&self.open).remove(&connection);
        result
    }

    fn converse(&self, wire: &mut BufReader<Wire>, connection: usize) -> io::Result<()> {
        while let Some(mut request) = read_head(wire, connection)? {
            if let Some(handler) = &self.handler {
                lock(&self.seen).push(request.clone());
                if !handler.takes(&request) {
                    return self.stand_still();
                }
                read_body(wire, &mut request);
                if !request.whole {
                    return Ok(());
                }
                if let Some(reply) = handler.answer(&request, &request.body) {
                    match reply.send(&request, wire.get_mut())? {
                        Then::Next => continue,
                        Then::Finish | Then::Drop => return Ok(()),
                    }
                }
            } else {
                read_body(wire, &mut request);
                lock(&self.seen).push(request.clone());
            }
            let program = lock(&self.program).clone();
            if let Some(reply) = program.and_then(|program| program(&request)) {
                match reply.send(&request, wire.get_mut())? {
                    Then::Next if request.whole => continue,
                    Then::Next | Then::Finish | Then::Drop => return Ok(()),
                }
            }
            let page = lock(&self.pages).get(&request.target).cloned();
            let pace = page.as_ref().and_then(|page| page.pace.clone());
            let answer = match page {
                None => Answer::status(404, &[]),
                Some(_) if request.method != "GET" => Answer::status(405, &[]),
                Some(page) => match page.next_trick() {
                    Some(Trick::Silence) => return wire.get_mut().wait_for_peer(),
                    Some(Trick::CloseUnanswered) => return Ok(()),
                    Some(Trick::Garbage) => return wire.get_mut().write_all(b"\x16\x03\x01 what is this?\r\n\r\n"),
                    trick => Answer::of(&page, &request, trick),
                },
            };
            match answer.send(wire.get_mut(), &Meter { bytes_sent: &self.bytes_sent, pace })? {
                Then::Next => (),
                Then::Finish => return wire.get_mut().finish(),
                Then::Drop => return Ok(()),
            }
        }
        Ok(())
    }

    /// Holds a connection, and reads nothing, until the server stops.
    fn stand_still(&self) -> io::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// A test that failed while it held a lock must not hide behind a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
