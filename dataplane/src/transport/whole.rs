//! A small object of another executor, which came as a whole with the answer to its opening: nothing more needs to be asked.

use std::rc::Rc;

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, CRC_BLOCK, Chunk, Code, Error, Object, Source, chunk::BlockCrcs, contract::Sums,
};

/// See the module.
pub struct Whole {
    object: Object,
    bytes: Box<[u8]>,
}

impl Whole {
    /// An object that has these bytes, and had them until the last one was read.
    pub fn new(object: Object, bytes: Box<[u8]>) -> Self {
        Self { object, bytes }
    }

    fn bytes(&self, range: ByteRange) -> Result<&[u8], Error> {
        let found = usize::try_from(range.start()).ok().zip(usize::try_from(range.end()).ok());
        found
            .and_then(|(start, end)| self.bytes.get(start..end))
            .ok_or_else(|| Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")))
    }
}

impl Source for Whole {
    fn object(&self) -> &Object {
        &self.object
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let bytes = self.bytes(range)?;
            let mut chunk = pool.take(bytes.len()).await;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            buffer[..bytes.len()].copy_from_slice(bytes);
            let mut crcs = BlockCrcs::default();
            crcs.update(bytes);
            chunk.set_crcs(crcs);
            Ok(chunk)
        }
        .boxed_local()
    }

    /// Its owner has looked behind the last byte.
    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async {}.boxed_local()
    }
}

impl Sums for Whole {
    fn crcs<'a>(&'a self, range: ByteRange, _pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        async move { Ok(self.bytes(range)?.chunks(CRC_BLOCK as usize).map(crc32fast::hash).collect()) }.boxed_local()
    }
}
