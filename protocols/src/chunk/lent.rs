//! Chunks whose bytes another thread looks at.

use std::{convert::Infallible, ops::Deref, ptr, slice};

use super::{Chunk, show};

/// A chunk that may be [shown](Shown) to another thread: nobody writes to it, and its memory is not given back, before
/// that has seen enough.
///
/// Dropped early it waits for that, and so blocks its thread; who has time asks it [back](Lent::back).
pub struct Lent {
    /// Always there but while it is dropped or given back.
    chunk: Option<Chunk>,
    seen: Option<flume::Receiver<Infallible>>,
}

/// The bytes of a chunk that another thread owns. Dropped, it gives the chunk free.
pub struct Shown {
    /// Null for a chunk without bytes.
    start: *const u8,
    len: usize,
    _seen: flume::Sender<Infallible>,
}

// SAFETY: the bytes are only read, here and where the chunk is (`Lent` hands out no exclusive access), and their memory
// outlives this: `Lent` owns it, does not let go of it before `_seen` is dropped, and keeps it for ever if it is leaked.
unsafe impl Send for Shown {}

impl Lent {
    /// A chunk that is shown to nobody.
    pub fn to_nobody(chunk: Chunk) -> Self {
        Self { chunk: Some(chunk), seen: None }
    }

    /// The chunk, once nobody else looks at it.
    pub async fn back(mut self) -> Chunk {
        if let Some(seen) = &self.seen {
            let Err(_) = seen.recv_async().await;
        }
        self.seen = None;
        self.chunk.take().expect("it is taken once")
    }
}

impl Deref for Lent {
    type Target = Chunk;
    fn deref(&self) -> &Chunk {
        self.chunk.as_ref().expect("it is there until it is given back")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(seen) = &self.seen {
            let Err(_) = seen.recv();
        }
    }
}

impl Chunk {
    /// Shows the chunk's bytes to another thread.
    pub fn lend(self) -> (Lent, Shown) {
        let (shown, seen) = flume::bounded(0);
        let start = self.bytes().map_or(ptr::null(), <[u8]>::as_ptr);
        let shown = Shown { start, len: self.len(), _seen: shown };
        (Lent { chunk: Some(self), seen: Some(seen) }, shown)
    }
}

impl Shown {
    /// Shows every byte to `take`, also those of a chunk without bytes, piece by piece from the front.
    pub fn pieces(&self, take: impl FnMut(&[u8])) {
        let bytes = (!self.start.is_null()).then(|| {
            // SAFETY: a chunk's bytes are initialised, do not move with the chunk (every kind of buffer is memory of its
            // own), and stay as they are for as long as this lives; see `Send` above.
            unsafe { slice::from_raw_parts(self.start, self.len) }
        });
        show(bytes, self.len, take);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use futures_util::FutureExt;

    use super::*;
    use crate::{BufferPool, Runtime, conformance::on_lane};

    fn chunk(bytes: &[u8]) -> Chunk {
        let mut chunk = BufferPool::heap(1 << 20).take(bytes.len()).now_or_never().unwrap();
        chunk.buffer_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        chunk
    }

    fn seen(shown: &Shown) -> Vec<u8> {
        let mut seen = Vec::new();
        shown.pieces(|piece| seen.extend(piece));
        seen
    }

    #[test]
    fn another_thread_sees_the_bytes_and_the_chunk_comes_back_afterwards() {
        for runtime in [Runtime::TokioUring, Runtime::Glommio] {
            on_lane(runtime, async move |_| {
                let (lent, shown) = chunk(b"some bytes").lend();
                assert_eq!(lent.bytes(), Some(&b"some bytes"[..]), "it can be read here, too");
                let viewer = thread::spawn(move || {
                    thread::sleep(Duration::from_millis(5));
                    seen(&shown)
                });
                let chunk = lent.back().await;
                assert_eq!(chunk.bytes(), Some(&b"some bytes"[..]));
                assert_eq!(viewer.join().unwrap(), b"some bytes");
            });
        }
    }

    #[test]
    fn memory_that_is_looked_at_is_not_given_back() {
        let (dropped, is_dropped) = mpsc::channel();
        let (show, shown) = mpsc::channel();
        let owner = thread::spawn(move || {
            let (lent, shown) = chunk(b"some bytes").lend();
            show.send(shown).unwrap();
            drop(lent);
            dropped.send(()).unwrap();
        });
        let shown = shown.recv().unwrap();
        assert!(is_dropped.recv_timeout(Duration::from_millis(5)).is_err(), "it waits");
        assert_eq!(seen(&shown), b"some bytes");
        drop(shown);
        is_dropped.recv().unwrap();
        owner.join().unwrap();
    }

    #[test]
    fn zeros_are_shown_without_being_stored_and_what_nobody_sees_is_there_at_once() {
        let (lent, shown) = Chunk::zero(100_000).lend();
        assert_eq!(seen(&shown), vec![0; 100_000]);
        drop(shown);
        assert!(lent.back().now_or_never().is_some());
        assert!(Lent::to_nobody(Chunk::zero(1)).back().now_or_never().is_some());
    }
}
