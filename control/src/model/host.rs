//! Hosts: what they are called, what the ledger remembers of them, and which of them a transfer needs. Pure.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use staccato_dataplane::transport::peers::{LinkReport, Refusals};
use staccato_protocols::ObjectUrl;
use utoipa::ToSchema;

use super::{Timestamp, Word};

/// Longest name of a host, in bytes.
pub const HOST_BYTES_MAX: usize = 63;
/// Most roots that an executor may have, as other hosts hear of them.
pub const ROOTS_MAX: usize = 64;
/// Most labels that a host may have.
pub const LABELS_MAX: usize = 32;
/// Most bytes of all its roots.
pub const ROOTS_BYTES_MAX: usize = 2 << 10;

/// Schemes of which each host has its own: `file://HOST/path` is a file there, `zero://HOST/SIZE` is made there, and
/// `null://HOST/` ends there.
pub const SCHEMES: [&str; 3] = ["file", "zero", "null"];

/// A URL as the executor of the host that it names would write it.
pub fn as_at_home(url: ObjectUrl) -> ObjectUrl {
    if SCHEMES.contains(&url.scheme()) { url.without_host() } else { url }
}

/// What a host is called in URLs (`file://HOST/path`), in its executor's certificate, and in lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first label of the name that an operating system gives its machine, as far as it can be one.
    pub fn of_machine(nodename: &str) -> Self {
        let name = nodename.to_ascii_lowercase();
        let label = name.split('.').next().unwrap_or_default();
        label.parse().unwrap_or_else(|_| Self("this-host".into()))
    }
}

/// Letters in lower case, digits, `-` and `.`: a name that stays the same in a URL and in a certificate. `localhost` is
/// everybody's, and numbers are addresses.
impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            let plain = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            plain && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        // What ends in a number is an IPv4 address to URLs (WHATWG URL, 3.5).
        let ends_in_letters =
            text.rsplit('.').next().is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_lowercase()));
        let is_number = text.rsplit('.').next().is_some_and(|last| last.starts_with("0x"));
        if text.len() <= HOST_BYTES_MAX
            && text.split('.').all(label)
            && ends_in_letters
            && !is_number
            && text != "localhost"
        {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no name of a host; use 1 to {HOST_BYTES_MAX} small letters, digits, - and ., not only digits \
             behind the last ."
        ))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where one end of a transfer is, as far as that decides who can reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Place {
    /// Every executor reaches it.
    #[default]
    Anywhere,
    /// On the service's own host.
    Here,
    /// On this host.
    Host(HostName),
}

impl Place {
    /// Its host; the service's own has no name here. None: any.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Anywhere => None,
            Self::Here => Some(""),
            Self::Host(name) => Some(name.as_str()),
        }
    }
}

/// What an executor says of itself when it joins, and the ledger remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Its version of Staccato.
    pub version: String,
    /// Attempts it runs at a time.
    pub slots: usize,
    /// Its lanes of each kind.
    pub lanes: usize,
    /// Folders whose files it may move, as they are written in its configuration.
    pub roots: Vec<String>,
    /// Where other executors connect to it; none: they cannot. An address without a host is the one that it speaks from.
    pub address: Option<SocketAddr>,
    /// The UDP ports on which they may do so over QUIC: one for each lane.
    #[serde(default)]
    pub quic: Vec<u16>,
    /// Whether bytes may travel to and from it unencrypted.
    pub plain: bool,
    /// SHA-256 of the public key in its certificate, in hex; none: it has none, and reaches nobody.
    pub key: Option<String>,
    /// What its operator says of it. Earlier versions know no labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Word, Word>,
    /// The rack that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Word>,
}

/// A host that has enrolled, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// What it is called.
    pub name: HostName,
    /// SHA-256 of the public key of its executor, in hex: who shows another is not this host.
    pub key: String,
    /// When it enrolled.
    pub enrolled_at: Timestamp,
    /// What its executor said when it joined last.
    #[serde(default)]
    pub announced: Announcement,
}

