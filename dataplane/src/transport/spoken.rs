//! A stream whose other end has said all that it will ever say, and takes everything: for tests and for the fuzzer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{AsyncRead, AsyncWrite};

pub(super) struct Spoken {
    rest: Vec<u8>,
    piece: usize,
    pauses: bool,
    paused: bool,
    ends: bool,
}

impl Spoken {
    /// Says these bytes, so many at a time at most, and ends.
    pub(super) fn new(said: Vec<u8>, piece: usize) -> Self {
        Self { rest: said, piece, pauses: false, paused: false, ends: true }
    }

    /// Is waited for before each piece, too.
    pub(super) fn with_pauses(self) -> Self {
        Self { pauses: true, ..self }
    }

    /// Is silent, where it would end.
    #[cfg(test)]
    pub(super) fn without_end(self) -> Self {
        Self { ends: false, ..self }
    }
}

impl AsyncRead for Spoken {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.paused = self.pauses && !self.paused;
        if self.paused || self.rest.is_empty() && !self.ends {
            return Poll::Pending;
        }
        let read = self.piece.min(into.len()).min(self.rest.len());
        into[..read].copy_from_slice(&self.rest[..read]);
        self.rest.drain(..read);
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Spoken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
