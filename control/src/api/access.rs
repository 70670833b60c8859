//! Who may ask, and in which manner.
//!
//! A request comes from one of four kinds of [`Peer`]. On loopback and on a Unix socket the operating system says which
//! user is at the other end ([`super::peer`]); over TLS a token must say it (`Authorization: Bearer`, or `X-Auth-Token` where
//! [Keystone](super::keystone) vouches for callers), and may anywhere;
//! whoever reaches the admin socket, in the service's own data folder, may do everything. What a request may do is its
//! [`Caller`]: an owner and a scope. Every transfer belongs to an owner; others' do not exist for a caller that is no
//! admin.
//!
//! What the operating system cannot see is a program that is made to ask on somebody else's behalf. So a request is
//! refused
//!
//! - when it comes from this host and its `Host` (or the authority of its target) is not a name of this host's loopback:
//!   a web page whose name was pointed at 127.0.0.1 would send its own;
//! - when it comes from this host and carries `Forwarded` or `X-Forwarded-*`: a proxy speaks for somebody whom we do not
//!   see;
//! - when it has a body that is not `application/json`: browsers send other types across sites without asking.
//!
//! The header section is bounded here too, well below what [`super::server`] reads, so that the answer is a problem
//! that says so.

use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts, uri::Authority};
use staccato_protocols::ObjectUrl;

use super::{
    Api,
    body::{self, BODY_BYTES_MAX},
    keystone, peer,
    problem::Refusal,
};
use crate::{
    ledger::Scope,
    model::{
        HostName, Place, Problem, ProblemCode,
        token::{Token, TokenScope},
    },
    places,
};

/// Most header fields of a request.
pub const HEADERS_MAX: usize = 64;
/// Most bytes of all names and values of a request's header fields.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;

/// Who is at the other end of a connection; an extension of each request, set where the connection is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A user of this host.
    User(String),
    /// A program on this host, of a user that the operating system does not name; why.
    Unknown(String),
    /// A user of this host who may reach the admin socket.
    Admin(String),
    /// Somebody anywhere, over TLS.
    Remote,
    /// A user of another host, as its executor has seen.
    AtHost {
        /// The host.
        host: HostName,
        /// The user's name there.
        user: String,
        /// Whether that user runs the executor, or could.
        operator: bool,
    },
}

impl Peer {
    /// A known user.
    pub fn user(name: impl Into<String>) -> Self {
        Self::User(name.into())
    }
}

/// On whose behalf a request acts, and what it may do. Extracting it refuses callers that are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Whose transfers it makes.
    pub owner: String,
    /// What it may do.
    pub scope: TokenScope,
    /// Whether it runs the service: then every root is its own.
    pub operator: bool,
    /// On which host it asks; none where that is not known.
    pub at: Option<Place>,
    /// Whether it runs the executor of that host: then its roots are its own.
    pub operator_there: bool,
}

impl Caller {
    fn local(user: &str) -> Self {
        // Whoever runs the service, or could, has all that it has anyway.
        let operator = user == "root" || user == peer::own_user();
        Self {
            owner: user.to_owned(),
            scope: TokenScope::Submit,
            operator,
            at: Some(Place::Here),
            operator_there: operator,
        }
    }

    fn of_token(token: Token, at: Option<Place>) -> Self {
        let operator = token.scope == TokenScope::Admin;
        Self { owner: token.owner, scope: token.scope, operator, at, operator_there: false }
    }

    fn of_keystone(keystone::Vouched { owner, scope }: keystone::Vouched, at: Option<Place>) -> Self {
        Self { owner, scope, operator: scope == TokenScope::Admin, at, operator_there: false }
    }

    /// Refuses a caller whose scope is smaller.
    pub fn may(&self, needed: TokenScope) -> Result<(), Refusal> {
        if self.scope >= needed {
            return Ok(());
        }
        let detail = format!("the token's scope is {}, and this needs {needed}; use another token", self.scope);
        Err(Refusal::new(ProblemCode::Forbidden, detail))
    }

    /// Refuses a caller who may not use the root in which `url`, the value of `field`, lies on `host`.
    pub fn may_use(&self, api: &Api, field: &str, url: &ObjectUrl, host: Option<&str>) -> Result<(), Problem> {
        let there = self.at.as_ref().and_then(Place::host);
        if self.operator || (self.operator_there && host.is_some() && host == there) {
            return Ok(());
        }
        let among_strangers = api.keystone.is_some() || api.ledger.has_tokens();
        places::may_use(&api.ledger, &api.policy, url, host, &self.owner, among_strangers)
            .map_err(|problem| problem.at(field))
    }

