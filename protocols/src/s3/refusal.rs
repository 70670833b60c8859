//! What an answer means that does not bring what was asked for. Pure.

use http::{HeaderName, StatusCode};

use super::{
    place::Target,
    xml::{Document, Fault},
};
use crate::{Code, Error, web::answer::Head};

/// So much of what a server says is repeated.
const MESSAGE_CHARS_MAX: usize = 256;

const BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The store's own word for it; empty where it has none.
    pub word: String,
    pub status: StatusCode,
    pub error: Error,
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server said no.
    Refused(Refusal),
    /// Nothing that makes sense came back. The server may have done what it was asked for.
    Lost(Error),
}

impl Failure {
    /// Whether the server has certainly not done what it was asked for, and never will.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Refused(Refusal { word, status, .. }) => match word.as_str() {
                "SlowDown" | "NotImplemented" => true,
                // Also in an answer that began well.
                "InternalError" | "ServiceUnavailable" | "OperationAborted" => false,
                _ => !status.is_server_error(),
            },
            Self::Lost(error) => matches!(error.code, Code::ConnectFailed | Code::TlsFailed | Code::UnsupportedScheme),
        }
    }

    /// Whether the server said this word.
    pub fn says(&self, word: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.word == word)
    }

    /// Whether the server answered with this status.
    pub fn has_status(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == status)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.error,
            Failure::Lost(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

impl Refusal {
    /// The refusal of a request about `target`, from the head and the document of its answer.
    pub fn new(head: &Head, document: &[u8], target: &Target) -> Self {
        let fault = match Document::parse(document) {
            Some(Document::Error(fault)) => fault,
            _ => Fault::default(),
        };
        Self::of(head, fault, target)
    }

    /// The same, of a document that was read already.
    pub fn of(head: &Head, fault: Fault, target: &Target) -> Self {
        let status = head.status;
        let said = match (fault.code.as_str(), fault.message.as_str()) {
            ("", _) => status.to_string(),
            (word, "") => word.to_owned(),
            (word, message) => format!("{word}: {}", message.chars().take(MESSAGE_CHARS_MAX).collect::<String>()),
        };
        let fatal = |code, advice: &str| Error::fatal(code, format!("{target}: {advice} ({said})"));
        let retry = |code, what: &str| with_wait(head, Error::retry(code, format!("{target}: {what} ({said})")));
        let error = match fault.code.as_str() {
            "NoSuchBucket" => fatal(Code::BucketMissing, &format!("there is no bucket {}", target.bucket)),
            "NoSuchKey" | "NoSuchVersion" => fatal(Code::SourceMissing, "there is no such object"),
            "NoSuchUpload" => retry(Code::WriteFailed, "the upload is gone; somebody else completed it or gave it up"),
            "InvalidAccessKeyId" => fatal(Code::PermissionDenied, "the server does not know the access_key"),
            "SignatureDoesNotMatch" => fatal(
                Code::PermissionDenied,
                "the signature is wrong; check secret_key and region, and that no proxy changes requests",
            ),
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
                fatal(Code::PermissionDenied, "the session_token has expired or is wrong; submit with a new one")
            }
            "RequestTimeTooSkewed" => fatal(
                Code::PermissionDenied,
                "the clocks of this host and of the server differ; set the one that is wrong",
            ),
            "InvalidObjectState" => fatal(Code::ReadFailed, "the object is archived; restore it first"),
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => fatal(Code::InvalidOption, &elsewhere(head, &fault.region)),
            "BadDigest"
            | "InvalidDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            | "IncompleteBody"
            | "BadChecksum" => retry(Code::WriteFailed, "what was sent arrived damaged"),
            "EntityTooSmall" => fatal(Code::InvalidOption, "the server wants larger parts; raise part_size"),
            "EntityTooLarge" => fatal(Code::WriteFailed, "the server takes no object or part of this size"),
            "InvalidStorageClass" => fatal(Code::InvalidOption, "the server does not know this storage_class"),
            "InvalidPart" | "InvalidPartOrder" => {
                retry(Code::WriteFailed, "parts of the upload are not those that were written")
            }
            "QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" => {
                retry(Code::NoSpace, "the storage is full; free space there")
            }
            "SlowDown"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "InternalError"
            | "ServiceUnavailable" => retry(Code::HttpStatus, "the server cannot do it now"),
            "NotImplemented" => fatal(Code::HttpStatus, "the server does not know this kind of request"),
            _ => match status.as_u16() {
                401 | 403 => fatal(
                    Code::PermissionDenied,
                    "access denied; give access_key and secret_key of somebody who may do this",
                ),
                301 | 302 | 307 | 308 => fatal(Code::InvalidOption, &elsewhere(head, &fault.region)),
                404 => fatal(Code::SourceMissing, "there is nothing; check bucket, key and endpoint"),
                413 => fatal(Code::WriteFailed, "the server takes no object or part of this size"),
                507 => retry(Code::NoSpace, "the storage is full; free space there"),
                408 | 425 | 429 | 500..=599 => retry(Code::HttpStatus, "the server cannot do it now"),
                _ => fatal(Code::HttpStatus, "the server refuses"),
            },
        };
        Self { word: fault.code, status, error }
    }
}

