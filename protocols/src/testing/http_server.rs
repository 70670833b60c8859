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

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::{Bound, RangeBounds},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Largest request head that is read.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

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
    /// Number of the connection it came over, from 0.
    pub connection: usize,
}

struct Shared {
    pages: Mutex<BTreeMap<String, Page>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    open: Mutex<BTreeMap<usize, TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: AtomicBool,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl HttpServer {
    /// A server on a free port of loopback.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// The same with TLS; its certificate should be for `localhost`.
    pub fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::launch(Some(Arc::new(config)))
    }

    fn launch(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (scheme, host) = if tls.is_some() { ("https", "localhost") } else { ("http", "127.0.0.1") };
        let shared = Arc::new(Shared {
            pages: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
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
        while let Some(request) = read_request(wire, connection)? {
            lock(&self.seen).push(request.clone());
            let page = lock(&self.pages).get(&request.target).cloned();
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
            match answer.send(wire.get_mut())? {
                Then::Next => (),
                Then::Finish => return wire.get_mut().finish(),
                Then::Drop => return Ok(()),
            }
        }
        Ok(())
    }
}

/// An answer, ready to be sent in its way.
struct Answer {
    head: String,
    body: Vec<u8>,
    framing: Framing,
    delivery: Delivery,
}

/// How much of an answer is sent, and what then.
enum Delivery {
    Whole,
    Hang(usize),
    Close(usize),
    Reset(usize),
    GarbageChunk,
    Trickle(Duration),
}

impl Answer {
    fn status(status: u16, headers: &[(&'static str, String)]) -> Self {
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        Self { head, body: Vec::new(), framing: Framing::Length, delivery: Delivery::Whole }
    }

    fn of(page: &Page, request: &Seen, trick: Option<Trick>) -> Self {
        let trick = trick.as_ref();
        if let Some(Trick::Status(status, headers)) = trick {
            return Self::status(*status, headers);
        }
        let etag = match trick {
            Some(Trick::OtherEtag(etag)) => Some((*etag).to_owned()),
            Some(Trick::NoEtag) => None,
            _ => page.etag.clone(),
        };
        let size = page.body.len();
        let same = match request.headers.get("if-range") {
            Some(_) if matches!(trick, Some(Trick::IgnoreIfRange | Trick::OtherEtag(_) | Trick::NoEtag)) => true,
            Some(condition) => etag.as_ref() == Some(condition) && !condition.starts_with("W/"),
            None => true,
        };
        let asked = request.headers.get("range").and_then(|range| parse_range(range, size));
        let asked = asked.filter(|_| page.ranges && same && !matches!(trick, Some(Trick::IgnoreRange)));
        let total = match trick {
            Some(Trick::OtherTotal(total)) => *total,
            _ => size as u64,
        };

        let mut answer = match asked {
            None => {
                let mut whole = Self::status(200, &[]);
                whole.body = page.body.to_vec();
                whole.framing = page.framing;
                whole
            }
            Some(None) => return Self::status(416, &[("Content-Range", format!("bytes */{total}"))]),
            Some(Some((first, last))) => {
                let shift = usize::from(matches!(trick, Some(Trick::ShiftedRange)));
                let (first, last) = ((first + shift).min(size - 1), (last + shift).min(size - 1));
                let header = ("Content-Range", format!("bytes {first}-{last}/{total}"));
                let headers = if matches!(trick, Some(Trick::NoContentRange)) { vec![] } else { vec![header] };
                let mut part = Self::status(206, &headers);
                part.body = page.body[first..=last].to_vec();
                part
            }
        };
        for (name, value) in [("ETag", &etag), ("Last-Modified", &page.last_modified)] {
            if let Some(value) = value {
                answer.head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        answer.play(trick);
        answer
    }

    fn play(&mut self, trick: Option<&Trick>) {
        match trick {
            Some(Trick::SurplusChunked(count)) => {
                self.framing = Framing::Chunked;
                self.body.extend(vec![b'x'; *count]);
            }
            Some(Trick::MissingChunked(count)) => {
                self.framing = Framing::Chunked;
                self.body.truncate(self.body.len().saturating_sub(*count));
            }
            Some(Trick::Encoded) => self.head.push_str("Content-Encoding: gzip\r\n"),
            Some(Trick::HangAfter(count)) => self.delivery = Delivery::Hang(*count),
            Some(Trick::CloseAfter(count)) => self.delivery = Delivery::Close(*count),
            Some(Trick::ResetAfter(count)) => self.delivery = Delivery::Reset(*count),
            Some(Trick::GarbageChunk) => {
                (self.framing, self.delivery) = (Framing::Chunked, Delivery::GarbageChunk);
            }
            Some(Trick::Trickle(pause)) => self.delivery = Delivery::Trickle(*pause),
            _ => (),
        }
    }

    fn send(mut self, wire: &mut Wire) -> io::Result<Then> {
        self.head.push_str(&match self.framing {
            Framing::Length => format!("Content-Length: {}\r\n\r\n", self.body.len()),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            Framing::UntilClose => "Connection: close\r\n\r\n".to_owned(),
        });
        wire.write_all(self.head.as_bytes())?;
        let cut = |count: usize| &self.body[..count.min(self.body.len())];
        match self.delivery {
            Delivery::Whole => {
                self.write_body(wire, &self.body)?;
                if self.framing == Framing::Chunked {
                    wire.write_all(b"0\r\n\r\n")?;
                }
                wire.flush()?;
                return Ok(if self.framing == Framing::UntilClose { Then::Finish } else { Then::Next });
            }
            Delivery::Hang(count) => {
                self.write_body(wire, cut(count))?;
                wire.flush()?;
                wire.wait_for_peer()?;
            }
            Delivery::Close(count) => {
                self.write_body(wire, cut(count))?;
                wire.flush()?;
            }
            Delivery::Reset(count) => {
                self.write_body(wire, cut(count))?;
                wire.flush()?;
                // What the reset overtakes is lost; let the bytes before it arrive.
                thread::sleep(Duration::from_millis(30));
                wire.reset()?;
            }
            Delivery::GarbageChunk => wire.write_all(b"zzz\r\nwhat is this?\r\n")?,
            Delivery::Trickle(pause) => {
                for byte in &self.body {
                    self.write_body(wire, std::slice::from_ref(byte))?;
                    wire.flush()?;
                    thread::sleep(pause);
                }
            }
        }
        Ok(Then::Drop)
    }

    fn write_body(&self, wire: &mut Wire, bytes: &[u8]) -> io::Result<()> {
        if self.framing != Framing::Chunked {
            return wire.write_all(bytes);
        }
        // Pieces of an odd length, so that no reader can rely on their boundaries.
        for piece in bytes.chunks(100_003) {
            wire.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            wire.write_all(piece)?;
            wire.write_all(b"\r\n")?;
        }
        Ok(())
    }
}

/// What becomes of the connection after an answer.
enum Then {
    /// It waits for the next request.
    Next,
    /// It is closed in an orderly way.
    Finish,
    /// It is dropped.
    Drop,
}

/// A connection, with TLS or without.
enum Wire {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Reads until the peer has had enough.
    fn wait_for_peer(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Closes in an orderly way.
    fn finish(&mut self) -> io::Result<()> {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.socket().shutdown(Shutdown::Write)
    }

    /// Makes the coming close a reset (RST).
    fn reset(&mut self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(self.socket(), Some(Duration::ZERO))?)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The next request of a connection; none at its end.
fn read_request(wire: &mut BufReader<Wire>, connection: usize) -> io::Result<Option<Seen>> {
    let mut head = wire.take(REQUEST_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.trim().to_owned()),
            None => return Ok(Some(Seen { method, target, headers, connection })),
        };
    }
}

/// `bytes=FIRST-LAST` within `size`: none if it is another kind of range, `Some(None)` if it lies outside.
fn parse_range(text: &str, size: usize) -> Option<Option<(usize, usize)>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last: usize = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
    Some((first < size && first <= last).then(|| (first, last.min(size - 1))))
}

/// A test that failed while it held a lock must not hide behind a second panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
