//! `prepare`: may an attempt give its object its name?

use serde::{Deserialize, Serialize};
use staccato_dataplane::attempt::{ChecksumKind, Completion, StopReason};

use crate::model::{
    State, TransferId, TransferRecord,
    transfer::{PreparedCommit, known_length},
};

use super::{Ledger, LedgerError, change::POISON, refused_if_gone};

/// The answer to a prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prepared {
    /// Recorded: it may, while its lease runs. The lease was renewed at the receipt of the question.
    Allowed,
    /// It is to stop instead.
    Stop(StopReason),
}

impl Ledger {
    /// Records that an attempt is about to commit. From here on a cancel is refused: the object may be at its
    /// destination at any moment. A client that has deleted the transfer meanwhile is obeyed instead.
    pub async fn prepare(
        &self,
        executor: &str,
        id: TransferId,
        epoch: u64,
        completion: &Completion,
    ) -> Result<Prepared, LedgerError> {
        let expires = self.inner.environment.monotonic() + self.inner.config.lease;
        let answered = self
            .change(id, |change| {
                change.held_by(executor, epoch)?;
                // It would have reported an object that an earlier attempt had committed instead of asking.
                change.rule_out_earlier_commit()?;
                match change.record.state {
                    State::Canceling => return Ok(Prepared::Stop(StopReason::Cancel)),
                    State::Erroring => return Ok(Prepared::Stop(StopReason::Pause)),
                    _ if change.record.pause_asked => return Ok(Prepared::Stop(StopReason::Pause)),
                    _ => {}
                }
                if let Some(why) = contradiction(&change.record, completion) {
                    change.contradict(&why)?;
                    return Ok(Prepared::Stop(StopReason::Pause));
                }
                // Renewed while nobody else has this transfer's turn, so that it cannot expire in between.
                if !self.inner.leases.lock().expect(POISON).renew(id, executor, epoch, expires) {
                    return Err(super::Refused { transfer: id, epoch, why: "the lease is lost" }.into());
                }
                let record = &mut change.record;
                record.prepared = Some(PreparedCommit { epoch, completion: *completion });
                record.fetched_now = record.fetched_now.max(completion.bytes_fetched);
                record.count_peers(completion.bytes_from_peers);
                Ok(Prepared::Allowed)
            })
            .await;
        refused_if_gone(answered, id, epoch)
    }
}

/// What is wrong with a completion.
pub(crate) fn contradiction(record: &TransferRecord, completion: &Completion) -> Option<String> {
    let total = completion.bytes_total;
    if let Some(asked) = known_length(record.part)
        && asked != total
    {
        return Some(format!("the part has {asked} bytes, {total} were moved"));
    }
    let checksum = record.checksum.as_ref().filter(|checksum| checksum.kind() == ChecksumKind::Crc32)?;
    let crc32 = completion.crc32?;
    (checksum.digest() != crc32.to_be_bytes()).then(|| format!("the bytes have the CRC-32 {crc32:08x}, not {checksum}"))
}
