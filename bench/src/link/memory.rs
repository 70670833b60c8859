//! `memory:///SIZE`: an object whose bytes are in memory already, for measuring what carries them. It repeats one MiB of
//! bytes that do not compress: making pseudo-random ones would cost more than sending them, and zeros do not travel.

use std::{rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    Access, BufferPool, ByteRange, Capabilities, Chunk, Code, Error, Lane, Object, ObjectUrl, Options, Protocol,
    Runtime, Session, Source, Validator,
    contract::{DestinationRequest, SourceRequest, SweepRequest, Takes},
};

/// Length of what is repeated.
const REPEATED_BYTES: usize = 1 << 20;

/// The module for `memory://` URLs; sources only.
pub struct MemoryProtocol {
    repeated: Arc<Vec<u8>>,
}

impl MemoryProtocol {
    /// With bytes of its own.
    pub fn new() -> Self {
        let mut repeated = vec![0; REPEATED_BYTES];
        fastrand::Rng::with_seed(1).fill(&mut repeated);
        Self { repeated: Arc::new(repeated) }
    }
}

impl Default for MemoryProtocol {
    fn default() -> Self {
        Self::new()
    }
}

fn size(url: &ObjectUrl) -> Result<u64, Error> {
    let size = url.url().path().strip_prefix('/').and_then(|size| size.parse().ok());
    size.ok_or_else(|| Error::fatal(Code::InvalidUrl, format!("{url} is not memory:/// and a number of bytes")))
}

impl Protocol for MemoryProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    fn capabilities(&self) -> Capabilities {
        let runtimes = &[Runtime::TokioUring, Runtime::Glommio];
        Capabilities { source: true, destination: false, takes: Takes::Anywhere, runtimes, options: &[] }
    }

    fn check_source(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        size(url).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(no_destination(url))
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let size = size(&request.url)?;
            let validator = Validator::Constant { size, seed: None };
            let object = Object { size: Some(size), validator: Some(validator), access: Access::Random };
            Ok(Rc::new(MemorySource { object, repeated: self.repeated.clone() }) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(no_destination(&request.url))
    }

    fn sweep(&self, _request: &SweepRequest) -> Result<(), Error> {
        Ok(())
    }
}

fn no_destination(url: &ObjectUrl) -> Error {
    Error::fatal(Code::UnsupportedScheme, format!("{url} can only be read; what is to be thrown away goes to null:///"))
}

struct MemorySource {
    object: Object,
    repeated: Arc<Vec<u8>>,
}

impl Source for MemorySource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let len = range.len() as usize;
            let mut chunk = pool.take(len).await;
            let buffer = &mut chunk.buffer_mut().expect("chunks from a pool have a buffer")[..len];
            let mut at = (range.start() % REPEATED_BYTES as u64) as usize;
            let mut left = buffer;
            while !left.is_empty() {
                let piece = left.len().min(REPEATED_BYTES - at);
                let (now, later) = left.split_at_mut(piece);
                now.copy_from_slice(&self.repeated[at..at + piece]);
                (left, at) = (later, 0);
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async {}.boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_a_part_of_one_object() {
        let url = ObjectUrl::parse("memory:///5000000").unwrap();
        let source = MemorySource {
            object: Object { size: size(&url).ok(), validator: None, access: Access::Random },
            repeated: MemoryProtocol::new().repeated,
        };
        let pool = BufferPool::heap(16 << 20);
        let read = |start, end| {
            let range = ByteRange::new(start, end).unwrap();
            source.read(range, &pool).now_or_never().unwrap().unwrap().bytes().unwrap().to_vec()
        };
        let whole = read(0, 5_000_000);
        for (start, end) in [(0, 1), (1 << 20, 2 << 20), (1_000_001, 3_999_999)] {
            assert!(read(start, end) == whole[start as usize..end as usize], "{start}..{end}");
        }
        assert!(!whole.chunks(1 << 20).any(|block| block.iter().all(|byte| *byte == 0)));
        assert!(size(&ObjectUrl::parse("memory:///x").unwrap()).is_err());
    }
}
