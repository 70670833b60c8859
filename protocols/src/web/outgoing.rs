//! What is sent with a request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::{Chunk, Code, Error};

/// So much is copied out of a chunk at a time: it stays in a core's own cache until it is sent.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that wait to be sent.
const PIECES: usize = 2;

/// The body of a request.
pub(crate) enum Outgoing {
    /// Nothing.
    Empty,
    /// A document.
    Whole(Bytes),
    /// Bytes that come while it is sent.
    Fed {
        /// Where they come from; nothing marks the end. Ending without that mark breaks the connection off.
        pieces: mpsc::Receiver<Option<Bytes>>,
        /// How many are still to come, where that is known.
        left: Option<u64>,
    },
}

/// Feeds a body while it is sent. Dropped before its end, it breaks the request off.
pub(crate) struct Feeder {
    pieces: mpsc::Sender<Option<Bytes>>,
}

impl Outgoing {
    /// A body of `length` bytes (sent in chunks, where that is not known), and who feeds it.
    pub fn fed(length: Option<u64>) -> (Feeder, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (Feeder { pieces: sender }, Self::Fed { pieces: receiver, left: length })
    }

    /// A document.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Feeder {
    /// Feeds bytes; `sent` is told how many, piece by piece, as they leave. Fails when nobody takes them any more: the
    /// connection broke, or the server has answered already.
    pub async fn feed(&self, bytes: &[u8], mut sent: impl FnMut(usize)) -> Result<(), Abandoned> {
        for piece in bytes.chunks(PIECE_BYTES) {
            self.pieces.send(Some(Bytes::copy_from_slice(piece))).await.map_err(|_| Abandoned)?;
            sent(piece.len());
        }
        Ok(())
    }

    /// Feeds the first `len` bytes of a chunk, also of one without bytes.
    pub async fn feed_chunk(&self, chunk: &Chunk, len: usize, mut sent: impl FnMut(usize)) -> Result<(), Abandoned> {
        static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];
        if let Some(bytes) = chunk.bytes() {
            return self.feed(&bytes[..len], sent).await;
        }
        let mut left = len;
        while left > 0 {
            let piece = left.min(PIECE_BYTES);
            self.pieces.send(Some(Bytes::from_static(&ZEROS[..piece]))).await.map_err(|_| Abandoned)?;
            sent(piece);
            left -= piece;
        }
        Ok(())
    }

    /// Everything was fed.
    pub async fn end(self) {
        // Who has all that was promised does not wait for the mark.
        let _ = self.pieces.send(None).await;
    }
}

/// Nobody takes the body any more; why, the answer tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abandoned;

impl From<Abandoned> for Error {
    fn from(_: Abandoned) -> Self {
        Self::retry(Code::ConnectionLost, "the server stopped taking bytes")
    }
}

/// A body was not fed to its end: what hyper is told, so that it breaks the connection off.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the rest was not to be sent")]
pub(crate) struct BrokenOff;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Fed { left: Some(0), .. } => Poll::Ready(None),
            Self::Fed { pieces, left } => pieces.poll_recv(context).map(|piece| match piece {
                Some(Some(piece)) => {
                    *left = left.map(|left| left.saturating_sub(piece.len() as u64));
                    Some(Ok(Frame::data(piece)))
                }
                Some(None) if left.is_none() => None,
                Some(None) | None => Some(Err(BrokenOff)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Fed { left: Some(0), .. } => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Fed { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Empty => 0,
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Fed { left: Some(left), .. } => *left,
            Self::Fed { left: None, .. } => return SizeHint::default(),
        })
    }
}
