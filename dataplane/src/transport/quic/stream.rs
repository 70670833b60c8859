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

use super::{endpoint::Endpoint, link::Link};

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

    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.broken |= matches!(result, Poll::Ready(Err(_)));
        result
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
