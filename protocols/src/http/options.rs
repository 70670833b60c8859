//! The client's options of an HTTP source, parsed once.

use std::{borrow::Cow, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{Code, Error, Options};

/// Longest time-out that is accepted: a week.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const STALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);

/// Valid options.
#[derive(Debug)]
pub(super) struct HttpOptions {
    /// Headers of the client's own; secret, and so for the source's own origin only.
    pub headers: HeaderMap,
    /// Root certificates besides the operating system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// Longest wait for a connection, TLS handshake included.
    pub connect_timeout: Duration,
    /// Longest wait for an answer, and for each [`STALL_BYTES_MIN`](super::body::STALL_BYTES_MIN) bytes of it.
    pub stall_timeout: Duration,
    /// Longest time from opening to the last byte.
    pub total_timeout: Option<Duration>,
}

impl HttpOptions {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let mut parsed = Self {
            headers: HeaderMap::new(),
            roots: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            stall_timeout: STALL_TIMEOUT_DEFAULT,
            total_timeout: None,
        };
        for (name, value) in options {
            match name.as_str() {
                "ca" => parsed.roots = certificates(value)?,
                "connect_timeout" => parsed.connect_timeout = timeout(name, value)?,
                "stall_timeout" => parsed.stall_timeout = timeout(name, value)?,
                "total_timeout" => parsed.total_timeout = Some(timeout(name, value)?),
                _ => match name.strip_prefix("header.") {
                    Some(header) => parsed.add_header(header, value)?,
                    None => return Err(invalid(format!("{name:?} is not an option of http sources"))),
                },
            }
        }
        Ok(parsed)
    }

    fn add_header(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("header.{name}: {name:?} is not the name of a header")))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(invalid(format!("header.{name}: Staccato sets this header itself; leave it out")));
        }
        // The value is a secret: it must not appear in a message.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| invalid(format!("header.{name}: the value holds characters that a header cannot carry")))?;
        value.set_sensitive(true);
        if self.headers.insert(parsed, value).is_some() {
            return Err(invalid(format!("header.{name} is given twice, in two spellings; keep one")));
        }
        Ok(())
    }
}

/// Headers that steer the connection, the range or the encoding: whoever could set them could make Staccato misread
/// the answer. In lower case.
const RESERVED: &[&str] = &[
    "host",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "accept-encoding",
    "via",
    "content-length",
    "content-encoding",
    "expect",
    // Hop by hop (RFC 9110 §7.6.1).
    "connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
];

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unreadable = || invalid("ca: this is not PEM with at least one certificate".into());
    let pem = in_lines(pem);
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| unreadable())?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in &found {
        store
            .add(certificate.clone())
            .map_err(|error| invalid(format!("ca: a certificate cannot serve as a root ({error})")))?;
    }
    if found.is_empty() { Err(unreadable()) } else { Ok(found) }
}

/// PEM as it is usually written. On a command line and in some forms of configuration a value has one line only; so
/// spaces may stand for line breaks. Within PEM's armour (RFC 7468) there are no others but in its first and last line.
fn in_lines(pem: &str) -> Cow<'_, str> {
    if pem.contains('\n') {
        return pem.into();
    }
    let mut lines = String::with_capacity(pem.len() + 16);
    for (index, part) in pem.split(DASHES).enumerate() {
        if index % 2 == 1 {
            lines.extend([DASHES, part, DASHES, "\n"]);
        } else {
            lines.extend(part.split_ascii_whitespace().flat_map(|line| [line, "\n"]));
        }
    }
    lines.into()
}

/// What begins and ends the first and the last line of PEM's armour.
const DASHES: &str = "-----";

fn timeout(name: &str, value: &str) -> Result<Duration, Error> {
    parse_duration(value).filter(|wait| !wait.is_zero() && *wait <= TIMEOUT_MAX).ok_or_else(|| {
        invalid(format!(
            "{name}: {value:?} is not a time; write seconds, or for instance 30s, 5m or 1h (at most a week)"
        ))
    })
}

/// Seconds, or a number with `s`, `m` or `h`; a decimal fraction is allowed.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1.0),
        b'm' => (&text[..text.len() - 1], 60.0),
        b'h' => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    // `f64` would also read "inf", "1e9" and "+1".
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

fn invalid(why: String) -> Error {
    Error::fatal(Code::InvalidOption, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<HttpOptions, Error> {
        HttpOptions::parse(&Options::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, millis) in [("10", 10_000), ("0.25", 250), ("30s", 30_000), ("5m", 300_000), ("1.5h", 5_400_000)] {
            assert_eq!(parse("stall_timeout", text).expect(text).stall_timeout, Duration::from_millis(millis));
        }
        for text in
            ["", "s", "0", "-1", "+1", "1e3", "inf", "nan", "1d", "1 s", "1.2.3", "200h", "99999999999999999999"]
        {
            let error = parse("total_timeout", text).expect_err(text);
            assert_eq!(error.code, Code::InvalidOption, "{text}");
        }
    }

    #[test]
    fn headers_that_steer_the_protocol_are_refused_in_any_spelling() {
        for name in
            ["Host", "RANGE", "if-range", "Accept-Encoding", "Connection", "Keep-Alive", "Transfer-Encoding", "TE"]
        {
            assert_eq!(parse(&format!("header.{name}"), "x").expect_err(name).code, Code::InvalidOption);
        }
        for name in ["a b", "a:b", "", "ä"] {
            assert_eq!(parse(&format!("header.{name}"), "x").expect_err(name).code, Code::InvalidOption);
        }
        let twice = [("header.X-Key", "1"), ("header.x-key", "2")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(HttpOptions::parse(&Options::from(twice)).unwrap_err().code, Code::InvalidOption);
    }

    #[test]
    fn the_value_of_a_header_is_shown_nowhere() {
        let error = parse("header.Authorization", "hush\r\nX: y").unwrap_err();
        assert!(!error.message.contains("hush"), "{error}");
        let options = parse("header.Authorization", "hush").unwrap();
        assert!(!format!("{options:?}").contains("hush"));
    }

    #[test]
    fn a_ca_must_be_certificates() {
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(parse("ca", text).expect_err(text).code, Code::InvalidOption);
        }
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        assert_eq!(parse("ca", &key.cert.pem()).unwrap().roots.len(), 1);
    }

    #[test]
    fn a_ca_may_stand_in_one_line() {
        let pem = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
        let two = format!("{}{}", pem(), pem());
        let wanted = parse("ca", &two).unwrap().roots;
        assert_eq!(wanted.len(), 2);
        assert_eq!(parse("ca", &two.replace("\r\n", " ").replace('\n', " ")).unwrap().roots, wanted);
    }
}
