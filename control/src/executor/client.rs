//! The executor's end of the wire: one message at a time over each connection to the service, on its Unix socket or from
//! another host. Connections are kept: to make one for each message was a quarter of the executor's CPU seconds where transfers are small.

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{AlertDescription, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    contract::{BODY_BYTES_MAX, Message, Refusal},
    routes::PREFIX,
};
use crate::client::describe;

/// Longest wait for an answer beyond what the message itself asks to wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long an answer to somebody else's request may take to begin.
const FORWARD_MAX: Duration = Duration::from_secs(60);

/// Most connections that wait for a message, and how long one waits before it is closed.
const IDLE_CONNECTIONS_MAX: usize = 64;
const IDLE_MAX: Duration = Duration::from_secs(30);

const POISON: &str = "no code panics while it holds this lock";

/// Where the ledger answers. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: hyper_util::client::legacy::Client<Way, Full<Bytes>>,
    /// When the service last answered anything; shared by all clones.
    heard: Arc<Mutex<Instant>>,
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not reached, or not answered in time: whether it was recorded is not known. Say it again.
    #[error("the service is not reached: {0}")]
    Unreachable(String),
    /// The service does not take this executor's certificate any more: it was not renewed in time.
    #[error(
        "the certificate of this host has run out while it was away; enrol it anew with an invitation (`staccato executors \
         invite` on the service's host makes one; show it with --token-file)"
    )]
    Expired,
    /// The service has begun anew: join first.
    #[error("the service does not know this executor yet")]
    Unknown,
    /// The attempt is somebody else's, or nobody's: stop and touch nothing.
    #[error("refused: {0}")]
    Refused(String),
    /// This executor is not wanted (any more).
    #[error("{0}")]
    Unwanted(String),
    /// The message itself is wrong.
    #[error("the service does not understand: {0}")]
    Defect(String),
}

/// Where the service is, whatever a URL says.
#[derive(Clone)]
enum Way {
    Socket(Arc<Path>),
    Tls(Arc<str>, u16, TlsConnector),
}

/// A connection to the service.
enum Line {
    Socket(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl tower::Service<Uri> for Way {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let way = self.clone();
        let connect = async move {
            Ok(TokioIo::new(match way {
                Self::Socket(path) => Line::Socket(UnixStream::connect(path).await?),
                Self::Tls(host, port, connector) => {
                    let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
                    let stream = TcpStream::connect((&*host, port)).await?;
                    stream.set_nodelay(true)?;
                    Line::Tls(Box::new(connector.connect(name, stream).await?))
                }
            }))
        };
        let limited = tokio::time::timeout(ANSWER_MAX, connect);
        async move { limited.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) }.boxed()
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_read(context, into),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl Client {
    /// A client of the service behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self::on(Way::Socket(socket.into()))
    }

    /// A client of the service on another host.
    pub fn remote(host: &str, port: u16, tls: Arc<ClientConfig>) -> Self {
        Self::on(Way::Tls(host.into(), port, tls.into()))
    }

    fn on(way: Way) -> Self {
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_timer(TokioTimer::new())
            .build(way);
        Self { http, heard: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Hands on a request of somebody else, as it is.
    pub async fn forward(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let answered = tokio::time::timeout(FORWARD_MAX, self.http.request(request)).await;
        answered.map_err(|_| "no answer in time".to_owned())?.map_err(|error| describe(&error))
    }

    /// How long the service has answered nothing, to whichever message.
    pub fn silence(&self) -> Duration {
        self.heard.lock().expect(POISON).elapsed()
    }

    /// Says something and waits for the answer, for `wait` and a little more.
    pub async fn call<M: Message>(&self, message: &M, wait: Duration) -> Result<M::Answer, CallError> {
        self.call_within(message, wait, None).await
    }

    /// Says something that an invitation allows.
    pub async fn call_showing<M: Message>(
        &self,
        message: &M,
        invitation: Option<&str>,
    ) -> Result<M::Answer, CallError> {
        self.call_within(message, Duration::ZERO, invitation).await
    }

    async fn call_within<M: Message>(
        &self,
        message: &M,
        wait: Duration,
        invitation: Option<&str>,
    ) -> Result<M::Answer, CallError> {
        let answer = tokio::time::timeout(wait + ANSWER_MAX, self.exchange(message, invitation)).await;
        let answer = answer.unwrap_or_else(|_| Err(CallError::Unreachable("no answer in time".into())));
        if !matches!(answer, Err(CallError::Unreachable(_) | CallError::Expired)) {
            *self.heard.lock().expect(POISON) = Instant::now();
        }
        answer
    }

    async fn exchange<M: Message>(&self, message: &M, invitation: Option<&str>) -> Result<M::Answer, CallError> {
        let body = serde_json::to_vec(message).expect("messages are strings and numbers");
        let mut request = Request::post(format!("http://localhost{PREFIX}{}", M::NAME))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a constant path and constant headers");
        if let Some(token) = invitation {
            let mut shown = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| CallError::Unwanted("the invitation has characters that none has".into()))?;
            shown.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, shown);
        }
        let answer = self.http.request(request).await.map_err(|error| match is_expired(&error) {
            true => CallError::Expired,
            false => CallError::Unreachable(describe(&error)),
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| CallError::Unreachable(error.to_string()))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| CallError::Defect(error.to_string()));
        }
        let why = serde_json::from_slice(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |Refusal { refused }| refused);
        Err(match status {
            StatusCode::CONFLICT => CallError::Refused(why),
            StatusCode::UNAUTHORIZED => CallError::Unknown,
            StatusCode::GONE | StatusCode::FORBIDDEN => CallError::Unwanted(why),
            status if status.is_server_error() => CallError::Unreachable(why),
            status => CallError::Defect(format!("{status}: {why}")),
        })
    }
}

