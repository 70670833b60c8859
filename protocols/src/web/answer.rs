//! What a server's answer means, judged by its status and headers alone. Pure.
//!
//! The rule behind all others: a byte is taken for a byte of the pinned object only if the answer says, without
//! contradicting itself, that it is one. [`Disposition::SourceChanged`](crate::Disposition) is for an answer about
//! another version; an answer that makes no sense is a [`Code::ProtocolViolation`], which is worth another try, since
//! behind one name there are often several servers.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use crate::{ByteRange, Code, Disposition, Error, Validator};

/// Longest entity tag that is kept: it is stored with the transfer. A longer one counts as none.
const ETAG_BYTES_MAX: usize = 512;

/// Longest wait that a server can impose with `Retry-After`: a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Status and headers of an answer, with the URL that gave it (as it may be shown).
pub(crate) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub url: String,
    /// When it was asked for, the request just signed.
    pub asked: Instant,
    /// What people can do where it refuses whoever asks.
    pub advice: &'static str,
}

/// What an answer tells about the object as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub size: Option<u64>,
    pub etag: Option<Etag>,
    pub last_modified: Option<String>,
}

/// An entity tag, RFC 9110 §8.8.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Etag {
    pub weak: bool,
    /// Quotes included.
    pub opaque: String,
}

/// A `Content-Range` header, RFC 9110 §14.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentRange {
    /// `bytes FIRST-LAST/TOTAL`, the total perhaps `*`.
    Part { range: ByteRange, total: Option<u64> },
    /// `bytes */TOTAL`: what was asked for lies outside.
    Outside { total: u64 },
}

impl Head {
    /// The facts in the answer; a part tells the size of the whole, anything else its own length.
    pub fn facts(&self) -> Facts {
        let size = match self.status {
            _ if self.is_part() || self.status == StatusCode::RANGE_NOT_SATISFIABLE => match self.content_range() {
                Some(ContentRange::Part { total, .. }) => total,
                Some(ContentRange::Outside { total }) => Some(total),
                None => None,
            },
            _ => self.content_length(),
        };
        Facts {
            size,
            etag: self.only(header::ETAG).and_then(Etag::parse),
            last_modified: self.only(header::LAST_MODIFIED).map(str::to_owned),
        }
    }

    /// Gives a tag the quotes that its server leaves out.
    pub fn quote_tag(&mut self) {
        let quoted = self.only(header::ETAG).filter(|tag| !tag.contains('"')).map(|tag| format!("\"{tag}\""));
        if let Some(quoted) = quoted.and_then(|quoted| HeaderValue::try_from(quoted).ok()) {
            self.headers.insert(header::ETAG, quoted);
        }
    }

    /// Whether a part is sent. Some object stores (`rclone serve s3`) say which, and give it the status of a whole.
    fn is_part(&self) -> bool {
        let said = || matches!(self.content_range(), Some(ContentRange::Part { .. }));
        self.status == StatusCode::PARTIAL_CONTENT || (self.status == StatusCode::OK && said())
    }

    /// Whether a 206 to `bytes=0-0` proves that ranges of the object can be had, and of which size it is.
    pub fn proves_ranges(&self) -> Option<u64> {
        match self.content_range()? {
            ContentRange::Part { range, total: Some(total) } if (range.start(), range.end()) == (0, 1) && total > 0 => {
                self.content_length().is_none_or(|length| length == 1).then_some(total)
            }
            _ => None,
        }
    }

    /// Refuses bytes that are not the object's own but a coding of them: we ask for `identity`, and what is compressed
    /// on the way can be neither cut into ranges nor measured.
    pub fn check_encoding(&self) -> Result<(), Error> {
        let plain = |value: &HeaderValue| value.is_empty() || value.as_bytes().eq_ignore_ascii_case(b"identity");
        match self.headers.get_all(header::CONTENT_ENCODING).iter().find(|value| !plain(value)) {
            None => Ok(()),
            Some(coding) => Err(Error::fatal(
                Code::ProtocolViolation,
                format!(
                    "{} is sent with Content-Encoding {coding:?} though identity was asked for; have the server send \
                     the object as it is",
                    self.url
                ),
            )),
        }
    }

