//! A client of the REST API, for the commands and for tests.

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use crate::model::problem::ProblemDocument;

/// Where a service listens unless told.
pub const SERVER_DEFAULT: &str = "http://127.0.0.1:5309";
/// How long making a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take from its first byte to the last one of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A client of one service. Each request has a connection of its own. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    server: Server,
    token: Option<String>,
    ca: Option<PathBuf>,
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// Where a service listens: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// On TCP; host (without brackets) and port.
    Tcp(String, u16),
    /// On TCP, with TLS.
    Tls(String, u16),
    /// On a Unix socket.
    Unix(PathBuf),
}

/// What a service answered, when it did what was asked.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status: 2xx or 3xx.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body; null where there is none.
    pub body: Value,
}

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the connection broke.
    #[error("the service at {server} cannot be reached: {why}")]
    Unreachable {
        /// Where it was looked for.
        server: Server,
        /// What happened.
        why: String,
    },
    /// The service refused.
    #[error("{}", .0.detail)]
    Refused(Box<ProblemDocument>),
    /// What was given to speak to it cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// What came back is not what this version of Staccato answers.
    #[error("the service at {server} answered in a way that is not understood: {why}")]
    NotUnderstood {
        /// Who answered.
        server: Server,
        /// What was wrong.
        why: String,
    },
}

impl Client {
    /// A client of the service at `server`.
    pub fn new(server: Server) -> Self {
        Self { server, token: None, ca: None, tls: Arc::default() }
    }

    /// The same, showing this token.
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The same, trusting the certificates in this file (PEM) instead of the operating system's.
    pub fn with_ca(self, ca: Option<PathBuf>) -> Self {
        Self { ca, tls: Arc::default(), ..self }
    }

