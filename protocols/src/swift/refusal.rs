//! What an answer means that does not bring what was asked for. Pure.

use http::StatusCode;

use super::place::Target;
use crate::{Code, Error, web::answer::Head};

/// So much of what a server says is repeated.
const SAID_CHARS_MAX: usize = 256;

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no.
    Refused { status: StatusCode, error: Error },
    /// Nothing that makes sense came back. The server may have done what it was asked for.
    Lost(Error),
}

impl Failure {
    /// The refusal of a request about `target`, from the head and the text of its answer.
    pub fn refused(head: &Head, said: &[u8], target: &Target) -> Self {
        let status = head.status;
        let said = match in_one_line(said) {
            said if said.is_empty() => status.to_string(),
            said => format!("{status}: {said}"),
        };
        let fatal = |code, what: &str| Error::fatal(code, format!("{target}: {what} ({said})"));
        let retry = |code, what: &str| Error { disposition: head.retry(), ..fatal(code, what) };
        let error = match status.as_u16() {
            401 | 403 => fatal(Code::PermissionDenied, head.advice),
            404 => fatal(Code::SourceMissing, "there is no such object"),
            413 => fatal(Code::NoSpace, "a quota is used up, or the object is larger than the server takes"),
            507 => retry(Code::NoSpace, "the storage is full; free space there"),
            422 => retry(Code::WriteFailed, "what was sent arrived damaged"),
            // 498: Swift's own rate limit.
            408 | 409 | 425 | 429 | 498 | 499 | 500..=599 => retry(Code::HttpStatus, "the server cannot do it now"),
            300..=399 => fatal(Code::RedirectRefused, "the server redirects; give storage_url where it is"),
            _ => fatal(Code::HttpStatus, "the server refuses"),
        };
        Self::Refused { status, error }
    }

    /// Whether the server has certainly not done what it was asked for, and never will.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Refused { status, .. } => !status.is_server_error() && *status != StatusCode::REQUEST_TIMEOUT,
            Self::Lost(error) => matches!(error.code, Code::ConnectFailed | Code::TlsFailed | Code::UnsupportedScheme),
        }
    }

    /// Whether the server answered with this status.
    pub fn has_status(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { error, .. } | Failure::Lost(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

/// What a server says within its pages of errors.
fn in_one_line(document: &[u8]) -> String {
    let text = String::from_utf8_lossy(document);
    let (first, rest) = text.split_once('<').unwrap_or((&text, ""));
    let behind_tags = rest.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, behind)| behind);
    let words = [first].into_iter().chain(behind_tags).flat_map(str::split_whitespace);
    words.collect::<Vec<_>>().join(" ").chars().take(SAID_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::Disposition;

    fn refused(status: u16, headers: HeaderMap, said: &str) -> Failure {
        let (status, url) = (StatusCode::from_u16(status).unwrap(), "http://h/v1/a/c/o".into());
        let head = Head { status, headers, url, asked: tokio::time::Instant::now(), advice: "ask the operator" };
        Failure::refused(&head, said.as_bytes(), &Target { container: "c".into(), object: "o".into() })
    }

    #[test]
    fn every_status_has_its_code_and_says_what_the_server_said() {
        const RETRY: Disposition = Disposition::Retry { after: None };
        for (status, code, disposition, certain) in [
            (301, Code::RedirectRefused, Disposition::Fatal, true),
            (400, Code::HttpStatus, Disposition::Fatal, true),
            (401, Code::PermissionDenied, Disposition::Fatal, true),
            (403, Code::PermissionDenied, Disposition::Fatal, true),
            (404, Code::SourceMissing, Disposition::Fatal, true),
            (408, Code::HttpStatus, RETRY, false),
            (413, Code::NoSpace, Disposition::Fatal, true),
            (422, Code::WriteFailed, RETRY, true),
            (429, Code::HttpStatus, RETRY, true),
            (498, Code::HttpStatus, RETRY, true),
            (500, Code::HttpStatus, RETRY, false),
            (503, Code::HttpStatus, RETRY, false),
            (507, Code::NoSpace, RETRY, false),
        ] {
            let failure = refused(status, HeaderMap::new(), "<html><h1>Not now</h1><p>because\n</html>");
            assert_eq!(failure.is_certain(), certain, "{status}");
            let error = Error::from(failure);
            assert_eq!((error.code, error.disposition), (code, disposition), "{status}");
            assert!(error.message.contains("swift://c/o") && error.message.contains("Not now because"), "{error}");
        }
        let wait = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        let wait = Error::from(refused(498, wait, ""));
        assert_eq!(wait.disposition, Disposition::Retry { after: Some(Duration::from_secs(7)) });
        assert!(Error::from(refused(400, HeaderMap::new(), &"m".repeat(10_000))).message.len() < 400);
    }
}