    /// Whether this answers a request for `range` of the object of which `known` was true when it was opened.
    pub fn check_part(&self, range: ByteRange, known: &Facts) -> Result<(), Error> {
        match self.status {
            _ if self.is_part() => (),
            StatusCode::OK => {
                self.check_same(known)?;
                return Err(self.violation(format_args!("sent the whole object instead of {range}")));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                if let Some(ContentRange::Outside { total }) = self.content_range()
                    && Some(total) != known.size
                {
                    return Err(self.changed(format_args!("it has {total} bytes now")));
                }
                return Err(self.violation(format_args!("says that {range} lies outside the object")));
            }
            StatusCode::PRECONDITION_FAILED if known.strong_etag().is_some() => {
                return Err(self.changed("it does not have the same tag any more"));
            }
            _ => return Err(self.status_error()),
        }
        self.check_same(known)?;
        self.check_encoding()?;
        match self.content_range() {
            // A total that is not said (`*`, RFC 9110 §14.4) contradicts nothing; one that is said was compared above.
            Some(ContentRange::Part { range: sent, .. }) if sent == range => (),
            Some(ContentRange::Part { range: sent, .. }) => {
                return Err(self.violation(format_args!("sent {sent} where {range} was asked for")));
            }
            _ => return Err(self.violation(format_args!("sent a part without saying which"))),
        }
        if self.content_length().is_some_and(|length| length != range.len()) {
            return Err(self.violation(format_args!("sent a part whose length is not that of {range}")));
        }
        Ok(())
    }

    /// Whether this answers a request for the whole object of which `known` was true when it was opened.
    pub fn check_whole(&self, known: &Facts) -> Result<(), Error> {
        match self.status {
            _ if self.is_part() => return Err(self.violation("sent a part though no range was asked for")),
            StatusCode::OK => (),
            _ => return Err(self.status_error()),
        }
        self.check_same(known)?;
        self.check_encoding()
    }

    /// Whether the answer is about the same version of the object.
    pub fn check_same(&self, known: &Facts) -> Result<(), Error> {
        match known.difference(&self.facts()) {
            None => Ok(()),
            Some(what) => Err(self.changed(what)),
        }
    }

    /// The error for a status that brings no bytes.
    pub fn status_error(&self) -> Error {
        let (url, status) = (&self.url, self.status);
        match status.as_u16() {
            401 | 403 | 407 => {
                Error::fatal(Code::PermissionDenied, format!("{url} answered {status}; {}", self.advice))
            }
            404 | 410 => Error::fatal(Code::SourceMissing, format!("{url} answered {status}")),
            408 | 425 | 429 | 500..=599 => {
                let error = Error::retry(Code::HttpStatus, format!("{url} answered {status}"));
                Error { disposition: self.retry(), ..error }
            }
            _ => Error::fatal(Code::HttpStatus, format!("{url} answered {status}")),
        }
    }

    /// Another try, not before the time that the server asked for.
    pub fn retry(&self) -> Disposition {
        Disposition::Retry { after: self.retry_after(SystemTime::now()) }
    }

    /// An answer that cannot be right.
    pub fn violation(&self, what: impl fmt::Display) -> Error {
        Error::retry(Code::ProtocolViolation, format!("{} {what}", self.url))
    }

    fn changed(&self, what: impl fmt::Display) -> Error {
        Error::source_changed(format!("{} changed since the transfer first opened it: {what}", self.url))
    }

    /// Whether only the end of the connection ends the body.
    pub fn ends_by_close(&self) -> bool {
        !self.headers.contains_key(header::CONTENT_LENGTH) && !self.headers.contains_key(header::TRANSFER_ENCODING)
    }

    /// Seconds or a date (RFC 9110 §10.2.3). A date is compared with the server's own clock where it shows it.
    fn retry_after(&self, now: SystemTime) -> Option<Duration> {
        let text = self.only(header::RETRY_AFTER)?;
        let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
        } else {
            let then = httpdate::parse_http_date(text).ok()?;
            let now = self.only(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
            then.duration_since(now).unwrap_or_default()
        };
        Some(wait.min(RETRY_AFTER_MAX))
    }

    fn content_range(&self) -> Option<ContentRange> {
        self.only(header::CONTENT_RANGE).and_then(ContentRange::parse)
    }

    /// The length of the body, where the head tells.
    pub fn content_length(&self) -> Option<u64> {
        // With a transfer coding the length is not the body's (RFC 9112 §6.3).
        if self.headers.contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        number(self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
    }

    /// The value of a header that occurs once.
    fn only(&self, name: HeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() { None } else { value.to_str().ok().map(str::trim) }
    }
}

impl Facts {
    /// What the object's version can be pinned by.
    pub fn validator(&self) -> Option<Validator> {
        let etag = self.strong_etag()?.to_owned();
        Some(Validator::Etag { etag, size: self.size })
    }

    /// The tag, if it stands for these very bytes.
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_ref().filter(|etag| !etag.weak).map(|etag| etag.opaque.as_str())
    }

