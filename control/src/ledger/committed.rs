//! `committed`: the object is at its destination.

use staccato_dataplane::attempt::Completion;

use crate::model::{State, TransferId, lifecycle::Event, transfer::NoteKind};

use super::{Ledger, LedgerError, Refused, change::Ranges, prepare::contradiction, refused_if_gone};

impl Ledger {
    /// Records that an attempt has committed what it (or the attempt it recovered from) had prepared. Saying it again
    /// is no error.
    pub async fn committed(
        &self,
        executor: &str,
        id: TransferId,
        epoch: u64,
        completion: &Completion,
    ) -> Result<(), LedgerError> {
        let recorded = self
            .change(id, |change| {
                if change.record.state == State::Complete && change.record.epoch == epoch {
                    return Ok(());
                }
                change.held_by(executor, epoch)?;
                if change.record.state != State::Running || change.record.prepared.is_none() {
                    let why = "nothing was prepared that could be committed";
                    return Err(Refused { transfer: id, epoch, why }.into());
                }
                if let Some(why) = contradiction(&change.record, completion) {
                    return change.contradict(&why);
                }
                change.apply(Event::Committed)?;
                let now = change.now;
                let record = &mut change.record;
                record.bytes_total = Some(completion.bytes_total);
                record.progress = completion.bytes_total;
                record.crc32 = completion.crc32;
                record.fetched_now = record.fetched_now.max(completion.bytes_fetched);
                record.count_peers(completion.bytes_from_peers);
                record.stages = completion.stages;
                record.prepared = None;
                record.error = None;
                let millis = record.started_at.map_or(0, |started| now.since(started).as_millis()).max(1);
                let rate = u128::from(completion.bytes_total) * 1000 / millis;
                record.throughput = Some(u64::try_from(rate).unwrap_or(u64::MAX));
                change.ranges = Ranges::Drop;
                change.note(NoteKind::Completed, "the object is at its destination");
                Ok(())
            })
            .await;
        refused_if_gone(recorded, id, epoch)
    }
}
