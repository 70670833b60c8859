//! A destination that a plug-in writes, as a lane does.

use std::{rc::Rc, sync::Arc};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{area::SLOT_BYTES, handle::Handle, message::Request};
use crate::{
    BufferPool, ByteRange, Chunk, Code, Destination, Error, Interrupt,
    contract::{OpenDestination, Takes},
};

/// See the module.
pub(super) struct PluginDestination {
    pub handle: Arc<Handle>,
    pub takes: Takes,
}

/// What is under way to a destination is not given up: its end is known when a plug-in answers, or has ended.
fn never() -> Interrupt {
    Interrupt::default()
}

impl PluginDestination {
    pub fn into_open(self) -> OpenDestination {
        Box::new(move |_lane| async move { Ok(Rc::new(self) as Rc<dyn Destination>) }.boxed_local())
    }

    async fn write_chunk(&self, offset: u64, chunk: Chunk) -> Result<(), Error> {
        let range = ByteRange::at(offset, chunk.len() as u64);
        let range = range.ok_or_else(|| Error::fatal(Code::Internal, "objects end before the largest offset"))?;
        if chunk.is_zero() && self.takes == Takes::Anywhere {
            return self.make_zero(range, false).await;
        }
        let zeros = if chunk.is_zero() { vec![0; chunk.len().min(SLOT_BYTES as usize)] } else { Vec::new() };
        for piece in range.pieces(SLOT_BYTES) {
            let slot = self.handle.slot(&never()).await?;
            let start = (piece.start() - offset) as usize;
            let bytes = match chunk.bytes() {
                Some(bytes) => &bytes[start..start + piece.len() as usize],
                None => &zeros[..piece.len() as usize],
            };
            let copied = slot.copy_from(bytes);
            copied.map_err(|error| Error::from_io(&error, Code::WriteFailed, "hand bytes to a plug-in"))?;
            let (object, length, at) = (self.handle.number(), piece.len(), slot.start());
            let write = Request::Write { object, offset: piece.start(), length, at };
            self.handle.ask(&write, &never(), slot).await?;
        }
        Ok(())
    }

    async fn make_zero(&self, range: ByteRange, untouched: bool) -> Result<(), Error> {
        let (object, offset, length) = (self.handle.number(), range.start(), range.len());
        self.handle.ask(&Request::Zero { object, offset, length, untouched }, &never(), ()).await.map(drop)
    }

    async fn read_chunk(&self, range: ByteRange, pool: &BufferPool) -> Result<Chunk, Error> {
        let mut chunk = pool.take(range.len() as usize).await;
        for piece in range.pieces(SLOT_BYTES) {
            let slot = self.handle.slot(&never()).await?;
            let (object, offset, length, at) = (self.handle.number(), piece.start(), piece.len(), slot.start());
            let (answer, slot) =
                self.handle.ask(&Request::ReadBack { object, offset, length, at }, &never(), slot).await?;
            if answer.length != Some(length) {
                return Err(self.handle.fault(format!("read back {:?} of {length} bytes", answer.length)));
            }
            let start = (piece.start() - range.start()) as usize;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            let copied = slot.copy_to(&mut buffer[start..start + length as usize], 0);
            copied.map_err(|error| Error::from_io(&error, Code::ReadFailed, "read what a plug-in gave"))?;
        }
        Ok(chunk)
    }
}

impl Destination for PluginDestination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.write_chunk(offset, chunk).boxed_local()
    }

    fn zero(&self, range: ByteRange, untouched: bool) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.make_zero(range, untouched).boxed_local()
    }

    fn read_back<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.read_chunk(range, pool).boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move { self.handle.ask(&Request::Sync { object: self.handle.number() }, &never(), ()).await.map(drop) }
            .boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // What it holds is the session's.
        async move { drop(self) }.boxed_local()
    }
}
