//! What members hear of one another: when their attempts begin, and in heartbeats.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use staccato_dataplane::{
    attempt::{
        SignedTicket,
        swarm::{Key, SwarmPeer, SwarmSpec},
    },
    swarm::mix,
    transport::ticket::Ticket,
};
use staccato_protocols::ByteRange;

use super::{CHUNK_BYTES, Member, Swarm, Swarms, number_of};
use crate::{
    ledger::{Held, Ledger, LedgerError, change::POISON, fleet::Fleet, hosts::parse_key},
    model::{TransferId, word::Word},
};

/// How many others a member is told of.
const PEERS_MAX: usize = 16;
/// Of so many drawn by chance, those in the member's rack first.
const DRAWN_MAX: usize = 64;
/// A member that runs is told of changes at most so often.
const NEWS_PAUSE: Duration = Duration::from_secs(2);
/// The same where there are few.
const NEWS_PAUSE_OF_FEW: Duration = Duration::from_millis(50);

/// What an attempt is to know of its distribution from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwarmNews {
    /// Which transfer.
    pub transfer: TransferId,
    /// Which attempt.
    pub epoch: u64,
    /// What it is to know.
    pub swarm: SwarmSpec,
}

impl Swarms {
    /// Grows with every change of a distribution, and of those whose members it fetches from.
    fn version_of(&self, distribution: TransferId) -> u64 {
        let own = self.all.get(&distribution).map_or(0, |swarm| swarm.version);
        self.siblings(distribution).fold(own, |sum, sibling| sum.wrapping_add(sibling.version + 1))
    }
}

impl Swarm {
    /// Its members, or as many of them by chance as are looked at.
    fn sample(&self, chance: u64) -> impl Iterator<Item = (u64, &Member)> {
        let few = self.members.len() <= DRAWN_MAX;
        let draw = move |draw: usize| {
            let from = mix(chance, draw as u64);
            self.members.range(from..).next().or(self.members.first_key_value())
        };
        let all = self.members.iter().filter(move |_| few);
        let drawn: BTreeMap<_, _> = (0..if few { 0 } else { DRAWN_MAX }).filter_map(draw).collect();
        all.chain(drawn).map(|(number, member)| (*number, member))
    }
}

impl Ledger {
    /// What members that run are to know by now.
    pub(crate) fn swarm_news(&self, executor: &str, held: &[Held]) -> Vec<SwarmNews> {
        let news = held.iter().filter_map(|attempt| {
            let distribution = self.swarm_due(attempt)?;
            let chunk_size = self.chunk_size_of(distribution);
            let swarm = self.swarm_spec(distribution, attempt.transfer, chunk_size, executor).ok()??;
            Some(SwarmNews { transfer: attempt.transfer, epoch: attempt.epoch, swarm })
        });
        news.collect()
    }

    /// Whether there is something that they are to know.
    pub(crate) fn has_swarm_news(&self, held: &[Held]) -> bool {
        held.iter().any(|attempt| self.swarm_due(attempt).is_some())
    }

    /// The distribution of an attempt that is to be told something.
    fn swarm_due(&self, attempt: &Held) -> Option<TransferId> {
        let now = self.inner.environment.monotonic();
        let distribution = attempt.distribution?;
        let swarms = self.inner.swarms.lock().expect(POISON);
        let swarm = swarms.all.get(&distribution)?;
        let (at, version) = swarm.members.get(&number_of(attempt.transfer))?.told;
        let is_news = version != swarms.version_of(distribution);
        let pause = if swarm.members.len() > PEERS_MAX { NEWS_PAUSE } else { NEWS_PAUSE_OF_FEW };
        let old = now >= at + self.inner.config.outage_max / 2;
        (old || (is_news && now >= at + pause)).then_some(distribution)
    }

