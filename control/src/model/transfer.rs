//! A transfer: the record that the ledger keeps, and the document that clients see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use staccato_dataplane::attempt::{Checksum, Completion, Part, StageTimes, TransportChoice};
use staccato_protocols::{Code, Options, Validator, contract::Overwrite};
use utoipa::ToSchema;

use super::{Priority, State, Timestamp, TransferId, lifecycle};

/// Version of [`TransferRecord`] as it is written now. Raise it when a field changes its meaning.
pub const RECORD_VERSION: u32 = 1;
/// Most events that a transfer remembers; the oldest go first.
pub const EVENTS_MAX: usize = 16;
/// Most bytes of a failure's sentence; longer ones are cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;
/// Most bytes of an event's sentence; longer ones are cut.
pub const NOTE_BYTES_MAX: usize = 224;
/// What stands in place of a secret.
pub const REDACTED: &str = "<redacted>";

/// Everything the ledger knows of a transfer but its secrets (sealed, under a key of their own) and its verified ranges
/// (likewise).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// [`RECORD_VERSION`] of whoever wrote it.
    pub version: u32,
    /// Its id. The key that the record is stored under has it.
    #[serde(skip, default = "TransferId::nil")]
    pub id: TransferId,
    /// Whose it is.
    pub owner: String,
    /// Where it stands.
    pub state: State,

    /// The source, as it may be shown.
    pub source_url: String,
    /// The destination, as it may be shown.
    pub destination_url: String,
    /// The host of the source, where that is another than the service's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source_host: String,
    /// The host of the destination, where that is another than the service's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub destination_host: String,
    /// Options of the source, as they may be shown.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub source_options: Options,
    /// Options of the destination, as they may be shown.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub destination_options: Options,
    /// Whether something above is redacted and lies sealed under a key of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sealed: bool,
    /// Which part of the source is wanted.
    pub part: Part,
    /// What to do with an object that is at the destination already.
    pub overwrite: Overwrite,
    /// A checksum the part must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Its place in the queue.
    pub priority: Priority,
    /// Further attempts after retryable failures.
    pub retries: u32,
    /// Most bytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u64>,
    /// Bytes per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// Connections to a source behind a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Keyed digest of the destination, by which a second transfer to it is noticed; none where destinations are not
    /// exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_digest: Option<String>,
    /// Keyed digest of the idempotency key it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_digest: Option<String>,

    /// When it was created.
    pub created_at: Timestamp,
    /// When its state last changed, or its progress.
    pub updated_at: Timestamp,
    /// When it became ready; set in `STATE_READY` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Timestamp>,
    /// When an executor first took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Not to be scheduled before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,

    /// Number of its last attempt; 0 before the first. Only grows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub epoch: u64,
    /// Attempts that failed and count against `retries`, since it was created or resumed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// The executor that holds its lease; set in the leased states only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// A client asked to pause it while it was running.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pause_asked: bool,
    /// A client deleted it while an executor held it: it is forgotten once released.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delete_asked: bool,
    /// An attempt lost its lease and was not seen to end: it may still be at work beside the destination.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stray_attempts: bool,

    /// The distribution that it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<TransferId>,
    /// How bytes cross the network between two executors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transport: TransportChoice,
    /// Most bytes under way at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// The source's version, pinned at first open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<Validator>,
    /// Length of the part, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// The upload that its attempts have begun at the destination, where that takes parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Bytes that survive a power cut at the destination.
    #[serde(default, skip_serializing_if = "is_default")]
    pub progress: u64,
    /// Number of keys that hold its verified ranges.
    #[serde(default, skip_serializing_if = "is_default")]
    pub range_pieces: usize,
    /// CRC-32 of the part, once complete; none for a clone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc32: Option<u32>,
    /// Bytes read from the source by attempts that have ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fetched_before: u64,
    /// Bytes read from the source by the last attempt, as far as it told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fetched_now: u64,
    /// Bytes read from other members of its distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bytes_from_peers: u64,
    /// Those of attempts that have ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub peers_before: u64,
    /// Those of the last attempt, as far as it told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub peers_now: u64,
    /// Where the time of the last attempt went, as far as it told.
    #[serde(default, skip_serializing_if = "StageTimes::is_zero")]
    pub stages: StageTimes,
    /// A commit that was allowed and whose result is not known yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<PreparedCommit>,
    /// The last failure that has not been overcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Bytes per second: lately while it runs, on average once it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<u64>,
    /// When the last checkpoint came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_at: Option<Timestamp>,
    /// What happened to it, oldest first; at most [`EVENTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Note>,
}