    /// Whose transfers it sees.
    pub fn sees(&self) -> Scope {
        if self.scope == TokenScope::Admin { Scope::All } else { Scope::Owner(self.owner.clone()) }
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        let at = match parts.extensions.get::<Peer>() {
            None | Some(Peer::Remote) => None,
            Some(Peer::AtHost { host, .. }) => Some(Place::Host(host.clone())),
            Some(_) => Some(Place::Here),
        };
        let shown = bearer(&parts.headers)?;
        if let Some(gate) = &api.keystone
            && let Some(token) = keystone_token(&parts.headers)?
        {
            if shown.is_some() {
                return Err(unauthorized("show one token: in Authorization, or in X-Auth-Token"));
            }
            return gate.whose(token).await.map(|vouched| Self::of_keystone(vouched, at));
        }
        if let Some(text) = shown {
            let token = api.ledger.token(text).await?;
            return token.map(|token| Self::of_token(token, at)).map_err(|why| unauthorized(why.to_string()));
        }
        let unknown = |why: &str| {
            Refusal::new(ProblemCode::Forbidden, format!("the service cannot tell which user is asking: {why}"))
        };
        match parts.extensions.get::<Peer>() {
            Some(Peer::User(name)) => Ok(Self::local(name)),
            Some(Peer::Admin(name)) => {
                let (at, operator_there) = (Some(Place::Here), true);
                Ok(Self { owner: name.clone(), scope: TokenScope::Admin, operator: true, at, operator_there })
            }
            Some(Peer::AtHost { host, user, operator }) => Ok(Self {
                owner: format!("{user}@{host}"),
                scope: TokenScope::Submit,
                operator: false,
                at: Some(Place::Host(host.clone())),
                operator_there: *operator,
            }),
            Some(Peer::Remote) if api.keystone.is_some() => Err(unauthorized(
                "a token is needed here: Authorization: Bearer TOKEN, or X-Auth-Token with one of Keystone's",
            )),
            Some(Peer::Remote) => Err(unauthorized("a token is needed here: Authorization: Bearer TOKEN")),
            Some(Peer::Unknown(why)) => Err(unknown(why)),
            None => Err(unknown("the connection has no peer")),
        }
    }
}

/// Anybody on this host; from elsewhere, whoever has a token.
pub struct Insider;

impl FromRequestParts<Api> for Insider {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refusal> {
        if parts.extensions.get::<Peer>() == Some(&Peer::Remote) {
            Caller::from_request_parts(parts, api).await?;
        }
        Ok(Self)
    }
}

/// Whoever reaches the admin socket.
pub struct AtAdminSocket;

impl<S: Sync> FromRequestParts<S> for AtAdminSocket {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        if matches!(parts.extensions.get::<Peer>(), Some(Peer::Admin(_))) {
            return Ok(Self);
        }
        let detail = "tokens are made and seen at the service's admin socket only: run `staccato token` on its host, as the \
                      user it runs as";
        Err(Refusal::new(ProblemCode::Forbidden, detail))
    }
}

pub(super) fn unauthorized(detail: impl Into<String>) -> Refusal {
    Refusal::new(ProblemCode::Unauthorized, detail).at("authorization")
}

/// The token that a request shows; nothing when it shows none.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = shown.next() else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match (token, shown.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(unauthorized("write it once, as Authorization: Bearer TOKEN")),
    }
}

/// Keystone's token that a request shows; nothing when it shows none.
fn keystone_token(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut shown = headers.get_all(keystone::HEADER).iter();
    let Some(value) = shown.next() else { return Ok(None) };
    match (value.to_str().ok().map(str::trim).filter(|token| !token.is_empty()), shown.next()) {
        (Some(token), None) => Ok(Some(token)),
        _ => Err(unauthorized("write it once, as X-Auth-Token: TOKEN").at(keystone::HEADER)),
    }
}

/// Refuses requests that are not what their peer may send.
pub async fn guard(request: Request, next: Next) -> Response {
    // What an executor hands on has come through the same doors there.
    let remote = matches!(request.extensions().get::<Peer>(), Some(Peer::Remote | Peer::AtHost { .. }));
    match check(request.uri(), request.headers(), remote) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(uri: &Uri, headers: &HeaderMap, remote: bool) -> Result<(), Refusal> {
    check_size(headers)?;
    if !remote {
        check_host(uri, headers)?;
        if let Some(name) = headers.keys().find(|name| is_forwarded(name.as_str())) {
            let detail = "requests through a proxy are not accepted: the service could not tell who is asking";
            return Err(Refusal::new(ProblemCode::ForbiddenHost, detail).at(name.as_str()));
        }
    }
    check_body(headers)
}

fn check_size(headers: &HeaderMap) -> Result<(), Refusal> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() <= HEADERS_MAX && bytes <= HEADERS_BYTES_MAX {
        return Ok(());
    }
    let detail = format!(
        "the request has {} header fields of {bytes} bytes; at most {HEADERS_MAX} of {HEADERS_BYTES_MAX} bytes together \
         are accepted",
        headers.len()
    );
    Err(Refusal::new(ProblemCode::HeadersTooLarge, detail))
}

fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let foreign = |shown: &str| {
        let detail = format!("{shown:?} is no name of this host's loopback; use localhost, 127.0.0.1 or [::1]");
        Refusal::new(ProblemCode::ForbiddenHost, detail).at("host")
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().ok_or_else(|| Refusal::new(ProblemCode::ForbiddenHost, "there is no Host").at("host"))?;
    if hosts.next().is_some() {
        return Err(Refusal::new(ProblemCode::ForbiddenHost, "there is more than one Host").at("host"));
    }
    let host = host.to_str().map_err(|_| foreign("?"))?;
    let authority: Authority = host.parse().map_err(|_| foreign(host))?;
    if !is_loopback(&authority) {
        return Err(foreign(host));
    }
    match uri.authority() {
        Some(target) if !is_loopback(target) => Err(foreign(target.as_str())),
        _ => Ok(()),
    }
}

/// Whether an authority names loopback whatever any name server says.
fn is_loopback(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_forwarded(name: &str) -> bool {
    // Names arrive in lower case.
    name == "forwarded" || name.starts_with("x-forwarded-") || name == "via" || name == "x-real-ip"
}

fn check_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let has_body = length.is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING);
    let media_type = headers.get(header::CONTENT_TYPE);
    if !has_body && media_type.is_none() {
        return Ok(());
    }
    let is_json = media_type.and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        let detail = "send the body as JSON, with the header Content-Type: application/json";
        return Err(Refusal::new(ProblemCode::UnsupportedMediaType, detail).at("content-type"));
    }
    let is_plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        let detail = "send the body as it is, without Content-Encoding";
        return Err(Refusal::new(ProblemCode::UnsupportedMediaType, detail).at("content-encoding"));
    }
    if length.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(body::too_large());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loopback_are_accepted_and_no_others() {
        for host in ["localhost", "LocalHost:5309", "127.0.0.1", "127.0.0.1:1", "[::1]:5309", "[::1]", "127.9.9.9"] {
            assert!(checked("/", &[("host", host)]).is_ok(), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "u@localhost",
            "0.0.0.0",
            "[::]",
            "",
        ] {
            assert_eq!(checked("/", &[("host", host)]), Err("forbidden_host".into()), "{host}");
        }
        assert_eq!(checked("/", &[]), Err("forbidden_host".into()));
        assert_eq!(checked("/", &[("host", "localhost"), ("host", "localhost")]), Err("forbidden_host".into()));
        assert_eq!(checked("http://evil.example/v1", &[("host", "localhost")]), Err("forbidden_host".into()));
    }

    #[test]
    fn headers_of_proxies_are_refused() {
        for name in ["forwarded", "x-forwarded-for", "X-Forwarded-Host", "x-forwarded-anything", "via", "x-real-ip"] {
            assert_eq!(checked("/", &[("host", "localhost"), (name, "x")]), Err("forbidden_host".into()), "{name}");
        }
    }

    #[test]
    fn bodies_must_be_json() {
        let with = |headers: &[(&'static str, &'static str)]| {
            let mut all = vec![("host", "localhost")];
            all.extend(headers);
            checked("/", &all)
        };
        let refused = Err("unsupported_media_type".to_owned());
        assert_eq!(with(&[("content-length", "0")]), Ok(()));
        assert_eq!(with(&[("content-length", "2"), ("content-type", "application/json")]), Ok(()));
        assert_eq!(
            with(&[("transfer-encoding", "chunked"), ("content-type", "Application/JSON; charset=utf-8")]),
            Ok(())
        );
        assert_eq!(with(&[("content-length", "2")]), refused);
        assert_eq!(with(&[("transfer-encoding", "chunked")]), refused);
        assert_eq!(with(&[("content-length", "2"), ("content-type", "text/plain")]), refused);
        assert_eq!(with(&[("content-length", "2"), ("content-type", "application/jsonp")]), refused);
        assert_eq!(with(&[("content-type", "text/plain")]), refused);
        assert_eq!(
            with(&[("content-length", "2"), ("content-type", "application/json"), ("content-encoding", "gzip")]),
            refused
        );
        let huge = with(&[("content-length", "1048577"), ("content-type", "application/json")]);
        assert_eq!(huge, Err("body_too_large".into()));
    }

    #[test]
    fn the_header_section_is_bounded() {
        let refused = Err("headers_too_large".to_owned());
        let long = "x".repeat(HEADERS_BYTES_MAX);
        assert_eq!(checked("/", &[("host", "localhost"), ("x-long", &long)]), refused);
        let many = |count: usize| {
            let mut all = vec![("host", "localhost")];
            all.resize(count, ("x-many", "y"));
            checked("/", &all)
        };
        assert_eq!(many(HEADERS_MAX), Ok(()));
        assert_eq!(many(HEADERS_MAX + 1), refused);
    }

    fn checked(target: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        check(request.uri(), request.headers(), false).map_err(|refusal| refusal.0.code.to_string())
    }
}
