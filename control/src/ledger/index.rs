//! What follows from a record in the store: the indexes by state, owner and destination, and the lines of what waits
//! and what runs. Nothing but this makes an index entry.
//!
//! A transfer's record begins with a line of its own, the *index line*, which says what entries the transfer has; JSON
//! follows. The line is there for versions that cannot read the JSON: a transfer that a newer one wrote keeps its place
//! in lists and lines, and its destination. Its fields have a space between them:
//!
//! | field | |
//! | --- | --- |
//! | state | `STATE_NEW`, ... |
//! | owner | as in keys |
//! | destination | digest of the destination that it keeps from others, or `-` |
//! | line | what the key of its place in a line begins with, or `-` |
//! | work | where there is such a place: what the scheduler sees of it, in JSON. That of a member of a distribution begins with `{"member":[...]`, what counts of it there, which is there without a place, too |

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    model::{State, Timestamp, TransferId, TransferRecord, distribution::Figures},
    store::{Derive, contract::KeysAndValues},
};

use super::{keys, sweep::SweepRecord};

/// How the ledger's indexes follow from its records.
pub const INDEXES: Derive =
    Derive { sources: &[keys::TRANSFERS, keys::SWEEPS], derived: keys::DERIVED, function: entries };

/// Fields of an index line, and what a field holds where there is nothing.
const FIELDS: usize = 5;
const NOTHING: &str = "-";
/// What the last field of a member begins with.
const MEMBER: &[u8] = br#"{"member":"#;

/// What the scheduler knows of a transfer: the value of the keys below `w/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkEntry {
    #[serde(rename = "o")]
    pub owner: String,
    #[serde(rename = "p")]
    pub priority: u8,
    #[serde(rename = "c")]
    pub created_at: Timestamp,
    #[serde(default, rename = "from", skip_serializing_if = "String::is_empty")]
    pub source_host: String,
    #[serde(default, rename = "to", skip_serializing_if = "String::is_empty")]
    pub destination_host: String,
    /// Whether any executor may run it.
    #[serde(default, rename = "any", skip_serializing_if = "is_false")]
    pub runs_anywhere: bool,
    /// The host whose executor runs it; empty: the service's own.
    #[serde(default, rename = "at", skip_serializing_if = "String::is_empty")]
    pub runs_at: String,
    /// The host whose executor must show the source, where that is another.
    #[serde(default, rename = "of", skip_serializing_if = "Option::is_none")]
    pub reads_from: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The index line of a record.
pub(crate) fn line_of(record: &TransferRecord) -> Vec<u8> {
    let place = match (record.state, record.not_before) {
        (State::New, None) => Some(keys::queue_of(record.priority)),
        (State::New, Some(time)) => Some(keys::backoff_until(time)),
        _ if record.state.takes_slot() => Some(keys::ACTIVE.to_vec()),
        _ => None,
    };
    let owner = keys::escaped(&record.owner);
    let kept = kept_destination(record).unwrap_or(NOTHING);
    let fields = [record.state.as_str(), &owner, kept].map(str::as_bytes);
    let mut line = [fields[0], fields[1], fields[2], place.as_deref().unwrap_or(NOTHING.as_bytes())].join(&b' ');
    let work = place.map(|_| serde_json::to_vec(&WorkEntry::of(record)).expect("an entry is strings and numbers"));
    match (MemberLine::of(record), work) {
        (None, None) => {}
        (None, Some(work)) => line.extend([b" ", &work[..]].concat()),
        (Some(member), work) => {
            let member = serde_json::to_vec(&member).expect("an entry is strings and numbers");
            line.extend([b" ", MEMBER, &member].concat());
            match work {
                // The rest of the same object.
                Some(work) => line.extend([b",", &work[1..]].concat()),
                None => line.push(b'}'),
            }
        }
    }
    line
}

/// What counts of a member, in the order of [`Figures`] behind its state; the distribution is first.
#[derive(Serialize, Deserialize)]
struct MemberLine(TransferId, String, u64, Option<u64>, u64, u64, Option<u64>);

