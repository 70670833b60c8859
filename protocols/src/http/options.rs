//! The client's options for HTTP, parsed once.

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use crate::{
    Error, Options,
    web::{
        settings::{Settings, invalid},
        sign::Sign,
    },
};

/// Valid options.
#[derive(Clone, Debug, Default)]
pub(super) struct HttpOptions {
    /// Headers of the client's own.
    pub headers: ClientHeaders,
    /// Those that every module has.
    pub settings: Settings,
}

/// Headers of the client's own; secret, and so for the object's own origin only.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientHeaders(HeaderMap);

impl HttpOptions {
    pub fn parse(options: &Options) -> Result<Self, Error> {
        let mut parsed = Self::default();
        for (name, value) in options {
            match name.strip_prefix("header.") {
                Some(header) => parsed.headers.add(header, value)?,
                None if parsed.settings.take(name, value)? => (),
                None => return Err(invalid(format!("{name:?} is not an option of http"))),
            }
        }
        Ok(parsed)
    }
}

impl ClientHeaders {
    fn add(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("header.{name}: {name:?} is not the name of a header")))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(invalid(format!("header.{name}: Staccato sets this header itself; leave it out")));
        }
        // The value is a secret: it must not appear in a message.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| invalid(format!("header.{name}: the value holds characters that a header cannot carry")))?;
        value.set_sensitive(true);
        if self.0.insert(parsed, value).is_some() {
            return Err(invalid(format!("header.{name} is given twice, in two spellings; keep one")));
        }
        Ok(())
    }
}

impl Sign for ClientHeaders {
    fn sign<'a>(&'a self, request: &'a mut Parts, home: bool) -> LocalBoxFuture<'a, Result<(), Error>> {
        async move {
            if home {
                request.headers.extend(self.0.clone());
            }
            Ok(())
        }
        .boxed_local()
    }

    fn advice(&self) -> &'static str {
        "pass credentials as the option header.Authorization"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn parse(name: &str, value: &str) -> Result<HttpOptions, Error> {
        HttpOptions::parse(&Options::from([(name.to_owned(), value.to_owned())]))
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
}
