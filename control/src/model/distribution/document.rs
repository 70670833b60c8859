//! What clients see of a distribution.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{State, Timestamp, TransferDocument, TransferRecord, transfer::FailureDocument};

use super::{DistributionRecord, HostCounts, Rollup, named};

/// A distribution, as clients see it. Fields that it shares with transfers are those of its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Distribution)]
pub struct DistributionDocument {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: Option<String>,
    /// Whose it is.
    pub owner: String,
    /// Where it stands: `STATE_NEW` while all members wait; `STATE_RUNNING`; `STATE_PAUSED` when all that have not ended
    /// are; `STATE_CANCELING`; and when all have ended `STATE_ERROR` where one failed or the whole had to stop
    /// (`error`), `STATE_CANCELED`, or `STATE_COMPLETE`.
    pub state: State,
    /// The source; secrets are `<redacted>`.
    pub source_url: String,
    /// The destination that was asked for, with `{host}` in it; null where destinations were listed.
    pub destination_url: Option<String>,
    /// How many hosts are how far.
    pub hosts: HostCounts,
    /// Length of the object, once known.
    pub bytes_total: Option<u64>,
    /// Bytes that survive a power cut, at all hosts together.
    pub progress: u64,
    /// Bytes that hosts have read from the source.
    pub bytes_from_source: u64,
    /// Bytes that hosts have read from one another.
    pub bytes_between_peers: u64,
    /// Bytes per second of all hosts together.
    pub throughput: Option<u64>,
    /// Seconds until all hosts have the object, as far as can be told.
    pub eta: Option<u64>,
    /// The running host that will be done last, as far as can be told.
    pub slowest: Option<SlowestDocument>,
    /// Why it has stopped by itself.
    pub error: Option<StopDocument>,
    /// How many times the object may be read from its source.
    pub source_budget: f64,
    /// Whether nobody may read what is missing any more: its hosts wait for one another until the `deadline`.
    #[serde(default)]
    pub source_exhausted: bool,
    /// More failures than this, and the rest is canceled.
    pub max_failures: Option<u64>,
    /// What is not complete by then is canceled; RFC 3339.
    pub deadline: Option<String>,
    /// Whether nobody waits for it.
    pub preheat: bool,
    /// Most bytes per second that each host sends to others.
    pub upload_limit: Option<u64>,
    /// Most bytes per second that all hosts of a rack send to others together.
    pub rack_upload_limit: Option<u64>,
    /// First byte of the source that is wanted.
    pub start_offset: u64,
    /// The byte behind the last one that is wanted; -1 for the end of the object.
    pub end_offset: i64,
    /// Options of the source's protocol; secrets are `<redacted>`.
    pub source_options: staccato_protocols::Options,
    /// Options of the destinations' protocol.
    pub destination_options: staccato_protocols::Options,
    /// `never`, `always` or `repair`.
    pub overwrite: String,
    /// The checksum the object must have.
    pub checksum: Option<String>,
    /// 0 to 9, 9 goes first.
    pub priority: u8,
    /// Further attempts of each member after retryable failures.
    pub retries: u32,
    /// Most bytes per second of each member.
    pub rate_limit: Option<u64>,
    /// Bytes per chunk.
    pub chunk_size: Option<u64>,
    /// Connections of each member to a source behind a network.
    pub connections: Option<u32>,
    /// How bytes cross the network between two executors: `auto`, `quic` or `tcp`.
    pub transport: String,
    /// Most bytes of each member under way at a time.
    pub window: Option<u64>,
    /// When it was created, RFC 3339.
    pub created_at: String,
    /// When its last member ended, RFC 3339.
    pub finished_at: Option<String>,
}

/// The running host that will be done last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DistributionSlowest)]
pub struct SlowestDocument {
    /// The host.
    pub host: String,
    /// Its transfer.
    pub transfer: String,
    /// Its bytes that survive a power cut.
    pub progress: u64,
    /// Seconds until it is done, as far as can be told.
    pub eta: Option<u64>,
}