/// Whether a field is as it is in a new record, and need not be written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A commit that an attempt was allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedCommit {
    /// Which attempt.
    pub epoch: u64,
    /// What it had finished.
    pub completion: Completion,
}

/// Why a transfer failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// One sentence that says what to do.
    pub message: String,
    /// Whether a later try may not meet it.
    pub retryable: bool,
}

/// Something worth knowing that happened to a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// A stable word for what it was.
    pub kind: NoteKind,
    /// One sentence for people.
    pub message: String,
}

/// Kinds of [`Note`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// The scheduler chose it; the message is the plug-in's reason.
    Scheduled,
    /// No executor took it in time.
    Unclaimed,
    /// An attempt began.
    AttemptStarted,
    /// An attempt failed.
    AttemptFailed,
    /// An attempt stopped because it was told to.
    AttemptStopped,
    /// An attempt lost its lease or its executor.
    LeaseLost,
    /// Everything is fetched again; the message says why.
    StartedOver,
    /// Some bytes did not verify and are fetched again.
    VerificationFailed,
    /// A client canceled it.
    Canceled,
    /// A client paused it.
    Paused,
    /// A client resumed it.
    Resumed,
    /// The object is at its destination.
    Completed,
}

impl TransferRecord {
    /// Moves it to the state that `event` leads to; `false` when it leads nowhere from here, and nothing is changed.
    pub fn apply(&mut self, event: lifecycle::Event, now: Timestamp) -> bool {
        let Some(next) = lifecycle::next(self.state, event) else { return false };
        if next != self.state {
            self.updated_at = now;
        }
        self.state = next;
        if !next.is_leased() {
            self.executor = None;
            self.pause_asked = false;
        }
        self.ready_at = if next == State::Ready { self.ready_at.or(Some(now)) } else { None };
        self.finished_at = if next.is_ended() { self.finished_at.or(Some(now)) } else { None };
        true
    }

    /// Remembers something; the oldest note makes room.
    pub fn note(&mut self, at: Timestamp, kind: NoteKind, message: impl Into<String>) {
        if self.events.len() >= EVENTS_MAX {
            self.events.drain(..=self.events.len() - EVENTS_MAX);
        }
        self.events.push(Note { at, kind, message: bounded(&message.into(), NOTE_BYTES_MAX) });
    }

    /// Forgets what was fetched: the next attempt begins anew. The caller drops the verified ranges and says why.
    pub fn start_over(&mut self) {
        self.progress = 0;
        self.validator = None;
        self.bytes_total = known_length(self.part);
        self.throughput = None;
        self.checkpoint_at = None;
    }

    /// The host of the source, if it is only there: the service's own has no name here.
    pub fn source_at(&self) -> Option<&str> {
        host_at(&self.source_url, &self.source_host)
    }

    /// The host of the destination, if it is only there.
    pub fn destination_at(&self) -> Option<&str> {
        host_at(&self.destination_url, &self.destination_host)
    }

    /// The host whose executor runs it: that of the destination, else that of the source; none: any.
    pub fn runs_at(&self) -> Option<&str> {
        self.destination_at().or(self.source_at())
    }

    /// The host whose executor must show the source to the one that runs it; none: it can be read from there.
    pub fn reads_from(&self) -> Option<&str> {
        self.source_at().filter(|host| self.runs_at() != Some(host))
    }

    /// Whether an attempt that was allowed to commit may still be about to, unseen: until its partial is taken over or
    /// swept, no other transfer may have its destination.
    pub fn may_commit_unseen(&self) -> bool {
        self.stray_attempts && self.prepared.is_some()
    }

