//! Chunks that must be written in the order of their offsets, though they are read side by side.
//!
//! Whoever has read a chunk waits for its turn, writes it, and passes the turn on. On the way the bytes can be hashed:
//! nobody can read them back. A write that fails breaks the stream: what was taken cannot be taken back.

use std::cell::{Cell, RefCell};

use staccato_protocols::{Chunk, Destination, Error, Interrupt};
use tokio::sync::Notify;

use crate::attempt::{ChecksumKind, hash::Hasher};

/// The order of one attempt's writes.
pub(super) struct Order {
    /// Whose turn it is: the chunk that begins here.
    next: Cell<u64>,
    hasher: RefCell<Option<Hasher>>,
    changed: Notify,
    /// Raised when no turn will be passed on any more.
    over: Interrupt,
}

impl Order {
    /// From the front. `over` cuts every wait.
    pub fn new(hash: Option<ChecksumKind>, over: Interrupt) -> Self {
        Self { next: Cell::new(0), hasher: RefCell::new(hash.map(Hasher::new)), changed: Notify::new(), over }
    }

    /// Writes a chunk when its turn has come.
    pub async fn write(&self, destination: &dyn Destination, offset: u64, chunk: Chunk) -> Result<(), Refusal> {
        self.over.cut(self.turn(offset)).await.map_err(Refusal::NotTaken)?;
        let end = offset + chunk.len() as u64;
        if let Some(hasher) = &mut *self.hasher.borrow_mut() {
            hasher.update(&chunk);
        }
        if !chunk.is_empty() {
            destination.write(offset, chunk).await.map_err(Refusal::Broken)?;
        }
        self.next.set(end);
        self.changed.notify_waiters();
        Ok(())
    }

    /// The checksum of what was written; none where none was wanted.
    pub fn finish(&self) -> Option<Vec<u8>> {
        self.hasher.borrow_mut().take().map(Hasher::finish)
    }

    async fn turn(&self, offset: u64) -> Result<(), Error> {
        loop {
            // One task at a time runs on a lane: nothing changes between the look and the wait.
            let changed = self.changed.notified();
            if self.next.get() == offset {
                return Ok(());
            }
            changed.await;
        }
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
    use std::rc::Rc;

    use futures_util::{FutureExt, future::LocalBoxFuture};

    use super::*;
    use staccato_protocols::Code;

    /// Notes what it is given; breaks at an offset.
    #[derive(Default)]
    struct Stream {
        offsets: RefCell<Vec<u64>>,
        breaks_at: Option<u64>,
    }

    impl Destination for Stream {
        fn write(&self, offset: u64, _chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
            self.offsets.borrow_mut().push(offset);
            let broken = self.breaks_at == Some(offset);
            async move { if broken { Err(Error::retry(Code::ConnectionLost, "it broke")) } else { Ok(()) } }
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
    fn chunks_that_were_read_in_any_order_are_written_from_the_front_and_hashed() {
        let (order, stream) = (Order::new(Some(ChecksumKind::Md5), Interrupt::default()), Stream::default());
        let mut last = order.write(&stream, 6, Chunk::zero(1)).boxed_local();
        let mut middle = order.write(&stream, 2, Chunk::zero(4)).boxed_local();
        assert!((&mut last).now_or_never().is_none() && (&mut middle).now_or_never().is_none());
        assert!(order.write(&stream, 0, Chunk::zero(2)).now_or_never().is_some_and(|written| written.is_ok()));
        assert!((&mut last).now_or_never().is_none(), "it is not its turn");
        assert!(middle.now_or_never().is_some() && last.now_or_never().is_some());
        assert_eq!(*stream.offsets.borrow(), [0, 2, 6]);
        let mut hasher = Hasher::new(ChecksumKind::Md5);
        hasher.update(&Chunk::zero(7));
        assert_eq!(order.finish(), Some(hasher.finish()));
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
