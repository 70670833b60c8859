//! A stream inside TLS.
//!
//! rustls' own stream copies what comes four times on its way. Here records are decrypted where they were received, and
//! copied twice: rustls puts each apart, and it goes from there to where it is wanted. What is sent is encrypted a MiB at
//! a time, and leaves with one system call where the kernel takes as much. Memory is bounded: [`INCOMING_BYTES`] of what came, and as much again that was decrypted while something else was said;
//! [`SEND_BYTES`] of what goes.

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
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
        WriteTraffic,
    },
};

use super::{super::connection::Stream, outgoing::Outgoing};

/// Received at once, at most.
const INCOMING_BYTES: usize = 256 << 10;
/// The same at first: a connection on which only questions come needs no more, and there may be thousands.
const INCOMING_BYTES_FIRST: usize = 32 << 10;
/// A buffer that is longer than this is given back while nothing is under way.
const KEPT_BYTES: usize = 64 << 10;
/// Encrypted at once, at most.
const SEND_BYTES: usize = 1 << 20;
/// What a record of at most [`RECORD_BYTES`] has besides its content: head, kind, and tag (RFC 8446).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
const RECORD_BYTES: usize = 16 << 10;

/// A stream inside TLS whose other end was recognised, and the certificate that it showed.
type Recognised = (Box<dyn Stream>, Option<CertificateDer<'static>>);

/// Speaks TLS with `name`.
pub async fn connect(
    alpn: &[u8],
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: Box<dyn Stream>,
) -> io::Result<Recognised> {
    let mut stream = TlsStream::new(UnbufferedClientConnection::new(config, name).map_err(broken)?, stream);
    let peer = stream.shake_hands(alpn).await?;
    Ok((Box::new(stream), peer))
}

/// Speaks TLS with whoever comes.
pub async fn accept(alpn: &[u8], config: Arc<ServerConfig>, stream: Box<dyn Stream>) -> io::Result<Recognised> {
    let mut stream = TlsStream::new(UnbufferedServerConnection::new(config).map_err(broken)?, stream);
    let peer = stream.shake_hands(alpn).await?;
    Ok((Box::new(stream), peer))
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
    outgoing: Outgoing,
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
            incoming: vec![0; INCOMING_BYTES_FIRST],
            taken: 0,
            filled: 0,
            plain: Vec::new(),
            read: 0,
            outgoing: Outgoing::default(),
            ended: false,
            failed: false,
        }
    }

    /// Until either end can speak. One that does not want to speak `alpn` is not spoken to.
    async fn shake_hands(&mut self, alpn: &[u8]) -> io::Result<Option<CertificateDer<'static>>> {
        loop {
            match self.advance(&mut [], &[]) {
                Ok((Next::Send, _)) => self.send_all().await?,
                Ok((Next::Receive, _)) => {
                    self.make_room();
                    if self.filled == self.incoming.len() {
                        return Err(too_long());
                    }
                    let received = self.stream.read(&mut self.incoming[self.filled..]).await?;
                    if received == 0 {
                        return Err(cut_off());
                    }
                    self.note_received(received);
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
        if self.side.common().alpn_protocol() != Some(alpn) {
            return Err(io::Error::other("it speaks another protocol inside TLS"));
        }
        let peer = self.side.common().peer_certificates().and_then(|chain| chain.first());
        Ok(peer.map(|certificate| certificate.clone().into_owned()))
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
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    self.failed = true;
                    self.taken += discard;
                    return Err(broken(error));
                }
            };
            let next = match state {
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
                    Some(if got > 0 { Next::Read } else { Next::Send })
                }
                ConnectionState::WriteTraffic(mut traffic) if !say.is_empty() && got == 0 => {
                    let sealed = seal(&mut traffic, say, &mut self.outgoing);
                    self.failed = sealed.is_err();
                    sealed?;
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

    /// What was received and not processed moves to the front where it has reached the end. A record, and a handshake
    /// message in several, is much shorter than all room there is.
    fn make_room(&mut self) {
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        } else if self.filled == self.incoming.len() {
            self.incoming.copy_within(self.taken..self.filled, 0);
            (self.taken, self.filled) = (0, self.filled - self.taken);
        }
    }

    /// More has come. Where all room was taken, there is more of it the next time.
    fn note_received(&mut self, bytes: usize) {
        self.filled += bytes;
        if self.filled == self.incoming.len() && self.filled < INCOMING_BYTES {
            self.incoming.resize(2 * self.filled, 0);
        }
    }

    /// Nothing comes: what was long needs no memory meanwhile.
    fn rest(&mut self) {
        self.outgoing.shrink(KEPT_BYTES);
        if self.plain.is_empty() && self.plain.capacity() > KEPT_BYTES {
            self.plain = Vec::new();
        }
    }

    /// Sends what is to be sent.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.waiting().is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, self.outgoing.waiting()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.note_sent(sent);
        }
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
                // What cannot be sent now goes with what is said next.
                (Next::Send, _) => {
                    let _ = this.poll_send(context)?;
                }
                (Next::Write | Next::Receive, _) => {
                    this.make_room();
                    let room = &mut this.incoming[this.filled..];
                    if room.is_empty() {
                        return Poll::Ready(Err(too_long()));
                    }
                    let Poll::Ready(received) = Pin::new(&mut this.stream).poll_read(context, room) else {
                        this.rest();
                        return Poll::Pending;
                    };
                    let received = received?;
                    if received == 0 {
                        return Poll::Ready(Err(cut_off()));
                    }
                    this.note_received(received);
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
        if this.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
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

/// Encrypts behind what is to be sent already; with new keys before it where the old ones have served long enough.
fn seal<D>(traffic: &mut WriteTraffic<'_, D>, say: &[u8], outgoing: &mut Outgoing) -> io::Result<()> {
    let mut needed = sealed_len(say.len());
    loop {
        match traffic.encrypt(say, outgoing.room(needed)) {
            Ok(sealed) => {
                outgoing.note_written(sealed);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) if required_size > needed => {
                needed = required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Length of records that hold so many bytes.
fn sealed_len(bytes: usize) -> usize {
    bytes + bytes.div_ceil(RECORD_BYTES) * RECORD_OVERHEAD
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Outgoing) -> io::Result<()> {
    let mut needed = 0;
    loop {
        match data.encode(outgoing.room(needed)) {
            Ok(encoded) => {
                outgoing.note_written(encoded);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => needed = required_size,
            Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
        }
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other end sends a message without end")
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended without a word")
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;
    use glommio::{
        LocalExecutorBuilder,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::{authority::Authority, tls::ALPN};

    /// Asks for new keys, for both directions.
    fn renew_keys<S: Side>(stream: &mut TlsStream<S>) {
        let UnbufferedStatus { state, .. } = stream.side.process(&mut stream.incoming[stream.taken..stream.filled]);
        let Ok(ConnectionState::WriteTraffic(traffic)) = state else { panic!("{state:?}") };
        traffic.refresh_traffic_keys().unwrap();
    }

    #[test]
    fn new_keys_lose_nothing() {
        let test = async {
            let authority = Authority::new();
            let (reader, owner) = (authority.identity("reader"), authority.identity("owner"));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let name = ServerName::try_from("owner").unwrap();
            let side = UnbufferedClientConnection::new(reader.client.clone(), name).unwrap();
            let mut here = TlsStream::new(side, Box::new(connected));
            let side = UnbufferedServerConnection::new(owner.server.clone()).unwrap();
            let mut there = TlsStream::new(side, Box::new(accepted));
            let (one, other) = join(here.shake_hands(ALPN), there.shake_hands(ALPN)).await;
            assert!(one.unwrap().is_some() && other.unwrap().is_some());
            let mut said = vec![0; 3 << 20];
            fastrand::Rng::with_seed(3).fill(&mut said);
            for round in 0..4 {
                renew_keys(&mut here);
                let (from, to): (&mut dyn Stream, &mut dyn Stream) =
                    if round % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
                let mut heard = vec![0; said.len()];
                let saying = async {
                    from.write_all(&said).await.unwrap();
                    from.flush().await.unwrap();
                };
                let ((), listened) = join(saying, to.read_exact(&mut heard)).await;
                listened.unwrap();
                assert!(heard == said, "round {round}");
            }
        };
        LocalExecutorBuilder::default().make().unwrap().run(test);
    }

    #[test]
    fn who_speaks_another_protocol_inside_tls_is_refused() {
        let test = async {
            let authority = Authority::new();
            let (reader, owner) = (authority.identity("reader"), authority.identity("owner"));
            let mut silent = ClientConfig::clone(&reader.client);
            silent.alpn_protocols.clear();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connected = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let accepted = listener.accept().await.unwrap();
            let name = ServerName::try_from("owner").unwrap();
            let asking = connect(ALPN, Arc::new(silent), name, Box::new(connected));
            let (asked, served) = join(asking, owner.accept(Box::new(accepted))).await;
            assert!(asked.is_err() && served.is_err_and(|error| error.to_string().contains("another protocol")));
        };
        LocalExecutorBuilder::default().make().unwrap().run(test);
    }
}