    /// GETs a document.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, None, &[]).await
    }

    /// POSTs a document.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        self.request(Method::POST, path, Some(body), &[]).await
    }

    /// Sends a request and reads its whole answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { server: self.server.clone(), why };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, self.server.host());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            if !self.server.keeps_secrets() {
                let why = "a token is not sent over plain http to another host; write https://HOST:PORT";
                return Err(ClientError::Unusable(why.into()));
            }
            let shown = format!("Bearer {}", token.trim());
            let mut shown = HeaderValue::from_str(&shown)
                .map_err(|_| ClientError::Unusable("the token has characters that no token has".into()))?;
            shown.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, shown);
        }
        let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request.body(Full::new(bytes)).map_err(|error| self.not_understood(error.to_string()))?;
        match tokio::time::timeout(REQUEST_TIMEOUT, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(unreachable(format!("no whole answer within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { server: self.server.clone(), why };
        let tls = match &self.server {
            Server::Tls(..) => Some(TlsConnector::from(self.tls()?)),
            _ => None,
        };
        let connect = async {
            match &self.server {
                Server::Tcp(host, port) => exchange(TcpStream::connect((host.as_str(), *port)).await).await,
                Server::Tls(host, port) => {
                    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
                    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
                    exchange(tls.expect("made above").connect(name, stream).await).await
                }
                Server::Unix(path) => exchange(UnixStream::connect(path).await).await,
            }
        };
        let mut sender = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| unreachable(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(unreachable)?;
        let response = sender.send_request(request).await.map_err(|error| unreachable(describe(&error)))?;
        let (head, body) = response.into_parts();
        let bytes = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| unreachable(format!("the answer broke off ({error})")))?
            .to_bytes();

        let is = |media_type: &str| {
            let value = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            value.is_some_and(|value| value.split(';').next().is_some_and(|essence| essence.trim() == media_type))
        };
        if head.status.is_client_error() || head.status.is_server_error() {
            return Err(match serde_json::from_slice(&bytes) {
                Ok(problem) if is("application/problem+json") => ClientError::Refused(Box::new(problem)),
                _ => self.not_understood(format!("status {} without a problem document", head.status)),
            });
        }
        let body = match bytes.is_empty() {
            true => Value::Null,
            false if is("application/json") => {
                serde_json::from_slice(&bytes).map_err(|error| self.not_understood(error.to_string()))?
            }
            false => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
        };
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// How to tell the service from others.
    fn tls(&self) -> Result<Arc<ClientConfig>, ClientError> {
        if let Some(known) = self.tls.get() {
            return Ok(known.clone());
        }
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let why =
                        "this host has no trusted certificates; install ca-certificates, or name some (--ca FILE)";
                    return Err(ClientError::Unusable(why.into()));
                }
            }
            Some(path) => {
                let unusable = |why: &dyn std::fmt::Display| {
                    ClientError::Unusable(format!("the certificates in {} cannot be used: {why}", path.display()))
                };
                let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
                for certificate in read.map_err(|error| unusable(&error))? {
                    roots.add(certificate).map_err(|error| unusable(&error))?;
                }
                if roots.is_empty() {
                    return Err(unusable(&"there is none in it (PEM, -----BEGIN CERTIFICATE-----)"));
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let made = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(self.tls.get_or_init(|| made).clone())
    }

    fn not_understood(&self, why: String) -> ClientError {
        ClientError::NotUnderstood { server: self.server.clone(), why }
    }
}

impl Server {
    /// What to call it in the `Host` field.
    fn host(&self) -> String {
        match self {
            Self::Tcp(host, port) | Self::Tls(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp(host, port) | Self::Tls(host, port) => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".into(),
        }
    }

    /// Whether nobody else hears what is said there.
    pub fn keeps_secrets(&self) -> bool {
        match self {
            Self::Tcp(host, _) => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Tls(..) | Self::Unix(_) => true,
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        SERVER_DEFAULT.parse().expect("the default is well-formed")
    }
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} names no service; write http://HOST:PORT, https://HOST:PORT or unix:/PATH");
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///path is the same path in the spelling of URLs.
            let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(refused()) };
        }
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let make = match uri.scheme_str() {
            Some("http") => Self::Tcp,
            Some("https") => Self::Tls,
            _ => return Err(refused()),
        };
        if uri.path() != "/" || uri.query().is_some() {
            return Err(refused());
        }
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(refused)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(refused());
        }
        Ok(make(host.to_owned(), authority.port_u16().unwrap_or(5309)))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(..) => write!(f, "http://{}", self.host()),
            Self::Tls(..) => write!(f, "https://{}", self.host()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Begins HTTP on a connection that was just made.
async fn exchange<S>(stream: std::io::Result<S>) -> Result<http1::SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = stream.map_err(|error| error.to_string())?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("no HTTP there ({error})"))?;
    // Ends with the sender, or tells it of an error.
    tokio::spawn(connection);
    Ok(sender)
}

/// An error with what caused it: hyper's own sentence often says only that something went wrong.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_by_url_or_socket() {
        for (text, shown) in [
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("http://localhost", "http://localhost:5309"),
            ("http://[::1]:9/", "http://[::1]:9"),
            ("https://staccato.example", "https://staccato.example:5309"),
            ("unix:/run/s.sock", "unix:/run/s.sock"),
            ("unix:///run/s.sock", "unix:/run/s.sock"),
        ] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "localhost:80", "https://h/v1", "ftp://h", "http://h/v1", "unix:s", "http://u@h", "http://h?x"]
        {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
        assert_eq!(Server::default().to_string(), SERVER_DEFAULT);
    }

    #[tokio::test]
    async fn a_token_does_not_leave_the_host_in_the_clear() {
        let ask = |server: &str| Client::new(server.parse().unwrap()).with_token(Some("x".into()));
        let refused = ask("http://192.0.2.1:1").get("/").await.unwrap_err();
        assert!(matches!(refused, ClientError::Unusable(_)), "{refused}");
        for server in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "unix:/does/not/exist"] {
            let tried = ask(server).get("/").await.unwrap_err();
            assert!(matches!(tried, ClientError::Unreachable { .. }), "{tried}");
        }
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_unreachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        for server in [Server::Tcp("127.0.0.1".into(), port), Server::Unix("/does/not/exist.sock".into())] {
            let error = Client::new(server).get("/").await.unwrap_err();
            assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        }
    }
}
