//! What members of a distribution are told of one another, and who of them reads the source.
//!
//! A member is told when its attempt begins, and again with heartbeats when something has changed ([`news`]): a sample of
//! the others (those in its rack first), its share of the source, and what the object is, once somebody has seen it. Who
//! runs and who is through is in memory here, and follows from the members' records. What may be read of the source is
//! stored before anybody is told of it ([`source`]).

mod news;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use staccato_dataplane::{
    attempt::swarm::KnownObject,
    swarm::{mix, seeds::Share},
};

pub use news::SwarmNews;

use source::Readers;

use crate::model::{State, TransferId, TransferRecord};

use super::{Ledger, Offered, change::POISON};

/// Bytes per chunk, unless the distribution says otherwise: small ones are passed on sooner.
const CHUNK_BYTES: u64 = 1 << 20;

/// What is in memory of the members of all distributions. Whoever locks several of them locks the distributions first, then
/// the fleet, then these.
#[derive(Default)]
pub(crate) struct Swarms {
    all: HashMap<TransferId, Swarm>,
    /// Those of one content: their members fetch from one another what they have of one version.
    by_content: HashMap<String, BTreeSet<TransferId>>,
}

#[derive(Default)]
struct Swarm {
    /// None before the first member has begun.
    readers: Option<Readers>,
    /// What each of them may read, as far as that is stored.
    shares: BTreeMap<u64, Share>,
    object: Option<KnownObject>,
    members: BTreeMap<u64, Member>,
    /// Attempts whose leases were taken away: what they have read is not known.
    lost: BTreeSet<u64>,
    /// When the first attempt began, as far as is known.
    began: Option<Duration>,
    /// Whether less may have been read than is stored.
    unstored: bool,
    /// When it was last looked whether somebody reads everything.
    looked: Duration,
    /// The member that is to begin anew, because nobody that runs can read what is left, and since when.
    recalled: Option<(u64, Duration)>,
    /// Grows with every change.
    version: u64,
    /// What copies of its object are called, once a member has begun or offers one.
    content: String,
}

/// One that runs, or has the object.
struct Member {
    transfer: TransferId,
    instance: String,
    /// It has not got the object yet.
    runs: bool,
    /// When it was last told, and which version: the sum of those of all distributions that it fetches from.
    told: (Duration, u64),
}

/// The number of a member among the others: spread evenly, so that a few can be drawn without a look at all.
fn number_of(transfer: TransferId) -> u64 {
    let (high, low) = transfer.as_uuid().as_u64_pair();
    mix(high, low)
}

/// Bytes per chunk of a member.
fn chunk_bytes_of(record: &TransferRecord) -> u64 {
    record.chunk_size.unwrap_or(CHUNK_BYTES)
}

impl Swarms {
    /// Takes in that a transfer has changed, if it is or was a member.
    pub fn follow(&mut self, before: &TransferRecord, after: Option<&TransferRecord>) {
        let Some(swarm) = before.distribution.map(|distribution| self.all.entry(distribution).or_default()) else {
            return;
        };
        let number = number_of(before.id);
        let is_member = |record: &&TransferRecord| record.state.is_leased() || record.state == State::Complete;
        let instance = after.filter(is_member).and_then(|record| record.executor.clone());
        let known = swarm.members.get(&number).map(|member| &member.instance);
        if known != instance.as_ref() {
            match instance {
                Some(instance) => swarm.join(number, before.id, &instance, true),
                None => swarm.part(|other, _| other == number),
            }
        }
        if let (Some(member), Some(after)) = (swarm.members.get_mut(&number), after) {
            member.runs = after.state.is_leased();
        }
        if let Some(record) = after.filter(|record| record.state.is_leased()) {
            swarm.see(record);
        }
        if before.state.is_leased() && !after.is_some_and(|after| after.state.is_leased()) {
            let lost = swarm.lost.remove(&number);
            let failed = after.is_some_and(|after| after.failures > before.failures || after.state == State::Error);
            swarm.settle(number, after.unwrap_or(before), lost, failed);
        }
    }