    /// Whether nothing is known by which a change could be noticed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// In what `now` differs from these facts so that it must be another version; none if it may be the same.
    ///
    /// A strong tag decides alone, and must be there again. Without one a weak tag and the time of modification are
    /// clues: they can tell that an object changed, not that it did not.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if let (Some(was), Some(is)) = (self.size, now.size)
            && was != is
        {
            return Some(format!("it had {was} bytes and has {is}"));
        }
        if let Some(was) = self.strong_etag() {
            return match now.strong_etag() {
                Some(is) if is == was => None,
                Some(is) => Some(format!("its tag was {was} and is {is}")),
                None => Some(format!("its tag was {was} and is gone")),
            };
        }
        if let (Some(was), Some(is)) = (&self.etag, &now.etag)
            && was.opaque != is.opaque
        {
            return Some(format!("its tag was {} and is {}", was.opaque, is.opaque));
        }
        match (&self.last_modified, &now.last_modified) {
            (Some(was), Some(is)) if was != is => Some(format!("it was last modified at {was} and is at {is}")),
            _ => None,
        }
    }

    /// Whether `now` may be the same version; an error that says how it differs.
    pub fn unchanged(&self, now: &Self) -> Result<(), Error> {
        match self.difference(now) {
            None => Ok(()),
            Some(difference) => {
                Err(Error::source_changed(format!("the source changed while it was being read: {difference}")))
            }
        }
    }

    /// In what the object differs from the version a transfer is pinned to.
    pub fn difference_from_pinned(&self, pinned: &Validator) -> Option<String> {
        let Validator::Etag { etag, size } = pinned else {
            return Some("it was not read over http then".into());
        };
        let known = Self { size: *size, etag: Some(Etag { weak: false, opaque: etag.clone() }), last_modified: None };
        known.difference(self)
    }
}

impl Etag {
    fn parse(text: &str) -> Option<Self> {
        let (weak, opaque) = match text.strip_prefix("W/") {
            Some(opaque) => (true, opaque),
            None => (false, text),
        };
        // Some servers forget the quotes; such a tag could not be sent back in If-Range.
        let inner = opaque.strip_prefix('"')?.strip_suffix('"')?;
        let valid = opaque.len() <= ETAG_BYTES_MAX && inner.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        valid.then(|| Self { weak, opaque: opaque.to_owned() })
    }
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (unit, rest) = text.split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        if range == "*" {
            return Some(Self::Outside { total: number(total)? });
        }
        let total = if total == "*" { None } else { Some(number(total)?) };
        let (first, last) = range.split_once('-')?;
        let range = ByteRange::new(number(first)?, number(last)?.checked_add(1)?)?;
        // RFC 9110: a last position before the first, or behind the total, makes the header invalid.
        (!range.is_empty() && total.is_none_or(|total| range.end() <= total)).then_some(Self::Part { range, total })
    }
}