/// An executor, as clients see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Executor)]
pub struct ExecutorDocument {
    /// The host it is on.
    pub name: String,
    /// `up`; `down`: it has not been heard for longer than a lease; `new`: it has enrolled, and never joined.
    pub health: String,
    /// Whether it is the service's own.
    pub own: bool,
    /// Its version of Staccato.
    pub version: String,
    /// Attempts that it runs.
    pub running: usize,
    /// Attempts that it runs at a time.
    pub slots: usize,
    /// Its lanes of each kind.
    pub lanes: usize,
    /// Folders whose files it may move. Only whoever runs the service sees them.
    pub roots: Vec<String>,
    /// Where other executors connect to it.
    pub address: Option<String>,
    /// What its operator says of it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The rack that it is in.
    #[serde(default)]
    pub rack: Option<String>,
    /// Links to other hosts from which it has read.
    #[serde(default)]
    pub links: Vec<LinkDocument>,
    /// Whom it has turned away since it started; null before it has joined.
    #[serde(default)]
    pub refusals: Option<RefusalsDocument>,
    /// Seconds since it was last heard.
    pub heard_seconds: Option<u64>,
}

/// A link, as clients see it: how bytes come from `host` to the executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ExecutorLink)]
pub struct LinkDocument {
    /// The other host.
    pub host: String,
    /// The transport that suits the link best, as far as that is known: `tcp` or `quic`; null while every transfer has named
    /// its own.
    pub transport: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Bytes per second over TCP, when that was last measured.
    pub tcp_goodput: Option<u64>,
    /// Bytes per second over QUIC, when that was last measured.
    pub quic_goodput: Option<u64>,
    /// Milliseconds of the shortest round trip of the last minutes.
    pub delay_ms: Option<f64>,
    /// Of a hundred packets that the other host has sent to the executor, those that were lost (over TCP: sent again), of
    /// late; null before there were many.
    pub loss_percent: Option<f64>,
}

/// Whom an executor has turned away since it started, as clients see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ExecutorRefusals)]
pub struct RefusalsDocument {
    /// Connections that showed no valid certificate of the deployment, and questions that no ticket allowed.
    pub not_allowed: u64,
    /// Connections beyond the most that an executor takes.
    pub too_many: u64,
}

impl RefusalsDocument {
    /// What an executor has reported.
    pub fn of(report: Refusals) -> Self {
        Self { not_allowed: report.not_allowed, too_many: report.too_many }
    }
}

impl LinkDocument {
    /// What an executor has reported, within bounds.
    pub fn of(report: &LinkReport) -> Self {
        let bounded = |text: &str| text.chars().filter(|char| !char.is_control()).take(200).collect::<String>();
        Self {
            host: bounded(&report.host),
            transport: report.transport.as_deref().map(bounded),
            reason: report.reason.as_deref().map(bounded),
            tcp_goodput: report.tcp_goodput,
            quic_goodput: report.quic_goodput,
            delay_ms: report.delay_us.map(|micros| micros as f64 / 1e3),
            loss_percent: report.loss_ppm.map(|ppm| f64::from(ppm.min(1_000_000)) / 1e4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_the_same_in_urls() {
        for name in ["a", "node-1", "node1", "h1.example.org", "1.a", "x9"] {
            let parsed: HostName = name.parse().unwrap();
            let url = url::Url::parse(&format!("file://{parsed}/path")).unwrap();
            assert_eq!(url.host_str(), Some(name));
        }
        let long = "x".repeat(HOST_BYTES_MAX + 1);
        for name in [
            "",
            "localhost",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            ".a",
            "a.",
            "1",
            "10.0.0.1",
            "a.1",
            "a.0x1f",
            "ü",
            "a b",
            &long,
        ] {
            assert!(name.parse::<HostName>().is_err(), "{name}");
        }
        for (machine, name) in [("Node-7.example.org", "node-7"), ("10.0.0.1", "this-host"), ("", "this-host")] {
            assert_eq!(HostName::of_machine(machine).as_str(), name);
        }
    }
}
