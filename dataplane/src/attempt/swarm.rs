//! What an attempt is told of a distribution whose member it is.

use std::{fmt, net::SocketAddr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use staccato_protocols::{Access, Object, Validator};

use super::SignedTicket;
use crate::{
    swarm::{Allotment, ChunkSet, PeerKey},
    transport::ticket::KeyDigest,
};

/// The members of a distribution, as one of them knows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmSpec {
    /// The distribution's id.
    pub distribution: String,
    /// This member's number within it.
    pub member: u64,
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
    pub share: SourceShare,
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

/// What a member may read of the source: every so many-th chunk, beginning with one. The chunks of the seed before it
/// are its reserve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceShare {
    /// How many seeds there are; none: this member reads nothing of the source.
    pub seeds: u32,
    /// Which of them this one is, counted from 0.
    pub index: u32,
    /// The member whose chunks are the reserve of this one; none: there is no reserve.
    pub reserve_of: Option<u64>,
}

/// SHA-256 of an executor's public key; in JSON, in hex.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(pub KeyDigest);

impl KnownObject {
    /// As a source tells it.
    pub fn object(&self) -> Object {
        Object { size: Some(self.size), validator: self.validator.clone(), access: Access::Random }
    }
}

impl SourceShare {
    /// The same in chunks of an object that has so many.
    pub fn allotment(&self, chunks: u32) -> Allotment {
        let mut allotment = Allotment::none(chunks);
        if self.seeds == 0 {
            return allotment;
        }
        let of = |seed: u32, set: &mut ChunkSet| {
            for chunk in (seed % self.seeds..chunks).step_by(self.seeds as usize) {
                set.insert(chunk);
            }
        };
        of(self.index, &mut allotment.primary);
        if let Some(reserve_of) = self.reserve_of {
            of(self.index + self.seeds - 1, &mut allotment.reserve);
            allotment.reserve_of = Some(PeerKey(reserve_of));
        }
        allotment
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_seeds_are_the_object_and_each_reserve_is_another_ones_share() {
        let shares = |index| {
            let share = SourceShare { seeds: 3, index, reserve_of: Some(9) };
            let allotment = share.allotment(8);
            (allotment.primary.iter().collect::<Vec<_>>(), allotment.reserve.iter().collect::<Vec<_>>())
        };
        let [first, second, third] = [0, 1, 2].map(shares);
        assert_eq!([&first.0[..], &second.0, &third.0], [&[0, 3, 6][..], &[1, 4, 7], &[2, 5]]);
        assert_eq!([&first.1, &second.1, &third.1], [&third.0, &first.0, &second.0]);
        assert_eq!(SourceShare::default().allotment(8), Allotment::none(8));
    }
}