/// A number of digits only: `parse` would accept a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&'static str, &'static str)]) -> Head {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Head {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            url: "http://h/x".into(),
            asked: Instant::now(),
            advice: "ask the operator",
        }
    }

    fn known() -> Facts {
        Facts { size: Some(100), etag: Etag::parse("\"a\""), last_modified: None }
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    #[test]
    fn content_ranges_are_parsed_or_refused() {
        let part = |start, end, total| Some(ContentRange::Part { range: range(start, end), total });
        assert_eq!(ContentRange::parse("bytes 0-0/1"), part(0, 1, Some(1)));
        assert_eq!(ContentRange::parse("Bytes 5-9/*"), part(5, 10, None));
        assert_eq!(ContentRange::parse("bytes */0"), Some(ContentRange::Outside { total: 0 }));
        for text in [
            "",
            "bytes",
            "bytes ",
            "bytes 0-0",
            "bytes 0-/1",
            "bytes -0/1",
            "bytes 1-0/9",
            "bytes 0-9/9",
            "bytes */*",
            "items 0-0/1",
            "bytes +0-0/1",
            "bytes 0-18446744073709551615/*",
            "bytes 0-0/99999999999999999999",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn weak_and_malformed_tags_are_no_validators() {
        for text in ["W/\"a\"", "a", "\"a", "\"", "\"a\"b\"", "w/\"a\"", ""] {
            let facts = Facts { etag: Etag::parse(text), ..Facts::default() };
            assert_eq!(facts.validator(), None, "{text}");
        }
        assert!(Etag::parse(&format!("\"{}\"", "x".repeat(ETAG_BYTES_MAX))).is_none());
        assert_eq!(known().validator(), Some(Validator::Etag { etag: "\"a\"".into(), size: Some(100) }));
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let asked = range(10, 20);
        let good = [("content-range", "bytes 10-19/100"), ("etag", "\"a\""), ("content-length", "10")];
        assert_eq!(head(206, &good).check_part(asked, &known()), Ok(()));
        assert_eq!(head(206, &good[..2]).check_part(asked, &known()), Ok(()), "the length may be left out");
        let without_total = [("content-range", "bytes 10-19/*"), good[1]];
        assert_eq!(head(206, &without_total).check_part(asked, &known()), Ok(()), "the total may be left out");
        assert_eq!(head(200, &good).check_part(asked, &known()), Ok(()), "it says which part it is");
        assert_eq!(head(200, &good).check_whole(&known()).unwrap_err().code, Code::ProtocolViolation);

        for (status, headers, code) in [
            (200, &[("content-range", "bytes 11-20/100"), ("etag", "\"a\"")][..], Code::ProtocolViolation),
            (206, &[("content-range", "bytes 11-20/100"), ("etag", "\"a\"")][..], Code::ProtocolViolation),
            (206, &[("content-range", "bytes 10-18/100"), ("etag", "\"a\"")], Code::ProtocolViolation),
            (206, &[("content-range", "bytes 11-20/*"), ("etag", "\"a\"")], Code::ProtocolViolation),
            (206, &[("content-range", "bytes 10-19/*"), ("etag", "\"b\"")], Code::SourceChanged),
            (206, &[("content-range", "nonsense"), ("etag", "\"a\"")], Code::ProtocolViolation),
            (206, &[("etag", "\"a\"")], Code::ProtocolViolation),
            (
                206,
                &[("content-range", "bytes 10-19/100"), ("etag", "\"a\""), ("content-length", "9")],
                Code::ProtocolViolation,
            ),
            (
                206,
                &[("content-range", "bytes 10-19/100"), ("etag", "\"a\""), ("content-encoding", "gzip")],
                Code::ProtocolViolation,
            ),
            (200, &[("etag", "\"a\""), ("content-length", "100")], Code::ProtocolViolation),
            (416, &[("content-range", "bytes */100")], Code::ProtocolViolation),
            (206, &[("content-range", "bytes 10-19/101"), ("etag", "\"a\"")], Code::SourceChanged),
            (206, &[("content-range", "bytes 10-19/100"), ("etag", "\"b\"")], Code::SourceChanged),
            (206, &[("content-range", "bytes 10-19/100"), ("etag", "W/\"a\"")], Code::SourceChanged),
            (206, &[("content-range", "bytes 10-19/100")], Code::SourceChanged),
            (200, &[("etag", "\"b\""), ("content-length", "100")], Code::SourceChanged),
            (200, &[("etag", "\"a\""), ("content-length", "99")], Code::SourceChanged),
            (416, &[("content-range", "bytes */5")], Code::SourceChanged),
            (404, &[], Code::SourceMissing),
        ] {
            let error = head(status, headers).check_part(asked, &known()).expect_err("refused");
            assert_eq!(error.code, code, "{status} {headers:?}: {error}");
        }
    }

    #[test]
    fn without_a_strong_tag_size_time_and_weak_tag_are_compared() {
        let was = Facts { size: Some(5), etag: Etag::parse("W/\"1\""), last_modified: Some("then".into()) };
        assert_eq!(was.difference(&was), None);
        assert_eq!(was.difference(&Facts::default()), None, "what is not said does not contradict");
        assert!(was.difference(&Facts { size: Some(6), ..was.clone() }).is_some());
        assert!(was.difference(&Facts { etag: Etag::parse("W/\"2\""), ..was.clone() }).is_some());
        assert!(was.difference(&Facts { last_modified: Some("now".into()), ..was.clone() }).is_some());
        let strong = Facts { etag: Etag::parse("\"1\""), ..was };
        assert_eq!(strong.difference(&Facts { last_modified: None, ..strong.clone() }), None, "a strong tag decides");
    }

    #[test]
    fn statuses_say_whether_another_try_can_help() {
        for (status, code, retry) in [
            (400, Code::HttpStatus, false),
            (401, Code::PermissionDenied, false),
            (403, Code::PermissionDenied, false),
            (404, Code::SourceMissing, false),
            (408, Code::HttpStatus, true),
            (410, Code::SourceMissing, false),
            (418, Code::HttpStatus, false),
            (425, Code::HttpStatus, true),
            (429, Code::HttpStatus, true),
            (500, Code::HttpStatus, true),
            (503, Code::HttpStatus, true),
            (204, Code::HttpStatus, false),
        ] {
            let error = head(status, &[]).status_error();
            assert_eq!((error.code, error.is_retryable()), (code, retry), "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |headers: &[_]| match head(503, headers).status_error().disposition {
            Disposition::Retry { after } => after,
            other => panic!("{other:?}"),
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:00 GMT");
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date]), Some(Duration::from_secs(37)));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(Duration::ZERO), "long ago");
        assert_eq!(wait(&[("retry-after", "99999999999999999999999")]), Some(RETRY_AFTER_MAX));
        for text in ["", "-1", "soon", "1.5"] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
    }
}
