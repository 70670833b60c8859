//! Where REST may listen on TCP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// It is no address with a port.
    #[error("{0:?} is no address; write ADDRESS:PORT, for instance 127.0.0.1:5309 or [::1]:5309")]
    Malformed(String),
    /// Others than this host could reach it.
    #[error(
        "{0} can be reached from other hosts; listening there needs tokens and TLS, which this version does not have \
         yet: listen on a loopback address (127.0.0.1 or [::1]) or on a Unix socket"
    )]
    NotLoopback(SocketAddr),
}

/// Parses an address and port that only this host can reach. `localhost` stands for 127.0.0.1.
pub fn loopback_address(text: &str) -> Result<SocketAddr, ListenError> {
    let address = match text.strip_prefix("localhost:").map(str::parse) {
        Some(Ok(port)) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        Some(Err(_)) => return Err(ListenError::Malformed(text.into())),
        None => text.parse().map_err(|_| ListenError::Malformed(text.into()))?,
    };
    if address.ip().to_canonical().is_loopback() { Ok(address) } else { Err(ListenError::NotLoopback(address)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_accepted_and_everything_else_refused_with_the_reason() {
        for text in ["127.0.0.1:5309", "127.1.2.3:0", "[::1]:1", "localhost:80"] {
            assert!(loopback_address(text).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:5309", "[::]:5309", "192.168.0.1:5309", "[::ffff:10.0.0.1]:1"] {
            let sentence = loopback_address(text).unwrap_err().to_string();
            assert!(sentence.contains("tokens and TLS"), "{sentence}");
        }
        for text in ["", "5309", "127.0.0.1", "localhost:x", "example.org:80", "127.0.0.1:99999"] {
            assert!(matches!(loopback_address(text), Err(ListenError::Malformed(_))), "{text}");
        }
    }
}
