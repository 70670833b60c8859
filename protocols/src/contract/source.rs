//! What is read: objects that were opened, each on one lane.

use std::{rc::Rc, time::Duration};

use futures_util::future::LocalBoxFuture;

#[cfg(doc)]
use super::Overwrite;
#[cfg(doc)]
use crate::Code;
use crate::{BufferPool, ByteRange, Checksum, Chunk, Error, Interrupt, Object, ObjectUrl, Validator};

use super::Options;

/// A source to open.
#[derive(Clone, Debug)]
pub struct SourceRequest {
    /// Where the object is.
    pub url: ObjectUrl,
    /// The client's options for it.
    pub options: Options,
    /// The version that must be read; none at the first open of a transfer.
    pub pinned: Option<Validator>,
    /// Whether every offset and length that will be asked for, but for the object's end, is a multiple of
    /// [`CRC_BLOCK`](crate::CRC_BLOCK); where it is not, a file cannot be read with O_DIRECT.
    pub aligned: bool,
    /// Raised when the bytes are not wanted any more. The opening, and whatever is read or revalidated then and later,
    /// ends soon with [`Code::Canceled`] where the module can do that without leaving I/O
    /// behind: the future of a network's answer may be dropped, that of a ring's operation may not. Modules that answer
    /// within moments anyway need not look at it.
    pub interrupt: Interrupt,
}

/// An opened object, on one lane.
pub trait Source {
    /// The object as it was when it was opened.
    fn object(&self) -> &Object;

    /// Whether the storage knows, without reading, that the whole range is zero (a hole).
    fn is_hole(&self, _range: ByteRange) -> bool {
        false
    }

    /// Whoever tells the CRCs of its blocks without moving their bytes over a network; none where nobody can. What is at
    /// a destination is [repaired](Overwrite::Repair) with them: only blocks that differ are read.
    fn sums(&self) -> Option<&dyn Sums> {
        None
    }

    /// The checksum of the whole object that its storage publishes, if any: what was moved is compared with it.
    fn published(&self) -> Option<Checksum> {
        None
    }

    /// Reads a range into a buffer of the pool. The range is not empty and lies within the object.
    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>>;

    /// The same, at the beginning or within a stretch: most likely what follows the range, up to `stretch_end`, is read
    /// next from this very source, chunk by chunk. A source that sends requests over a network may have all of it come
    /// with one.
    fn read_on<'a>(
        &'a self,
        range: ByteRange,
        stretch_end: u64,
        pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        let _ = stretch_end;
        self.read(range, pool)
    }

    /// What each request costs the server, beside the bytes and the way there and back, as far as opening the object has
    /// shown: how long a stretch should be is decided by it.
    fn request_cost(&self) -> Duration {
        Duration::ZERO
    }

    /// Checks that the object still is the one that was opened; or was, until the last byte that was read left the storage.
    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Gives back what the source holds (descriptors, connections).
    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// A source that knows what its blocks are like, or finds out where they lie.
pub trait Sums {
    /// CRC-32 of each [`CRC_BLOCK`](crate::CRC_BLOCK) of a range, counted from the range's start. The range is not empty
    /// and lies within the object. Memory to find out comes from the pool and is given back before it is answered.
    fn crcs<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>>;
}
