//! The executors' door to the ledger: a Unix socket of its own, for processes of this very user.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

use crate::ledger::{Ledger, LedgerError};

use super::contract::{
    About, BODY_BYTES_MAX, Checkpoint, Claim, Claimed, Committed, Directives, Heartbeat, Message, Noted, Prepare,
    PrepareAnswer, Refusal, Release, Swept,
};

/// Wait before the next connection is taken, after taking one has failed (most often: no free descriptor).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Makes the socket at `path` (mode 0600), in the place of one that nobody listens on any more.
pub fn bind(path: &Path) -> io::Result<OwnUserListener> {
    let explain =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(explain(io::Error::new(io::ErrorKind::AddrInUse, "another service listens there")));
            }
            fs::remove_file(path).map_err(explain)?;
        }
        Ok(_) => {
            return Err(explain(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there")));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explain(error)),
    }
    let listener = UnixListener::bind(path).map_err(explain)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(explain)?;
    Ok(OwnUserListener { listener })
}

/// Answers executors for ever.
pub async fn serve(ledger: Ledger, listener: OwnUserListener) -> io::Result<()> {
    axum::serve(listener, router(ledger)).await
}

/// The routes of [`super::contract`]. Whoever reaches them is trusted: serve them behind [`bind`] only.
pub fn router(ledger: Ledger) -> Router {
    let path = |name: &str| format!("/executor/v1/{name}");
    Router::new()
        .route(&path(Claim::NAME), post(claim))
        .route(&path(Heartbeat::NAME), post(heartbeat))
        .route(&path(About::<Checkpoint>::NAME), post(checkpoint))
        .route(&path(About::<Prepare>::NAME), post(prepare))
        .route(&path(About::<Committed>::NAME), post(committed))
        .route(&path(About::<Release>::NAME), post(release))
        .route(&path(Swept::NAME), post(swept))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(ledger)
}

/// Takes connections of processes of this user (and of root) only.
pub struct OwnUserListener {
    listener: UnixListener,
}

impl Listener for OwnUserListener {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let own = rustix::process::geteuid().as_raw();
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => match stream.peer_cred() {
                    Ok(peer) if peer.uid() == own || peer.uid() == 0 => return (stream, address),
                    Ok(peer) => tracing::warn!(uid = peer.uid(), "a process of another user was turned away"),
                    Err(error) => tracing::warn!(%error, "a process that cannot be told was turned away"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection of an executor");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn claim(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Claimed>, Failed> {
    let claim: Claim = parse(&body)?;
    let mut bell = ledger.bell();
    let wait = Duration::from_millis(claim.wait_ms).min(ledger.config().heartbeat);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let attempts = ledger.claim(&claim.executor, claim.attempts_max).await?;
        let sweeps = if attempts.is_empty() { ledger.claim_sweeps(&claim.executor).await? } else { Vec::new() };
        let over = tokio::time::Instant::now() >= deadline;
        if over || !attempts.is_empty() || !sweeps.is_empty() {
            let lease_ms = millis(ledger.config().lease);
            return Ok(Json(Claimed { attempts, lease_ms, sweeps }));
        }
        let _ = tokio::time::timeout_at(deadline, bell.changed()).await;
    }
}

async fn heartbeat(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Directives>, Failed> {
    let heartbeat: Heartbeat = parse(&body)?;
    let wait = Duration::from_millis(heartbeat.wait_ms);
    let directives = ledger.heartbeat_wait(&heartbeat.executor, &heartbeat.held, wait).await;
    Ok(Json(Directives { directives, lease_ms: millis(ledger.config().lease) }))
}

async fn checkpoint(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Checkpoint(report) } = parse(&body)?;
    ledger.checkpoint(&executor, transfer, epoch, &report).await?;
    Ok(Json(Noted {}))
}

async fn prepare(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<PrepareAnswer>, Failed> {
    let About { executor, transfer, epoch, body: Prepare(completion) } = parse(&body)?;
    let prepared = ledger.prepare(&executor, transfer, epoch, &completion).await?;
    Ok(Json(PrepareAnswer { prepared, lease_ms: millis(ledger.config().lease) }))
}

async fn committed(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Committed(completion) } = parse(&body)?;
    ledger.committed(&executor, transfer, epoch, &completion).await?;
    Ok(Json(Noted {}))
}

async fn release(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Release(outcome) } = parse(&body)?;
    ledger.release(&executor, transfer, epoch, &outcome).await?;
    Ok(Json(Noted {}))
}

async fn swept(State(ledger): State<Ledger>, body: Bytes) -> Result<Json<Noted>, Failed> {
    let Swept { transfer, failure } = parse(&body)?;
    if let Some(failure) = &failure {
        tracing::warn!(%transfer, failure, "a sweep failed; it will be tried again");
    }
    ledger.sweep_done(transfer, failure.is_none()).await?;
    Ok(Json(Noted {}))
}

fn parse<M: Message>(body: &[u8]) -> Result<M, Failed> {
    serde_json::from_slice(body).map_err(|error| Failed(StatusCode::BAD_REQUEST, error.to_string()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that is no 200.
struct Failed(StatusCode, String);

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        let status = match &error {
            LedgerError::Refused(_) => StatusCode::CONFLICT,
            LedgerError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            // A record that cannot be read is no fault of the executor, and its attempt cannot go on.
            LedgerError::Unreadable { .. } | LedgerError::Problem(_) => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { refused: self.1 })).into_response()
    }
}
