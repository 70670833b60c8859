//! One QUIC connection: its state machine, and who waits for it.

use std::{
    collections::HashMap,
    io,
    ops::RangeInclusive,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use quinn_proto::{
    Connection, ConnectionError, ConnectionHandle, Dir, Event, FinishError, ReadError, StreamEvent, StreamId, VarInt,
    WriteError,
};
use rustls::pki_types::CertificateDer;

use super::{
    super::{ticket::KeyDigest, tls},
    config::varint,
    pool::{PIECE_BYTES, Pieces},
    window::{Room, Windows},
};

/// Said to the other end when a connection or a stream ends in good order.
pub const GOODBYE: VarInt = VarInt::from_u32(0);
/// Said when a stream ends in the middle of something.
const BROKEN_OFF: VarInt = VarInt::from_u32(1);
/// Most bytes that were written and have not left. More would only leave the core's cache before the network wants them.
const UNSENT_BYTES_MAX: u64 = 512 << 10;
/// What is shorter than that has memory of its own, and does not hold a piece of the pool.
const SMALL_BYTES: usize = PIECE_BYTES / 8;

/// See the module.
pub struct Link {
    pub handle: ConnectionHandle,
    pub connection: Connection,
    pub state: State,
    /// Since when it is in this state.
    pub since: Instant,
    /// Streams that somebody holds.
    streams: HashMap<StreamId, Waiting>,
    /// Streams that nobody holds any more, and whose last bytes are on their way.
    finishing: Vec<StreamId>,
    /// What leaves waits in it.
    pieces: Pieces,
    /// Bytes that were written since everything had left, and that had left the socket then.
    unsent: u64,
    sent_before: u64,
    /// Bytes that were read.
    read: u64,
    windows: Windows,
    room: Room,
    /// Since when it has no stream.
    pub unused_since: Instant,
    /// Datagrams that had come when it was last looked, and when there was one more than before.
    heard: u64,
    pub heard_at: Instant,
    /// Who waits for the handshake, or for leave to open a stream.
    openers: Vec<Waker>,
    /// Whether the driver knows that there is something to do.
    pub ready: bool,
    /// When quinn wants to be told the time.
    pub timeout: Option<Instant>,
}

/// How far a connection has come.
pub enum State {
    /// The two find out who is at the other end.
    Shaking,
    /// The other end showed a certificate with this key.
    Open(KeyDigest),
    /// It ended, or never began.
    Lost(Lost),
}

/// Why a connection ended; one reason for each of its streams.
#[derive(Clone, Debug)]
pub struct Lost {
    pub kind: io::ErrorKind,
    pub reason: String,
}

/// Who waits for a stream, and how long still.
#[derive(Default)]
struct Waiting {
    reader: Wait,
    writer: Wait,
    /// Everything was read.
    ended: bool,
    /// The other end does not read any more.
    stopped: bool,
}

#[derive(Default)]
struct Wait {
    waker: Option<Waker>,
    until: Option<Instant>,
}

impl Wait {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits, unless it has been too long already.
    fn pend<T>(&mut self, waker: &Waker, patience: Duration) -> Poll<io::Result<T>> {
        let now = Instant::now();
        if now >= *self.until.get_or_insert(now + patience) {
            self.until = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long")));
        }
        if !self.waker.as_ref().is_some_and(|waits| waits.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

impl Link {
    pub fn new(handle: ConnectionHandle, connection: Connection, pieces: Pieces, now: Instant) -> Self {
        Self {
            handle,
            connection,
            state: State::Shaking,
            since: now,
            streams: HashMap::new(),
            finishing: Vec::new(),
            pieces,
            unsent: 0,
            sent_before: 0,
            read: 0,
            windows: Windows::new(now),
            room: Room { receive: 0, send: 0 },
            unused_since: now,
            heard: 0,
            heard_at: now,
            openers: Vec::new(),
            ready: false,
            timeout: None,
        }
    }

    /// Whether it has nothing to carry, nor to finish.
    pub fn is_unused(&self) -> bool {
        self.streams.is_empty() && self.finishing.is_empty()
    }

    /// Whether last bytes are on their way.
    pub fn is_finishing(&self) -> bool {
        !self.finishing.is_empty() && !matches!(self.state, State::Lost(_))
    }

    /// Tells those who wait what has happened; the streams that the other end has opened.
    pub fn handle_events(&mut self, now: Instant) -> Vec<StreamId> {
        let mut opened = Vec::new();
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.connected(now),
                Event::ConnectionLost { reason } => self.lose(now, Lost::from(reason)),
                Event::Stream(StreamEvent::Opened { dir }) => {
                    opened.extend(std::iter::from_fn(|| self.connection.streams().accept(dir)));
                }
                Event::Stream(StreamEvent::Readable { id }) => self.with(id, |waiting| waiting.reader.wake()),
                Event::Stream(StreamEvent::Writable { id }) => self.with(id, |waiting| waiting.writer.wake()),
                Event::Stream(StreamEvent::Available { .. }) => self.openers.drain(..).for_each(Waker::wake),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    // What was not sent yet is of no use.
                    let _ = self.connection.send_stream(id).reset(BROKEN_OFF);
                    self.with(id, |waiting| {
                        waiting.stopped = true;
                        waiting.writer.wake();
                    });
                    self.finished(id, now);
                }
                Event::Stream(StreamEvent::Finished { id }) => self.finished(id, now),
                Event::HandshakeDataReady | Event::DatagramReceived | Event::DatagramsUnblocked => {}
            }
        }
        opened
    }

    fn connected(&mut self, now: Instant) {
        match self.peer() {
            Ok(key) => {
                (self.state, self.since) = (State::Open(key), now);
                self.openers.drain(..).for_each(Waker::wake);
            }
            Err(error) => {
                self.connection.close(now, GOODBYE, Vec::new().into());
                self.lose(now, Lost { kind: io::ErrorKind::InvalidData, reason: error.to_string() });
            }
        }
    }

    /// The key in the certificate of the other end. That it is valid was looked at during the handshake.
    fn peer(&self) -> io::Result<KeyDigest> {
        let identity = self.connection.crypto_session().peer_identity();
        let chain = identity.and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        tls::key_digest(leaf.ok_or_else(|| io::Error::other("it shows no certificate"))?)
    }

    /// The connection is of no use any more: everybody who waits hears so.
    pub fn lose(&mut self, now: Instant, lost: Lost) {
        if matches!(self.state, State::Lost(_)) {
            return;
        }
        (self.state, self.since) = (State::Lost(lost), now);
        self.finishing.clear();
        self.openers.drain(..).for_each(Waker::wake);
        for waiting in self.streams.values_mut() {
            waiting.reader.wake();
            waiting.writer.wake();
        }
    }

    /// Ends it, and says why to the other end.
    pub fn close(&mut self, now: Instant, reason: &'static str) {
        self.connection.close(now, GOODBYE, bytes::Bytes::from_static(reason.as_bytes()));
        self.lose(now, Lost { kind: io::ErrorKind::ConnectionAborted, reason: reason.to_owned() });
    }

    fn with(&mut self, id: StreamId, what: impl FnOnce(&mut Waiting)) {
        if let Some(waiting) = self.streams.get_mut(&id) {
            what(waiting);
        }
    }

    fn finished(&mut self, id: StreamId, now: Instant) {
        self.finishing.retain(|finishing| *finishing != id);
        self.note_unused(now);
    }

    fn note_unused(&mut self, now: Instant) {
        if self.is_unused() {
            self.unused_since = now;
        }
    }

    /// Opens a stream when the handshake is over and the other end allows one more.
    pub fn poll_open(&mut self, waker: &Waker) -> Poll<Result<StreamId, Lost>> {
        match &self.state {
            State::Lost(lost) => return Poll::Ready(Err(lost.clone())),
            State::Open(_) => {
                if let Some(id) = self.connection.streams().open(Dir::Bi) {
                    self.hold(id);
                    return Poll::Ready(Ok(id));
                }
            }
            State::Shaking => {}
        }
        if !self.openers.iter().any(|waiting| waiting.will_wake(waker)) {
            self.openers.push(waker.clone());
        }
        Poll::Pending
    }

    /// Somebody holds this stream from now on.
    pub fn hold(&mut self, id: StreamId) {
        self.streams.insert(id, Waiting::default());
    }

    /// Reads what is there, as much as `into` has room for: the one copy on its way. The second value says whether the
    /// other end should hear that there is room again.
    pub fn poll_read(
        &mut self,
        id: StreamId,
        into: &mut [u8],
        waker: &Waker,
        patience: Duration,
    ) -> (Poll<io::Result<usize>>, bool) {
        let waiting = self.streams.get_mut(&id).expect("it is held");
        if waiting.ended || into.is_empty() {
            return (Poll::Ready(Ok(0)), false);
        }
        let mut stream = self.connection.recv_stream(id);
        let Ok(mut chunks) = stream.read(true) else {
            return (Poll::Ready(Err(io::ErrorKind::NotConnected.into())), false);
        };
        let mut got = 0;
        let stopped_by = loop {
            if got == into.len() {
                break None;
            }
            match chunks.next(into.len() - got) {
                Ok(Some(chunk)) => {
                    into[got..got + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    got += chunk.bytes.len();
                }
                Ok(None) => {
                    waiting.ended = true;
                    break None;
                }
                Err(error) => break Some(error),
            }
        };
        let tell = chunks.finalize().should_transmit();
        self.read += got as u64;
        let result = match (stopped_by, &self.state) {
            _ if got > 0 || waiting.ended => Poll::Ready(Ok(got)),
            (Some(ReadError::Reset(_)), _) => {
                waiting.ended = true;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the other end broke off")))
            }
            (_, State::Lost(lost)) => Poll::Ready(Err(lost.clone().into())),
            _ => waiting.reader.pend(waker, patience),
        };
        if result.is_ready() {
            waiting.reader.until = None;
        }
        (result, tell)
    }

    /// Takes as much of `bytes` as there is room for.
    pub fn poll_write(
        &mut self,
        id: StreamId,
        bytes: &[u8],
        waker: &Waker,
        patience: Duration,
    ) -> Poll<io::Result<usize>> {
        let waiting = self.streams.get_mut(&id).expect("it is held");
        if let State::Lost(lost) = &self.state {
            return Poll::Ready(Err(lost.clone().into()));
        }
        if waiting.stopped {
            return Poll::Ready(Err(not_read()));
        }
        let mut taken = 0;
        while taken < bytes.len() && self.unsent < UNSENT_BYTES_MAX {
            let piece = &bytes[taken..bytes.len().min(taken + PIECE_BYTES)];
            let mut stream = self.connection.send_stream(id);
            let written = match piece.len() {
                0..SMALL_BYTES => stream.write(piece),
                _ => stream.write_chunks(&mut [self.pieces.copy(piece)]).map(|written| written.bytes),
            };
            match written {
                Ok(written) => {
                    taken += written;
                    self.unsent += written as u64;
                }
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(_)) => return Poll::Ready(Err(not_read())),
                Err(WriteError::ClosedStream) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return waiting.writer.pend(waker, patience);
        }
        waiting.writer.until = None;
        Poll::Ready(Ok(taken))
    }

    /// Something has left: how much waits, and whether more may be written.
    pub fn note_sent(&mut self, sent_bytes: u64) {
        let left = if self.connection.has_pending_retransmits() {
            // Heads are counted, too, and what was sent twice: an estimate, until everything has left.
            self.unsent.saturating_sub(sent_bytes - self.sent_before)
        } else {
            0
        };
        if self.unsent >= UNSENT_BYTES_MAX && left < UNSENT_BYTES_MAX {
            self.streams.values_mut().for_each(|waiting| waiting.writer.wake());
        }
        (self.unsent, self.sent_before) = (left, sent_bytes);
    }

    /// Gives it the room that its path takes, within these bounds, when a round trip is over; `at_once`: because others have
    /// come or gone.
    pub fn make_room(&mut self, bounds: &RangeInclusive<u64>, at_once: bool, now: Instant) {
        let round_trip = self.connection.rtt();
        if self.windows.is_due(round_trip, now) {
            let allowed = self.connection.congestion_state().window();
            self.windows.handle_round(self.read, allowed, round_trip, now);
        } else if !at_once {
            return;
        }
        let room = self.windows.room(bounds);
        if room.receive != self.room.receive {
            self.connection.set_receive_window(varint(room.receive));
        }
        if room.send != self.room.send {
            self.connection.set_send_window(room.send);
        }
        self.room = room;
    }

    /// Nothing more will be written.
    pub fn finish(&mut self, id: StreamId) -> io::Result<()> {
        match self.connection.send_stream(id).finish() {
            // Closed: that was said before, or the other end does not read.
            Ok(()) | Err(FinishError::ClosedStream | FinishError::Stopped(_)) => Ok(()),
        }
    }

    /// Nobody holds the stream any more. What was written still leaves, unless the stream was given up (`broken`).
    pub fn release(&mut self, id: StreamId, broken: bool, now: Instant) {
        let Some(waiting) = self.streams.remove(&id) else { return };
        if !matches!(self.state, State::Lost(_)) {
            if !waiting.ended {
                let _ = self.connection.recv_stream(id).stop(GOODBYE);
            }
            if broken {
                let _ = self.connection.send_stream(id).reset(BROKEN_OFF);
            } else if !waiting.stopped {
                let _ = self.finish(id);
                self.finishing.push(id);
            }
        }
        self.note_unused(now);
    }

    /// Looks whether something was heard of the other end.
    pub fn listen(&mut self, now: Instant) {
        let heard = self.connection.stats().udp_rx.datagrams;
        if std::mem::replace(&mut self.heard, heard) != heard {
            self.heard_at = now;
        }
    }

    /// Wakes whoever has waited too long.
    pub fn wake_impatient(&mut self, now: Instant) {
        for waiting in self.streams.values_mut() {
            for wait in [&mut waiting.reader, &mut waiting.writer] {
                if wait.until.is_some_and(|until| now >= until) {
                    wait.wake();
                }
            }
        }
    }
}

fn not_read() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the other end does not read any more")
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        /// Codes of TLS alerts (RFC 9001, 4.8).
        const CRYPTO: std::ops::Range<u64> = 0x100..0x200;
        let kind = match &error {
            ConnectionError::TimedOut => io::ErrorKind::TimedOut,
            ConnectionError::TransportError(error) if CRYPTO.contains(&u64::from(error.code)) => {
                io::ErrorKind::InvalidData
            }
            ConnectionError::ConnectionClosed(close) if CRYPTO.contains(&u64::from(close.error_code)) => {
                io::ErrorKind::InvalidData
            }
            // In good order, but streams that are not over are cut off by it.
            ConnectionError::ApplicationClosed(_) => io::ErrorKind::UnexpectedEof,
            ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::ConnectionAborted,
        };
        Self { kind, reason: error.to_string() }
    }
}

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        Self::new(lost.kind, lost.reason)
    }
}
