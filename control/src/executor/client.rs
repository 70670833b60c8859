//! The executor's end of the wire: one message over a connection of its own, to the service's Unix socket.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::Instant};

use super::contract::{BODY_BYTES_MAX, Message, Refusal};

/// Longest wait for an answer beyond what the message itself asks to wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);

const POISON: &str = "no code panics while it holds this lock";

/// Where the ledger answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Arc<PathBuf>,
    /// When the service last answered anything; shared by all clones.
    heard: Arc<Mutex<Instant>>,
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not reached, or not answered in time: whether it was recorded is not known. Say it again.
    #[error("the service is not reached: {0}")]
    Unreachable(String),
    /// The attempt is somebody else's, or nobody's: stop and touch nothing.
    #[error("refused: {0}")]
    Refused(String),
    /// The message itself is wrong.
    #[error("the service does not understand: {0}")]
    Defect(String),
}

impl Client {
    /// A client of the service behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket: Arc::new(socket), heard: Arc::new(Mutex::new(Instant::now())) }
    }

    /// How long the service has answered nothing, to whichever message.
    pub fn silence(&self) -> Duration {
        self.heard.lock().expect(POISON).elapsed()
    }

    /// Says something and waits for the answer, for `wait` and a little more.
    pub async fn call<M: Message>(&self, message: &M, wait: Duration) -> Result<M::Answer, CallError> {
        let answer = tokio::time::timeout(wait + ANSWER_MAX, self.exchange(message)).await;
        let answer = answer.unwrap_or_else(|_| Err(CallError::Unreachable("no answer in time".into())));
        if !matches!(answer, Err(CallError::Unreachable(_))) {
            *self.heard.lock().expect(POISON) = Instant::now();
        }
        answer
    }

    async fn exchange<M: Message>(&self, message: &M) -> Result<M::Answer, CallError> {
        let unreachable = |error: &dyn std::fmt::Display| CallError::Unreachable(error.to_string());
        let stream = UnixStream::connect(self.socket.as_path()).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let body = serde_json::to_vec(message).expect("messages are strings and numbers");
        let request = Request::post(format!("/executor/v1/{}", M::NAME))
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a constant path and constant headers");
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
            Ok((status, body.map_err(|error| unreachable(&error))?.to_bytes()))
        };
        tokio::pin!(answered, connection);
        // The connection has to be driven until the answer is there; whatever ends it early fails the answer.
        let (status, body) = tokio::select! {
            answered = &mut answered => answered?,
            _ = &mut connection => answered.await?,
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| CallError::Defect(error.to_string()));
        }
        let why = serde_json::from_slice(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |Refusal { refused }| refused);
        Err(match status {
            StatusCode::CONFLICT => CallError::Refused(why),
            status if status.is_server_error() => CallError::Unreachable(why),
            status => CallError::Defect(format!("{status}: {why}")),
        })
    }
}
