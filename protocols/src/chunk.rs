//! Chunks of bytes and the pool their buffers come from.
//!
//! A lane has one pool. Its budget is the lane's share of `--memory`: whoever asks for a buffer that does not fit waits
//! until others are given back, so memory is bounded however many attempts the lane serves. On a tokio-uring lane the
//! first buffers are registered with the ring (the kernel pins them once); when they are all out, or more is asked for
//! than one of them holds, aligned heap memory serves, which is used again ([`HeapBuf`]). On a glommio lane buffers come from glommio's arena.
//!
//! Every buffer is initialised from its first byte to its last and aligned to [`ALIGNMENT`], as O_DIRECT needs.

use std::{
    fmt,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_uring::buf::fixed::{FixedBuf, FixedBufPool};

use self::heap::Heap;
use crate::{ByteRange, CRC_BLOCK, Runtime};

pub use aligned::AlignedBuf;
pub use crcs::BlockCrcs;
pub use heap::HeapBuf;
pub use lent::{Lent, Shown};

mod aligned;
mod crcs;
mod heap;
mod lent;

/// Alignment of buffers, offsets and lengths that satisfies O_DIRECT on every device met so far.
pub const ALIGNMENT: usize = 4096;

/// Bytes read from an object: a buffer of the lane's pool, or the knowledge that they are all zero. `!Send`.
pub struct Chunk {
    body: Body,
    len: usize,
    /// Where whoever filled it has computed them.
    crcs: Option<Vec<u32>>,
    waited: Duration,
    /// Behind the body: memory is given back before the right to it.
    _grant: Option<OwnedSemaphorePermit>,
}

/// What holds the bytes of a chunk.
pub enum Body {
    /// All zero; nothing is stored.
    Zero,
    /// A buffer registered with the lane's ring.
    Fixed(FixedBuf),
    /// Aligned heap memory.
    Heap(HeapBuf),
    /// glommio's memory.
    Dma(glommio::io::DmaBuffer),
    /// What glommio has read, in its own memory, which nobody can write to or from: it is copied by whoever wants that.
    Read(glommio::io::ReadResult),
}

impl Chunk {
    /// `len` zero bytes that take no memory.
    pub fn zero(len: usize) -> Self {
        Self { body: Body::Zero, len, crcs: None, waited: Duration::ZERO, _grant: None }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How long it took to get its memory from the pool.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether it is known to be zero without being stored.
    pub fn is_zero(&self) -> bool {
        matches!(self.body, Body::Zero)
    }

    /// The bytes; none for a zero chunk.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.buffer().map(|buffer| &buffer[..self.len])
    }

    /// Shows every byte to `take`, also those of a chunk without bytes, piece by piece from the front.
    pub fn pieces(&self, take: impl FnMut(&[u8])) {
        show(self.bytes(), self.len, take);
    }

    /// The whole buffer, to be filled; none for a zero chunk. At least as long as was asked for, rounded up to
    /// [`ALIGNMENT`].
    pub fn buffer_mut(&mut self) -> Option<&mut [u8]> {
        self.crcs = None;
        if let Body::Read(read) = &self.body {
            let mut copy = glommio::allocate_dma_buffer(read.len().next_multiple_of(ALIGNMENT));
            copy.as_bytes_mut()[..read.len()].copy_from_slice(read);
            self.body = Body::Dma(copy);
        }
        match &mut self.body {
            Body::Zero | Body::Read(_) => None,
            Body::Fixed(buffer) => Some(&mut buffer[..]),
            Body::Heap(buffer) => Some(&mut buffer[..]),
            Body::Dma(buffer) => Some(buffer.as_bytes_mut()),
        }
    }

    fn buffer(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Zero => None,
            Body::Fixed(buffer) => Some(&buffer[..]),
            Body::Heap(buffer) => Some(&buffer[..]),
            Body::Dma(buffer) => Some(buffer.as_bytes()),
            Body::Read(read) => Some(read),
        }
    }

    /// Its bytes are those that glommio has read, all of them. The chunk's own buffer is given up, its right to memory is
    /// not.
    pub fn set_read(&mut self, read: glommio::io::ReadResult) {
        assert!(read.len() >= self.len, "{} bytes are not all of {}", read.len(), self.len);
        self.crcs = None;
        self.body = Body::Read(read);
    }

    /// Says how many bytes of the buffer are valid.
    pub fn set_len(&mut self, len: usize) {
        let capacity = self.buffer().map_or(self.len, <[u8]>::len);
        assert!(len <= capacity, "{len} bytes do not fit a buffer of {capacity}");
        self.crcs = None;
        self.len = len;
    }

    /// Says what its CRCs are, so that they need not be computed again; they count until its bytes are touched.
    pub fn set_crcs(&mut self, crcs: BlockCrcs) {
        let (crcs, bytes) = crcs.finish();
        assert_eq!(bytes, self.len, "CRCs are those of the whole chunk");
        self.crcs = Some(crcs);
    }

    /// Fills the buffer with zeros from the chunk's length to the next multiple of [`ALIGNMENT`] and returns that
    /// multiple.
    pub fn pad(&mut self) -> usize {
        let (len, padded) = (self.len, self.len.next_multiple_of(ALIGNMENT));
        if len < padded
            && let Some(buffer) = self.buffer_mut()
        {
            buffer[len..padded].fill(0);
        }
        padded
    }

    /// CRC-32 of each block, the first of which begins at a multiple of [`CRC_BLOCK`].
    pub fn block_crcs(&self) -> Vec<u32> {
        if let Some(crcs) = &self.crcs {
            return crcs.clone();
        }
        match self.bytes() {
            Some(bytes) => bytes.chunks(CRC_BLOCK as usize).map(crc32fast::hash).collect(),
            None => {
                let range = ByteRange::new(0, self.len as u64).expect("0 is the smallest start");
                range.pieces(CRC_BLOCK).map(|block| zero_crc(block.len())).collect()
            }
        }
    }

    /// Takes the chunk apart for an I/O call; put it back with [`Chunk::from_parts`].
    pub fn into_parts(self) -> (Body, ChunkRest) {
        (self.body, ChunkRest { len: self.len, waited: self.waited, grant: self._grant })
    }

    /// Undoes [`Chunk::into_parts`].
    pub fn from_parts(body: Body, rest: ChunkRest) -> Self {
        Self { body, len: rest.len, crcs: None, waited: rest.waited, _grant: rest.grant }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} {})", self.len, if self.is_zero() { "zero bytes" } else { "bytes" })
    }
}

