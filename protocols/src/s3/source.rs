//! An object that is read, opened on one lane.

use std::{rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::Method;

use super::calls::{Calls, Payload, Told};
use crate::{
    Access, BufferPool, ByteRange, Checksum, Chunk, Code, Error, Interrupt, Object, Source, Validator,
    contract::SourceRequest,
    web::{
        client::{Ask, Condition},
        place::Place,
        stretch::Stretches,
    },
};

/// An opened object.
pub(super) struct S3Source {
    calls: Calls,
    object: Object,
    told: Told,
    /// The version that is read, in a bucket that keeps them.
    version: Option<String>,
    place: Place,
    stretches: Stretches,
    /// Cuts every wait. Nothing is lost by dropping it: an answer that is given up closes its connection.
    interrupt: Interrupt,
}

impl S3Source {
    /// Looks at the object, or at the version of it that is pinned.
    pub async fn open(calls: Calls, request: &SourceRequest) -> Result<Self, Error> {
        let pinned = request.pinned.as_ref();
        let version = match pinned {
            Some(Validator::Version { version, .. }) => Some(version.clone()),
            _ => None,
        };
        let Some(told) = request.interrupt.cut(calls.look(version.as_deref())).await? else {
            let why = request.interrupt.cut(async { Ok(calls.explain(version.as_deref()).await?) }).await;
            return Err(match why {
                Err(error) if version.is_some() && error.code == Code::SourceMissing => gone(),
                Err(error) => error,
                Ok(()) => Error::retry(Code::SourceMissing, "the object came while it was being opened"),
            });
        };
        if let Some(difference) = pinned.and_then(|pinned| difference_from_pinned(&told, pinned)) {
            return Err(Error::source_changed(format!(
                "the source changed since the transfer first opened it: {difference}"
            )));
        }
        // What was pinned by its tag stays so, also in a bucket that keeps versions since.
        let version = version.or_else(|| told.version.clone().filter(|_| pinned.is_none()));
        let size = told.facts.size;
        let validator = match &version {
            Some(version) => Some(Validator::Version { version: version.clone(), size }),
            None => told.facts.validator(),
        };
        if size.is_none() {
            return Err(calls.nonsense("does not say how long the object is"));
        }
        let object = Object { size, validator, access: Access::Random };
        let place = calls.object(version.as_deref())?;
        Ok(Self {
            calls,
            object,
            told,
            version,
            place,
            stretches: Stretches::default(),
            interrupt: request.interrupt.clone(),
        })
    }

    async fn read_part(&self, range: ByteRange, end: u64, pool: &BufferPool) -> Result<Chunk, Error> {
        let chunk = pool.take(range.len() as usize).await;
        let facts = &self.told.facts;
        let ask = async |stretch| {
            let ask = Ask { range: Some(stretch), etag: facts.strong_etag(), condition: Condition::IfMatch };
            match self.calls.call(Method::GET, &self.place, ask.headers(), Payload::Nothing).await {
                Err(failure) if self.version.is_some() && failure.says("NoSuchVersion") => Err(gone()),
                answer => Ok(answer?),
            }
        };
        self.stretches.read(range, end, facts, chunk, ask).await
    }

    async fn look_again(&self) -> Result<(), Error> {
        match self.calls.look(self.version.as_deref()).await? {
            None => Err(gone()),
            Some(now) => match self.told.facts.difference(&now.facts) {
                None => Ok(()),
                Some(difference) => {
                    Err(Error::source_changed(format!("the source changed while it was being read: {difference}")))
                }
            },
        }
    }
}

fn gone() -> Error {
    Error::source_changed("the version of the source that was being read is gone")
}

/// In what an object differs from the version that a transfer is pinned to.
fn difference_from_pinned(told: &Told, pinned: &Validator) -> Option<String> {
    match pinned {
        Validator::Version { size, .. } if *size == told.facts.size => None,
        Validator::Version { .. } => Some("a version of that name has another length".into()),
        other => told.facts.difference_from_pinned(other),
    }
}

impl Source for S3Source {
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
