//! The options that every module has which speaks HTTP, parsed once.

use std::{borrow::Cow, time::Duration};

use http::HeaderValue;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::{Code, Error, contract::OptionSpec};

/// Longest time-out that is accepted: a week.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const STALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(20);

/// Valid settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Root certificates besides the operating system's.
    pub roots: Vec<CertificateDer<'static>>,
    /// Longest wait for a connection, TLS handshake included.
    pub connect_timeout: Duration,
    /// Longest wait for an answer, and for each [`STALL_BYTES_MIN`](super::body::STALL_BYTES_MIN) bytes of it.
    pub stall_timeout: Duration,
    /// Longest time from opening to the last byte.
    pub total_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            stall_timeout: STALL_TIMEOUT_DEFAULT,
            total_timeout: None,
        }
    }
}

impl Settings {
    /// Takes an option if it is one of these; whether it is.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, Error> {
        match name {
            "ca" => self.roots = certificates(value)?,
            "connect_timeout" => self.connect_timeout = timeout(name, value)?,
            "stall_timeout" => self.stall_timeout = timeout(name, value)?,
            "total_timeout" => self.total_timeout = Some(timeout(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `ca`, for a module's list of options.
pub(crate) const CA: OptionSpec = OptionSpec {
    name: "ca",
    secret: false,
    help: "certificates in PEM that are trusted as roots, besides the operating system's; spaces may stand for line \
           breaks",
};

/// `connect_timeout`, for a module's list of options.
pub(crate) const CONNECT_TIMEOUT: OptionSpec = OptionSpec {
    name: "connect_timeout",
    secret: false,
    help: "longest wait for a connection, TLS handshake included: seconds, or with s, m or h (default 10s)",
};

/// `stall_timeout`, for a module's list of options.
pub(crate) const STALL_TIMEOUT: OptionSpec = OptionSpec {
    name: "stall_timeout",
    secret: false,
    help: "longest wait for an answer, and for each 4 KiB of it (a server that trickles is stalled): seconds, or with \
           s, m or h (default 20s)",
};

/// `total_timeout`, for a module's list of options.
pub(crate) const TOTAL_TIMEOUT: OptionSpec = OptionSpec {
    name: "total_timeout",
    secret: false,
    help: "longest time an attempt may read the object, from its opening: seconds, or with s, m or h (default none)",
};

/// The value of an option that is sent as a header.
pub(crate) fn header(name: &str, value: Option<&str>) -> Result<Option<HeaderValue>, Error> {
    let parse = |value: &str| {
        HeaderValue::from_str(value).ok().filter(|value| !value.is_empty() && value.to_str().is_ok()).ok_or_else(|| {
            invalid(format!("{name}: the value is empty, or holds characters that a header cannot carry"))
        })
    };
    value.map(parse).transpose()
}

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

/// The error for an option that cannot be used.
pub(crate) fn invalid(why: String) -> Error {
    Error::fatal(Code::InvalidOption, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, value: &str) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        settings.take(name, value).map(|taken| {
            assert!(taken, "{name}");
            settings
        })
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
