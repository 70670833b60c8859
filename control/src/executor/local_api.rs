//! The REST API on an executor's own host: what users of this host ask is handed on to the service, with who asked.
//!
//! So `file:///path` means this host here, and no token is needed: the operating system says which user is at the other
//! end, as it does on the service's own host, and the executor's certificate vouches for what it says. Transfers belong to
//! `USER@HOST`.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Limited};
use tokio::{sync::watch, task::JoinSet};

use super::{client::Client, routes::FORWARDED};
use crate::{
    api::{
        access::{self, Peer},
        body::{self, BODY_BYTES_MAX},
        peer,
        problem::Refusal,
        server::{self, Listener, Routes},
    },
    config::Listen,
    listeners::{self, BindError},
    model::ProblemCode,
};

/// Which user of its host asks, as the executor saw.
pub const USER: HeaderName = HeaderName::from_static("staccato-user");
/// Present where that user runs the executor, or could.
pub const OPERATOR: HeaderName = HeaderName::from_static("staccato-operator");

/// Listens on a loopback address and a Unix socket, where these are given.
pub async fn listen(address: Option<SocketAddr>, socket: Option<&std::path::Path>) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    if let Some(address) = address {
        listeners.push(Listener::Tcp(listeners::bind_tcp(Listen::Plain(address)).await?));
    }
    if let Some(path) = socket {
        listeners.push(Listener::Unix(listeners::bind_unix(path, 0o660).await?));
    }
    Ok(listeners)
}

/// Hands requests on until `stopping` becomes `true`.
pub async fn serve(listeners: Vec<Listener>, service: Client, stopping: watch::Receiver<bool>) {
    let clients = Router::new().fallback(hand_on).layer(middleware::from_fn(access::guard)).with_state(service);
    let routes = Routes { clients, executors: Router::new() };
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(server::serve(listener, routes.clone(), stopping.clone()));
    }
    while doors.join_next().await.is_some() {}
}

async fn hand_on(State(service): State<Client>, request: Request) -> Result<Response, Refusal> {
    let user = match request.extensions().get::<Peer>() {
        Some(Peer::User(name)) => name.clone(),
        _ => return Err(Refusal::new(ProblemCode::Forbidden, "the executor cannot tell which user is asking")),
    };
    let (mut head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else { return Err(body::too_large()) };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("http://localhost{FORWARDED}{path}")
        .parse()
        .map_err(|_| Refusal::new(ProblemCode::RouteNotFound, "this is no path"))?;
    let is_operator = user == "root" || user == peer::own_user();
    let named =
        |_| Refusal::new(ProblemCode::Forbidden, format!("the user {user:?} has a name that cannot be handed on"));
    head.headers.insert(USER, HeaderValue::from_str(&user).map_err(named)?);
    head.headers.remove(OPERATOR);
    if is_operator {
        head.headers.insert(OPERATOR, HeaderValue::from_static("yes"));
    }
    head.extensions.clear();
    let request = http::Request::from_parts(head, http_body_util::Full::new(body.to_bytes()));
    match service.forward(request).await {
        Ok(answer) => Ok(answer.map(Body::new).into_response()),
        Err(why) => Err(Refusal::new(
            ProblemCode::Unavailable,
            format!("the service is not reached from here: {why}; try again"),
        )),
    }
}
