//! Where REST may listen on TCP.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// An address of the REST API, and how it is spoken to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Plain HTTP, on loopback only: the operating system says who asks.
    Plain(SocketAddr),
    /// HTTPS, on any address: a token says who asks.
    Tls(SocketAddr),
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// It is no address with a port.
    #[error(
        "{0:?} is no address; write ADDRESS:PORT, for instance 127.0.0.1:5309 or [::1]:5309, or https://ADDRESS:PORT"
    )]
    Malformed(String),
    /// Others than this host could reach it.
    #[error(
        "{0} can be reached from other hosts; write https://{0}, with tls_cert and tls_key, or listen on a loopback \
         address (127.0.0.1 or [::1]) or on a Unix socket"
    )]
    NotLoopback(SocketAddr),
}

/// `ADDRESS:PORT` on loopback, or `https://ADDRESS:PORT`. `localhost` stands for 127.0.0.1.
impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let malformed = || ListenError::Malformed(text.into());
        let (place, is_tls) = match text.strip_prefix("https://") {
            Some(place) => (place.strip_suffix('/').unwrap_or(place), true),
            None => (text.strip_prefix("http://").unwrap_or(text), false),
        };
        let address = match place.strip_prefix("localhost:").map(str::parse) {
            Some(Ok(port)) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            Some(Err(_)) => return Err(malformed()),
            None => place.parse().map_err(|_| malformed())?,
        };
        match is_tls {
            true => Ok(Self::Tls(address)),
            false if address.ip().to_canonical().is_loopback() => Ok(Self::Plain(address)),
            false => Err(ListenError::NotLoopback(address)),
        }
    }
}

impl Listen {
    /// Its address and port.
    pub fn address(self) -> SocketAddr {
        let (Self::Plain(address) | Self::Tls(address)) = self;
        address
    }

    /// The URL of a service that listens there, on this port.
    pub fn url(self, bound: SocketAddr) -> String {
        match self {
            Self::Plain(_) => format!("http://{bound}"),
            Self::Tls(_) => format!("https://{bound}"),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "https://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_and_everything_else_needs_https() {
        for text in ["127.0.0.1:5309", "127.1.2.3:0", "[::1]:1", "localhost:80", "http://127.0.0.1:1"] {
            assert!(matches!(text.parse(), Ok(Listen::Plain(_))), "{text}");
        }
        for text in ["https://0.0.0.0:5309", "https://[::]:5309/", "https://127.0.0.1:1", "https://localhost:2"] {
            assert!(matches!(text.parse(), Ok(Listen::Tls(_))), "{text}");
        }
        for text in ["0.0.0.0:5309", "[::]:5309", "192.168.0.1:5309", "[::ffff:10.0.0.1]:1", "http://10.0.0.1:1"] {
            let sentence = text.parse::<Listen>().unwrap_err().to_string();
            assert!(sentence.contains("https://") && sentence.contains("tls_cert"), "{sentence}");
        }
        for text in
            ["", "5309", "127.0.0.1", "localhost:x", "example.org:80", "127.0.0.1:99999", "https://h:1", "https:1"]
        {
            assert!(matches!(text.parse::<Listen>(), Err(ListenError::Malformed(_))), "{text}");
        }
        assert_eq!("https://localhost:2".parse::<Listen>().unwrap().to_string(), "https://127.0.0.1:2");
    }
}