    /// The last attempt has read so much of other members by now.
    pub fn count_peers(&mut self, bytes: u64) {
        self.peers_now = self.peers_now.max(bytes);
        self.bytes_from_peers = self.peers_before.saturating_add(self.peers_now);
    }

    /// Bytes read from the source by all attempts.
    pub fn bytes_fetched(&self) -> u64 {
        self.fetched_before.saturating_add(self.fetched_now)
    }

    /// The document that clients see.
    pub fn document(&self) -> TransferDocument {
        let left = self.bytes_total.map(|total| total.saturating_sub(self.progress));
        let eta = match (self.state, left, self.throughput) {
            (State::Running, Some(left), Some(rate)) if rate > 0 => Some(left.div_ceil(rate)),
            _ => None,
        };
        let show = |time: Option<Timestamp>| time.map(|time| time.to_string());
        TransferDocument {
            id: self.id.to_string(),
            source_url: self.source_url.clone(),
            destination_url: self.destination_url.clone(),
            state: self.state,
            progress: self.progress,
            start_offset: self.part.start,
            end_offset: self.part.end.map_or(-1, |end| i64::try_from(end).unwrap_or(i64::MAX)),
            source_options: self.source_options.clone(),
            destination_options: self.destination_options.clone(),
            owner: self.owner.clone(),
            bytes_total: self.bytes_total,
            bytes_fetched: self.bytes_fetched(),
            bytes_from_peers: self.bytes_from_peers,
            distribution: self.distribution.map(|id| id.to_string()),
            crc32: self.crc32.map(|crc| format!("{crc:08x}")),
            attempts: self.epoch,
            error: self.error.as_ref().map(|failure| FailureDocument {
                code: failure.code.as_str().into(),
                message: failure.message.clone(),
                retryable: failure.retryable,
            }),
            throughput: self.throughput,
            eta,
            stage_times: self
                .stages
                .named()
                .into_iter()
                .filter(|(_, time)| *time > 0)
                .map(|(stage, time)| (stage.to_owned(), time))
                .collect(),
            priority: self.priority.get(),
            overwrite: match self.overwrite {
                Overwrite::Never => "never".into(),
                Overwrite::Always => "always".into(),
                Overwrite::Repair => "repair".into(),
            },
            checksum: self.checksum.as_ref().map(ToString::to_string),
            retries: self.retries,
            rate_limit: self.rate_limit,
            chunk_size: self.chunk_size,
            connections: self.connections,
            transport: self.transport.to_string(),
            window: self.window,
            validator: self
                .validator
                .as_ref()
                .map(|validator| serde_json::to_value(validator).expect("a validator is made of strings and numbers")),
            created_at: self.created_at.to_string(),
            updated_at: self.updated_at.to_string(),
            started_at: show(self.started_at),
            finished_at: show(self.finished_at),
            not_before: show(self.not_before),
            events: self
                .events
                .iter()
                .map(|note| EventDocument {
                    at: note.at.to_string(),
                    kind: serde_json::to_value(note.kind)
                        .ok()
                        .and_then(|kind| kind.as_str().map(str::to_owned))
                        .expect("kinds are written as words"),
                    message: note.message.clone(),
                })
                .collect(),
        }
    }
}

impl Failure {
    /// What a protocol's error becomes in a record.
    pub fn from_error(error: &staccato_protocols::Error) -> Self {
        Self { code: error.code, message: bounded(&error.message, MESSAGE_BYTES_MAX), retryable: error.is_retryable() }
    }
}

fn host_at<'a>(url: &str, host: &'a str) -> Option<&'a str> {
    (!host.is_empty() || url.starts_with("file:")).then_some(host)
}

/// Length of a part whose both ends were named.
pub fn known_length(part: Part) -> Option<u64> {
    part.end.map(|end| end.saturating_sub(part.start))
}

/// The sentence without control characters (they take six bytes each in JSON) and cut to `bytes_max`.
pub(crate) fn bounded(message: &str, bytes_max: usize) -> String {
    let mut text: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > bytes_max {
        let end = (0..=bytes_max - 3).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.expect("0 is a boundary"));
        text.push_str("...");
    }
    text
}