/// Whether the other end said that the certificate shown to it has run out.
fn is_expired(error: &(dyn std::error::Error + 'static)) -> bool {
    let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    // An io::Error is no link of the chain to what it was made of.
    let made_of = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref());
    made_of.filter_map(|inner| inner.downcast_ref::<rustls::Error>()).any(|inner| *inner == alert)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::{Json, Router, routing::post, serve::Listener};
    use tokio::{
        net::{UnixListener, unix::SocketAddr},
        runtime::Runtime,
    };

    use super::{
        super::contract::{Noted, Swept},
        *,
    };
    use crate::model::TransferId;

    struct Counted {
        listener: UnixListener,
        accepted: Arc<AtomicUsize>,
    }

    impl Listener for Counted {
        type Io = UnixStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (UnixStream, SocketAddr) {
            let accepted = self.listener.accept().await.unwrap();
            self.accepted.fetch_add(1, Ordering::Relaxed);
            accepted
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.listener.local_addr()
        }
    }

    /// A service that answers one message; all its connections end with it.
    fn service(socket: &Path, accepted: &Arc<AtomicUsize>) -> Runtime {
        let runtime = Runtime::new().unwrap();
        let _inside = runtime.enter();
        let _ = std::fs::remove_file(socket);
        let listener = Counted { listener: UnixListener::bind(socket).unwrap(), accepted: accepted.clone() };
        let router = Router::new().route("/executor/v1/swept", post(async || Json(Noted {})));
        runtime.spawn(axum::serve(listener, router).into_future());
        runtime
    }

    #[test]
    fn messages_share_a_connection_and_reach_a_service_that_has_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, accepted) = (folder.path().join("socket"), Arc::<AtomicUsize>::default());
        let runtime = Runtime::new().unwrap();
        let client = {
            let _inside = runtime.enter();
            Client::new(socket.clone())
        };
        let message = Swept { transfer: TransferId::nil(), failure: None };
        let call = || runtime.block_on(client.call(&message, Duration::ZERO));
        for _ in 0..2 {
            let service = service(&socket, &accepted);
            let before = accepted.load(Ordering::Relaxed);
            for _ in 0..100 {
                assert_eq!(call(), Ok(Noted {}));
            }
            // A connection is given back a moment after the answer: who is quicker makes another.
            assert!((1..10).contains(&(accepted.load(Ordering::Relaxed) - before)), "{accepted:?} connections");
            drop(service);
        }
        assert!(matches!(call(), Err(CallError::Unreachable(_))));
    }
}
