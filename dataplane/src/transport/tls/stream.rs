//! A stream inside TLS.
//!
//! rustls' own stream copies what comes four times on its way. Here records are decrypted where they were received and
//! copied to where they are wanted; what is sent is encrypted a MiB at a time, and leaves with one system call. Memory is
//! bounded: [`INCOMING_BYTES`] of what came and one record decrypted, [`SEND_BYTES`] of what goes.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use rustls::{
    ClientConfig, CommonState, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus},
};

use super::super::connection::Stream;

/// Received at once, at most.
const INCOMING_BYTES: usize = 256 << 10;
/// Encrypted at once, at most.
const SEND_BYTES: usize = 1 << 20;
/// What a record of at most [`RECORD_BYTES`] has besides its content: head, kind, and tag (RFC 8446).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
const RECORD_BYTES: usize = 16 << 10;

/// A stream inside TLS whose other end was recognised, and the certificate that it showed.
type Recognised = (Box<dyn Stream>, Option<CertificateDer<'static>>);

/// Speaks TLS with `name`.
pub async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
) -> io::Result<Recognised> {
    let side = UnbufferedClientConnection::new(config, name).map_err(broken)?;
    TlsStream::new(side, stream).shake_hands().await
}

/// Speaks TLS with whoever comes.
pub async fn accept(config: Arc<ServerConfig>, stream: Box<dyn Stream>) -> io::Result<Recognised> {
    let side = UnbufferedServerConnection::new(config).map_err(broken)?;
    TlsStream::new(side, stream).shake_hands().await
}

/// Either side of a connection.
trait Side: Unpin + 'static {
    type Data;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn common(&self) -> &CommonState;
}

impl Side for UnbufferedClientConnection {
    type Data = rustls::client::ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

impl Side for UnbufferedServerConnection {
    type Data = rustls::server::ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, received: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(received)
    }

    fn common(&self) -> &CommonState {
        self
    }
}

struct TlsStream<S> {
    side: S,
    stream: Box<dyn Stream>,
    /// Received, from `taken` to `filled`, and not processed yet.
    incoming: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Decrypted and not taken yet, from `read` on: the rest of a record that was longer than what was asked for.
    plain: Vec<u8>,
    read: usize,
    /// To be sent, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// The other end has said that nothing more comes.
    ended: bool,
    /// The other end broke the protocol, or is not who it should be.
    failed: bool,
}

/// What to do after all that is there was processed.
enum Next {
    /// Bytes were decrypted.
    Read,
    /// Something can be said; what is wanted has not come.
    Write,
    /// The handshake waits for the other end.
    Receive,
    /// What is in `outgoing` must be sent.
    Send,
    /// The other end has said that nothing more comes.
    End,
}

impl<S: Side> TlsStream<S> {
    fn new(side: S, stream: Box<dyn Stream>) -> Self {
        Self {
            side,
            stream,
            incoming: vec![0; INCOMING_BYTES],
            taken: 0,
            filled: 0,
            plain: Vec::new(),
            read: 0,
            outgoing: Vec::new(),
            sent: 0,
            ended: false,
            failed: false,
        }
    }

    async fn shake_hands(mut self) -> io::Result<Recognised> {
        loop {
            match self.advance(&mut [], &[]) {
                Ok((Next::Send, _)) => self.send_all().await?,
                Ok((Next::Receive, _)) => {
                    self.make_room();
                    let received = self.stream.read(&mut self.incoming[self.filled..]).await?;
                    if received == 0 {
                        return Err(cut_off());
                    }
                    self.filled += received;
                }
                // A client may speak before the other end has looked at its certificate: a refusal comes with the first
                // answer then.
                Ok((Next::Write | Next::Read, _)) => break,
                Ok((Next::End, _)) => return Err(cut_off()),
                Err(error) => {
                    // The other end shall hear why. It may be gone; this end knows enough.
                    if self.last_words().is_ok() {
                        let _ = self.send_all().await;
                    }
                    return Err(error);
                }
            }
        }
        self.send_all().await?;
        let peer = self.side.common().peer_certificates().and_then(|chain| chain.first());
        let peer = peer.map(|certificate| certificate.clone().into_owned());
        Ok((Box::new(self), peer))
    }

