//! TCP between two executors: inside TLS, or plain where the configuration of both ends allows it. Plain, bytes go from the
//! socket into the chunk's buffer without another stop; inside TLS, they are decrypted on the way.

use std::{
    cell::Cell,
    io,
    mem::{MaybeUninit, offset_of},
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{AsyncRead, AsyncWrite, FutureExt as _, future::LocalBoxFuture};
use glommio::{
    GlommioError,
    net::{TcpListener, TcpStream},
};
use linux_raw_sys::net::tcp_info;
use rustix::net::sockopt;
use staccato_protocols::{Code, Error};

use super::{
    connection::Stream,
    gauge::{Connected, Gauge, Seen},
    patience::within,
    remote::Transport,
    ticket::KeyDigest,
    tls::Identity,
};

/// How long making a connection may take, and the TLS handshake again as long.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may move on a connection while something is waited for.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A host that answers nothing for so long is gone: switched off, or cut off. (The kernel gives up one that takes nothing
/// for as long, too, although it answers.)
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// A connection on which nothing has moved for so long is tried.
const TRIED_AFTER: Duration = Duration::from_secs(5);
/// How often it is tried.
const TRIED_EVERY: Duration = Duration::from_secs(2);
/// A path whose round trip is as long as this is no wire between two hosts of one place.
const LONG_PATH: Duration = Duration::from_millis(2);
/// How long a reader may ask for nothing before it has to connect again.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// TCP to one executor.
pub struct Tcp {
    address: SocketAddr,
    /// Who the other end must be, and who this one is; none: the connection is plain.
    tls: Option<(String, Identity)>,
}

impl Tcp {
    /// To whoever listens there, plain.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }

    /// To the executor `host`, which listens there, inside TLS.
    pub fn secure(address: SocketAddr, host: impl Into<String>, identity: Identity) -> Self {
        Self { address, tls: Some((host.into(), identity)) }
    }

    async fn connect(&self) -> Result<Connected, Error> {
        let stream = TcpStream::connect_timeout(self.address, CONNECT_TIMEOUT).await;
        let connected = stream.and_then(|stream| prepare(stream, STALL_TIMEOUT)).map_err(|error| {
            let error = io::Error::from(error);
            Error::retry(Code::ConnectFailed, format!("cannot connect to {}: {error}", self.peer()))
        })?;
        let Some((host, identity)) = &self.tls else { return Ok(connected) };
        let Connected { stream, gauge } = connected;
        let stream = in_time(identity.connect(stream, host)).await.map_err(|error| {
            // A certificate may be renewed, a clock set.
            Error::retry(Code::TlsFailed, format!("no TLS with {}: {error}", self.peer()))
        })?;
        Ok(Connected { stream, gauge })
    }
}

impl Transport for Tcp {
    fn peer(&self) -> String {
        match &self.tls {
            Some((host, _)) => format!("{host} ({} over tcp)", self.address),
            None => format!("{} over plain tcp", self.address),
        }
    }

    fn connect(&self) -> LocalBoxFuture<'_, Result<Connected, Error>> {
        self.connect().boxed_local()
    }
}

/// The next connection of a reader, and where it comes from. An error is the listener's.
pub async fn accept(listener: &TcpListener) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
    loop {
        let stream = listener.accept().await.map_err(io::Error::from)?;
        // One that is gone already is of no interest.
        let Ok(from) = stream.peer_addr() else { continue };
        if let Ok(connected) = prepare(stream, IDLE_TIMEOUT) {
            return Ok((connected.stream, from));
        }
    }
}

/// Takes over a connection that was accepted elsewhere, and waits for its first byte: whether it begins TLS. What else may
/// begin it is a greeting, and those are short.
pub async fn greet(socket: std::net::TcpStream) -> io::Result<(Connected, bool)> {
    const TLS_HANDSHAKE: u8 = 22;
    let _ = socket.set_nonblocking(false);
    // SAFETY: the descriptor is a TCP socket's, and this is its only owner from now on.
    let stream = unsafe { TcpStream::from_raw_fd(OwnedFd::from(socket).into_raw_fd()) };
    let mut first = [0; 1];
    let peeked = in_time(async { stream.peek(&mut first).await.map_err(io::Error::from) }).await?;
    if peeked == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((prepare(stream, IDLE_TIMEOUT).map_err(io::Error::from)?, first[0] == TLS_HANDSHAKE))
}

/// Speaks TLS with a reader that was accepted; the key in its certificate.
pub async fn accept_tls(stream: Box<dyn Stream>, identity: &Identity) -> io::Result<(Box<dyn Stream>, KeyDigest)> {
    in_time(identity.accept(stream)).await
}

/// A handshake, within its time.
async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was heard in time"));
    within(CONNECT_TIMEOUT, handshake).await.unwrap_or_else(late)
}

fn prepare(stream: TcpStream, read_timeout: Duration) -> Result<Connected, GlommioError<()>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(read_timeout))?;
    stream.set_write_timeout(Some(STALL_TIMEOUT))?;
    notice_death(&stream)?;
    hold_up_on_loss(&stream);
    let descriptor = Rc::new(Cell::new(Some(stream.as_raw_fd())));
    let watched = Watched { stream, descriptor: descriptor.clone() };
    Ok(Connected { stream: Box::new(watched), gauge: Gauge::new(move || tcp_seen(descriptor.get()?)) })
}

