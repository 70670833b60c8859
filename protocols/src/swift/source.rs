//! An object that is read, opened on one lane.

use std::{rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::Method;

use super::calls::{Calls, Payload, Replicas, Told};
use crate::{
    Access, BufferPool, ByteRange, Checksum, Chunk, Code, Error, Interrupt, Object, Source,
    contract::SourceRequest,
    keystone::Hold,
    web::{
        client::{Ask, Condition},
        place::Place,
        stretch::Stretches,
    },
};

/// An opened object.
pub(super) struct SwiftSource {
    calls: Calls,
    object: Object,
    told: Told,
    place: Place,
    stretches: Stretches,
    /// Cuts every wait. Nothing is lost by dropping it: an answer that is given up closes its connection.
    interrupt: Interrupt,
    _hold: Option<Hold>,
}

impl SwiftSource {
    /// Looks at the object.
    pub async fn open(calls: Calls, hold: Option<Hold>, request: &SourceRequest) -> Result<Self, Error> {
        let interrupt = request.interrupt.clone();
        let Some(told) = interrupt.cut(calls.look(Replicas::Any)).await? else {
            return Err(interrupt.cut(async { Ok(why_missing(&calls).await) }).await?);
        };
        if let Some(difference) = request.pinned.as_ref().and_then(|pinned| told.facts.difference_from_pinned(pinned)) {
            return Err(Error::source_changed(format!(
                "the source changed since the transfer first opened it: {difference}"
            )));
        }
        if told.facts.size.is_none() {
            return Err(calls.nonsense("does not say how long the object is"));
        }
        let object = Object { size: told.facts.size, validator: told.facts.validator(), access: Access::Random };
        let place = calls.address.object(&[])?;
        Ok(Self { calls, object, told, place, stretches: Stretches::default(), interrupt, _hold: hold })
    }

    async fn read_part(&self, range: ByteRange, end: u64, pool: &BufferPool) -> Result<Chunk, Error> {
        let chunk = pool.take(range.len() as usize).await;
        let facts = &self.told.facts;
        let ask = async |stretch| {
            let ask = Ask { range: Some(stretch), etag: facts.strong_etag(), condition: Condition::IfMatch };
            Ok(self.calls.call(Method::GET, &self.place, ask.headers(), Payload::Nothing).await?)
        };
        self.stretches.read(range, end, facts, chunk, ask).await
    }

    async fn look_again(&self) -> Result<(), Error> {
        let gone = || Error::source_changed("the object that was being read is gone");
        let now = self.calls.look(Replicas::Any).await?.ok_or_else(gone)?;
        match self.told.facts.difference(&now.facts) {
            None => Ok(()),
            Some(difference) => {
                Err(Error::source_changed(format!("the source changed while it was being read: {difference}")))
            }
        }
    }
}

/// Why there is no object: its container may be missing, where whoever asks may know that.
async fn why_missing(calls: &Calls) -> Error {
    match calls.container().await {
        Err(error) if error.code == Code::BucketMissing => error,
        _ => Error::fatal(Code::SourceMissing, format!("{}: there is no such object", calls.address.target)),
    }
}

impl Source for SwiftSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn published(&self) -> Option<Checksum> {
        self.told.checksum.clone()
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
        self.calls.client.request_cost()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move { self.interrupt.cut(self.look_again()).await }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