/// Length and memory grant of a chunk whose body is out for I/O.
pub struct ChunkRest {
    len: usize,
    waited: Duration,
    grant: Option<OwnedSemaphorePermit>,
}

/// Shows bytes to `take`: those that there are, else `len` zeros.
fn show(bytes: Option<&[u8]>, len: usize, mut take: impl FnMut(&[u8])) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    if let Some(bytes) = bytes {
        return take(bytes);
    }
    let mut left = len;
    while left > 0 {
        let piece = left.min(ZEROS.len());
        take(&ZEROS[..piece]);
        left -= piece;
    }
}

/// CRC-32 of `len` zero bytes, `len` at most one block.
pub fn zero_crc(len: u64) -> u32 {
    static ZEROS: [u8; CRC_BLOCK as usize] = [0; CRC_BLOCK as usize];
    use std::sync::OnceLock;
    static WHOLE_BLOCK: OnceLock<u32> = OnceLock::new();
    if len == CRC_BLOCK {
        *WHOLE_BLOCK.get_or_init(|| crc32fast::hash(&ZEROS))
    } else {
        crc32fast::hash(&ZEROS[..len as usize])
    }
}

/// Where a lane's buffers come from. Cheap to clone; `!Send`.
#[derive(Clone)]
pub struct BufferPool {
    shared: Rc<Shared>,
}

struct Shared {
    runtime: Runtime,
    fixed: Option<Registered>,
    /// One permit for each page of the budget that is not registered.
    free: Arc<Semaphore>,
    heap_pages: u32,
    heap: Rc<Heap>,
}

/// Buffers that the ring knows: they take their memory whether they are used or not.
struct Registered {
    pool: FixedBufPool<AlignedBuf>,
    len: usize,
    /// One permit for each buffer.
    free: Arc<Semaphore>,
}