/// A transfer, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Transfer)]
pub struct TransferDocument {
    /// Its id: a UUID whose order is the order of submission.
    pub id: String,
    /// The source; its query is redacted.
    pub source_url: String,
    /// The destination; its query is redacted.
    pub destination_url: String,
    /// Where it stands.
    pub state: State,
    /// Bytes of the part that survive a power cut at the destination.
    pub progress: u64,
    /// First byte of the source that is wanted.
    pub start_offset: u64,
    /// The byte behind the last one that is wanted; -1: to the end.
    pub end_offset: i64,
    /// Options of the source; secrets are redacted.
    pub source_options: Options,
    /// Options of the destination; secrets are redacted.
    pub destination_options: Options,
    /// Whose it is.
    pub owner: String,
    /// Length of the part in bytes, once known.
    pub bytes_total: Option<u64>,
    /// Bytes read from the source over all attempts; above `progress` when some were fetched twice.
    pub bytes_fetched: u64,
    /// Bytes read from other members of its distribution.
    #[serde(default)]
    pub bytes_from_peers: u64,
    /// The distribution that it is a member of.
    #[serde(default)]
    pub distribution: Option<String>,
    /// CRC-32 of the part in hex, once complete; null when the storage cloned the object (FICLONE), because then no
    /// byte of it was read.
    pub crc32: Option<String>,
    /// Attempts so far.
    pub attempts: u64,
    /// The last failure that has not been overcome.
    pub error: Option<FailureDocument>,
    /// Bytes per second: lately while it runs, on average once it is complete.
    pub throughput: Option<u64>,
    /// Seconds until it is complete, at this throughput.
    pub eta: Option<u64>,
    /// Microseconds that the last attempt spent in each stage, as far as it told. `idle`, `sync_wait`, `queue`,
    /// `memory`, `read`, `checksum`, `write` and `read_back` are summed over chunks, which are in them side by side: the
    /// largest one is what limits the transfer. Stages without time are left out. `open`, `sync`, `verify`, `ledger` and
    /// `commit` are wall time.
    #[serde(default)]
    pub stage_times: BTreeMap<String, u64>,
    /// 0 to 9, 9 goes first.
    pub priority: u8,
    /// `never`, `always` or `repair`.
    pub overwrite: String,
    /// The checksum the part must have.
    pub checksum: Option<String>,
    /// Further attempts after retryable failures.
    pub retries: u32,
    /// Most bytes per second to read from the source. A clone (FICLONE) reads none and is not slowed down.
    pub rate_limit: Option<u64>,
    /// Bytes per chunk.
    pub chunk_size: Option<u64>,
    /// Connections to a source behind a network; as many as bring something without.
    pub connections: Option<u32>,
    /// How bytes cross the network between two executors: `auto`, `quic` or `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Most bytes under way at a time; as many as memory allows without.
    #[serde(default)]
    pub window: Option<u64>,
    /// The source's version, pinned at first open.
    #[schema(value_type = Option<Object>)]
    pub validator: Option<serde_json::Value>,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When its state or progress last changed, RFC 3339.
    pub updated_at: String,
    /// When an executor first took it, RFC 3339.
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    pub finished_at: Option<String>,
    /// When the next attempt may begin after a failure, RFC 3339.
    pub not_before: Option<String>,
    /// What happened to it, oldest first.
    pub events: Vec<EventDocument>,
}

/// Why a transfer failed, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailureDocument {
    /// The stable code.
    pub code: String,
    /// One sentence that says what to do.
    pub message: String,
    /// Whether a later try may not meet it.
    pub retryable: bool,
}

/// Something worth knowing that happened to a transfer, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventDocument {
    /// When, RFC 3339.
    pub at: String,
    /// A stable word for what it was.
    pub kind: String,
    /// One sentence for people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cut_between_characters_and_hold_no_control_characters() {
        assert_eq!(bounded("a\nb\u{7f}", 10), "a b ");
        assert_eq!(bounded("0123456789", 10), "0123456789");
        assert_eq!(bounded("0123456789a", 10), "0123456...");
        assert_eq!(bounded("012345\u{4f60}\u{597d}", 10), "012345...", "a character takes three bytes");
    }
}
