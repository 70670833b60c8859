//! The source itself, for an executor that may read it: whatever comes from there is vouched for.

use std::{rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{BufferPool, ByteRange, Checksum, Chunk, Disposition, Error, Object, Source};

use super::{super::tls::Identity, Offer};

/// See the module.
pub struct FirstReader {
    source: Rc<dyn Source>,
    own: Arc<Offer>,
    identity: Identity,
}

impl FirstReader {
    /// Reads a source for everybody to whom `own` is offered.
    pub fn new(source: Rc<dyn Source>, own: Arc<Offer>, identity: Identity) -> Self {
        Self { source, own, identity }
    }
}

/// What the source does not give to this member, another one may have: only a change of it is everybody's.
fn not_ours(error: Error) -> Error {
    match error.disposition {
        Disposition::Fatal => Error { disposition: Disposition::Retry { after: None }, ..error },
        _ => error,
    }
}

impl Source for FirstReader {
    fn object(&self) -> &Object {
        self.source.object()
    }

    fn published(&self) -> Option<Checksum> {
        self.source.published()
    }

    /// A voucher is of all bytes of a chunk, holes included.
    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let chunk = self.source.read(range, pool).await.map_err(not_ours)?;
            if self.own.voucher(range).is_none() {
                self.own.keep(self.own.content_of(range, &chunk).sign(&self.identity.own())?)?;
            }
            Ok(chunk)
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.source.revalidate()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let source = self.source.clone();
            drop(self);
            source.close().await;
        }
        .boxed_local()
    }
}
