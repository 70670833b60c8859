//! The owner's side of an offer: on each lane, the descriptors of whoever fills it.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{BufferPool, ByteRange, Chunk, Code, Destination, Error, Object, Source};

use super::Offer;

thread_local! {
    /// Where this lane reads what is offered, by key.
    static SHOWN: RefCell<HashMap<String, Where>> = RefCell::default();
}

/// Where a copy is read.
#[derive(Clone)]
pub(crate) enum Where {
    /// Where an attempt writes it, or has.
    Written(Rc<dyn Destination>),
    /// What an earlier process has written.
    Kept(Rc<dyn Source>),
}

impl Where {
    async fn read(&self, range: ByteRange, pool: &BufferPool) -> Result<Chunk, Error> {
        match self {
            Self::Written(destination) => destination.read_back(range, pool).await,
            Self::Kept(source) => source.read(range, pool).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Written(destination) => destination.close().await,
            Self::Kept(source) => source.close().await,
        }
    }
}

/// On this lane the copy is read here.
pub(crate) fn show(key: &str, copy: Where) {
    SHOWN.with_borrow_mut(|shown| shown.insert(key.to_owned(), copy));
}

/// It is not read any more, and its descriptor is closed.
pub(crate) async fn withdraw(key: &str) {
    let shown = SHOWN.with_borrow_mut(|shown| shown.remove(key));
    if let Some(copy) = shown {
        copy.close().await;
    }
}

/// A copy, for one reader.
pub struct ShownCopy(pub Arc<Offer>);

impl Source for ShownCopy {
    fn object(&self) -> &Object {
        self.0.object()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let missing = |why: &str| Error::retry(Code::SourceMissing, format!("{range} is not here {why}"));
            if !self.0.holds(range) {
                return Err(missing("yet"));
            }
            let copy = SHOWN.with_borrow(|shown| shown.get(&self.0.key()).cloned());
            copy.ok_or_else(|| missing("any more"))?.read(range, pool).await
        }
        .boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        // What is read is compared with vouchers.
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { drop(self) }.boxed_local()
    }
}
