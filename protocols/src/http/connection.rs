//! Connections to servers, and requests over them.

use std::{
    cell::RefCell,
    error::Error as StdError,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Client,
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
    answer::Head,
    body::{Body, Limit, Pace, classify, timed_out},
    networks::{Networks, Resolver},
    options::HttpOptions,
    place::{Place, REDIRECTS_MAX},
    tls::{Tls, Trust, connect_error},
};
use crate::{ByteRange, Code, Error};

/// How long an unused connection is kept. Servers close them after 5 s (Apache) to 75 s (nginx); the shorter we keep
/// ours, the rarer a request meets a connection that is just being closed.
const IDLE: Duration = Duration::from_secs(15);

/// Unused connections that are kept for one server.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Largest body of a redirect that is read to its end, so that its connection can be used again.
const REDIRECT_BODY_BYTES_MAX: u64 = 16 << 10;

/// The connections of one source on one lane: as many as requests are under way, kept for the next ones.
pub(super) struct Connections {
    client: Client<TimedConnector, Empty<Bytes>>,
    headers: HeaderMap,
    pace: Pace,
    no_tls: Option<Error>,
    origin: Place,
    /// Where redirects led last: later requests go there directly.
    place: RefCell<Place>,
}

/// What a GET asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask<'a> {
    /// A part; the whole without.
    pub range: Option<ByteRange>,
    /// The strong tag that the object must still have for a part to be sent.
    pub if_range: Option<&'a str>,
}

impl Connections {
    /// No connection yet. The object's total time-out begins now.
    pub fn new(origin: Place, options: HttpOptions, trust: &Trust, networks: Arc<Networks>) -> Result<Self, Error> {
        let Tls { config, unusable } = trust.with(&options.roots)?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new(networks.clone()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the server's addresses, so that one that swallows packets does not use up the whole limit.
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let inner = HttpsConnector::from((tcp, config));
        let connector = TimedConnector { inner, networks, limit: options.connect_timeout };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let deadline = options.total_timeout.map(|total| Instant::now() + total);
        Ok(Self {
            client,
            headers: options.headers,
            pace: Pace { stall: options.stall_timeout, deadline },
            no_tls: unusable,
            place: RefCell::new(origin.clone()),
            origin,
        })
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
            let (head, body) = self.send(&place, ask).await?;
            if !is_redirect(head.status) {
                if head.status.is_success() {
                    self.place.replace(place);
                }
                return Ok(Body::new(head, body, self.pace));
            }
            let Some(location) = head.headers.get(header::LOCATION) else {
                return Err(head.violation(format_args!("answered {} without a Location", head.status)));
            };
            place = place.redirected(location.as_bytes())?;
            let small = body.size_hint().upper().is_some_and(|upper| upper <= REDIRECT_BODY_BYTES_MAX);
            if small {
                Body::new(head, body, self.pace).skip(REDIRECT_BODY_BYTES_MAX + 1).await?;
            }
        }
        Err(Error::fatal(
            Code::RedirectRefused,
            format!("{} redirects more than {REDIRECTS_MAX} times; name the final URL", self.origin),
        ))
    }

    async fn send(&self, place: &Place, ask: &Ask<'_>) -> Result<(Head, Incoming), Error> {
        if let (true, Some(error)) = (place.is_secure(), &self.no_tls) {
            return Err(error.clone());
        }
        let url = place.to_string();
        let answer = self.exchange(self.request(place, ask), &url);
        let response = match self.pace.deadline {
            Some(deadline) => timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(timed_out(&url)))?,
            None => answer.await?,
        };
        let (parts, body) = response.into_parts();
        Ok((Head { status: parts.status, headers: parts.headers, url }, body))
    }

    /// Waits for a connection as long as its own time-out allows, and from then on for the answer.
    async fn exchange(&self, mut request: Request<Empty<Bytes>>, url: &str) -> Result<Response<Incoming>, Error> {
        let mut capture = capture_connection(&mut request);
        let connected = pin!(async move { drop(capture.wait_for_connection_metadata().await) });
        let result = match select(self.client.request(request), connected).await {
            Either::Left((result, _)) => result,
            Either::Right(((), response)) => Limit::new(self.pace, Instant::now()).keep(response, url).await?,
        };
        result.map_err(|error| request_error(&error, url))
    }

    fn request(&self, place: &Place, ask: &Ask<'_>) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = place.uri().clone();
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if place.is_home() {
            headers.extend(self.headers.clone());
        }
        // A server that believes whoever is on its host (this very service does) shall know that somebody else asks.
        headers.insert(header::VIA, HeaderValue::from_static("1.1 staccato"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(range) = ask.range {
            assert!(!range.is_empty(), "HTTP has no words for an empty range");
            let value = format!("bytes={}-{}", range.start(), range.end() - 1);
            headers.insert(header::RANGE, HeaderValue::try_from(value).expect("digits fit a header"));
        }
        if let Some(etag) = ask.if_range {
            headers.insert(header::IF_RANGE, HeaderValue::from_str(etag).expect("it came in a header"));
        }
        request
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
        let (limit, connecting) = (self.limit, self.inner.call(uri));
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(connect_error(error.as_ref(), &host)),
                Err(_) => Err(Error::retry(Code::ConnectFailed, format!("no connection to {host} within {limit:?}"))),
            }
        })
    }
}
