//! Connections to servers, requests over them, and how long any of it may take.

use std::{
    cell::{Cell, RefCell},
    error::Error as StdError,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tower::Service;

use super::{
    Web,
    answer::Head,
    body::{Body, Limit, Pace, STALL_BYTES_MIN, classify, timed_out},
    networks::{Networks, Resolver},
    outgoing::{Feeder, Outgoing},
    place::{Place, REDIRECTS_MAX},
    settings::Settings,
    sign::Sign,
    tls::{Tls, connect_error},
};
use crate::{ByteRange, Chunk, Code, Error};

/// How long an unused connection is kept. Servers close them after 5 s (Apache) to 75 s (nginx); the shorter we keep
/// ours, the rarer a request meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(15);

/// Unused connections that are kept for one server.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// What a request costs less cannot be told from what a busy machine takes for it.
const COST_MIN: Duration = Duration::from_millis(10);

/// Largest body of a redirect that is read to its end, so that its connection can be used again.
const REDIRECT_BODY_BYTES_MAX: u64 = 16 << 10;

/// Sends requests to servers: as many connections as requests are under way, kept for the next ones.
pub(crate) struct Client {
    agent: Agent,
    signer: Rc<dyn Sign>,
    /// How long the last answer to a request without a body took, once there was a connection.
    answered_in: Cell<Duration>,
}

/// What requests go out through: connections that are kept, whom to trust, and how long to wait. It may go from thread
/// to thread, which a [`Client`] may not; clones share their connections. These belong to the runtime that drove them
/// first.
#[derive(Clone)]
pub(crate) struct Agent {
    http: HttpClient<TimedConnector, Outgoing>,
    /// How long answers may take.
    pace: Pace,
    /// How long next to nothing of a body may leave.
    stall: Duration,
    no_tls: Option<Error>,
    plain: bool,
    /// How long the fastest connecting has taken, in microseconds.
    connecting_us_min: Arc<AtomicU64>,
}

/// What a GET asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    /// A part; the whole without.
    pub range: Option<ByteRange>,
    /// The strong tag that the object must still have for a part to be sent.
    pub etag: Option<&'a str>,
    /// How the server is told of it.
    pub condition: Condition,
}

/// How a server is told which version of an object is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `If-Range`: where the object changed, the server sends the new one whole. It was made for ranges, so that
    /// whatever serves ranges mostly knows it, while `If-Match` is often ignored.
    #[default]
    IfRange,
    /// `If-Match`: where the object changed, the server answers 412. Object stores know this one, and some no other.
    IfMatch,
}

impl Agent {
    /// No connection yet. A total time-out begins now.
    pub fn new(web: &Web, settings: &Settings) -> Result<Self, Error> {
        let Tls { config, unusable } = web.trust.with(&settings.roots)?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(web.networks.clone()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the server's addresses, so that one that swallows packets does not use up the whole limit.
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let inner = HttpsConnector::from((tcp, config));
        let connecting_us_min = Arc::new(AtomicU64::new(u64::MAX));
        let (networks, limit) = (web.networks.clone(), settings.connect_timeout);
        let connector = TimedConnector { inner, networks, limit, us_min: connecting_us_min.clone() };
        let http = HttpClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let deadline = settings.total_timeout.map(|total| Instant::now() + total);
        let pace = Pace { stall: settings.stall_timeout, deadline };
        let (stall, plain) = (settings.stall_timeout, web.plain);
        Ok(Self { http, pace, stall, no_tls: unusable, plain, connecting_us_min })
    }

    /// The same, which waits for an answer at least so long: for requests after which a server has much to do.
    pub fn patient(&self, wait: Duration) -> Self {
        let pace = Pace { stall: self.pace.stall.max(wait), ..self.pace };
        Self { pace, ..self.clone() }
    }
}

impl Client {
    /// No connection yet. A total time-out begins now.
    pub fn new(web: &Web, settings: &Settings, signer: Rc<dyn Sign>) -> Result<Self, Error> {
        Ok(Self::over(Agent::new(web, settings)?, signer))
    }

