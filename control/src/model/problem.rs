//! What a client is told when something cannot be done: stable codes, each with one HTTP status and one title, in the
//! form of RFC 9457. `control/ERRORS.md` says what to do about each.

use std::fmt;

use serde::{Deserialize, Serialize};
use staccato_protocols::{Code, Error};
use utoipa::ToSchema;

/// A refusal: a stable code, a sentence that says what to do, and the field at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// The cause.
    pub code: ProblemCode,
    /// One sentence for people.
    pub detail: String,
    /// The field, query parameter or header at fault.
    pub field: Option<String>,
}

/// Its form on the wire, `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDocument {
    /// `about:blank`: the code below says more.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means, in a few words; the same for every problem of that code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// One sentence that says what is wrong and what to do.
    pub detail: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The stable codes. Those of storage and protocols are shared with the `error` of failed transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemCode {
    /// The body is not JSON.
    InvalidJson,
    /// A field that nobody knows.
    UnknownField,
    /// A required field is absent.
    MissingField,
    /// A field, query parameter or header has a wrong type or value.
    InvalidField,
    /// The body is larger than is accepted.
    BodyTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The header section is too large.
    HeadersTooLarge,
    /// A foreign `Host`, or headers of a proxy, on an address that trusts its peers.
    ForbiddenHost,
    /// No token, or one that is none.
    Unauthorized,
    /// The peer may not do this.
    Forbidden,
    /// No such transfer, or not the client's.
    TransferNotFound,
    /// No such distribution, or not the client's.
    DistributionNotFound,
    /// The host is no member of the distribution.
    MemberNotFound,
    /// A selector matches no host.
    NoHostSelected,
    /// No such token.
    TokenNotFound,
    /// No such credential.
    CredentialNotFound,
    /// A URL names a host that has no executor.
    UnknownHost,
    /// A URL names no host, and could be of several.
    AmbiguousHost,
    /// The executor of a host lets no others in.
    HostUnreachable,
    /// No such executor.
    ExecutorNotFound,
    /// The service has no door for executors of other hosts.
    NoTls,
    /// No such page.
    RouteNotFound,
    /// The page does not know this method.
    MethodNotAllowed,
    /// The action is not possible in the transfer's state.
    StateConflict,
    /// A live transfer writes to the same destination.
    DestinationBusy,
    /// The idempotency key was used with another body.
    IdempotencyKeyReused,
    /// The ledger or a part of the service cannot answer now.
    Unavailable,
    /// A cause that protocols know, found while checking a request.
    Protocol(Code),
}

impl ProblemCode {
    /// Every code that is the REST interface's own.
    pub const OWN: [Self; 28] = [
        Self::InvalidJson,
        Self::UnknownField,
        Self::MissingField,
        Self::InvalidField,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::RequestTimeout,
        Self::HeadersTooLarge,
        Self::ForbiddenHost,
        Self::Unauthorized,
        Self::Forbidden,
        Self::TransferNotFound,
        Self::DistributionNotFound,
        Self::MemberNotFound,
        Self::NoHostSelected,
        Self::TokenNotFound,
        Self::CredentialNotFound,
        Self::UnknownHost,
        Self::AmbiguousHost,
        Self::HostUnreachable,
        Self::ExecutorNotFound,
        Self::NoTls,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::StateConflict,
        Self::DestinationBusy,
        Self::IdempotencyKeyReused,
        Self::Unavailable,
    ];

    /// Its stable spelling.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its HTTP status.
    pub fn status(self) -> u16 {
        self.row().1
    }

    /// What it means, in a few words.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::InvalidJson => ("invalid_json", 400, "The body is not JSON"),
            Self::UnknownField => ("unknown_field", 400, "Unknown field"),
            Self::MissingField => ("missing_field", 400, "Missing field"),
            Self::InvalidField => ("invalid_field", 400, "Wrong type or value"),
            Self::BodyTooLarge => ("body_too_large", 413, "The body is too large"),
            Self::UnsupportedMediaType => ("unsupported_media_type", 415, "The body must be application/json"),
            Self::RequestTimeout => ("request_timeout", 408, "The request did not arrive in time"),
            Self::HeadersTooLarge => ("headers_too_large", 431, "The header section is too large"),
            Self::ForbiddenHost => ("forbidden_host", 403, "The request came through a name or proxy"),
            Self::Unauthorized => ("unauthorized", 401, "A token is needed"),
            Self::Forbidden => ("forbidden", 403, "Not allowed"),
            Self::TransferNotFound => ("transfer_not_found", 404, "No such transfer"),
            Self::DistributionNotFound => ("distribution_not_found", 404, "No such distribution"),
            Self::MemberNotFound => ("member_not_found", 404, "The host is no member"),
            Self::NoHostSelected => ("no_host_selected", 400, "No host is selected"),
            Self::TokenNotFound => ("token_not_found", 404, "No such token"),
            Self::CredentialNotFound => ("credential_not_found", 404, "No such credential"),
            Self::UnknownHost => ("unknown_host", 400, "No executor has this name"),
            Self::AmbiguousHost => ("ambiguous_host", 400, "The URL must name a host"),
            Self::HostUnreachable => ("host_unreachable", 400, "Other executors cannot connect to this one"),
            Self::ExecutorNotFound => ("executor_not_found", 404, "No such executor"),
            Self::NoTls => ("no_tls", 409, "The service does not listen with TLS"),
            Self::RouteNotFound => ("route_not_found", 404, "No such page"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "Method not allowed"),
            Self::StateConflict => ("state_conflict", 409, "Not possible in this state"),
            Self::DestinationBusy => ("destination_busy", 409, "Another transfer writes there"),
            Self::IdempotencyKeyReused => ("idempotency_key_reused", 422, "Idempotency key reused"),
            Self::Unavailable => ("unavailable", 503, "The service cannot answer now"),
            Self::Protocol(Code::Internal) => ("internal", 500, "A defect of the service"),
            Self::Protocol(code) => (code.as_str(), 400, "The request cannot be served"),
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    /// A problem that no single field is to blame for.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None }
    }

    /// A wrong type or value of `field`.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::InvalidField, detail).at(field)
    }

    /// A cause that a protocol named, found in `field`.
    pub fn protocol(field: impl Into<String>, error: Error) -> Self {
        Self::new(ProblemCode::Protocol(error.code), error.message).at(field)
    }

    /// The same problem, with the field at fault.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Its HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// Its form on the wire.
    pub fn document(&self) -> ProblemDocument {
        ProblemDocument {
            kind: "about:blank".into(),
            title: self.code.title().into(),
            status: self.status(),
            code: self.code.as_str().into(),
            detail: self.detail.clone(),
            field: self.field.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_stand_for_errors() {
        let mut names: Vec<_> = ProblemCode::OWN.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ProblemCode::OWN.len());
        assert!(ProblemCode::OWN.iter().all(|code| (400..600).contains(&code.status())));
        assert_eq!(ProblemCode::Protocol(Code::InvalidUrl).to_string(), "invalid_url");
    }
}
