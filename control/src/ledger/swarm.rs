//! What members of a distribution are told of one another, and who of them reads the source.
//!
//! A member is told when its attempt begins, and again with heartbeats when something has changed: a sample of the others
//! (those in its rack first), its share of the source, and what the object is, once somebody has seen it. Who runs and who
//! is through is in memory, and follows from the members' records. What may be read of the source ([`Seeds`]) is stored
//! before anybody is told of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use staccato_dataplane::{
    attempt::{
        SignedTicket, VerifiedRange,
        swarm::{Key, KnownObject, SourceShare, SwarmPeer, SwarmSpec},
    },
    swarm::mix,
    transport::ticket::Ticket,
};
use staccato_protocols::ByteRange;

use crate::{
    model::{State, TransferId, TransferRecord, distribution::Seeds, word::Word},
    store::Write,
};

use super::{Held, Ledger, LedgerError, Offered, change::POISON, fleet::Fleet, hosts::parse_key, keys};

/// How many others a member is told of.
const PEERS_MAX: usize = 16;
/// Of so many drawn by chance, those in the member's rack first.
const DRAWN_MAX: usize = 64;
/// Bytes per chunk, unless the distribution says otherwise: small ones are passed on sooner.
const CHUNK_BYTES: u64 = 1 << 20;
/// A member that runs is told of changes at most so often.
const NEWS_PAUSE: Duration = Duration::from_secs(2);
/// The same where there are few.
const NEWS_PAUSE_OF_FEW: Duration = Duration::from_millis(200);
/// Millionths, which shares are counted in.
const WHOLE: u64 = 1_000_000;

/// What is in memory of the members of all distributions.
#[derive(Default)]
pub(crate) struct Swarms(HashMap<TransferId, Swarm>);

#[derive(Default)]
struct Swarm {
    /// None before the first member has begun.
    seeds: Option<Seeds>,
    object: Option<KnownObject>,
    members: BTreeMap<u64, Member>,
    /// Attempts whose leases were taken away: what they have read is not known.
    lost: BTreeSet<u64>,
    /// Grows with every change.
    version: u64,
}

/// One that runs, or has the object.
struct Member {
    instance: String,
    /// When it was last told, and which version.
    told: (Duration, u64),
}

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

/// The number of a member among the others: spread evenly, so that a few can be drawn without a look at all.
fn number_of(transfer: TransferId) -> u64 {
    let (high, low) = transfer.as_uuid().as_u64_pair();
    mix(high, low)
}

impl Swarms {
    /// Takes in that a transfer has changed, if it is or was a member.
    pub fn follow(&mut self, before: &TransferRecord, after: Option<&TransferRecord>) {
        let Some(swarm) = before.distribution.map(|distribution| self.0.entry(distribution).or_default()) else {
            return;
        };
        let number = number_of(before.id);
        let is_member = |record: &&TransferRecord| record.state.is_leased() || record.state == State::Complete;
        let instance = after.filter(is_member).and_then(|record| record.executor.clone());
        let known = swarm.members.get(&number).map(|member| &member.instance);
        if known != instance.as_ref() {
            match instance {
                Some(instance) => drop(swarm.members.insert(number, Member { instance, told: Default::default() })),
                None => drop(swarm.members.remove(&number)),
            }
            swarm.version += 1;
        }
        if before.state.is_leased() && !after.is_some_and(|after| after.state.is_leased()) {
            let lost = swarm.lost.remove(&number);
            let counted = after.unwrap_or(before);
            let read = counted.fetched_now.saturating_sub(counted.peers_now);
            let share = counted.bytes_total.filter(|total| *total > 0 && !lost);
            let read = share.map(|total| (u128::from(read) * u128::from(WHOLE)).div_ceil(total.into()) as u64);
            swarm.seeds.iter_mut().for_each(|seeds| seeds.settle(number, read));
        }
        let seen = after.filter(|record| record.state.is_leased() && record.bytes_total.is_some());
        if let Some(record) = seen.filter(|_| swarm.object.is_none()) {
            let size = record.bytes_total.expect("it was looked for");
            swarm.object = Some(KnownObject { size, validator: record.validator.clone() });
            swarm.version += 1;
        }
    }

    /// An attempt's lease is about to be taken away.
    pub fn lose(&mut self, distribution: TransferId, member: TransferId) {
        self.0.entry(distribution).or_default().lost.insert(number_of(member));
    }

