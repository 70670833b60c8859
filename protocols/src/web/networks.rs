//! Which addresses may be connected to.
//!
//! A service connects from where it stands: to servers on its own host and link that its callers could not reach, where
//! programs believe whoever connects (a cloud's metadata at 169.254.169.254, an admin page on 127.0.0.1). Such addresses are
//! connected to only where they were allowed, whatever name or redirect led there.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use ipnet::IpNet;
use tower::Service;

use crate::{Code, Error};

/// Networks of the host itself that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Networks {
    /// All of them.
    pub fn any() -> Self {
        let any = [(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0)];
        Self(any.map(|(address, length)| Network(IpNet::new_assert(address, length))).into())
    }

    /// These.
    pub fn of(networks: impl IntoIterator<Item = Network>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Network> {
        self.0.iter()
    }

    /// Whether an address may be connected to.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = plain(address);
        !is_own(address) || self.0.iter().any(|Network(network)| network.contains(&address))
    }

    /// The refusal of `host` where it is an address that may not be connected to.
    pub(crate) fn check_literal(&self, host: &str) -> Result<(), Error> {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match literal.parse() {
            Ok(address) if !self.allow(address) => Err(refused(host, address)),
            _ => Ok(()),
        }
    }
}

/// Where clouds answer any program on a machine with its secrets, besides link-local addresses: AWS, Google and Alibaba
/// Cloud, Azure.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Whether an address leads to this host or its link, and so to others than where the caller stands.
fn is_own(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    link_local
        || address.is_loopback()
        || address.is_unspecified()
        || METADATA.contains(&address)
        || is_bindable(address)
}

/// Whether this host has the address: only then can something listen there.
fn is_bindable(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The address that is meant: IPv4 in any of the forms in which IPv6 carries it (mapped, compatible, RFC 6052, 6to4).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let [_, b, c, .., y, z] = v6.segments();
    let embedded = match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return address,
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [y, z],
        [0x2002, ..] => [b, c],
        _ => return IpAddr::V6(v6),
    };
    let [first, second] = embedded.map(u16::to_be_bytes);
    IpAddr::V4(Ipv4Addr::new(first[0], first[1], second[0], second[1]))
}

fn refused(host: &str, address: IpAddr) -> Error {
    let of_host = format!(
        "{host} is at {address}, an address of the service's own host or link; the operator may allow it \
         (allow_networks)"
    );
    Error::fatal(Code::PermissionDenied, of_host)
}

/// `ADDRESS/LENGTH`, or one address.
impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map(Self).map_err(|_| format!("{text:?} is no network; write for instance 127.0.0.0/8 or ::1"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Finds the addresses of a name, and keeps those that may be connected to.
#[derive(Clone)]
pub(crate) struct Resolver {
    inner: GaiResolver,
    networks: Arc<Networks>,
}

impl Resolver {
    pub fn new(networks: Arc<Networks>) -> Self {
        Self { inner: GaiResolver::new(), networks }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (host, networks) = (name.as_str().to_owned(), self.networks.clone());
        let finding = self.inner.call(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = finding.await?.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|found| networks.allow(found.ip())).collect();
            match found.first() {
                Some(first) if allowed.is_empty() => Err(io::Error::other(refused(&host, first.ip()))),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_host_itself_need_leave() {
        let none = Networks::of([]);
        let loopback = Networks::of(["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap()));
        for address in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
        {
            let address = address.parse().unwrap();
            assert!(!none.allow(address) && loopback.allow(address) && Networks::any().allow(address), "{address}");
        }
        for address in
            ["169.254.169.254", "fe80::1", "0.0.0.0", "::", "::ffff:169.254.0.1", "fd00:ec2::254", "168.63.129.16"]
        {
            let address = address.parse().unwrap();
            assert!(!none.allow(address) && !loopback.allow(address) && Networks::any().allow(address), "{address}");
        }
        for address in ["192.0.2.1", "198.51.100.1", "8.8.8.8", "2001:db8::1", "fd00::1", "64:ff9b::808:808"] {
            assert!(none.allow(address.parse().unwrap()), "{address}");
        }
        for host in ["127.0.0.1", "[::1]"] {
            assert_eq!(none.check_literal(host).unwrap_err().code, Code::PermissionDenied, "{host}");
            assert_eq!(loopback.check_literal(host), Ok(()));
        }
        assert_eq!(none.check_literal("localhost"), Ok(()), "the resolver's to say");
        for text in ["", "loop", "10.0.0.0/33", "10.0.0"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