/// A stream that can be looked at while it is there, whatever is wrapped around it.
struct Watched {
    stream: TcpStream,
    descriptor: Rc<Cell<Option<i32>>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Before the stream closes it: then it may be somebody else's.
        self.descriptor.set(None);
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}

/// What the kernel has seen of a connection (`TCP_INFO`, tcp(7); RFC 4898 has the same figures by name).
fn tcp_seen(descriptor: i32) -> Option<Seen> {
    /// Bytes up to the last figure that is looked at: an older kernel knows fewer.
    const NEEDED: usize = offset_of!(tcp_info, tcpi_data_segs_out) + size_of::<u32>();
    let mut info = MaybeUninit::<tcp_info>::zeroed();
    let mut len = size_of::<tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`, which has so many, and how many it wrote to `len`.
    let failed = unsafe {
        let (info, len) = (info.as_mut_ptr().cast(), &raw mut len);
        libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, info, len)
    };
    if failed != 0 || (len as usize) < NEEDED {
        return None;
    }
    // SAFETY: it consists of numbers, and each of its bytes is zero or was written.
    let info = unsafe { info.assume_init() };
    // Before there was one, it is the greatest number.
    let round_trip = Some(info.tcpi_min_rtt).filter(|micros| *micros != u32::MAX);
    Some(Seen {
        round_trip: round_trip.map(|micros| Duration::from_micros(micros.into())),
        sent: info.tcpi_data_segs_out.into(),
        lost: info.tcpi_total_retrans.into(),
    })
}

/// The socket of a stream, for its options.
fn socket_of(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream is borrowed as long, and closes its descriptor only when it is dropped.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}

/// Has the kernel go by what arrives on a long path, and not by what is lost: where one packet in a hundred is, that is a
/// tenfold. On a short one what was lost is made up for soon, and bbr's pace can cost half of the rate: there the host's own
/// stays.
fn hold_up_on_loss(stream: &TcpStream) {
    // Both ends know it from the handshake.
    let round_trip = tcp_seen(stream.as_raw_fd()).and_then(|seen| seen.round_trip);
    if round_trip.is_none_or(|round_trip| round_trip >= LONG_PATH) {
        ask_for_bbr(socket_of(stream));
    }
}

/// Who is not root has the choice of those that the host allows (`net.ipv4.tcp_allowed_congestion_control`, tcp(7)); else the
/// host's own stays.
fn ask_for_bbr(socket: BorrowedFd<'_>) {
    const WANTED: &str = "bbr";
    if let Err(error) = sockopt::set_tcp_congestion(socket, WANTED) {
        tracing::debug!(%error, "this host has no congestion control {WANTED}, or does not allow it");
    }
}

/// Has the kernel find out whether the other host is there: with probes while nothing is under way, and by what it does
/// not acknowledge (RFC 5482; tcp(7), where `TCP_USER_TIMEOUT` decides both).
fn notice_death(stream: &TcpStream) -> io::Result<()> {
    let socket = socket_of(stream);
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, TRIED_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, TRIED_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, (DEAD_AFTER - TRIED_AFTER).as_secs().div_ceil(TRIED_EVERY.as_secs()) as u32)?;
    sockopt::set_tcp_user_timeout(socket, DEAD_AFTER.as_millis() as u32)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use glommio::LocalExecutorBuilder;

    use super::*;

    /// What the kernel then does is measured with a link that is cut (`dataplane/README.md`).
    #[test]
    fn the_kernel_is_told_to_look_after_the_other_host() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            notice_death(&stream).unwrap();
            let socket = socket_of(&stream);
            assert!(sockopt::socket_keepalive(socket).unwrap());
            assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), 15_000);
            let tried = sockopt::tcp_keepidle(socket).unwrap() + 5 * sockopt::tcp_keepintvl(socket).unwrap();
            assert_eq!((tried, sockopt::tcp_keepcnt(socket).unwrap()), (DEAD_AFTER, 5));
        };
        LocalExecutorBuilder::default().make().unwrap().run(test);
    }

    #[test]
    fn loss_is_not_taken_for_a_full_queue_on_long_paths_where_the_host_has_a_choice() {
        let test = async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = socket_of(&stream);
            let own = sockopt::tcp_congestion(socket).unwrap();
            let can_choose = sockopt::set_tcp_congestion(socket, "bbr").is_ok();
            for before in [&own, "reno"] {
                sockopt::set_tcp_congestion(socket, before).unwrap();
                hold_up_on_loss(&stream);
                assert_eq!(sockopt::tcp_congestion(socket).unwrap(), before, "loopback is short");
            }
            ask_for_bbr(socket);
            assert_eq!(sockopt::tcp_congestion(socket).unwrap(), if can_choose { "bbr" } else { "reno" });
        };
        LocalExecutorBuilder::default().make().unwrap().run(test);
    }
}
