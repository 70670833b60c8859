//! The owner's side of an offer: on each lane, the descriptors of whoever fills it.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{BufferPool, ByteRange, Chunk, Code, Destination, Error, Object, Source};

use super::Offer;

thread_local! {
    /// Where this lane reads what is offered, by name.
    static SHOWN: RefCell<HashMap<String, Rc<dyn Destination>>> = RefCell::default();
}

/// On this lane the copy is read here.
pub(crate) fn show(name: &str, destination: Rc<dyn Destination>) {
    SHOWN.with_borrow_mut(|shown| shown.insert(name.to_owned(), destination));
}

/// It is not read any more, and its descriptor is closed.
pub(crate) async fn withdraw(name: &str) {
    let shown = SHOWN.with_borrow_mut(|shown| shown.remove(name));
    if let Some(destination) = shown {
        destination.close().await;
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
            let destination = SHOWN.with_borrow(|shown| shown.get(self.0.name()).cloned());
            destination.ok_or_else(|| missing("any more"))?.read_back(range, pool).await
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