    /// Sends its requests through `agent`.
    pub fn over(agent: Agent, signer: Rc<dyn Sign>) -> Self {
        Self { agent, signer, answered_in: Cell::default() }
    }

    /// What a request costs the server, as the last one has shown: the time until its answer, without the way there and
    /// back. For that counts the fastest connecting there was, which is not faster than that.
    pub fn request_cost(&self) -> Duration {
        let connecting = Duration::from_micros(self.agent.connecting_us_min.load(Ordering::Relaxed));
        let cost = self.answered_in.get().saturating_sub(connecting);
        if cost < COST_MIN { Duration::ZERO } else { cost }
    }

    /// Sends a request without a body, or with a small one, and waits for the head of its answer. Signs it, and once
    /// more where it was refused and the signature can be renewed. Follows no redirect.
    pub async fn send(&self, method: Method, place: &Place, headers: &HeaderMap, body: &[u8]) -> Result<Body, Error> {
        let send = async || {
            let body = if body.is_empty() { Outgoing::Empty } else { Outgoing::whole(body.to_vec()) };
            let request = self.request(method.clone(), place, headers, body).await?;
            self.answer(self.exchange(request, &place.to_string()), place).await
        };
        self.renewing(place, send).await
    }

    /// Sends a chunk as the body of a request, and waits for the head of the answer.
    pub async fn send_chunk(
        &self,
        method: Method,
        place: &Place,
        headers: &HeaderMap,
        chunk: &Chunk,
    ) -> Result<Body, Error> {
        let send = async || {
            let feed = async |feeder: Feeder, watch: &Watch| {
                // Where nobody takes it any more, the answer says why.
                if feeder.feed_chunk(chunk, chunk.len(), |bytes| watch.sent(bytes)).await.is_ok() {
                    feeder.end().await;
                }
            };
            self.send_fed(method.clone(), place, headers, Some(chunk.len() as u64), feed).await
        };
        self.renewing(place, send).await
    }

    /// Sends a request, and once more where it was refused and the signature can be renewed.
    async fn renewing(&self, place: &Place, send: impl AsyncFn() -> Result<Body, Error>) -> Result<Body, Error> {
        let answer = send().await?;
        if place.is_home() && self.renews(answer.head()).await? {
            return send().await;
        }
        Ok(answer)
    }

    /// Renews the signature where it is what was refused, and can be renewed. Not asked about other servers than one's own.
    pub async fn renews(&self, head: &Head) -> Result<bool, Error> {
        Ok(head.status == StatusCode::UNAUTHORIZED && self.signer.renew(head.asked).await?)
    }

    /// Sends a request whose body of `length` bytes (not known in advance without) `feed` gives, and waits for the head of the answer. While bytes
    /// leave, at least [`STALL_BYTES_MIN`] must do so within the stall time-out; once `feed` is over, the answer must
    /// come within it. An answer that comes earlier ends the request.
    pub async fn send_fed(
        &self,
        method: Method,
        place: &Place,
        headers: &HeaderMap,
        length: Option<u64>,
        feed: impl AsyncFnOnce(Feeder, &Watch),
    ) -> Result<Body, Error> {
        let (feeder, body) = Outgoing::fed(length);
        let request = self.request(method, place, headers, body).await?;
        let url = place.to_string();
        let watch = Watch::default();
        let (answer, fed) = (pin!(self.agent.http.request(request)), pin!(feed(feeder, &watch)));
        let exchange = async {
            let early = match select(answer, pin!(self.while_it_moves(fed, &watch, &url))).await {
                Either::Left((answer, _)) => return answer.map_err(|error| request_error(&error, &url)),
                Either::Right((moved, answer)) => moved.map(|()| answer)?,
            };
            let answer = Limit::new(self.agent.pace, Instant::now()).keep(early, &url).await?;
            answer.map_err(|error| request_error(&error, &url))
        };
        self.answer(exchange, place).await
    }