impl BufferPool {
    /// A pool of at most `budget_bytes`. On a tokio-uring lane, `fixed_bytes` of it, half of it at most, are registered
    /// with the ring in buffers of `fixed_len` bytes; when the kernel refuses (RLIMIT_MEMLOCK), heap memory serves and
    /// the refusal is returned, to be said loudly. Call it on the lane, inside its runtime.
    pub fn new(
        runtime: Runtime,
        budget_bytes: usize,
        fixed_bytes: usize,
        fixed_len: usize,
    ) -> (Self, Option<std::io::Error>) {
        // tokio-uring allows 1,024 buffers in one registry.
        let count = fixed_bytes.min(budget_bytes / 2).checked_div(fixed_len).unwrap_or(0).min(1024);
        let (fixed, refusal) = match runtime {
            Runtime::TokioUring if count > 0 => {
                let pool = FixedBufPool::new((0..count).map(|_| AlignedBuf::new(fixed_len)));
                match pool.register() {
                    Ok(()) => (Some(Registered { pool, len: fixed_len, free: Arc::new(Semaphore::new(count)) }), None),
                    Err(error) => (None, Some(error)),
                }
            }
            _ => (None, None),
        };
        let registered_bytes = fixed.as_ref().map_or(0, |_| count * fixed_len);
        let heap_pages = u32::try_from((budget_bytes - registered_bytes) / ALIGNMENT).unwrap_or(u32::MAX).max(1);
        let free = Arc::new(Semaphore::new(heap_pages as usize));
        let heap = Heap::new(heap_pages as usize * ALIGNMENT);
        (Self { shared: Rc::new(Shared { runtime, fixed, free, heap_pages, heap }) }, refusal)
    }

    /// A pool for tests and tools that only needs heap memory.
    pub fn heap(budget_bytes: usize) -> Self {
        Self::new(Runtime::TokioUring, budget_bytes, 0, 0).0
    }

    /// What drives the lane this pool belongs to.
    pub fn runtime(&self) -> Runtime {
        self.shared.runtime
    }

    /// A chunk of `len` bytes whose content is not specified. Waits while the pool is exhausted, first come, first
    /// served: a large request on the heap is not passed by small ones that come later. One larger than all of the
    /// heap's share is granted when nothing else of that is out, so that it cannot wait for ever. May be dropped while
    /// it waits.
    pub async fn take(&self, len: usize) -> Chunk {
        let asked = Instant::now();
        let (body, grant) = self.body(len.next_multiple_of(ALIGNMENT)).await;
        Chunk { body, len, crcs: None, waited: asked.elapsed(), _grant: Some(grant) }
    }

    async fn body(&self, capacity: usize) -> (Body, OwnedSemaphorePermit) {
        match &self.shared.fixed {
            Some(fixed) if capacity <= fixed.len => {
                let (registered, heap) = (pin!(fixed.free.clone().acquire_owned()), pin!(self.heap_grant(capacity)));
                match select(registered, heap).await {
                    Either::Left((grant, _)) => {
                        let buffer = fixed.pool.try_next(fixed.len).expect("there is one for each permit");
                        (Body::Fixed(buffer), grant.expect(NEVER_CLOSED))
                    }
                    Either::Right((grant, _)) => self.on_heap(capacity, grant),
                }
            }
            _ => self.on_heap(capacity, self.heap_grant(capacity).await),
        }
    }

    async fn heap_grant(&self, capacity: usize) -> OwnedSemaphorePermit {
        let pages = u32::try_from(capacity / ALIGNMENT).unwrap_or(u32::MAX).min(self.shared.heap_pages);
        self.shared.free.clone().acquire_many_owned(pages).await.expect(NEVER_CLOSED)
    }

    fn on_heap(&self, capacity: usize, grant: OwnedSemaphorePermit) -> (Body, OwnedSemaphorePermit) {
        let body = match self.shared.runtime {
            Runtime::Glommio => Body::Dma(glommio::allocate_dma_buffer(capacity)),
            Runtime::TokioUring => Body::Heap(self.shared.heap.take(capacity)),
        };
        (body, grant)
    }
}

