//! The UDP socket of an endpoint: datagrams in batches.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd as _, IntoRawFd as _},
    sync::Once,
};

use bytes::BytesMut;
use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::net::sockopt;

use super::pool::Blocks;

/// Most bytes of one UDP message, which is several datagrams where the kernel joins or cuts them.
pub const MESSAGE_BYTES_MAX: usize = 65_507;
/// Room for one message.
const ROOM_BYTES: usize = 64 << 10;
/// Most messages that are received with one call. Their room should fit into a core's cache.
const MESSAGES_MAX: usize = 8;

/// Says that the kernel gives less than was asked for; once, for it would say the same of every port.
static SMALL_BUFFERS: Once = Once::new();

/// See the module.
pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    room: Box<[u8]>,
    blocks: Blocks,
}

/// Datagrams of one sender that were received together.
pub struct Received {
    /// All of them, each as long as `stride`; the last one may be shorter.
    pub bytes: BytesMut,
    pub stride: usize,
    pub meta: RecvMeta,
}

impl Socket {
    /// Takes a port. No other process can share it: half of the datagrams would be lost to it.
    pub fn bind(address: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        ask_for_buffers(&socket, buffer_bytes)?;
        Ok(Self { socket, state, room: vec![0; ROOM_BYTES * MESSAGES_MAX].into(), blocks: Blocks::new(ROOM_BYTES) })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether datagrams that are longer than the path takes are lost, as MTU discovery needs it, and not cut.
    pub fn keeps_datagrams_whole(&self) -> bool {
        !self.state.may_fragment()
    }

    /// Most datagrams of `mtu` bytes that are sent with one call.
    pub fn segments_max(&self, mtu: usize) -> usize {
        self.state.max_gso_segments().min(MESSAGE_BYTES_MAX / mtu).max(1)
    }

    /// The same socket, for glommio to wait on.
    pub fn for_waiting(&self) -> io::Result<glommio::net::UdpSocket> {
        let descriptor = self.socket.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor was made in the line before, is open, and belongs to nobody else.
        Ok(unsafe { glommio::net::UdpSocket::from_raw_fd(descriptor) })
    }

    /// Receives what is there, at most [`MESSAGES_MAX`] messages; false when there is nothing.
    pub fn receive(&mut self, mut each: impl FnMut(Received)) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); MESSAGES_MAX];
        let mut rooms = self.room.chunks_exact_mut(ROOM_BYTES);
        let mut slices: [IoSliceMut<'_>; MESSAGES_MAX] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().expect("there is room for each")));
        let messages = match self.state.recv((&self.socket).into(), &mut slices, &mut metas) {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (meta, slice) in metas.iter().zip(&slices).take(messages) {
            // Without a datagram that says something, there is no stride.
            if meta.len > 0 && meta.stride > 0 {
                let bytes = match meta.len {
                    // Short ones would hold a whole block each.
                    short if short < ROOM_BYTES / 4 => BytesMut::from(&slice[..short]),
                    long => self.blocks.copy(&slice[..long]),
                };
                each(Received { bytes, stride: meta.stride, meta: *meta });
            }
        }
        Ok(messages > 0)
    }

    /// Sends datagrams; an error is that the kernel takes no more for now. What fails otherwise is as good as lost.
    pub fn send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: &bytes[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.state.send((&self.socket).into(), &transmit)
    }

    /// Gives memory back that was used when more came.
    pub fn shrink(&mut self) {
        self.blocks.shrink();
    }

    /// Sends something to itself: whoever waits for a datagram wakes.
    pub fn wake(&self) -> io::Result<()> {
        let mut address = self.local_addr()?;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        self.socket.send_to(&[0], address).map(|_| ())
    }
}

/// Largest datagram for which this host knows a way to `remote`: what its interface takes, less the heads of IP and UDP.
/// Farther on it may be less.
pub fn route_mtu(remote: SocketAddr) -> Option<u16> {
    /// Heads of UDP, and of IPv4 or IPv6.
    const HEADS: (u32, u32) = (8 + 20, 8 + 40);
    let any = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent by that: the kernel looks for the route.
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(remote).ok()?;
    let bytes = match remote {
        SocketAddr::V4(_) => sockopt::ip_mtu(&socket).ok()?.checked_sub(HEADS.0)?,
        SocketAddr::V6(_) => sockopt::ipv6_mtu(&socket).ok()?.checked_sub(HEADS.1)?,
    };
    Some(u16::try_from(bytes).unwrap_or(u16::MAX))
}

/// What came with the congestion's mark (RFC 3168), in quinn's words.
pub fn ecn(meta: &RecvMeta) -> Option<EcnCodepoint> {
    meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8))
}

/// Large buffers: what comes while the lane does something else has to wait in them. Only root gets more than the
/// system's limits.
fn ask_for_buffers(socket: &UdpSocket, bytes: usize) -> io::Result<()> {
    if sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, bytes)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, bytes).is_err() {
        sockopt::set_socket_send_buffer_size(socket, bytes)?;
    }
    // The kernel counts its own overhead: it says twice what it gives (socket(7)).
    let received = sockopt::socket_recv_buffer_size(socket)? / 2;
    let sent = sockopt::socket_send_buffer_size(socket)? / 2;
    if received < bytes || sent < bytes {
        SMALL_BUFFERS.call_once(|| {
            tracing::warn!(
                asked = bytes,
                received,
                sent,
                "the kernel gives less room for datagrams than was asked for; raise net.port.rmem_max and wmem_max"
            );
        });
    }
    Ok(())
}