    pub(super) fn swarm_spec(
        &self,
        distribution: TransferId,
        transfer: TransferId,
        chunk_size: Option<u64>,
        executor: &str,
    ) -> Result<Option<SwarmSpec>, LedgerError> {
        let Some((content, keep, uploads)) = self.copies_of(distribution) else { return Ok(None) };
        let now = self.inner.environment.monotonic();
        let fleet = self.inner.fleet.lock().expect(POISON);
        let mut swarms = self.inner.swarms.lock().expect(POISON);
        let version = swarms.version_of(distribution);
        let Some(swarm) = swarms.all.get(&distribution) else { return Ok(None) };
        let number = number_of(transfer);
        let host = fleet.host_of(executor).to_owned();
        let chunk_bytes = chunk_size.unwrap_or(CHUNK_BYTES);
        let Some(reader) = fleet.key_of(&host).and_then(parse_key) else { return Ok(None) };
        let rack = fleet.rack_of(&host).cloned();
        let ticket = Ticket {
            transfer: transfer.to_string(),
            epoch: 0,
            url: format!("swarm://{content}"),
            range: ByteRange::new(0, u64::MAX).expect("0 is the smallest start"),
            reader,
            until_ms: self.inner.environment.now().after(self.inner.config.outage_max).as_millis(),
        };
        // Others every time that something has changed: nobody depends on who happened to be drawn first.
        let drawn: BTreeSet<u64> = swarm.sample(number ^ version).map(|(drawn, _)| drawn).collect();
        // Seeds know those in the seats beside them: so what they read goes round, whoever else they know.
        let beside = swarm.readers.iter().flat_map(|readers| readers.seeds.neighbours(number));
        let seeds: BTreeSet<u64> = beside.filter(|seed| swarm.is_there(*seed)).collect();
        let own = drawn.union(&seeds).map(|other| (*other, &swarm.members[other]));
        let elsewhere = swarms.siblings(distribution).flat_map(|sibling| sibling.sample(number ^ version));
        let mut peers: Vec<SwarmPeer> = own
            .chain(elsewhere)
            .filter(|(other, _)| *other != number)
            .filter_map(|(other, member)| self.peer(&fleet, other, &member.instance, rack.as_ref()))
            .collect();
        peers.sort_by_key(|peer| mix(number ^ version, peer.member));
        let (mut peers, others): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| seeds.contains(&peer.member));
        let (mut near, mut far): (Vec<_>, Vec<_>) = others.into_iter().partition(|peer| peer.near);
        let room = PEERS_MAX.saturating_sub(peers.len());
        near.truncate((room * 5 / 8).max(room.saturating_sub(far.len())));
        far.truncate(room - near.len());
        peers.append(&mut near);
        peers.append(&mut far);
        let readers = swarms.siblings(distribution).chain([swarm]).filter_map(|swarm| swarm.readers.as_ref());
        let may_vouch: BTreeSet<&String> = readers.flat_map(|readers| &readers.keys).collect();
        let may_vouch = may_vouch.into_iter().filter_map(|key| parse_key(key)).map(Key);
        // All hosts of the rack count, whether they take part now or not: so their shares are never more than the whole.
        let in_rack = || fleet.hosts().filter(|host| rack.is_some() && host.record.announced.rack == rack).count();
        let upload_limit = uploads.of_one(in_rack);
        let spec = SwarmSpec {
            distribution: distribution.to_string(),
            name: content,
            keep,
            member: number,
            chunk_bytes,
            object: swarm.object.clone(),
            ticket: SignedTicket(ticket.sign(&self.inner.ticket_key)),
            may_vouch: may_vouch.collect(),
            peers,
            share: swarm.shares.get(&number).cloned().unwrap_or_default(),
            upload_limit,
            begin_anew: swarm.recalled.is_some_and(|(recalled, _)| recalled == number),
        };
        let swarm = swarms.all.get_mut(&distribution).expect("it was just there");
        if !swarm.is_there(number) {
            swarm.join(number, transfer, executor, true);
        }
        swarm.members.get_mut(&number).expect("it is there").told = (now, version);
        Ok(Some(spec))
    }

    fn peer(&self, fleet: &Fleet, member: u64, instance: &str, rack: Option<&Word>) -> Option<SwarmPeer> {
        let host = fleet.host_of(instance);
        let (tcp, quic, plain) = fleet.address_of(host)?;
        let near = rack.is_some() && fleet.rack_of(host) == rack;
        let host = if host.is_empty() { self.inner.config.own_host.as_str() } else { host }.to_owned();
        Some(SwarmPeer { member, host, tcp, quic, plain, near })
    }
}