    /// Lets `work` go on as long as bytes leave.
    async fn while_it_moves(&self, work: impl Future<Output = ()>, watch: &Watch, url: &str) -> Result<(), Error> {
        let mut work = pin!(work);
        loop {
            let before = watch.bytes.get();
            match timeout(self.agent.stall, &mut work).await {
                Ok(()) => return Ok(()),
                Err(_) if watch.waits.get() || watch.bytes.get() - before >= STALL_BYTES_MIN => (),
                Err(_) => {
                    return Err(Error::retry(
                        Code::Stalled,
                        format!(
                            "{url} took next to nothing within {:?}; raise stall_timeout if it is so slow",
                            self.agent.stall
                        ),
                    ));
                }
            }
        }
    }

    async fn answer(
        &self,
        exchange: impl Future<Output = Result<Response<Incoming>, Error>>,
        place: &Place,
    ) -> Result<Body, Error> {
        let (asked, url) = (Instant::now(), place.to_string());
        let response = match self.agent.pace.deadline {
            Some(deadline) => timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(timed_out(&url)))?,
            None => exchange.await?,
        };
        let (parts, body) = response.into_parts();
        let head = Head { status: parts.status, headers: parts.headers, url, asked, advice: self.signer.advice() };
        Ok(Body::new(head, body, self.agent.pace))
    }

    /// Waits for a connection as long as its own time-out allows, and from then on for the answer.
    async fn exchange(&self, mut request: Request<Outgoing>, url: &str) -> Result<Response<Incoming>, Error> {
        let mut capture = capture_connection(&mut request);
        let connected = pin!(async move { drop(capture.wait_for_connection_metadata().await) });
        let result = match select(self.agent.http.request(request), connected).await {
            Either::Left((result, _)) => result,
            Either::Right(((), response)) => {
                let asked = Instant::now();
                let answer = Limit::new(self.agent.pace, asked).keep(response, url).await?;
                self.answered_in.set(asked.elapsed());
                answer
            }
        };
        result.map_err(|error| request_error(&error, url))
    }

    async fn request(
        &self,
        method: Method,
        place: &Place,
        headers: &HeaderMap,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, Error> {
        match &self.agent.no_tls {
            Some(error) if place.is_secure() => return Err(error.clone()),
            _ if !place.is_secure() && !self.agent.plain => {
                return Err(Error::fatal(
                    Code::UnsupportedScheme,
                    format!("{place} would be asked without TLS; start the service with --allow-http to allow that"),
                ));
            }
            _ => (),
        }
        let (mut parts, body) = Request::new(body).into_parts();
        parts.method = method;
        parts.uri = place.uri().clone();
        parts.headers = headers.clone();
        parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        // A server that believes whoever is on its host (this very service does) shall know that somebody else asks.
        parts.headers.insert(header::VIA, HeaderValue::from_static("1.1 staccato"));
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.signer.sign(&mut parts, place.is_home()).await?;
        Ok(Request::from_parts(parts, body))
    }
}

/// What has left of a body that is being fed.
#[derive(Default)]
pub(crate) struct Watch {
    bytes: Cell<u64>,
    waits: Cell<bool>,
}

impl Watch {
    /// So many bytes were taken.
    pub fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Whether it is us who keep the server waiting, so that it is not the server's fault when nothing moves.
    pub fn set_waits(&self, waits: bool) {
        self.waits.set(waits);
    }
}

/// GETs of one object, wherever redirects lead.
pub(crate) struct Connections {
    client: Rc<Client>,
    origin: Place,
    /// Where redirects led last: later requests go there directly.
    place: RefCell<Place>,
}

impl Connections {
    /// The object at `origin`.
    pub fn new(client: Rc<Client>, origin: Place) -> Self {
        Self { client, place: RefCell::new(origin.clone()), origin }
    }

    /// What a request costs the server.
    pub fn request_cost(&self) -> Duration {
        self.client.request_cost()
    }

