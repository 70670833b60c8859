//! An object of a store that speaks HTTP, opened on one lane: looked at once, and read with conditional GETs.

use std::{rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{
    answer::Facts,
    body::Body,
    client::{Ask, Condition},
    stretch::Stretches,
};
use crate::{BufferPool, ByteRange, Checksum, Chunk, Code, Error, Interrupt, Object, Source};

/// The version of an object that was opened, as its store is asked for it.
pub(crate) trait Stored {
    /// Asks for a part of it.
    async fn get(&self, ask: &Ask<'_>) -> Result<Body, Error>;

    /// What is there now; an error that says so where it is gone.
    async fn look_again(&self) -> Result<Facts, Error>;

    /// What a request costs the server.
    fn request_cost(&self) -> Duration;
}

/// The source.
pub(crate) struct StoredSource<S> {
    stored: S,
    object: Object,
    /// What was told of it when it was opened.
    facts: Facts,
    published: Option<Checksum>,
    stretches: Stretches,
    /// Cuts every wait. Nothing is lost by dropping it: an answer that is given up closes its connection.
    interrupt: Interrupt,
}

impl<S: Stored> StoredSource<S> {
    pub fn new(stored: S, object: Object, facts: Facts, published: Option<Checksum>, interrupt: Interrupt) -> Self {
        Self { stored, object, facts, published, stretches: Stretches::default(), interrupt }
    }

    async fn read_part(&self, range: ByteRange, end: u64, pool: &BufferPool) -> Result<Chunk, Error> {
        let chunk = pool.take(range.len() as usize).await;
        let ask = async |stretch| {
            let etag = self.facts.strong_etag();
            self.stored.get(&Ask { range: Some(stretch), etag, condition: Condition::IfMatch }).await
        };
        self.stretches.read(range, end, &self.facts, chunk, ask).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.facts.unchanged(&self.stored.look_again().await?)
    }
}

impl<S: Stored + 'static> Source for StoredSource<S> {
    fn object(&self) -> &Object {
        &self.object
    }

    fn published(&self) -> Option<Checksum> {
        self.published.clone()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.read_on(range, range.end(), pool)
    }

    fn read_on<'a>(
        &'a self,
        range: ByteRange,
        stretch_end: u64,
        pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            if range.is_empty() || self.object.size.is_some_and(|size| range.end() > size) {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
            }
            self.interrupt.cut(self.read_part(range, stretch_end, pool)).await
        }
        .boxed_local()
    }

    fn request_cost(&self) -> Duration {
        self.stored.request_cost()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.interrupt.cut(self.check()).boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
