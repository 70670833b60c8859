//! A stream of a QUIC connection.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{AsyncRead, AsyncWrite};
use quinn_proto::StreamId;

use super::{
    super::gauge::{Connected, Gauge, Seen},
    endpoint::Endpoint,
    link::Link,
};

/// What quinn assumes before it knows better (RFC 9002, 6.2.2).
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(333);

/// See the module. Dropping it ends it: what was written still leaves, what comes is not wanted.
pub struct QuicStream {
    endpoint: Rc<Endpoint>,
    link: Rc<RefCell<Link>>,
    id: StreamId,
    read_patience: Duration,
    write_patience: Duration,
    /// It failed: what it has not sent is half of something.
    broken: bool,
}

impl QuicStream {
    /// A stream that `link` holds for it already.
    pub fn new(
        endpoint: Rc<Endpoint>,
        link: Rc<RefCell<Link>>,
        id: StreamId,
        read_patience: Duration,
        write_patience: Duration,
    ) -> Self {
        Self { endpoint, link, id, read_patience, write_patience, broken: false }
    }

    /// Looks at its connection, which others may share.
    pub fn gauge(&self) -> Gauge {
        let link = self.link.clone();
        Gauge::new(move || {
            let path = link.borrow().connection.stats().path;
            // The shortest is not told where none was shorter than what is assumed before the first.
            let shortest = if path.min_rtt < ASSUMED_ROUND_TRIP { path.min_rtt } else { path.rtt };
            Some(Seen { round_trip: Some(shortest), sent: path.sent_packets, lost: path.lost_packets })
        })
    }

    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.broken |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl From<QuicStream> for Connected {
    fn from(stream: QuicStream) -> Self {
        Self { gauge: stream.gauge(), stream: Box::new(stream) }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let (result, tell) = this.link.borrow_mut().poll_read(this.id, into, context.waker(), this.read_patience);
        if tell {
            this.endpoint.attend_to(&this.link);
        }
        this.note(result)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.link.borrow_mut().poll_write(this.id, bytes, context.waker(), this.write_patience);
        if matches!(result, Poll::Ready(Ok(_))) {
            this.endpoint.attend_to(&this.link);
        }
        this.note(result)
    }

    /// What was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let finished = this.link.borrow_mut().finish(this.id);
        this.endpoint.attend_to(&this.link);
        Poll::Ready(finished)
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        self.link.borrow_mut().release(self.id, self.broken, Instant::now());
        self.endpoint.attend_to(&self.link);
    }
}