    /// Sends a GET, follows redirects, and returns the first answer that is none.
    ///
    /// A place that redirects led to may stop answering for good (signed URLs run out): then the way from the origin is
    /// looked for again, once.
    pub async fn get(&self, ask: &Ask<'_>) -> Result<Body, Error> {
        let remembered = self.place.borrow().clone();
        let direct = remembered.is(&self.origin);
        let body = self.follow(remembered, ask).await?;
        if !direct && matches!(body.head().status.as_u16(), 401 | 403 | 404 | 410) {
            return self.follow(self.origin.clone(), ask).await;
        }
        Ok(body)
    }

    async fn follow(&self, from: Place, ask: &Ask<'_>) -> Result<Body, Error> {
        let mut place = from;
        for _ in 0..=REDIRECTS_MAX {
            let mut answer = self.client.send(Method::GET, &place, &ask.headers(), &[]).await?;
            let head = answer.head();
            if !is_redirect(head.status) {
                if head.status.is_success() {
                    self.place.replace(place);
                }
                return Ok(answer);
            }
            let Some(location) = head.headers.get(header::LOCATION) else {
                return Err(head.violation(format_args!("answered {} without a Location", head.status)));
            };
            place = place.redirected(location.as_bytes())?;
            if answer.upper_bound().is_some_and(|upper| upper <= REDIRECT_BODY_BYTES_MAX) {
                answer.skip(REDIRECT_BODY_BYTES_MAX + 1).await?;
            }
        }
        Err(Error::fatal(
            Code::RedirectRefused,
            format!("{} redirects more than {REDIRECTS_MAX} times; name the final URL", self.origin),
        ))
    }
}

impl Ask<'_> {
    /// The headers that say so.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(range) = self.range {
            assert!(!range.is_empty(), "HTTP has no words for an empty range");
            let value = format!("bytes={}-{}", range.start(), range.end() - 1);
            headers.insert(header::RANGE, HeaderValue::try_from(value).expect("digits fit a header"));
        }
        if let Some(etag) = self.etag {
            let name = match self.condition {
                Condition::IfRange => header::IF_RANGE,
                Condition::IfMatch => header::IF_MATCH,
            };
            headers.insert(name, HeaderValue::from_str(etag).expect("it came in a header"));
        }
        headers
    }
}

const USER_AGENT: &str = concat!("staccato/", env!("CARGO_PKG_VERSION"));

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn request_error(error: &hyper_util::client::legacy::Error, url: &str) -> Error {
    let mut cause = error.source();
    while let Some(at) = cause {
        if let Some(error) = at.downcast_ref::<Error>() {
            return error.clone();
        }
        if let Some(error) = at.downcast_ref::<hyper::Error>() {
            return classify(error, url);
        }
        cause = at.source();
    }
    Error::retry(Code::ConnectionLost, format!("no answer from {url} ({error})"))
}

/// Connects, TLS handshake included, within a limit; its errors are the module's own.
#[derive(Clone)]
struct TimedConnector {
    inner: HttpsConnector<HttpConnector<Resolver>>,
    networks: Arc<Networks>,
    limit: Duration,
    /// How long the fastest has taken, in microseconds.
    us_min: Arc<AtomicU64>,
}

impl Service<Uri> for TimedConnector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context).map_err(|error| connect_error(error.as_ref(), "the server"))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Err(error) = self.networks.check_literal(uri.host().unwrap_or_default()) {
            return Box::pin(async { Err(error) });
        }
        let (limit, connecting, us_min) = (self.limit, self.inner.call(uri), self.us_min.clone());
        Box::pin(async move {
            let began = Instant::now();
            match timeout(limit, connecting).await {
                Ok(Ok(stream)) => {
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    us_min.fetch_min(took, Ordering::Relaxed);
                    Ok(stream)
                }
                Ok(Err(error)) => Err(connect_error(error.as_ref(), &host)),
                Err(_) => Err(Error::retry(Code::ConnectFailed, format!("no connection to {host} within {limit:?}"))),
            }
        })
    }
}
