//! The executors' door to the ledger: a Unix socket of its own, for processes of this very user; and for those of other
//! hosts, whose certificates say who they are, the service's address with TLS.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use data_encoding::HEXLOWER;
use staccato_dataplane::transport::ticket::KeyDigest;
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

use crate::{
    api::access::Peer,
    ledger::{JoinRefused, Ledger, LedgerError, NotEnrolled, reachable, write_key},
    model::{HostName, token::check_owner},
    pki::Authority,
};

use tower::ServiceExt as _;

use super::contract::{
    About, BODY_BYTES_MAX, Checkpoint, Claim, Claimed, Committed, Directives, Enrol, Enrolled, Heartbeat, Join, Joined,
    Leave, Message, Noted, Prepare, PrepareAnswer, Refusal, Release, Swept,
};
use super::local_api;

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

/// What executors' messages begin with.
pub const PREFIX: &str = "/executor/v1/";
/// What is in front of the paths of requests that executors hand on for users of their hosts.
pub const FORWARDED: &str = "/executor/v1/api";
/// Certificates of executors are to be renewed when so much of their life is over.
const RENEW_AFTER: f64 = 2.0 / 3.0;

/// What answers executors. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    /// Where everything is kept.
    pub ledger: Ledger,
    /// What vouches for executors; none where there are no other hosts.
    pub authority: Option<Arc<Authority>>,
    /// How long the certificates of executors last.
    pub certificate_life: Duration,
}

/// Whose connection a message comes over: an extension of each request, set where the connection is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// A process of the service's own user, on its own host.
    Own,
    /// Somebody elsewhere whose certificate has this key.
    Known(KeyDigest, IpAddr),
    /// Somebody elsewhere without a certificate.
    Stranger,
}

/// Answers the executors of this host for ever.
pub async fn serve(desk: Desk, listener: OwnUserListener) -> io::Result<()> {
    axum::serve(listener, router(desk).layer(Extension(Speaker::Own))).await
}

/// The routes of [`super::contract`], and those of `clients` for what executors hand on. Requests must carry a [`Speaker`].
pub fn remote_router(desk: Desk, clients: Router) -> Router {
    let handed_on = Router::new().fallback(hand_on).with_state((desk.clone(), clients));
    router(desk).nest(FORWARDED, handed_on)
}

/// What a user of an executor's host asks.
async fn hand_on(
    State((desk, clients)): State<(Desk, Router)>,
    Extension(speaker): Extension<Speaker>,
    mut request: Request,
) -> Result<Response, Failed> {
    let host = desk.host_of(&speaker)?.ok_or_else(|| Failed(StatusCode::FORBIDDEN, "ask the service itself".into()))?;
    let headers = request.headers_mut();
    let operator = headers.remove(local_api::OPERATOR).is_some();
    let user = headers.remove(local_api::USER).and_then(|name| Some(name.to_str().ok()?.to_owned()));
    let user = user.ok_or_else(|| Failed(StatusCode::BAD_REQUEST, "for whom?".into()))?;
    check_owner(&user).map_err(|why| Failed(StatusCode::BAD_REQUEST, why))?;
    request.extensions_mut().insert(Peer::AtHost { host, user, operator });
    clients.oneshot(request).await.map_err(|never| match never {})
}

/// The routes of [`super::contract`]. Requests must carry a [`Speaker`].
pub fn router(desk: Desk) -> Router {
    let path = |name: &str| format!("{PREFIX}{name}");
    Router::new()
        .route(&path(Enrol::NAME), post(enrol))
        .route(&path(Join::NAME), post(join))
        .route(&path(Leave::NAME), post(leave))
        .route(&path(Claim::NAME), post(claim))
        .route(&path(Heartbeat::NAME), post(heartbeat))
        .route(&path(About::<Checkpoint>::NAME), post(checkpoint))
        .route(&path(About::<Prepare>::NAME), post(prepare))
        .route(&path(About::<Committed>::NAME), post(committed))
        .route(&path(About::<Release>::NAME), post(release))
        .route(&path(Swept::NAME), post(swept))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(desk)
}

