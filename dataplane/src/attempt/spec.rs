//! What an attempt is told, and what it tells. Plain values that travel between processes as JSON.

use std::{fmt, net::SocketAddr, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use staccato_protocols::{
    ByteRange, Checksum, Error, ObjectUrl, Options, Validator,
    contract::{Identity, Overwrite},
};

use super::{StageTimes, swarm::SwarmSpec};

/// Everything an executor needs to know to run one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptSpec {
    /// The transfer's id.
    pub transfer: String,
    /// The attempt's number, which only grows: the fencing token.
    pub epoch: u64,
    /// Where the object is.
    pub source_url: ObjectUrl,
    /// Where it shall be.
    pub destination_url: ObjectUrl,
    /// Options of the source, secrets included.
    pub source_options: Options,
    /// Options of the destination, secrets included.
    pub destination_options: Options,
    /// Which part of the source is wanted.
    pub part: Part,
    /// What to do with an object that is at the destination already.
    pub overwrite: Overwrite,
    /// A checksum the part must have.
    pub checksum: Option<Checksum>,
    /// Most bytes per second to read from the source.
    pub rate_limit: Option<u64>,
    /// Bytes per chunk, a multiple of the CRC block; the executor's default when absent.
    pub chunk_size: Option<u64>,
    /// Reads of the source under way at a time, where it is asked over a network: a number found by trying when absent.
    /// Memory may allow fewer.
    pub connections: Option<u32>,
    /// The source's version, pinned by an earlier attempt.
    pub validator: Option<Validator>,
    /// What the ledger knows to be durable.
    pub checkpoint: Vec<VerifiedRange>,
    /// The upload that an earlier attempt had begun at the destination, where that takes parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// A commit that an earlier attempt prepared and may have done.
    pub prepared: Option<Prepared>,
    /// Whose the source is, when it is another executor's: then `source_url` is as its owner knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<SourceOwner>,
    /// The distribution whose member the transfer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<SwarmSpec>,
    /// How the bytes of another executor's object cross the network.
    #[serde(default)]
    pub transport: TransportChoice,
    /// Most bytes under way at a time; as many as memory allows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// Which transport is used between two executors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportChoice {
    /// The one that measurements on the link have shown to be best.
    #[default]
    Auto,
    /// QUIC.
    Quic,
    /// TCP.
    Tcp,
}

/// Another executor that shows its object to whoever has a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceOwner {
    /// The name in its certificate.
    pub host: String,
    /// Where it takes connections of TCP.
    pub tcp: SocketAddr,
    /// Where it takes those of QUIC: a port for each of its lanes; none: it takes none.
    #[serde(default)]
    pub quic: Vec<SocketAddr>,
    /// Whether it takes plain ones, too.
    #[serde(default)]
    pub plain: bool,
    /// What allows to read the object.
    pub ticket: SignedTicket,
}

/// A ticket as it travels ([`Ticket`](crate::transport::ticket::Ticket)); in JSON, its bytes in hex.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SignedTicket(pub Vec<u8>);

/// A commit made ready: recorded in the ledger before the rename.
pub type Prepared = Completion;

/// A part of an object: `start..end`, the end open when unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// Behind the last byte; the object's end when absent.
    pub end: Option<u64>,
}

/// Adjoining blocks whose bytes are durable at the destination. Offsets are those of the destination; both are
/// multiples of the CRC block, but for the end of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedRange {
    /// Which bytes.
    #[serde(flatten, with = "range_fields")]
    pub range: ByteRange,
    /// CRC-32 of all of them.
    pub crc32: u32,
}

mod range_fields {
    use super::{ByteRange, Deserialize, Serialize};
    use serde::{Deserializer, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    struct Fields {
        start: u64,
        end: u64,
    }

    pub fn serialize<S: Serializer>(range: &ByteRange, serializer: S) -> Result<S::Ok, S::Error> {
        Fields { start: range.start(), end: range.end() }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteRange, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        ByteRange::new(fields.start, fields.end)
            .ok_or_else(|| D::Error::custom("a range must not end before it starts"))
    }
}

/// What an attempt reports when more has become durable. It replaces every earlier report of the same attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// All durable ranges.
    pub ranges: Vec<VerifiedRange>,
    /// Length of the whole part, once known.
    pub bytes_total: Option<u64>,
    /// The source's version, once pinned.
    pub validator: Option<Validator>,
    /// The upload that this attempt goes on with or has begun, where the destination takes parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<String>,
    /// Bytes read from the source by this attempt so far (holes and clones are not read), or from other members' copies.
    pub bytes_fetched: u64,
    /// Those of them that came from other members of its distribution.
    #[serde(default)]
    pub bytes_from_peers: u64,
    /// Why nothing of the checkpoint it was told is gone on from, in the first report of an attempt that starts over.
    pub started_over: Option<StartOver>,
    /// Where the time of this attempt went so far.
    #[serde(default)]
    pub stages: StageTimes,
}