impl MemberLine {
    fn of(record: &TransferRecord) -> Option<Self> {
        let (distribution, figures) = Figures::of(record)?;
        let Figures { state: _, host, progress, bytes_total, bytes_fetched, bytes_from_peers, throughput } = figures;
        Some(Self(distribution, host, progress, bytes_total, bytes_fetched, bytes_from_peers, throughput))
    }
}

/// What the value of a member's key says.
pub(crate) fn figures_of(value: &[u8]) -> Option<Figures> {
    let (state, member) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let MemberLine(_, host, progress, bytes_total, bytes_fetched, bytes_from_peers, throughput) =
        serde_json::from_str(member).ok()?;
    let state = state.parse().ok()?;
    Some(Figures { state, host, progress, bytes_total, bytes_fetched, bytes_from_peers, throughput })
}

/// The last field of a member: what counts of it, and what the scheduler sees of it.
fn split_member(field: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let field = field.strip_prefix(MEMBER)?;
    // A host's name has no bracket.
    let end = field.iter().position(|byte| *byte == b']')? + 1;
    let work = field[end..].strip_prefix(b",").map(|work| [b"{", work].concat());
    Some((&field[..end], work.unwrap_or_default()))
}

/// The digest of the destination that a record keeps from other transfers.
pub(crate) fn kept_destination(record: &TransferRecord) -> Option<&str> {
    let keeps = !record.state.is_ended() || record.may_commit_unseen();
    record.destination_digest.as_deref().filter(|_| keeps)
}

fn entries(key: &[u8], value: &[u8]) -> KeysAndValues {
    let Some(id) = keys::trailing_id(key) else { return Vec::new() };
    let kept = |digest: &[u8]| (keys::destination(digest), id.as_uuid().into_bytes().to_vec());
    if key.starts_with(keys::SWEEPS) {
        // Until the sweep is done, a stray commit could replace what another transfer puts there.
        let sweep = serde_json::from_slice::<SweepRecord>(value).ok();
        return sweep.and_then(|sweep| Some(kept(sweep.kept?.as_bytes()))).into_iter().collect();
    }
    let mut fields = value.split(|byte| *byte == b'\n').next().unwrap_or_default().splitn(FIELDS, |byte| *byte == b' ');
    let mut field = || fields.next().filter(|field| !field.is_empty());
    let (Some(state), Some(owner), Some(digest), Some(place)) = (field(), field(), field(), field()) else {
        return Vec::new();
    };
    let id = &key[key.len() - keys::ID_LEN..];
    let mut entries = Vec::with_capacity(6);
    entries.push(([b"s/", state, b"/", id].concat(), Vec::new()));
    entries.push(([b"u/", owner, b"/", id].concat(), Vec::new()));
    entries.push(([b"o/", owner, b"/", state, b"/", id].concat(), Vec::new()));
    let mut work = Cow::Borrowed(fields.next().unwrap_or_default());
    if let Some((member, rest)) = split_member(&work) {
        // The id of the distribution, behind a bracket and a quotation mark.
        if let Some(distribution) = member.get(2..2 + keys::ID_LEN) {
            let value = [state, b" ", member].concat();
            entries.push(([keys::MEMBERS, distribution, b"/", id].concat(), value));
        }
        work = Cow::Owned(rest);
    }
    if place.starts_with(keys::WORK) {
        entries.push(([place, id].concat(), work.into_owned()));
    }
    if digest != NOTHING.as_bytes() {
        entries.push(kept(digest));
    }
    entries
}

impl WorkEntry {
    fn of(record: &TransferRecord) -> Self {
        let host = |url: &str| {
            // Parsing is for those that may have one.
            if url.starts_with("file:///") {
                return String::new();
            }
            let parsed = url::Url::parse(url).ok();
            parsed.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
        };
        Self {
            owner: record.owner.clone(),
            priority: record.priority.get(),
            created_at: record.created_at,
            source_host: host(&record.source_url),
            destination_host: host(&record.destination_url),
            runs_anywhere: record.runs_at().is_none(),
            runs_at: record.runs_at().unwrap_or_default().to_owned(),
            reads_from: record.reads_from().map(str::to_owned),
        }
    }
}