impl Desk {
    /// The host of who speaks; none for the service's own.
    fn host_of(&self, speaker: &Speaker) -> Result<Option<HostName>, Failed> {
        match speaker {
            Speaker::Own => Ok(None),
            Speaker::Known(key, _) => self
                .ledger
                .host_of_key(key)
                .map(Some)
                .ok_or_else(|| Failed(StatusCode::GONE, JoinRefused::Unknown.to_string())),
            Speaker::Stranger => {
                let why = "this needs an executor's certificate: enrol first (`staccato executor --join`)";
                Err(Failed(StatusCode::FORBIDDEN, why.into()))
            }
        }
    }

    /// Hears that `executor` speaks, and whether it may.
    fn hear(&self, speaker: &Speaker, executor: &str) -> Result<(), Failed> {
        if let Some(host) = self.host_of(speaker)?
            && !self.ledger.speaks_for(&host, executor)
        {
            return Err(match self.ledger.is_gone(executor) {
                true => Failed(StatusCode::GONE, JoinRefused::Superseded.to_string()),
                false => Failed(StatusCode::UNAUTHORIZED, "join first".into()),
            });
        }
        self.ledger.heard(executor);
        Ok(())
    }
}

async fn enrol(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Enrolled>, Failed> {
    let Enrol { name, request } = parse(&body)?;
    let forbidden = |why: &dyn std::fmt::Display| Failed(StatusCode::FORBIDDEN, why.to_string());
    let authority =
        desk.authority.as_ref().ok_or_else(|| forbidden(&"this service takes in no executors of other hosts"))?;
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let (host, invitation) = match (&speaker, shown) {
        (Speaker::Own, _) => (desk.ledger.config().own_host.clone(), None),
        (Speaker::Stranger, None) => {
            return Err(forbidden(
                &"an invitation is needed: `staccato executors invite` on the service's host makes one",
            ));
        }
        // Also one that has a certificate: it enrols anew.
        (_, Some(token)) => (desk.ledger.invited(token).await.map_err(Failed::from)?, Some(token)),
        (Speaker::Known(..), None) => (desk.host_of(&speaker)?.expect("it is known"), None),
    };
    if let Some(name) = name.filter(|name| *name != host && speaker != Speaker::Own) {
        return Err(forbidden(&format!("this is for the host {host}, not for {name}")));
    }
    let vouched = authority.vouch(&request, &host, desk.certificate_life);
    let vouched = vouched.map_err(|error| Failed(StatusCode::BAD_REQUEST, error.to_string()))?;
    if let Some(token) = invitation {
        desk.ledger.enrol(&host, token, &vouched.key).await?;
    } else if let Speaker::Known(key, _) = &speaker
        && *key != vouched.key
    {
        return Err(forbidden(&"a certificate is renewed for the same key; a new key needs an invitation"));
    }
    let control_time_ms = desk.ledger.now_ms();
    Ok(Json(Enrolled {
        name: host,
        certificate: vouched.certificate,
        ca: authority.certificate().to_owned(),
        ticket_key: HEXLOWER.encode(&desk.ledger.ticket_key()),
        renew_after_ms: control_time_ms + millis(desk.certificate_life.mul_f64(RENEW_AFTER)),
        control_time_ms,
    }))
}

async fn join(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Joined>, Failed> {
    let Join { executor, mut announced } = parse(&body)?;
    let host = desk.host_of(&speaker)?;
    if let Speaker::Known(key, from) = &speaker {
        announced.key = Some(write_key(key));
        announced.address = announced.address.map(|address| reachable(address, *from));
    }
    desk.ledger.join(host.as_ref(), &executor, announced).await?;
    let config = desk.ledger.config();
    Ok(Json(Joined {
        lease_ms: millis(config.lease),
        heartbeat_ms: millis(config.heartbeat),
        outage_max_ms: millis(config.outage_max),
        control_time_ms: desk.ledger.now_ms(),
    }))
}

async fn leave(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Noted>, Failed> {
    let Leave { executor } = parse(&body)?;
    desk.hear(&speaker, &executor)?;
    desk.ledger.leave(&executor).await?;
    Ok(Json(Noted {}))
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

async fn claim(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Claimed>, Failed> {
    let claim: Claim = parse(&body)?;
    desk.hear(&speaker, &claim.executor)?;
    let ledger = &desk.ledger;
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

async fn heartbeat(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Directives>, Failed> {
    let heartbeat: Heartbeat = parse(&body)?;
    desk.hear(&speaker, &heartbeat.executor)?;
    desk.ledger.note_neighbours(&heartbeat.executor, heartbeat.links, heartbeat.refusals);
    let ledger = &desk.ledger;
    let wait = Duration::from_millis(heartbeat.wait_ms);
    let over = ledger.note_offers(&heartbeat.executor, &heartbeat.offers);
    let directives = ledger.heartbeat_wait(&heartbeat.executor, &heartbeat.held, wait).await;
    let swarms = ledger.swarm_news(&heartbeat.executor, &heartbeat.held);
    let control_time_ms = ledger.now_ms();
    Ok(Json(Directives { directives, swarms, over, lease_ms: millis(ledger.config().lease), control_time_ms }))
}

async fn checkpoint(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Checkpoint(report) } = parse(&body)?;
    desk.hear(&speaker, &executor)?;
    let ledger = &desk.ledger;
    ledger.checkpoint(&executor, transfer, epoch, &report).await?;
    Ok(Json(Noted {}))
}

async fn prepare(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<PrepareAnswer>, Failed> {
    let About { executor, transfer, epoch, body: Prepare(completion) } = parse(&body)?;
    desk.hear(&speaker, &executor)?;
    let ledger = &desk.ledger;
    let prepared = ledger.prepare(&executor, transfer, epoch, &completion).await?;
    Ok(Json(PrepareAnswer { prepared, lease_ms: millis(ledger.config().lease) }))
}

async fn committed(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Committed(completion) } = parse(&body)?;
    desk.hear(&speaker, &executor)?;
    let ledger = &desk.ledger;
    ledger.committed(&executor, transfer, epoch, &completion).await?;
    Ok(Json(Noted {}))
}

async fn release(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Noted>, Failed> {
    let About { executor, transfer, epoch, body: Release(outcome) } = parse(&body)?;
    desk.hear(&speaker, &executor)?;
    let ledger = &desk.ledger;
    ledger.release(&executor, transfer, epoch, &outcome).await?;
    Ok(Json(Noted {}))
}

async fn swept(
    State(desk): State<Desk>,
    Extension(speaker): Extension<Speaker>,
    body: Bytes,
) -> Result<Json<Noted>, Failed> {
    let Swept { transfer, failure } = parse(&body)?;
    let ledger = &desk.ledger;
    if let Some(host) = desk.host_of(&speaker)?
        && !ledger.sweeps_at(host.as_str(), transfer)
    {
        // Another one's, or offered again since the service has begun anew: nothing is lost by doing it twice.
        return Ok(Json(Noted {}));
    }
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
            LedgerError::Unreadable { .. } | LedgerError::Unusable(_) | LedgerError::Problem(_) => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

impl From<NotEnrolled> for Failed {
    fn from(error: NotEnrolled) -> Self {
        match error {
            NotEnrolled::Ledger(error) => error.into(),
            refused => Self(StatusCode::FORBIDDEN, refused.to_string()),
        }
    }
}

impl From<JoinRefused> for Failed {
    fn from(error: JoinRefused) -> Self {
        match error {
            JoinRefused::Ledger(error) => error.into(),
            JoinRefused::Superseded | JoinRefused::Unknown => Self(StatusCode::GONE, error.to_string()),
            JoinRefused::Unacceptable(why) => Self(StatusCode::BAD_REQUEST, why),
        }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { refused: self.1 })).into_response()
    }
}
