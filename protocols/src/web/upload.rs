//! One object in one request: its bytes are written on a lane, and whoever commits ends it.
//!
//! A server makes an object visible when it has all of its bytes. So the last one is held back until the commit, on
//! another thread, asks for it; where nobody does, the connection is broken off, and the server throws away what it
//! has.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, Method};
use tokio::sync::{mpsc, oneshot};

use super::{answer::Head, body::Body, client::Client, outgoing::Abandoned, place::Place};
use crate::{Chunk, Code, Destination, Error, Interrupt};

/// Largest answer to an upload that is looked at.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What an upload is.
pub(crate) struct UploadRequest {
    /// How it is asked for.
    pub method: Method,
    /// Where.
    pub place: Place,
    /// With which headers, besides those that every request has.
    pub headers: HeaderMap,
    /// Length of the object; not known in advance where the source does not tell.
    pub length: Option<u64>,
}

/// What a server said to an upload.
pub(crate) struct Answer {
    /// Status and headers.
    pub head: Head,
    /// The first bytes of what followed.
    pub document: Vec<u8>,
}

/// The session's end of an upload: the right to end it. Dropped, it breaks the upload off.
pub(crate) struct Commit {
    go: flume::Sender<()>,
    answer: flume::Receiver<Result<Answer, Error>>,
}

/// The lane's end, not begun yet.
pub(crate) struct Waiting {
    go: flume::Receiver<()>,
    answer: flume::Sender<Result<Answer, Error>>,
    interrupt: Interrupt,
}

/// Both ends of an upload that has not begun. `interrupt` breaks it off.
pub(crate) fn ends(interrupt: Interrupt) -> (Commit, Waiting) {
    let ((go, told), (tell, answer)) = (flume::bounded(1), flume::bounded(1));
    (Commit { go, answer }, Waiting { go: told, answer: tell, interrupt })
}

impl Commit {
    /// Lets the last byte go, and waits for the answer.
    pub fn finish(&self) -> Result<Answer, Error> {
        // An upload that is over already has answered.
        let _ = self.go.send(());
        self.answer.recv().unwrap_or_else(|_| Err(broken_off()))
    }

    /// The same on a lane, for whoever writes there, too.
    pub async fn finish_on_lane(&self) -> Result<Answer, Error> {
        let _ = self.go.send(());
        self.answer.recv_async().await.unwrap_or_else(|_| Err(broken_off()))
    }
}

fn broken_off() -> Error {
    Error::retry(Code::ConnectionLost, "the upload was broken off")
}

impl Waiting {
    /// Begins the upload on the calling lane, whose runtime is tokio's, and returns what is written to. `refusal` says
    /// what an answer means that comes too early.
    pub fn begin(
        self,
        client: Rc<Client>,
        request: UploadRequest,
        refusal: impl Fn(&Answer) -> Error + 'static,
    ) -> UploadDestination {
        let (chunks, feed) = mpsc::channel(1);
        let failure = Rc::new(RefCell::new(None));
        let seen = failure.clone();
        tokio::task::spawn_local(async move {
            let Self { go, answer, interrupt } = self;
            let result = interrupt.cut(send(&client, &request, feed, &go)).await;
            let failure = match &result {
                Ok(answer) if answer.head.status.is_success() => None,
                Ok(answer) => Some(refusal(answer)),
                Err(error) => Some(error.clone()),
            };
            seen.replace(failure);
            // Who does not wait for it any more needs no answer.
            let _ = answer.send(result);
        });
        UploadDestination { chunks: RefCell::new(Some(chunks)), failure }
    }
}

/// A chunk to send, and who waits until it has left.
struct Piece {
    chunk: Chunk,
    left: oneshot::Sender<()>,
}

async fn send(
    client: &Client,
    request: &UploadRequest,
    mut pieces: mpsc::Receiver<Piece>,
    go: &flume::Receiver<()>,
) -> Result<Answer, Error> {
    let UploadRequest { method, place, headers, length } = request;
    if *length == Some(0) {
        // There is no byte to hold back: the request itself waits.
        while pieces.recv().await.is_some() {}
        go.recv_async().await.map_err(|_| broken_off())?;
        return answer_of(client.send(method.clone(), place, headers, &[]).await?).await;
    }
    let body = client
        .send_fed(method.clone(), place, headers, *length, async |feeder, watch| {
            let mut position = 0;
            // What is held back of the last chunk, where it is known to be the last one.
            let mut held = None;
            watch.set_waits(true);
            while let Some(Piece { chunk, left }) = pieces.recv().await {
                watch.set_waits(false);
                position += chunk.len() as u64;
                let fed = if *length == Some(position) {
                    held = Some(last_byte(&chunk));
                    feeder.feed_chunk(&chunk, chunk.len() - 1, |bytes| watch.sent(bytes)).await
                } else {
                    feeder.feed_chunk(&chunk, chunk.len(), |bytes| watch.sent(bytes)).await
                };
                watch.set_waits(true);
                // Nobody takes more where the server has answered already; why, the answer says.
                if let Err(Abandoned) = fed {
                    return;
                }
                let _ = left.send(());
            }
            if go.recv_async().await.is_err() {
                return;
            }
            watch.set_waits(false);
            if let Some(last) = held {
                let _ = feeder.feed(&[last], |bytes| watch.sent(bytes)).await;
            }
            feeder.end().await;
        })
        .await?;
    answer_of(body).await
}

async fn answer_of(mut body: Body) -> Result<Answer, Error> {
    let document = body.document(ANSWER_BYTES_MAX).await.unwrap_or_default();
    Ok(Answer { head: body.into_head(), document })
}

fn last_byte(chunk: &Chunk) -> u8 {
    chunk.bytes().and_then(<[u8]>::last).copied().unwrap_or(0)
}

/// What a lane writes to, from the front.
pub(crate) struct UploadDestination {
    chunks: RefCell<Option<mpsc::Sender<Piece>>>,
    /// Why the upload is over, where it failed.
    failure: Rc<RefCell<Option<Error>>>,
}

impl UploadDestination {
    async fn over(&self) -> Error {
        // The task that sends is about to say why.
        for _ in 0..100 {
            if let Some(error) = self.failure.borrow().clone() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Error::retry(Code::WriteFailed, "the server answered before it had everything")
    }
}

impl Destination for UploadDestination {
    fn write(&self, _offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let (left, has_left) = oneshot::channel();
            let chunks = self.chunks.borrow().clone();
            let Some(chunks) = chunks else { return Err(Error::fatal(Code::Internal, "the upload is closed")) };
            if chunks.send(Piece { chunk, left }).await.is_err() || has_left.await.is_err() {
                return Err(self.over().await);
            }
            Ok(())
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async {
            self.chunks.take();
            match self.failure.borrow().clone() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        }
        .boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { drop(self) }.boxed_local()
    }
}