fn elsewhere(head: &Head, region: &str) -> String {
    let told = head.headers.get(BUCKET_REGION).and_then(|region| region.to_str().ok()).unwrap_or(region);
    match told {
        "" => "the bucket is in another region; give the options region and endpoint".into(),
        region => format!("the bucket is in the region {region:?}; give that as the option region"),
    }
}

/// With the wait that the server asked for.
fn with_wait(head: &Head, error: Error) -> Error {
    Error { disposition: head.retry(), ..error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::Disposition;

    fn refusal(status: u16, headers: HeaderMap, document: &str) -> Refusal {
        let (status, url) = (StatusCode::from_u16(status).unwrap(), "http://h/b/k".into());
        let head = Head { status, headers, url, asked: tokio::time::Instant::now(), advice: "" };
        Refusal::new(&head, document.as_bytes(), &Target { bucket: "b".into(), key: "k".into() })
    }

    #[test]
    fn every_word_has_its_code_and_says_what_to_do() {
        const RETRY: Disposition = Disposition::Retry { after: None };
        for (status, word, code, disposition) in [
            (404, "NoSuchBucket", Code::BucketMissing, Disposition::Fatal),
            (404, "NoSuchKey", Code::SourceMissing, Disposition::Fatal),
            (404, "NoSuchUpload", Code::WriteFailed, RETRY),
            (403, "AccessDenied", Code::PermissionDenied, Disposition::Fatal),
            (403, "InvalidAccessKeyId", Code::PermissionDenied, Disposition::Fatal),
            (403, "SignatureDoesNotMatch", Code::PermissionDenied, Disposition::Fatal),
            (400, "ExpiredToken", Code::PermissionDenied, Disposition::Fatal),
            (400, "BadDigest", Code::WriteFailed, RETRY),
            (400, "RequestTimeout", Code::HttpStatus, RETRY),
            (503, "SlowDown", Code::HttpStatus, RETRY),
            (200, "InternalError", Code::HttpStatus, RETRY),
            (507, "Whatever", Code::NoSpace, RETRY),
            (418, "Whatever", Code::HttpStatus, Disposition::Fatal),
            (501, "NotImplemented", Code::HttpStatus, Disposition::Fatal),
        ] {
            let document = format!("<Error><Code>{word}</Code><Message>because</Message></Error>");
            let refusal = refusal(status, HeaderMap::new(), &document);
            assert_eq!((refusal.error.code, refusal.error.disposition), (code, disposition), "{word}");
            assert!(refusal.error.message.contains("s3://b/k") && refusal.error.message.contains("because"));
        }
        assert_eq!(refusal(403, HeaderMap::new(), "").error.code, Code::PermissionDenied);
        assert_eq!(refusal(502, HeaderMap::new(), "<html>").error.code, Code::HttpStatus);
    }

    #[test]
    fn waits_and_regions_that_the_server_names_are_told() {
        let wait = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        let slow = refusal(503, wait, "<Error><Code>SlowDown</Code></Error>").error;
        assert_eq!(slow.disposition, Disposition::Retry { after: Some(Duration::from_secs(7)) });
        let region = HeaderMap::from_iter([(BUCKET_REGION, HeaderValue::from_static("eu-central-1"))]);
        assert!(refusal(301, region, "").error.message.contains("eu-central-1"));
        let long = format!("<Error><Code>X</Code><Message>{}</Message></Error>", "m".repeat(10_000));
        assert!(refusal(400, HeaderMap::new(), &long).error.message.len() < 500);
    }
}
