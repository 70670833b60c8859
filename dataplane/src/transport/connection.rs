//! One end of a connection: frames, and the bytes that follow them, over any stream.

use std::{future::poll_fn, io::ErrorKind, pin::Pin, rc::Rc, task::Poll};

use futures_util::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, FutureExt as _,
    io::{ReadHalf, WriteHalf},
};
use staccato_protocols::{CRC_BLOCK, Code, Error, chunk::BlockCrcs};

use super::frame::{Frame, VERSIONS, common_version};

/// A stream between two executors. Reads and writes that take longer than it allows fail with `TimedOut`.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Read at once where frames are expected: what is behind them already is copied once more.
const READ_BYTES: usize = 4 << 10;
/// Memory for what is said that a connection keeps when it was.
const OUTBOX_KEPT_BYTES: usize = 4 << 10;
const NOT_ANNOUNCED: &str = "what follows a frame is what it announces";

/// See the module.
pub struct Connection {
    mouth: Mouth,
    ears: Ears,
}

/// The half of a connection that says things.
pub struct Mouth {
    stream: WriteHalf<Box<dyn Stream>>,
    peer: Peer,
    /// What is said with what is said next.
    outbox: Vec<u8>,
}

/// The half of a connection that hears things.
pub struct Ears {
    stream: ReadHalf<Box<dyn Stream>>,
    peer: Peer,
    /// Read and not taken yet, from `taken` on.
    inbox: Vec<u8>,
    taken: usize,
}

/// What the other end is called in errors.
#[derive(Clone)]
struct Peer(Rc<str>);

impl Connection {
    /// Greets the other end, and hears whether the two can work together.
    pub async fn begin(stream: Box<dyn Stream>, peer: String) -> Result<Self, Error> {
        let (peer, (reads, writes)) = (Peer(peer.into()), stream.split());
        let mouth = Mouth { stream: writes, peer: peer.clone(), outbox: Vec::new() };
        let mut connection = Self { mouth, ears: Ears { stream: reads, peer, inbox: Vec::new(), taken: 0 } };
        let own = Frame::Hello { versions: VERSIONS, crc_block: CRC_BLOCK as u32 };
        connection.send(&own, &[]).await?;
        let peer = connection.ears.peer.clone();
        match connection.receive().await? {
            Some(Frame::Hello { versions, crc_block }) if u64::from(crc_block) == CRC_BLOCK => {
                match common_version(VERSIONS, versions) {
                    Some(_) => Ok(connection),
                    None => Err(peer.stranger(&format!(
                        "speaks versions {} to {} of the protocol, this executor {} to {}; update the older one",
                        versions.0, versions.1, VERSIONS.0, VERSIONS.1
                    ))),
                }
            }
            Some(Frame::Hello { crc_block, .. }) => {
                Err(peer.stranger(&format!("has CRC blocks of {crc_block} bytes instead of {CRC_BLOCK}")))
            }
            Some(_) => Err(peer.violation("does not begin with a greeting")),
            None => Err(peer.lost("it closed the connection")),
        }
    }

    /// The two halves, for whoever says one thing while it hears another. Pings come through then: whoever hears one
    /// answers it.
    pub fn halves(self) -> (Mouth, Ears) {
        (self.mouth, self.ears)
    }

    /// Says something, with the bytes that follow it.
    pub async fn send(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Error> {
        self.mouth.send(frame, payload).await
    }

    /// Says it with what is said next: small things travel together.
    pub fn put(&mut self, frame: &Frame, payload: &[u8]) {
        self.mouth.put(frame, payload);
    }

    /// What the other end says next, but for pings, which are answered here; nothing when it has closed the connection
    /// behind its last frame. What follows the frame is to be taken before the next one.
    pub async fn receive(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            match self.ears.receive().await? {
                Some(Frame::Ping { nonce }) => self.send(&Frame::Pong { nonce }, &[]).await?,
                frame => return Ok(frame),
            }
        }
    }

    /// What the other end has said already, as of [`receive`](Self::receive), and nothing where it has to be waited for. Pings
    /// come through: whoever hears one answers it.
    pub fn heard(&mut self) -> Option<Result<Option<Frame>, Error>> {
        self.ears.receive().now_or_never()
    }

    /// The other end broke the protocol; says how.
    pub fn violation(&self, how: &str) -> Error {
        self.ears.violation(how)
    }

    /// The other end took too long.
    pub fn late(&self) -> Error {
        self.ears.late()
    }
}

