//! `checkpoint`: more of a transfer is durable.

use staccato_dataplane::attempt::{CheckpointReport, StartOver, VerifiedRange};
use staccato_protocols::Code;

use crate::model::{
    Failure, State, TransferId,
    lifecycle::Event,
    transfer::{NoteKind, known_length},
};

use super::{
    Ledger, LedgerError,
    change::{Change, RANGES_MAX, Ranges},
    refused_if_gone,
};

/// Most bytes of a source's version (an entity tag, most often) in a record.
const VALIDATOR_BYTES_MAX: usize = 4096;

impl Ledger {
    /// Records what an attempt has made durable; its report replaces every earlier one. A report that contradicts the
    /// request or itself is not recorded: the attempt is told to stop, and the transfer fails.
    pub async fn checkpoint(
        &self,
        executor: &str,
        id: TransferId,
        epoch: u64,
        report: &CheckpointReport,
    ) -> Result<(), LedgerError> {
        let recorded = self
            .change(id, |change| {
                change.held_by(executor, epoch)?;
                match contradiction(change, report) {
                    Some(why) => change.contradict(&why),
                    None => {
                        change.record_checkpoint(report);
                        // This attempt found the partial, not the committed object.
                        change.rule_out_earlier_commit()
                    }
                }
            })
            .await;
        refused_if_gone(recorded, id, epoch)
    }
}

impl Change {
    /// An executor claims what cannot be: it has to stop, and nothing of what it claims is believed.
    pub(crate) fn contradict(&mut self, why: &str) -> Result<(), LedgerError> {
        tracing::error!(transfer = %self.record.id, epoch = self.record.epoch, why, "a report contradicts the request");
        if self.record.state == State::Running {
            self.apply(Event::Contradicted)?;
            let error =
                staccato_protocols::Error::fatal(Code::Internal, format!("the attempt's report is wrong: {why}"));
            self.record.error = Some(Failure::from_error(&error));
            self.note(NoteKind::AttemptFailed, error.message);
        }
        Ok(())
    }

    fn record_checkpoint(&mut self, report: &CheckpointReport) {
        let now = self.now;
        let ranges = kept(&report.ranges);
        let progress: u64 = ranges.iter().map(|range| range.range.len()).sum();
        let record = &mut self.record;
        let before = record.progress;

        if let (Some(earlier), true) = (record.checkpoint_at, progress > before) {
            let millis = u64::try_from(now.since(earlier).as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = (u128::from(progress - before) * 1000 / u128::from(millis)).min(u128::from(u64::MAX)) as u64;
            // Weighted so that one slow or quick checkpoint does not make the estimate jump.
            record.throughput = Some(record.throughput.map_or(rate, |average| average / 4 * 3 + rate / 4));
        }
        record.checkpoint_at = Some(now);
        record.progress = progress;
        record.bytes_total = report.bytes_total.or(record.bytes_total);
        record.validator = report.validator.clone().or(record.validator.take());
        record.upload = report.upload.clone();
        record.fetched_now = record.fetched_now.max(report.bytes_fetched);
        record.count_peers(report.bytes_from_peers);
        record.stages = report.stages;
        record.updated_at = now;
        if progress < before {
            let (kind, why) = match report.started_over {
                None => (NoteKind::VerificationFailed, "some bytes did not verify and are fetched again"),
                Some(StartOver::SourceChanged) => {
                    (NoteKind::StartedOver, "the source changed; everything is fetched again")
                }
                Some(StartOver::SourceUnversioned) => {
                    (NoteKind::StartedOver, "the source does not tell its version; everything is fetched again")
                }
                Some(StartOver::PartialGone) => (
                    NoteKind::StartedOver,
                    "what was fetched is not beside the destination any more; everything is fetched again",
                ),
            };
            let message = format!("{why}: progress fell from {before} to {progress}");
            self.note(kind, message);
        }
        self.ranges = Ranges::Set(ranges);
    }
}

/// What is wrong with a report.
fn contradiction(change: &Change, report: &CheckpointReport) -> Option<String> {
    let asked = known_length(change.record.part);
    if let (Some(asked), Some(total)) = (asked, report.bytes_total)
        && asked != total
    {
        return Some(format!("the part has {asked} bytes, not {total}"));
    }
    let total = report.bytes_total.or(change.record.bytes_total).unwrap_or(u64::MAX);
    let mut end = 0;
    for VerifiedRange { range, .. } in &report.ranges {
        if range.is_empty() || range.start() < end || range.end() > total {
            return Some(format!("range {range} does not follow {end} within {total} bytes"));
        }
        end = range.end();
    }
    let validator_bytes = report.validator.as_ref().map_or(0, |validator| {
        serde_json::to_vec(validator).expect("a validator is made of strings and numbers").len()
    });
    (validator_bytes > VALIDATOR_BYTES_MAX)
        .then(|| format!("the source's version takes {validator_bytes} bytes; at most {VALIDATOR_BYTES_MAX}"))
}

/// The ranges that are kept: all, or the longest when there are too many, in their order.
fn kept(ranges: &[VerifiedRange]) -> Vec<VerifiedRange> {
    let mut ranges = ranges.to_vec();
    if ranges.len() > RANGES_MAX {
        ranges.sort_by_key(|range| std::cmp::Reverse(range.range.len()));
        ranges.truncate(RANGES_MAX);
        ranges.sort_by_key(|range| range.range.start());
    }
    ranges
}
