//! What an attempt is told of a distribution whose member it is.

use std::{fmt, net::SocketAddr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use staccato_protocols::{Access, Object, Validator};

use super::SignedTicket;
use crate::{
    swarm::seeds::Share,
    transport::{offer::CopyName, ticket::KeyDigest},
};

/// The members of a distribution, as one of them knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmSpec {
    /// The distribution's id.
    pub distribution: String,
    /// What the copies of its object are called, in this distribution and in others of the same object.
    pub name: String,
    /// This member's number among them.
    pub member: u64,
    /// Whether its copy is shown as long as the distribution is there, also by another process.
    #[serde(default)]
    pub keep: bool,
    /// Bytes per chunk, the same for all members: a multiple of the CRC block.
    pub chunk_bytes: u64,
    /// The object, once one of the members has seen it.
    pub object: Option<KnownObject>,
    /// What allows to read other members' copies.
    pub ticket: SignedTicket,
    /// Some of the other members.
    pub peers: Vec<SwarmPeer>,
    /// The keys of those that may read the source.
    pub may_vouch: Vec<Key>,
    /// What this one may read of it.
    #[serde(default)]
    pub share: Share,
    /// Most bytes per second that it sends to others.
    #[serde(default)]
    pub upload_limit: Option<u64>,
    /// It is to begin anew: there is something of the source to read for whoever begins now, and for nobody else.
    #[serde(default)]
    pub begin_anew: bool,
}

/// Length and version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownObject {
    /// In bytes.
    pub size: u64,
    /// What tells this version from others.
    pub validator: Option<Validator>,
}

/// Another member, and where it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmPeer {
    /// Its number within the distribution.
    pub member: u64,
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
    /// Whether it is in the same rack.
    #[serde(default)]
    pub near: bool,
}

/// SHA-256 of an executor's public key; in JSON, in hex.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub KeyDigest);

impl SwarmSpec {
    /// What the copy of this member is called, which a transfer writes.
    pub fn copy(&self, transfer: &str) -> CopyName {
        let (name, distribution) = (self.name.clone(), self.distribution.clone());
        CopyName { name, member: self.member, distribution, transfer: transfer.to_owned() }
    }
}

impl KnownObject {
    /// As a source tells it.
    pub fn object(&self) -> Object {
        Object { size: Some(self.size), validator: self.validator.clone(), access: Access::Random }
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or("a key is 32 bytes, written in hex")
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        HEXLOWER.encode(&key.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}