/// Why a distribution has stopped by itself, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DistributionError)]
pub struct StopDocument {
    /// `too_many_failures`, `deadline_passed`, `source_budget_exhausted` or `object_changed`.
    pub code: String,
    /// One sentence that says what to do.
    pub message: String,
}

/// A member of a distribution, as clients see it: what matters of its transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DistributionMember)]
pub struct MemberDocument {
    /// The host it is for.
    pub host: String,
    /// The transfer: `GET /v1/transfers/{id}` shows all of it.
    pub transfer: String,
    /// Its state.
    pub state: State,
    /// Where the object goes.
    pub destination_url: String,
    /// Bytes that survive a power cut.
    pub progress: u64,
    /// Length of the object, once known.
    pub bytes_total: Option<u64>,
    /// Bytes read, from the source and from other hosts.
    pub bytes_fetched: u64,
    /// Bytes read from other hosts of the distribution.
    pub bytes_from_peers: u64,
    /// Attempts so far.
    pub attempts: u64,
    /// Bytes per second.
    pub throughput: Option<u64>,
    /// Seconds until it is complete, at this throughput.
    pub eta: Option<u64>,
    /// The last failure that has not been overcome.
    pub error: Option<FailureDocument>,
}

impl MemberDocument {
    /// What matters of a member's transfer.
    pub fn of(record: &TransferRecord, own_host: &str) -> Self {
        let host = named(&record.destination_host, own_host);
        let TransferDocument {
            id,
            state,
            destination_url,
            progress,
            bytes_total,
            bytes_fetched,
            bytes_from_peers,
            attempts,
            throughput,
            eta,
            error,
            ..
        } = record.document();
        Self {
            host,
            transfer: id,
            state,
            destination_url,
            progress,
            bytes_total,
            bytes_fetched,
            bytes_from_peers,
            attempts,
            throughput,
            eta,
            error,
        }
    }
}

impl DistributionRecord {
    /// The document that clients see; `own_host` is what the service's own host is called.
    pub fn document(&self, rollup: &Rollup, pending: u64, own_host: &str) -> DistributionDocument {
        let state = self.state(rollup, pending);
        let member = self.pattern.document();
        let show = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let slowest = rollup.slowest().map(|(id, figures, eta)| SlowestDocument {
            host: named(&figures.host, own_host),
            transfer: id.to_string(),
            progress: figures.progress,
            eta,
        });
        DistributionDocument {
            id: self.id.to_string(),
            name: self.name.clone(),
            owner: self.owner().to_owned(),
            state,
            source_url: member.source_url,
            destination_url: self.template.clone(),
            hosts: rollup.counts(pending),
            bytes_total: rollup.bytes_total(),
            progress: rollup.progress(),
            bytes_from_source: rollup.bytes_from_source(),
            bytes_between_peers: rollup.bytes_between_peers(),
            throughput: rollup.throughput(),
            eta: if state == State::Running { rollup.eta(pending) } else { None },
            slowest,
            error: self
                .stopped
                .as_ref()
                .map(|stop| StopDocument { code: stop.code.as_str().into(), message: stop.message.clone() }),
            source_budget: self.source_budget.times(),
            source_exhausted: false,
            max_failures: self.max_failures,
            deadline: show(self.deadline),
            preheat: self.preheat,
            upload_limit: self.uploads.each,
            rack_upload_limit: self.uploads.rack,
            start_offset: member.start_offset,
            end_offset: member.end_offset,
            source_options: member.source_options,
            destination_options: member.destination_options,
            overwrite: member.overwrite,
            checksum: member.checksum,
            priority: member.priority,
            retries: member.retries,
            rate_limit: member.rate_limit,
            chunk_size: member.chunk_size,
            connections: member.connections,
            transport: member.transport,
            window: member.window,
            created_at: self.created_at.to_string(),
            finished_at: show(self.finished_at),
        }
    }
}