    /// An attempt's lease is about to be taken away.
    pub fn lose(&mut self, distribution: TransferId, member: TransferId) {
        self.all.entry(distribution).or_default().lost.insert(number_of(member));
    }

    /// Nobody can be asked for anything of an executor that has ended.
    pub fn executor_ended(&mut self, instance: &str) {
        self.all.values_mut().for_each(|swarm| swarm.part(|_, member| member.instance == instance));
    }

    /// A distribution is no more.
    pub fn forget(&mut self, distribution: TransferId) {
        let Some(swarm) = self.all.remove(&distribution) else { return };
        if let Some(siblings) = self.by_content.get_mut(&swarm.content) {
            siblings.remove(&distribution);
            if siblings.is_empty() {
                self.by_content.remove(&swarm.content);
            }
        }
    }

    /// The swarm of a distribution, whose copies are called so.
    fn of(&mut self, distribution: TransferId, content: &str) -> &mut Swarm {
        let swarm = self.all.entry(distribution).or_default();
        if swarm.content != content {
            swarm.content = content.to_owned();
            self.by_content.entry(content.to_owned()).or_default().insert(distribution);
        }
        swarm
    }

    /// Others whose members have the same version of the same object.
    fn siblings(&self, distribution: TransferId) -> impl Iterator<Item = &Swarm> {
        let own = self.all.get(&distribution);
        let named = own.and_then(|own| self.by_content.get(&own.content)).into_iter().flatten();
        let others = named.filter(move |other| **other != distribution).filter_map(|other| self.all.get(other));
        // What tells no version may be another object by now.
        let object = own.and_then(|own| own.object.as_ref()).filter(|object| object.validator.is_some());
        others.filter(move |other| object.is_some() && other.object.as_ref() == object)
    }
}

impl Swarm {
    fn join(&mut self, number: u64, transfer: TransferId, instance: &str, runs: bool) {
        let member = Member { transfer, instance: instance.to_owned(), runs, told: Default::default() };
        self.members.insert(number, member);
        self.version += 1;
    }

    fn part(&mut self, leaves: impl Fn(u64, &Member) -> bool) {
        let before = self.members.len();
        self.members.retain(|number, member| !leaves(*number, member));
        if self.members.len() < before {
            self.version += 1;
            // Somebody else is to read what it would have read, soon.
            self.looked = Duration::ZERO;
        }
    }

    /// A member has told what the object is.
    fn see(&mut self, record: &TransferRecord) {
        let Some(size) = record.bytes_total.filter(|_| self.object.is_none()) else { return };
        self.object = Some(KnownObject { size, validator: record.validator.clone() });
        self.version += 1;
        self.unstored = true;
        let chunks = u32::try_from(size.div_ceil(chunk_bytes_of(record))).unwrap_or(u32::MAX);
        self.readers.iter_mut().for_each(|readers| readers.seeds.know(chunks));
    }

    fn is_there(&self, number: u64) -> bool {
        self.members.contains_key(&number)
    }
}

impl Ledger {
    /// Notes what an executor offers, its own attempts being over; whose copies nobody wants any more.
    pub(crate) fn note_offers(&self, executor: &str, offered: &[Offered]) -> Vec<TransferId> {
        let (wanted, over): (Vec<Offered>, Vec<Offered>) =
            offered.iter().partition(|offered| self.is_wanted(offered.distribution));
        let called = |offered: Offered| Some((offered, self.copies_of(offered.distribution)?.0));
        let wanted: Vec<_> = wanted.into_iter().filter_map(called).collect();
        let mut swarms = self.inner.swarms.lock().expect(POISON);
        for (offered, content) in wanted {
            let swarm = swarms.of(offered.distribution, &content);
            let number = number_of(offered.transfer);
            if !swarm.is_there(number) {
                swarm.join(number, offered.transfer, executor, false);
            }
        }
        // Nobody can be asked for what is not shown any more.
        for offered in &over {
            let number = number_of(offered.transfer);
            swarms
                .all
                .get_mut(&offered.distribution)
                .into_iter()
                .for_each(|swarm| swarm.part(|other, _| other == number));
        }
        over.iter().map(|offered| offered.transfer).collect()
    }
}