    /// Nobody can be asked for anything of an executor that has ended.
    pub fn executor_ended(&mut self, instance: &str) {
        for swarm in self.0.values_mut() {
            let before = swarm.members.len();
            swarm.members.retain(|_, member| member.instance != instance);
            swarm.version += u64::from(swarm.members.len() < before);
        }
    }

    /// A distribution is no more.
    pub fn forget(&mut self, distribution: TransferId) {
        self.0.remove(&distribution);
    }
}

impl Ledger {
    /// Reads who reads the sources of distributions: those that run are told of it before anybody begins anew.
    pub(super) async fn load_seeds(&self) -> Result<(), LedgerError> {
        let (start, end) = (keys::SEEDS, keys::end_of(keys::SEEDS));
        for (key, found) in self.inner.store.range(start, &end, usize::MAX, false).await? {
            let read = serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error));
            let seeds: Option<Seeds> = self.skip_unreadable(read.map(Some), None)?;
            if let (Some(distribution), Some(seeds)) = (keys::trailing_id(&key), seeds) {
                self.inner.swarms.lock().expect(POISON).0.entry(distribution).or_default().seeds = Some(seeds);
            }
        }
        Ok(())
    }

    /// What the attempt of a member is told that begins now; none for other transfers.
    pub(super) async fn begin_in_swarm(
        &self,
        record: &TransferRecord,
        executor: &str,
        checkpoint: &[VerifiedRange],
    ) -> Result<Option<SwarmSpec>, LedgerError> {
        let Some(distribution) = record.distribution else { return Ok(None) };
        let Some((hosts, budget_milli)) = self.extent_of(distribution) else { return Ok(None) };
        if !record.destination_url.starts_with("file:") {
            return Ok(None);
        }
        let _turn = self.inner.swarms_turn.lock().await;
        let reader_key = {
            let fleet = self.inner.fleet.lock().expect(POISON);
            fleet.key_of(fleet.host_of(executor)).map(str::to_owned)
        };
        // Without a certificate it reaches nobody, and is alone.
        let Some(reader_key) = reader_key else { return Ok(None) };
        let key = keys::seeds(distribution);
        let shares_missing = |shares| move |share| missing_of(share, shares, record, checkpoint);
        let seeds = {
            let mut swarms = self.inner.swarms.lock().expect(POISON);
            let swarm = swarms.0.entry(distribution).or_default();
            let mut seeds = swarm.seeds.clone().unwrap_or_else(|| Seeds::new(hosts, budget_milli));
            let (number, members) = (number_of(record.id), &swarm.members);
            let missing = shares_missing(seeds.shares());
            if seeds.grant(number, missing, |holder| !members.contains_key(&holder)).is_some() {
                seeds.trust(&reader_key);
            }
            swarm.seeds = Some(seeds.clone());
            swarm.version += 1;
            seeds
        };
        let value = serde_json::to_vec(&seeds).expect("numbers");
        self.write(vec![Write::Put(key, value)]).await?;
        self.swarm_spec(distribution, record.id, record.chunk_size, executor)
    }

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
        let swarm = swarms.0.get(&distribution)?;
        let (at, version) = swarm.members.get(&number_of(attempt.transfer))?.told;
        let pause = if swarm.members.len() > PEERS_MAX { NEWS_PAUSE } else { NEWS_PAUSE_OF_FEW };
        let old = now >= at + self.inner.config.outage_max / 2;
        (old || (version < swarm.version && now >= at + pause)).then_some(distribution)
    }

    /// Notes what an executor offers, its own attempts being over; that of which nobody wants anything any more.
    pub(crate) fn note_offers(&self, executor: &str, offered: &[Offered]) -> Vec<TransferId> {
        let (wanted, over): (Vec<Offered>, Vec<Offered>) =
            offered.iter().partition(|offered| self.is_distributing(offered.distribution));
        let mut swarms = self.inner.swarms.lock().expect(POISON);
        for offered in wanted {
            let swarm = swarms.0.entry(offered.distribution).or_default();
            let number = number_of(offered.transfer);
            let before = swarm.members.len();
            swarm
                .members
                .entry(number)
                .or_insert_with(|| Member { instance: executor.to_owned(), told: Default::default() });
            swarm.version += u64::from(swarm.members.len() > before);
        }
        over.iter().map(|offered| offered.distribution).collect()
    }

    fn swarm_spec(
        &self,
        distribution: TransferId,
        transfer: TransferId,
        chunk_size: Option<u64>,
        executor: &str,
    ) -> Result<Option<SwarmSpec>, LedgerError> {
        let now = self.inner.environment.monotonic();
        let fleet = self.inner.fleet.lock().expect(POISON);
        let mut swarms = self.inner.swarms.lock().expect(POISON);
        let swarm = swarms.0.entry(distribution).or_default();
        let number = number_of(transfer);
        let host = fleet.host_of(executor).to_owned();
        let chunk_bytes = chunk_size.unwrap_or(CHUNK_BYTES);
        let Some(reader) = fleet.key_of(&host).and_then(parse_key) else { return Ok(None) };
        let rack = fleet.rack_of(&host).cloned();
        let ticket = Ticket {
            transfer: transfer.to_string(),
            epoch: 0,
            url: format!("swarm://{distribution}"),
            range: ByteRange::new(0, u64::MAX).expect("0 is the smallest start"),
            reader,
            until_ms: self.inner.environment.now().after(self.inner.config.outage_max).as_millis(),
        };
        // Others every time that something has changed: nobody depends on who happened to be drawn first.
        let drawn: BTreeSet<u64> = if swarm.members.len() <= DRAWN_MAX {
            swarm.members.keys().copied().collect()
        } else {
            let draw = |draw: usize| {
                let from = mix(number ^ swarm.version, draw as u64);
                swarm.members.range(from..).next().or(swarm.members.first_key_value()).map(|(drawn, _)| *drawn)
            };
            (0..DRAWN_MAX).filter_map(draw).collect()
        };
        let mut peers: Vec<SwarmPeer> = drawn
            .into_iter()
            .filter(|other| *other != number)
            .filter_map(|other| self.peer(&fleet, other, &swarm.members[&other].instance, rack.as_ref()))
            .collect();
        peers.sort_by_key(|peer| mix(number ^ swarm.version, peer.member));
        let (mut near, mut far): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| peer.near);
        near.truncate((PEERS_MAX / 2).max(PEERS_MAX.saturating_sub(far.len())));
        far.truncate(PEERS_MAX - near.len());
        near.append(&mut far);
        let seeds = swarm.seeds.as_ref();
        let may_vouch = seeds.into_iter().flat_map(Seeds::keys).filter_map(parse_key).map(Key);
        let share = seeds.and_then(|seeds| {
            let grant = seeds.granted(number)?;
            let before = (grant.share + seeds.shares() - 1) % seeds.shares();
            // Where nobody has it yet, nobody is met who has.
            let reserve_of = grant.reserve.then(|| seeds.holder(before).unwrap_or(u64::MAX));
            Some(SourceShare { seeds: seeds.shares(), index: grant.share, reserve_of })
        });
        let spec = SwarmSpec {
            distribution: distribution.to_string(),
            member: number,
            chunk_bytes,
            object: swarm.object.clone(),
            ticket: SignedTicket(ticket.sign(&self.inner.ticket_key)),
            may_vouch: may_vouch.collect(),
            peers: near,
            share: share.unwrap_or_default(),
        };
        let told = (now, swarm.version);
        swarm.members.entry(number).or_insert_with(|| Member { instance: executor.to_owned(), told }).told = told;
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

/// How much of a share is not durable yet, in millionths of it.
fn missing_of(share: u32, shares: u32, record: &TransferRecord, checkpoint: &[VerifiedRange]) -> u64 {
    let chunk_bytes = record.chunk_size.unwrap_or(CHUNK_BYTES);
    let Some(chunks) = record.bytes_total.map(|total| total.div_ceil(chunk_bytes)).filter(|chunks| *chunks > 0) else {
        return WHOLE;
    };
    let mut durable: u64 = 0;
    for known in checkpoint {
        let (first, end) = (known.range.start().div_ceil(chunk_bytes), known.range.end() / chunk_bytes);
        durable += (first..end).filter(|chunk| chunk % u64::from(shares) == u64::from(share)).count() as u64;
    }
    let of_share = (chunks + u64::from(shares - 1 - share)) / u64::from(shares);
    (of_share.saturating_sub(durable) * WHOLE).div_ceil(of_share.max(1))
}