    /// After an error: encodes what rustls has to say about it. It is the first thing that it asks for then; nothing more
    /// may be processed.
    fn last_words(&mut self) -> io::Result<()> {
        let UnbufferedStatus { state, .. } = self.side.process(&mut self.incoming[self.taken..self.filled]);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
            encode(&mut data, &mut self.outgoing)?;
        }
        Ok(())
    }

    async fn send_all(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_send(context)).await?;
        self.stream.flush().await
    }

    /// Processes what was received until something has to be done: bytes that come to light go into `into` (how many
    /// did), what is longer into `plain`. Where nothing has come to light, `say` is encrypted into `outgoing`.
    fn advance(&mut self, into: &mut [u8], say: &[u8]) -> io::Result<(Next, usize)> {
        if self.failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the connection has failed before"));
        }
        let mut got = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.side.process(&mut self.incoming[self.taken..self.filled]);
            self.failed = state.is_err();
            let next = match state.map_err(broken)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(broken)?.payload;
                        let fits = payload.len().min(into.len() - got);
                        into[got..got + fits].copy_from_slice(&payload[..fits]);
                        got += fits;
                        self.plain.extend_from_slice(&payload[fits..]);
                    }
                    // As many records as were asked for are decrypted in one go; one more would have to wait in memory.
                    (got == into.len()).then_some(Next::Read)
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut self.outgoing)?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    Some(Next::Send)
                }
                ConnectionState::WriteTraffic(mut traffic) if !say.is_empty() && got == 0 => {
                    let start = self.outgoing.len();
                    self.outgoing.resize(start + sealed_len(say.len()), 0);
                    let sealed = traffic.encrypt(say, &mut self.outgoing[start..]).map_err(|error| match error {
                        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                            io::Error::other(format!("a record needs {required_size} bytes"))
                        }
                        EncryptError::EncryptExhausted => io::Error::other("the connection's keys are used up"),
                    })?;
                    self.outgoing.truncate(start + sealed);
                    Some(Next::Write)
                }
                ConnectionState::WriteTraffic(_) => Some(if got > 0 { Next::Read } else { Next::Write }),
                ConnectionState::BlockedHandshake => Some(Next::Receive),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    self.ended = true;
                    Some(if got > 0 { Next::Read } else { Next::End })
                }
                _ => return Err(io::Error::other("TLS asks for something unknown")),
            };
            self.taken += discard;
            if let Some(next) = next {
                return Ok((next, got));
            }
        }
    }

    /// What was received and not processed moves to the front where it has reached the end.
    fn make_room(&mut self) {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        } else if self.filled == self.incoming.len() {
            self.incoming.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
        }
    }

    /// Sends what is to be sent.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.outgoing[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let taken = into.len().min(self.plain.len() - self.read);
        into[..taken].copy_from_slice(&self.plain[self.read..self.read + taken]);
        self.read += taken;
        if self.read == self.plain.len() {
            self.plain.clear();
            self.read = 0;
        }
        taken
    }
}

impl<S: Side> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if into.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.read < this.plain.len() {
            return Poll::Ready(Ok(this.take_plain(into)));
        }
        loop {
            if this.ended {
                return Poll::Ready(Ok(0));
            }
            match this.advance(into, &[])? {
                (Next::Read, got) => return Poll::Ready(Ok(got)),
                (Next::End, _) => return Poll::Ready(Ok(0)),
                // New keys, for instance. What cannot be sent now goes with what is said next.
                (Next::Send, _) => {
                    let _ = this.poll_send(context)?;
                }
                (Next::Write | Next::Receive, _) => {
                    this.make_room();
                    let room = &mut this.incoming[this.filled..];
                    let received = ready!(Pin::new(&mut this.stream).poll_read(context, room))?;
                    if received == 0 {
                        return Poll::Ready(Err(cut_off()));
                    }
                    this.filled += received;
                }
            }
        }
    }
}

impl<S: Side> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(this.poll_send(context))?;
        let bytes = &bytes[..bytes.len().min(SEND_BYTES)];
        loop {
            match this.advance(&mut [], bytes)? {
                (Next::Write, _) => break,
                // What came meanwhile waits in `plain`, at most what was received.
                (Next::Read | Next::Send, _) => {}
                (Next::Receive, _) => return Poll::Ready(Err(io::Error::other("the handshake is not over"))),
                (Next::End, _) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        // It is taken; what does not leave now leaves with the next call, or a flush.
        if let Poll::Ready(Err(error)) = this.poll_send(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.stream).poll_close(context)
    }
}

/// Length of records that hold so many bytes.
fn sealed_len(bytes: usize) -> usize {
    bytes + bytes.div_ceil(RECORD_BYTES) * RECORD_OVERHEAD
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> io::Result<()> {
    let start = outgoing.len();
    loop {
        match data.encode(&mut outgoing[start..]) {
            Ok(encoded) => {
                outgoing.truncate(start + encoded);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                outgoing.resize(start + required_size, 0);
            }
            Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
        }
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a word")
}