const NEVER_CLOSED: &str = "a pool's semaphores are never closed";

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_budget_bounds_what_is_out() {
        let pool = BufferPool::heap(3 * ALIGNMENT);
        let first = pool.take(2 * ALIGNMENT).now_or_never().expect("fits");
        assert!(pool.take(2 * ALIGNMENT).now_or_never().is_none(), "over budget");
        let small = pool.take(1).now_or_never().expect("one page is left");
        assert_eq!(small.len(), 1);
        drop((first, small));
        assert!(pool.take(100 * ALIGNMENT).now_or_never().is_some(), "an oversized request runs alone");
        assert!(pool.take(1).now_or_never().is_some(), "and gives everything back");
    }

    #[test]
    fn whoever_asks_first_is_served_first_however_much_it_is() {
        let pool = BufferPool::heap(4 * ALIGNMENT);
        let busy = pool.take(2 * ALIGNMENT).now_or_never().expect("fits");
        let mut large = Box::pin(pool.take(4 * ALIGNMENT));
        assert!((&mut large).now_or_never().is_none(), "over budget");
        let mut small = Box::pin(pool.take(ALIGNMENT));
        assert!((&mut small).now_or_never().is_none(), "there is room, but somebody was first");
        drop(busy);
        assert!((&mut small).now_or_never().is_none());
        drop(large);
        assert!(small.now_or_never().is_some(), "who gave up waiting holds nothing");
    }

    #[test]
    fn registered_buffers_are_part_of_the_budget() {
        tokio_uring::start(async {
            let len = 4 * ALIGNMENT;
            let (pool, refusal) = BufferPool::new(Runtime::TokioUring, 8 * len, 4 * len, len);
            assert!(refusal.is_none(), "{refusal:?}");
            let taken: Vec<Chunk> = (0..8).map(|_| pool.take(len).now_or_never().expect("fits")).collect();
            assert_eq!(taken.iter().filter(|chunk| matches!(chunk.body, Body::Fixed(_))).count(), 4);
            assert!(pool.take(1).now_or_never().is_none(), "over budget");
            drop(taken);
            // What no registered buffer can hold has the rest of the budget.
            let large: Vec<Chunk> = (0..2).map(|_| pool.take(2 * len).now_or_never().expect("fits")).collect();
            assert!(pool.take(2 * len).now_or_never().is_none(), "over budget");
            assert!(pool.take(len).now_or_never().is_some(), "registered ones are free");
            drop(large);
        });
    }

    #[test]
    fn checksums_computed_while_filling_are_those_of_the_bytes_until_these_change() {
        let pool = BufferPool::heap(4 << 20);
        let mut chunk = pool.take(2 * CRC_BLOCK as usize + 17).now_or_never().unwrap();
        for (at, byte) in chunk.buffer_mut().unwrap().iter_mut().enumerate() {
            *byte = (at * 7 + at / 251) as u8;
        }
        let computed = chunk.block_crcs();
        for pieces in [17, 4096, CRC_BLOCK as usize - 1, CRC_BLOCK as usize, chunk.len()] {
            let mut crcs = BlockCrcs::default();
            chunk.bytes().unwrap().chunks(pieces).for_each(|piece| crcs.update(piece));
            chunk.set_crcs(crcs);
            assert_eq!(chunk.crcs.as_ref(), Some(&computed), "in pieces of {pieces}");
        }
        chunk.buffer_mut().unwrap()[0] ^= 1;
        assert_ne!(chunk.block_crcs(), computed);
    }

    #[test]
    fn padding_is_zero_even_in_a_used_buffer() {
        let pool = BufferPool::heap(1 << 20);
        let mut chunk = pool.take(2 * ALIGNMENT).now_or_never().unwrap();
        chunk.buffer_mut().unwrap().fill(0xff);
        chunk.set_len(5);
        assert_eq!(chunk.pad(), ALIGNMENT);
        assert!(chunk.buffer_mut().unwrap()[5..ALIGNMENT].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn zero_chunks_have_the_checksums_of_zero_bytes() {
        let len = CRC_BLOCK as usize * 2 + 17;
        let stored: Vec<u32> = vec![0u8; len].chunks(CRC_BLOCK as usize).map(crc32fast::hash).collect();
        assert_eq!(Chunk::zero(len).block_crcs(), stored);
    }
}
