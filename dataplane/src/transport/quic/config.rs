//! What an endpoint may use, and how its connections behave.

use std::{io, ops::RangeInclusive, sync::Arc, time::Duration};

use quinn_proto::{
    AckFrequencyConfig, HashedConnectionIdGenerator, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion,
};
use ring::hmac;

use super::delivery::DeliveryConfig;
use crate::transport::tls::Identity;

/// Most connections of an endpoint at a time, handshakes included.
pub const CONNECTIONS_MAX: usize = 1024;
/// Most handshakes of readers under way at a time; who comes beyond them is not answered, and tries again.
pub const HANDSHAKES_MAX: usize = 64;
/// So many handshakes of readers under way, and whoever comes next first has to show that its address is its own
/// (RFC 9000, 8.1.2): a flood from forged ones costs nothing but the answers.
pub const HANDSHAKES_TRUSTED: usize = 16;
/// Most streams that a reader has open on one connection.
pub const STREAMS_MAX: u32 = 128;

/// Smallest datagram that a path must carry (RFC 9000, 14).
const MTU_MIN: u16 = 1200;
/// So many packets are acknowledged together, where nothing was lost. (Without the extension that asks for it, every
/// other packet is, or one batch that was received.)
const ACKNOWLEDGED_TOGETHER: u32 = 10;
/// So much later a packet may come than those behind it before that is reported at once.
const REORDERING_MAX: u32 = 3;
/// What a connection may hold in any case, in each direction: with less, none would be of use.
const WINDOW_BYTES_MIN: u64 = 256 << 10;

/// What decides how much may be under way on a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Goes by what arrives: our own.
    #[default]
    Delivery,
    /// RFC 9438: backs off when something is lost.
    Cubic,
    /// Goes by measured bandwidth and delay, too. quinn calls its implementation experimental.
    Bbr,
    /// RFC 6582, as RFC 9002 has it.
    NewReno,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Bytes of a connection that may have come and not been read, and as many that may have been written and not been
    /// acknowledged: between these bounds, as many as its path takes (`window`). Whoever asks for bytes has a place for them,
    /// and so no stream holds up the others of its connection.
    pub window_bytes: RangeInclusive<u64>,
    /// What all connections together aim at, in both directions: the more there are, the smaller are the windows of each. (What
    /// one was allowed before others came it may still use once.)
    pub memory_bytes: u64,
    /// Buffers that are asked for of the kernel, in each direction: for what comes while a lane does something else, and that
    /// has nothing to do with the length of the path. They take memory only while something is in them.
    pub socket_buffer_bytes: usize,
    /// Largest datagram that is tried, without the heads of IP and UDP.
    pub mtu_max: u16,
    /// How much may be under way.
    pub congestion: Congestion,
    /// How often a connection on which nothing moves is tried.
    pub keep_alive: Duration,
    /// How long after the last sign of life the other end is given up.
    pub idle_timeout: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            // 10 Gbit/s at 100 ms take 125 MB.
            window_bytes: 4 << 20..=128 << 20,
            memory_bytes: 256 << 20,
            socket_buffer_bytes: 8 << 20,
            // 9,000 bytes of Ethernet, less the heads of IPv6 and UDP.
            mtu_max: 8952,
            congestion: Congestion::default(),
            keep_alive: Duration::from_secs(5),
            // As over TCP.
            idle_timeout: Duration::from_secs(15),
        }
    }
}

impl EndpointConfig {
    /// Bounds of the windows of one of `connections`.
    pub(super) fn windows(&self, connections: usize) -> RangeInclusive<u64> {
        let share = (self.memory_bytes / 2 / connections.max(1) as u64).max(WINDOW_BYTES_MIN);
        (*self.window_bytes.start()).min(share)..=(*self.window_bytes.end()).min(share)
    }

    /// What quinn calls the endpoint's configuration.
    ///
    /// Both keys are the same after the executor was restarted, so that it recognises what was meant for its former self,
    /// and can tell the other ends that those connections are gone (stateless reset, RFC 9000, 10.3). Other ports have
    /// other ones: or one port could be made to reset the connections of another.
    pub(super) fn endpoint(&self, identity: &Identity, port: u16) -> io::Result<quinn_proto::EndpointConfig> {
        let derive = |purpose: &[u8]| identity.derive(&[purpose, &port.to_le_bytes()].concat());
        let reset = hmac::Key::new(hmac::HMAC_SHA256, &derive(b"staccato quic reset"));
        let names = u64::from_le_bytes(derive(b"staccato quic names")[..8].try_into().expect("8 bytes"));
        let mut config = quinn_proto::EndpointConfig::new(Arc::new(reset));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(names)));
        config.max_udp_payload_size(self.mtu_max.max(MTU_MIN)).map_err(io::Error::other)?;
        Ok(config)
    }

    /// What quinn calls the transport's configuration, for one more beside so many connections; on a route that takes datagrams
    /// of at most `route_mtu`, if known.
    pub(super) fn transport(&self, beside: usize, route_mtu: Option<u16>) -> io::Result<Arc<TransportConfig>> {
        let mut config = TransportConfig::default();
        let (least, most) = self.windows(beside + 1).into_inner();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_max.min(route_mtu.unwrap_or(u16::MAX)).max(MTU_MIN));
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements
            .ack_eliciting_threshold(ACKNOWLEDGED_TOGETHER.into())
            .reordering_threshold(REORDERING_MAX.into());
        config
            .max_concurrent_bidi_streams(STREAMS_MAX.into())
            .max_concurrent_uni_streams(0_u32.into())
            .datagram_receive_buffer_size(None)
            .stream_receive_window(varint(most))
            .receive_window(varint(least))
            .send_window(least)
            // One stream at a time, to its end: what is asked for first is complete first, and packets are full.
            .send_fairness(false)
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acknowledgements))
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(IdleTimeout::try_from(self.idle_timeout).map_err(io::Error::other)?));
        match self.congestion {
            Congestion::Delivery => {
                config.congestion_controller_factory(Arc::new(DeliveryConfig));
            }
            Congestion::Cubic => {
                config.congestion_controller_factory(Arc::new(congestion::CubicConfig::default()));
            }
            Congestion::Bbr => {
                config.congestion_controller_factory(Arc::new(congestion::BbrConfig::default()));
            }
            Congestion::NewReno => {
                config.congestion_controller_factory(Arc::new(congestion::NewRenoConfig::default()));
            }
        }
        Ok(Arc::new(config))
    }
}

pub(super) fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}
