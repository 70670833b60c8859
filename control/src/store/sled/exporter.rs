//! The thread that makes exports, beside the commits.

use std::{path::Path, sync::Arc};

use super::{
    super::{
        Revision, StoreError,
        journal::{self, export::Exported, header::StoreId},
    },
    Shared,
};

/// Makes the exports that are ordered, until nobody is left to order one. An export that fails costs only disk space:
/// the segments stay (its own beginning does not), and the next order tries again.
pub fn run(
    shared: &Arc<Shared>,
    dir: &Path,
    store: StoreId,
    orders: &flume::Receiver<Revision>,
    done: &flume::Sender<Option<Exported>>,
) {
    for until in orders {
        let exported = export(shared, dir, store, until).unwrap_or_else(|error| {
            tracing::error!(%error, "could not export the store; the journal goes on growing");
            None
        });
        if done.send(exported).is_err() {
            return;
        }
    }
}

fn export(shared: &Shared, dir: &Path, store: StoreId, until: Revision) -> Result<Option<Exported>, StoreError> {
    let Some(exported) = journal::export(dir, store, until, &shared.stopping)? else { return Ok(None) };
    // sled should not need the segments that go now; if it loses what this writes, the export serves.
    if let Err(error) = shared.records.flush() {
        tracing::warn!(%error, "cannot flush sled");
    }
    journal::retire(dir, store)?;
    tracing::info!(
        revision = until,
        records = exported.point.digest.records(),
        bytes = exported.bytes,
        "exported the store"
    );
    Ok(Some(exported))
}
