//! The lane's half of a destination in parts: segments.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{calls::Calls, segments::Segment, upload::Upload};
use crate::{Chunk, Destination, Error, Interrupt, keystone::Hold};

/// The segments that lanes have written, by number. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<Mutex<BTreeMap<u32, Segment>>>);

impl Written {
    fn note(&self, number: u32, segment: Segment) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, segment);
    }

    /// What lanes have written so far.
    pub fn segments(&self) -> BTreeMap<u32, Segment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where one lane writes segments.
pub(super) struct SegmentsDestination {
    pub calls: Calls,
    pub upload: Upload,
    pub written: Written,
    /// Cuts every wait. A request that is given up closes its connection.
    pub interrupt: Interrupt,
    pub _hold: Option<Hold>,
}

impl Destination for SegmentsDestination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let number = self.upload.cut.number(offset, chunk.len() as u64)?;
            let segment = self.interrupt.cut(self.calls.put_segment(&self.upload, number, &chunk)).await?;
            self.written.note(number, segment);
            Ok(())
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        // A segment lasts once it is acknowledged.
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