/// Why an attempt fetches everything again although the ledger knows of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartOver {
    /// The source is not the object that the checkpoint is of.
    SourceChanged,
    /// The source does not tell its version (any more): what was fetched before may be of another one.
    SourceUnversioned,
    /// What earlier attempts wrote is not beside the destination any more.
    PartialGone,
}

/// What an attempt has finished, before it is given its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// Length of the part.
    pub bytes_total: u64,
    /// CRC-32 of the part; none when the storage cloned it and nothing was read.
    pub crc32: Option<u32>,
    /// Bytes read from the source by this attempt, or from other members' copies.
    pub bytes_fetched: u64,
    /// Those of them that came from other members of its distribution.
    #[serde(default)]
    pub bytes_from_peers: u64,
    /// The partial that is about to be renamed; none where the storage has no such thing.
    pub identity: Option<Identity>,
    /// Where the time of this attempt went so far.
    #[serde(default)]
    pub stages: StageTimes,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The object is at its destination, whole, verified and durable.
    Committed(Completion),
    /// It was told to stop, and has, without giving the object its name; the partial is there still, unless the reason
    /// was a cancel: then nothing is left beside the destination.
    Stopped {
        /// Why.
        reason: StopReason,
    },
    /// It failed, and this attempt has not given the object its name, nor will it. With the error
    /// [`Code::Canceled`](staccato_protocols::Code::Canceled) it was told to cancel, and something may be left beside the
    /// destination.
    Failed {
        /// The cause, and whether another attempt can help.
        error: Error,
    },
    /// It failed, and may have given the object its name: a later attempt that is told what was
    /// [prepared](AttemptSpec::prepared) finds out.
    CommitUnknown {
        /// The cause, and whether another attempt can help.
        error: Error,
    },
}

/// Why an attempt was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A client canceled the transfer: the partial is removed.
    Cancel,
    /// A client paused it: the partial stays.
    Pause,
    /// The lease is lost: nothing is touched any more.
    LeaseLost,
    /// The executor shuts down: the partial stays.
    Shutdown,
}

impl TryFrom<String> for SignedTicket {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map(Self).map_err(|_| "a ticket is written in hex")
    }
}

impl From<SignedTicket> for String {
    fn from(ticket: SignedTicket) -> Self {
        HEXLOWER.encode(&ticket.0)
    }
}

/// Without its bytes: whoever has them may show them, within their time.
impl fmt::Debug for SignedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedTicket")
    }
}

impl StopReason {
    /// Whether another attempt may go on from what is written.
    pub fn keeps_written(self) -> bool {
        matches!(self, Self::Pause | Self::Shutdown)
    }

    /// Whether this reason counts although `earlier` was there before: a cancel overrides what keeps the partial, a
    /// lost lease everything, and nothing a lost lease (what is left belongs to somebody else).
    pub fn overrides(self, earlier: Self) -> bool {
        let strength = |reason| match reason {
            Self::Pause | Self::Shutdown => 0,
            Self::Cancel => 1,
            Self::LeaseLost => 2,
        };
        strength(self) > strength(earlier)
    }
}

/// Which lanes an executor uses where more than one kind can do the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneChoice {
    /// What measurement has shown to be best for the pair of protocols.
    #[default]
    Auto,
    /// tokio-uring.
    TokioUring,
    /// glommio.
    Glommio,
}

impl FromStr for LaneChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "tokio-uring" => Ok(Self::TokioUring),
            "glommio" => Ok(Self::Glommio),
            _ => Err(format!("{text:?} is no kind of lane; use auto, tokio-uring or glommio")),
        }
    }
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        })
    }
}

impl FromStr for TransportChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "quic" => Ok(Self::Quic),
            "tcp" => Ok(Self::Tcp),
            _ => Err(format!("{text:?} is no transport; use auto, quic or tcp")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_written_in_hex_and_not_logged() {
        let ticket = SignedTicket(vec![0, 0xA5, 255]);
        let text = serde_json::to_string(&ticket).unwrap();
        assert_eq!((text.as_str(), format!("{ticket:?}").as_str()), ("\"00a5ff\"", "SignedTicket"));
        assert_eq!(serde_json::from_str::<SignedTicket>(&text).unwrap(), ticket);
        for text in ["\"0\"", "\"0g\"", "\"+1\"", "\"é\""] {
            assert!(serde_json::from_str::<SignedTicket>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_verified_range_reads_well_as_json() {
        let range = VerifiedRange { range: ByteRange::new(0, 1 << 20).unwrap(), crc32: 7 };
        let text = serde_json::to_string(&range).unwrap();
        assert_eq!(text, r#"{"start":0,"end":1048576,"crc32":7}"#);
        assert_eq!(serde_json::from_str::<VerifiedRange>(&text).unwrap(), range);
    }
}
