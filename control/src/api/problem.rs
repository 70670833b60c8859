//! How problems leave the service: `application/problem+json` (RFC 9457).

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

use crate::{
    ledger::LedgerError,
    model::{Problem, ProblemCode},
};

/// Media type of every answer that is a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What a handler returns when it does not do what was asked.
#[derive(Clone, Debug)]
pub struct Refusal(pub Problem);

impl Refusal {
    /// A refusal that no single field is to blame for.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(code, detail))
    }

    /// The same refusal, with the field, parameter or header at fault.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self(self.0.at(field))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status()).expect("codes have HTTP statuses");
        let body = serde_json::to_vec(&self.0.document()).expect("a document of strings and numbers");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"staccato\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// The last place that sees the ledger's errors: those that are not the client's doing are logged here.
impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        let problem = error.problem();
        if problem.status() >= 500 {
            tracing::error!(%error, "a request could not be served");
        }
        Self(problem)
    }
}
