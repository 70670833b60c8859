//! Where a link is measured: on loopback, or between two hosts of a network of its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use super::pair::Ends;
use crate::network::{Network, Wiring};

/// Two hosts: an owner's and a reader's, which may be the same.
#[derive(Debug)]
pub struct Testbed {
    network: Option<Network>,
    next_port: AtomicU16,
}

/// The first port that is used within a network of its own.
const PORT_FIRST: u16 = 20_000;

impl Testbed {
    /// This host, on loopback.
    pub fn loopback() -> Self {
        // Away from what others of this machine that were started at the same time use.
        let first = PORT_FIRST + (std::process::id() % 1000) as u16 * 8;
        Self { network: None, next_port: AtomicU16::new(first) }
    }

    /// Two hosts that are joined like this.
    pub fn network(wiring: &Wiring) -> io::Result<Self> {
        Ok(Self { network: Some(Network::build(wiring)?), next_port: AtomicU16::new(PORT_FIRST) })
    }

    /// Where the owner is.
    pub fn owner(&self) -> IpAddr {
        self.network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.hosts()[0].address()).into()
    }

    /// A port of the owner with `count - 1` free ones behind it.
    pub fn port(&self, count: u16) -> SocketAddr {
        loop {
            let first = self.next_port.fetch_add(count, Ordering::Relaxed);
            let free = |port| self.network.is_some() || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if (first..first + count).all(free) {
                return SocketAddr::new(self.owner(), first);
            }
        }
    }

    /// Words before those of a command that make it run where the owner is.
    pub fn at_owner(&self) -> Vec<String> {
        self.at(0)
    }

    /// Words before those of a command that make it run where the reader is.
    pub fn at_reader(&self) -> Vec<String> {
        self.at(1)
    }

    /// A server at `at`, where the owner is, and a client where the reader is, which is given up after `seconds_max`.
    pub fn ends(&self, at: SocketAddr, server: Vec<String>, client: Vec<String>, seconds_max: f64) -> Ends {
        Ends {
            server: [self.at_owner(), server].concat(),
            listens: vec![at.port()],
            client: [self.at_reader(), client].concat(),
            seconds_max,
        }
    }

    fn at(&self, host: usize) -> Vec<String> {
        self.network.as_ref().map_or_else(Vec::new, |network| network.hosts()[host].words())
    }

    /// CPU seconds that the bench itself takes for what is between the two.
    pub fn cpu_seconds(&self) -> f64 {
        let relay = self.network.as_ref().and_then(Network::relay);
        relay.map_or(0.0, crate::relay::tun::Relay::cpu_seconds)
    }
}
