//! Signatures (AWS Signature Version 4), made by Amazon's own library.
//!
//! Signed are the method, the URL, the host, every `x-amz-*` header, and by one of these the body. Headers that proxies
//! touch (`Via`, `Accept-Encoding`) are not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4::SigningParams,
};
use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts};
use tracing::subscriber::{NoSubscriber, with_default};

use super::options::Credentials;
use crate::{Code, Error, web::sign::Sign};

/// The header that says what the body's SHA-256 is, or that it is not signed. Set by whoever makes a request that is to
/// be signed.
pub(super) const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// What it says then.
pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Signs requests for one region. Clones are one and the same.
#[derive(Clone)]
pub(super) struct Signature {
    credentials: Option<Credentials>,
    region: String,
    /// How many seconds the server's clock is ahead of this host's.
    ahead_seconds: Arc<AtomicI64>,
}

impl Signature {
    /// Signs nothing without credentials.
    pub fn new(credentials: Option<Credentials>, region: &str) -> Self {
        Self { credentials, region: region.to_owned(), ahead_seconds: Arc::default() }
    }

    /// Whether requests are signed at all.
    pub fn signs(&self) -> bool {
        self.credentials.is_some()
    }

    /// The server says that the clocks differ: signs by its clock from now on. Whether it says what its time is.
    pub fn follow_clock(&self, answer: &HeaderMap) -> bool {
        let date = answer.get(header::DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let Some(theirs) = date else { return false };
        let ours = SystemTime::now();
        let seconds = match theirs.duration_since(ours) {
            Ok(ahead) => ahead.as_secs() as i64,
            Err(behind) => -(behind.duration().as_secs() as i64),
        };
        tracing::warn!(
            ahead_seconds = seconds,
            "the clock of an s3 server differs from this host's: requests are signed by the server's; set the clock \
             that is wrong"
        );
        self.ahead_seconds.store(seconds, Ordering::Relaxed);
        true
    }

    fn now(&self) -> SystemTime {
        let seconds = self.ahead_seconds.load(Ordering::Relaxed);
        let difference = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        if seconds < 0 { now.checked_sub(difference) } else { now.checked_add(difference) }.unwrap_or(now)
    }

    fn headers(&self, credentials: &Credentials, request: &Parts) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
        let body = request.headers.get(CONTENT_SHA256).and_then(|value| value.to_str().ok());
        let body = match body {
            Some(UNSIGNED_PAYLOAD) => SignableBody::UnsignedPayload,
            Some(sha256) => SignableBody::Precomputed(sha256.to_owned()),
            None => SignableBody::empty(),
        };
        let Credentials { access_key, secret_key, session_token } = credentials.clone();
        let identity = AwsCredentials::new(access_key, secret_key, session_token, None, "staccato").into();
        let mut settings = SigningSettings::default();
        // As S3 alone wants it: paths are taken as they are sent.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(self.now())
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?;
        let signed = request.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-"));
        let signed = signed.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let uri = request.uri.to_string();
        let request =
            SignableRequest::new(request.method.as_str(), uri, signed, body).map_err(|error| unsigned(&error))?;
        // The library writes what it signs to the log of whoever traces everything, the session's token among it.
        let output = with_default(NoSubscriber::default(), || sign(request, &parameters.into()));
        let (headers, _) = output.map_err(|error| unsigned(&error))?.into_parts().0.into_parts();
        headers
            .iter()
            .map(|header| {
                let mut value = HeaderValue::from_str(header.value()).map_err(|error| unsigned(&error))?;
                value.set_sensitive(true);
                Ok((HeaderName::from_static(header.name()), value))
            })
            .collect()
    }
}

fn unsigned(error: &dyn std::error::Error) -> Error {
    Error::fatal(Code::Internal, format!("a request could not be signed: {error}"))
}

impl Sign for Signature {
    fn sign<'a>(&'a self, request: &'a mut Parts, home: bool) -> LocalBoxFuture<'a, Result<(), Error>> {
        async move {
            if let Some(credentials) = self.credentials.as_ref().filter(|_| home) {
                for (name, value) in self.headers(credentials, request)? {
                    request.headers.insert(name, value);
                }
            }
            Ok(())
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secret_key: &str, region: &str) -> Parts {
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: secret_key.into(),
            session_token: Some("hush-token".into()),
        };
        let signature = Signature::new(Some(credentials), region);
        let request = http::Request::put("http://h:9000/b/%C3%A4//k?partNumber=1&uploadId=a%2Bb")
            .header(CONTENT_SHA256, UNSIGNED_PAYLOAD)
            .header("x-amz-checksum-crc32", "AAAAAA==")
            .header(header::VIA, "1.1 staccato");
        let mut parts = request.body(()).unwrap().into_parts().0;
        signature.sign(&mut parts, true).now_or_never().unwrap().unwrap();
        parts
    }

    #[test]
    fn headers_of_the_store_are_signed_and_those_of_proxies_are_not() {
        let parts = signed("hush", "eu-west-1");
        let authorization = parts.headers[header::AUTHORIZATION].to_str().unwrap();
        assert!(authorization.contains("/eu-west-1/s3/aws4_request"), "{authorization}");
        let names = "SignedHeaders=host;x-amz-checksum-crc32;x-amz-content-sha256;x-amz-date;x-amz-security-token,";
        assert!(authorization.contains(names), "{authorization}");
        assert_eq!(parts.headers[CONTENT_SHA256], UNSIGNED_PAYLOAD);
        assert!(!authorization.contains("hush") && !format!("{:?}", parts.headers).contains("hush"));
    }

    #[test]
    fn the_clock_of_the_server_is_followed() {
        let signature = Signature::new(None, "r");
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let date = HeaderValue::try_from(httpdate::fmt_http_date(tomorrow)).unwrap();
        assert!(!signature.follow_clock(&HeaderMap::new()));
        assert!(signature.follow_clock(&HeaderMap::from_iter([(header::DATE, date)])));
        let late = tomorrow.duration_since(signature.now()).unwrap_or_default();
        assert!(late < Duration::from_secs(5), "{late:?}");
    }
}
