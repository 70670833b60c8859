//! The lane's half of a destination: parts.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{calls::Calls, options::PartChecksum};
use crate::{Chunk, Destination, Error, Interrupt, parts::Cut};

/// The tags of the parts that lanes have written, by number: what the commit expects to find. Clones are one and the
/// same.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<Mutex<BTreeMap<u32, String>>>);

impl Written {
    fn note(&self, number: u32, tag: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, tag);
    }

    /// What lanes have written so far.
    pub fn tags(&self) -> BTreeMap<u32, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where one lane writes parts.
pub(super) struct S3Destination {
    pub calls: Calls,
    pub upload: String,
    pub cut: Cut,
    pub checksum: PartChecksum,
    pub written: Written,
    /// Cuts every wait. A request that is given up closes its connection.
    pub interrupt: Interrupt,
}

impl Destination for S3Destination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let number = self.cut.number(offset, chunk.len() as u64)?;
            let put = async { Ok(self.calls.put_part(&self.upload, number, &chunk, self.checksum).await?) };
            let tag = self.interrupt.cut(put).await?;
            self.written.note(number, tag);
            Ok(())
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        // A part lasts once it is acknowledged.
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
