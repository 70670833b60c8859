//! What a relay lets through while it runs, to be changed at any moment: a path that goes away and comes back, one that
//! carries no UDP, one that swallows long packets without a word.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the module. Everything passes at first.
#[derive(Debug)]
pub struct Weather {
    cut: AtomicBool,
    udp_blocked: AtomicBool,
    packet_bytes_max: AtomicUsize,
}

impl Default for Weather {
    fn default() -> Self {
        Self { cut: false.into(), udp_blocked: false.into(), packet_bytes_max: usize::MAX.into() }
    }
}

impl Weather {
    /// Whether nothing passes at all.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    /// Whether UDP does not pass.
    pub fn block_udp(&self, blocked: bool) {
        self.udp_blocked.store(blocked, Ordering::Relaxed);
    }

    /// The longest IP packet that passes; longer ones vanish, and nobody is told (a black hole, RFC 2923).
    pub fn swallow_longer_than(&self, bytes: usize) {
        self.packet_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Whether an IP packet passes now.
    pub fn passes(&self, packet: &[u8]) -> bool {
        !self.cut.load(Ordering::Relaxed)
            && packet.len() <= self.packet_bytes_max.load(Ordering::Relaxed)
            && !(self.udp_blocked.load(Ordering::Relaxed) && is_udp(packet))
    }
}

/// Whether the packet's protocol (IPv4) or next header (IPv6) is UDP.
fn is_udp(packet: &[u8]) -> bool {
    const UDP: u8 = 17;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9) == Some(&UDP),
        Some(6) => packet.get(6) == Some(&UDP),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pass_is_what_was_said() {
        let packet = |version: u8, protocol: u8, len: usize| {
            let mut packet = vec![0; len];
            (packet[0], packet[if version == 4 { 9 } else { 6 }]) = (version << 4, protocol);
            packet
        };
        let weather = Weather::default();
        let passes = |version, protocol, len| weather.passes(&packet(version, protocol, len));
        assert!(passes(4, 17, 1500) && passes(6, 17, 9000) && weather.passes(&[]));
        weather.block_udp(true);
        assert!(!passes(4, 17, 100) && !passes(6, 17, 100) && passes(4, 6, 100) && passes(6, 6, 100));
        weather.block_udp(false);
        weather.swallow_longer_than(1300);
        assert!(passes(4, 17, 1300) && !passes(4, 6, 1301));
        weather.swallow_longer_than(usize::MAX);
        weather.cut(true);
        assert!(!passes(4, 6, 40));
        weather.cut(false);
        assert!(passes(4, 6, 1500));
    }
}