impl Mouth {
    /// Says it with what is said next.
    fn put(&mut self, frame: &Frame, payload: &[u8]) {
        assert_eq!(frame.payload_bytes(), payload.len() as u64, "{NOT_ANNOUNCED}");
        frame.encode(&mut self.outbox);
        self.outbox.extend(payload);
    }

    /// Says something, with the bytes that follow it.
    pub async fn send(&mut self, frame: &Frame, payload: &[u8]) -> Result<(), Error> {
        assert_eq!(frame.payload_bytes(), payload.len() as u64, "{NOT_ANNOUNCED}");
        let mut outbox = std::mem::take(&mut self.outbox);
        frame.encode(&mut outbox);
        let sent = async {
            self.stream.write_all(&outbox).await?;
            self.stream.write_all(payload).await?;
            self.stream.flush().await
        };
        let sent = sent.await;
        if outbox.capacity() <= OUTBOX_KEPT_BYTES {
            outbox.clear();
            self.outbox = outbox;
        }
        sent.map_err(|error| self.peer.failed(&error))
    }
}

impl Ears {
    /// What the other end says next; nothing when it has closed the connection behind its last frame. What follows the frame
    /// is to be taken before the next one. May be dropped while it waits.
    pub async fn receive(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let decoded = Frame::decode(&self.inbox[self.taken..]);
            if let Some((frame, len)) = decoded.map_err(|error| self.violation(&format!("sent {error}")))? {
                self.taken += len;
                return Ok(Some(frame));
            }
            self.inbox.drain(..self.taken);
            self.taken = 0;
            let had = self.inbox.len();
            let read = poll_fn(|context| {
                self.inbox.resize(had + READ_BYTES, 0);
                let read = Pin::new(&mut self.stream).poll_read(context, &mut self.inbox[had..]);
                self.inbox.truncate(if let Poll::Ready(Ok(read)) = read { had + read } else { had });
                read
            });
            let read = read.await;
            match read {
                Ok(0) if had == 0 => return Ok(None),
                // Inside TLS, others could have cut it off; between two frames nothing is lost by that but the connection.
                Err(error) if had == 0 && error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Ok(0) => return Err(self.lost("it closed the connection in the middle of a frame")),
                Ok(_) => (),
                Err(error) => return Err(self.peer.failed(&error)),
            }
        }
    }

    /// The bytes that follow a frame, as many as `into` has room for; their CRCs go into `crcs`.
    pub async fn take_payload(&mut self, into: &mut [u8], crcs: &mut BlockCrcs) -> Result<(), Error> {
        let had = into.len().min(self.inbox.len() - self.taken);
        let (first, mut rest) = into.split_at_mut(had);
        first.copy_from_slice(&self.inbox[self.taken..self.taken + had]);
        self.taken += had;
        crcs.update(first);
        while !rest.is_empty() {
            let read = self.stream.read(rest).await.map_err(|error| self.peer.failed(&error))?;
            if read == 0 {
                return Err(self.lost("it closed the connection in the middle of a chunk"));
            }
            let (new, later) = rest.split_at_mut(read);
            crcs.update(new);
            rest = later;
        }
        Ok(())
    }

    /// The other end broke the protocol; says how.
    pub fn violation(&self, how: &str) -> Error {
        self.peer.violation(how)
    }

    /// The other end took too long, although something moved.
    pub fn late(&self) -> Error {
        self.peer.late()
    }

    /// The connection cannot be used any more; says why.
    pub fn lost(&self, why: &str) -> Error {
        self.peer.lost(why)
    }
}

impl Peer {
    /// Only an update makes the two work together; says why.
    fn stranger(&self, why: &str) -> Error {
        Error::fatal(Code::ProtocolViolation, format!("{} {why}", self.0))
    }

    fn violation(&self, how: &str) -> Error {
        Error::retry(Code::ProtocolViolation, format!("{} {how}", self.0))
    }

    fn lost(&self, why: &str) -> Error {
        Error::retry(Code::ConnectionLost, format!("the connection to {} is lost: {why}", self.0))
    }

    fn late(&self) -> Error {
        Error::retry(Code::Stalled, format!("hardly anything moves on the connection to {}", self.0))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        if error.kind() == ErrorKind::TimedOut {
            return Error::retry(Code::Stalled, format!("nothing moves on the connection to {}", self.0));
        }
        self.lost(&error.to_string())
    }
}
