//! Chunks that must be written in the order of their offsets, though they are read side by side.
//!
//! Whoever has read a chunk waits for its turn, writes it, and passes the turn on. Where the bytes are hashed, that has a
//! turn of its own, so that one chunk is hashed while the one before it is written: nobody can read them back. A write
//! that fails breaks the stream: what was taken cannot be taken back.

use std::{cell::Cell, sync::Arc};

use staccato_protocols::{ByteRange, Chunk, Destination, Error, Interrupt};
use tokio::sync::Notify;

use super::checksums::Checksums;

/// The order of one attempt's writes.
pub(super) struct Order {
    hash: Turn,
    write: Turn,
    checksums: Option<Arc<Checksums>>,
    /// Raised when no turn will be passed on any more.
    over: Interrupt,
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    /// That of the chunk that begins here.
    next: Cell<u64>,
    changed: Notify,
}

impl Turn {
    async fn of(&self, offset: u64) -> Result<(), Error> {
        loop {
            // One task at a time runs on a lane: nothing changes between the look and the wait.
            let changed = self.changed.notified();
            if self.next.get() == offset {
                return Ok(());
            }
            changed.await;
        }
    }

    fn pass_on(&self, offset: u64) {
        self.next.set(offset);
        self.changed.notify_waiters();
    }
}

impl Order {
    /// From the front. `over` cuts every wait.
    pub fn new(checksums: Option<Arc<Checksums>>, over: Interrupt) -> Self {
        Self { hash: Turn::default(), write: Turn::default(), checksums, over }
    }

    /// Writes a chunk when its turn has come.
    pub async fn write(&self, destination: &dyn Destination, offset: u64, mut chunk: Chunk) -> Result<(), Refusal> {
        let range = ByteRange::at(offset, chunk.len() as u64).expect("objects end before the largest offset");
        if let Some(checksums) = &self.checksums {
            self.over.cut(self.hash.of(offset)).await.map_err(Refusal::NotTaken)?;
            let lent = checksums.show(range, chunk);
            self.hash.pass_on(range.end());
            chunk = lent.back().await;
        }
        self.over.cut(self.write.of(offset)).await.map_err(Refusal::NotTaken)?;
        if !chunk.is_empty() {
            destination.write(offset, chunk).await.map_err(Refusal::Broken)?;
        }
        self.write.pass_on(range.end());
        Ok(())
    }
}

/// Why a chunk was not written.
pub(super) enum Refusal {
    /// Its turn did not come; it may be tried again.
    NotTaken(Error),
    /// Some of it may have been written, and nothing can follow.
    Broken(Error),
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, task::Poll};

    use futures_util::{FutureExt, future::LocalBoxFuture};
    use staccato_protocols::{ChecksumKind, Code, Runtime, checksum::Hasher, conformance::on_lane};
    use tokio::sync::Mutex;

    use super::*;

    /// Notes what it is given, and takes its time while it is held; breaks at an offset.
    #[derive(Default)]
    struct Stream {
        offsets: RefCell<Vec<u64>>,
        breaks_at: Option<u64>,
        held: Mutex<()>,
    }

    impl Destination for Stream {
        fn write(&self, offset: u64, _chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
            self.offsets.borrow_mut().push(offset);
            let broken = self.breaks_at == Some(offset);
            async move {
                drop(self.held.lock().await);
                if broken { Err(Error::retry(Code::ConnectionLost, "it broke")) } else { Ok(()) }
            }
            .boxed_local()
        }

        fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
            async { Ok(()) }.boxed_local()
        }

        fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
            async {}.boxed_local()
        }
    }

    #[test]
    fn chunks_that_were_read_in_any_order_are_written_from_the_front() {
        let (order, stream) = (Order::new(None, Interrupt::default()), Stream::default());
        let mut last = order.write(&stream, 6, Chunk::zero(1)).boxed_local();
        let mut middle = order.write(&stream, 2, Chunk::zero(4)).boxed_local();
        assert!((&mut last).now_or_never().is_none() && (&mut middle).now_or_never().is_none());
        assert!(order.write(&stream, 0, Chunk::zero(2)).now_or_never().is_some_and(|written| written.is_ok()));
        assert!((&mut last).now_or_never().is_none(), "it is not its turn");
        assert!(middle.now_or_never().is_some() && last.now_or_never().is_some());
        assert_eq!(*stream.offsets.borrow(), [0, 2, 6]);
    }

    #[test]
    fn a_chunk_is_hashed_while_the_one_before_it_is_written() {
        on_lane(Runtime::TokioUring, async |_| {
            let checksums = Checksums::start(&[ChecksumKind::Md5], 0).unwrap();
            let (order, stream) = (Order::new(Some(checksums.clone()), Interrupt::default()), Stream::default());
            let hold = stream.held.lock().await;
            let mut first = order.write(&stream, 0, Chunk::zero(2)).boxed_local();
            let mut second = order.write(&stream, 2, Chunk::zero(5)).boxed_local();
            let hashed = std::future::poll_fn(|context| {
                let _ = (first.poll_unpin(context), second.poll_unpin(context));
                context.waker().wake_by_ref();
                checksums.of(7).map_or(Poll::Pending, Poll::Ready)
            });
            let mut hasher = Hasher::new(ChecksumKind::Md5);
            hasher.update(&[0; 7]);
            assert_eq!(hashed.await, [hasher.finish()]);
            assert!(stream.offsets.borrow().len() <= 1, "the second is not written before the first");
            drop(hold);
            assert!(first.await.is_ok() && second.await.is_ok());
            assert_eq!(*stream.offsets.borrow(), [0, 2]);
        });
    }

    #[test]
    fn who_waits_for_a_turn_that_never_comes_is_let_go() {
        let over = Interrupt::default();
        let stream = Stream { breaks_at: Some(0), ..Stream::default() };
        let order = Order::new(None, over.clone());
        let mut waiting = order.write(&stream, 2, Chunk::zero(1)).boxed_local();
        assert!((&mut waiting).now_or_never().is_none());
        let broken = order.write(&stream, 0, Chunk::zero(2)).now_or_never().unwrap();
        assert!(matches!(broken, Err(Refusal::Broken(_))));
        assert!((&mut waiting).now_or_never().is_none(), "nothing follows what broke");
        over.raise();
        assert!(matches!(waiting.now_or_never(), Some(Err(Refusal::NotTaken(_)))));
        assert_eq!(*stream.offsets.borrow(), [0]);
    }
}
