//! Who reads the source of a distribution, as the ledger keeps it: [`Seeds`] decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use staccato_dataplane::{
    attempt::{
        VerifiedRange,
        swarm::{KnownObject, SwarmSpec},
    },
    engine::SYNC_BYTES_MAX,
    swarm::seeds::{Seeds, Share},
};

use super::{Swarm, chunk_bytes_of, number_of};
use crate::{
    ledger::{Ledger, LedgerError, change::POISON, fleet::Fleet, keys},
    model::{TransferId, TransferRecord},
    store::Write,
};

/// How often it is looked whether somebody reads everything, where that is not so.
const LOOK: Duration = Duration::from_secs(2);
/// So long a member that is to begin anew is waited for.
const RECALLED: Duration = Duration::from_secs(20);
/// After so long nobody is waited for who has not begun.
const ALL_HAVE_BEGUN: Duration = Duration::from_secs(10);

/// Who may read the source of a distribution.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Readers {
    pub seeds: Seeds,
    /// The keys of all that ever might: what they have read goes on from one to the other.
    pub keys: BTreeSet<String>,
    /// The object, once somebody has seen it.
    #[serde(default)]
    pub object: Option<KnownObject>,
}

impl Swarm {
    /// The attempt of a member is over.
    pub(super) fn settle(&mut self, number: u64, record: &TransferRecord, lost: bool, failed: bool) {
        let Some(readers) = &mut self.readers else { return };
        // Of what was read since the last report, a failed one tells nothing.
        let untold = if failed { SYNC_BYTES_MAX.div_ceil(chunk_bytes_of(record)) } else { 0 };
        let read = match record.bytes_total {
            _ if lost => None,
            None if failed || record.fetched_now > 0 => None,
            _ => Some(chunks_read(record) + untold),
        };
        readers.seeds.settle(number, read);
        self.unstored = true;
        self.shares.remove(&number);
        self.looked = Duration::ZERO;
    }

    /// Who runs, or can be asked for what he has.
    fn lives<'a>(&'a self, clock: &'a Clock<'a>) -> impl Fn(u64) -> bool + Copy + 'a {
        |number| self.members.get(&number).is_some_and(|member| member.runs || clock.is_up(&member.instance))
    }

    /// Whether one lives that has all of it.
    fn has_a_whole_copy(&self, clock: &Clock<'_>) -> bool {
        self.members.values().any(|member| !member.runs && clock.is_up(&member.instance))
    }

    /// Whether somebody has to be found who reads what nobody reads now, or what was found is to be stored.
    fn is_due(&self, clock: &Clock<'_>) -> bool {
        let looked_long_ago = self.looked == Duration::ZERO || clock.now >= self.looked + LOOK;
        let all = self.nobody_is_waited_for(clock.now);
        let orphaned = |readers: &Readers| readers.seeds.has_orphans(all, self.lives(clock));
        self.readers.is_some() && self.unstored
            || (looked_long_ago && self.unfinished().is_some() && self.readers.as_ref().is_some_and(orphaned))
    }

    /// One that runs: one that reads already, if there is such.
    fn unfinished(&self) -> Option<u64> {
        let mut running = self.members.iter().filter(|(_, member)| member.runs).map(|(number, _)| *number);
        let reads = |number: &u64| self.readers.as_ref().is_some_and(|readers| readers.seeds.is_seated(*number));
        running.clone().find(reads).or_else(|| running.next())
    }

    fn nobody_is_waited_for(&self, now: Duration) -> bool {
        self.began.is_some_and(|began| now >= began + ALL_HAVE_BEGUN)
    }
}

/// Who is up now.
struct Clock<'a> {
    fleet: &'a Fleet,
    now: Duration,
    patience: Duration,
}

impl Clock<'_> {
    fn is_up(&self, instance: &str) -> bool {
        let live = self.fleet.up(self.fleet.host_of(instance), self.now, self.patience);
        live.is_some_and(|live| live.instance == instance)
    }
}

impl Ledger {
    /// Reads who reads the sources of distributions: those that run are told of it before anybody begins anew.
    pub(in crate::ledger) async fn load_seeds(&self) -> Result<(), LedgerError> {
        let (start, end) = (keys::SEEDS, keys::end_of(keys::SEEDS));
        for (key, found) in self.inner.store.range(start, &end, usize::MAX, false).await? {
            let read = serde_json::from_slice(&found.value).map_err(|error| LedgerError::unreadable(&key, error));
            let readers: Option<Readers> = self.skip_unreadable(read.map(Some), None)?;
            if let (Some(distribution), Some(readers)) = (keys::trailing_id(&key), readers) {
                // What is left of one that is gone is nobody's.
                let Some((content, ..)) = self.copies_of(distribution) else { continue };
                let mut swarms = self.inner.swarms.lock().expect(POISON);
                let swarm = swarms.of(distribution, &content);
                swarm.began = Some(self.inner.environment.monotonic());
                swarm.object = readers.object.clone();
                swarm.shares = shares(&readers.seeds);
                swarm.readers = Some(readers);
            }
        }
        Ok(())
    }

    /// What the attempt of a member is told that begins now; none for other transfers.
    pub(crate) async fn begin_in_swarm(
        &self,
        record: &TransferRecord,
        executor: &str,
        checkpoint: &[VerifiedRange],
    ) -> Result<Option<SwarmSpec>, LedgerError> {
        let Some(distribution) = record.distribution else { return Ok(None) };
        let Some((hosts, budget_milli)) = self.extent_of(distribution) else { return Ok(None) };
        let Some((content, ..)) = self.copies_of(distribution) else { return Ok(None) };
        if !record.destination_url.starts_with("file:") {
            return Ok(None);
        }
        let (reader_key, can_be_reached) = {
            let fleet = self.inner.fleet.lock().expect(POISON);
            let host = fleet.host_of(executor);
            (fleet.key_of(host).map(str::to_owned), fleet.address_of(host).is_some())
        };
        // Without a certificate it reaches nobody, and is alone.
        let Some(reader_key) = reader_key else { return Ok(None) };
        let _turn = self.inner.swarms_turn.lock().await;
        let number = number_of(record.id);
        let readers = {
            let fleet = self.inner.fleet.lock().expect(POISON);
            let mut swarms = self.inner.swarms.lock().expect(POISON);
            let swarm = swarms.of(distribution, &content);
            let clock = self.clock(&fleet);
            swarm.began.get_or_insert(clock.now);
            swarm.recalled = swarm.recalled.filter(|(recalled, _)| *recalled != number);
            let object = swarm.object.clone();
            let new = || Readers { seeds: Seeds::new(hosts, budget_milli), keys: BTreeSet::new(), object };
            let before = swarm.readers.take();
            let mut readers = before.clone().unwrap_or_else(new);
            // What nobody can come for is of no use to others.
            if can_be_reached || hosts == 1 {
                let missing = missing_of(record, checkpoint, readers.seeds.classes());
                if readers.seeds.begin(number, missing, swarm.lives(&clock)).is_some() {
                    readers.keys.insert(reader_key);
                }
            }
            let changed = before.as_ref() != Some(&readers);
            let readers = swarm.readers.insert(readers);
            changed.then(|| readers.clone())
        };
        if let Some(readers) = readers {
            self.store_readers(distribution, readers).await?;
        }
        self.swarm_spec(distribution, record.id, record.chunk_size, executor)
    }

    /// Sees to it, in every distribution, that somebody reads what nobody reads now, as far as the budget allows.
    pub(crate) async fn heal_swarms(&self) -> Result<(), LedgerError> {
        let due: Vec<TransferId> = {
            let fleet = self.inner.fleet.lock().expect(POISON);
            let swarms = self.inner.swarms.lock().expect(POISON);
            let clock = self.clock(&fleet);
            swarms.all.iter().filter(|(_, swarm)| swarm.is_due(&clock)).map(|(id, _)| *id).collect()
        };
        for distribution in due {
            let kept = self.heal(distribution).await;
            self.skip_unreadable(kept, ())?;
        }
        Ok(())
    }

    async fn heal(&self, distribution: TransferId) -> Result<(), LedgerError> {
        let _turn = self.inner.swarms_turn.lock().await;
        let running: Vec<(u64, TransferId)> = {
            let mut swarms = self.inner.swarms.lock().expect(POISON);
            let Some(swarm) = swarms.all.get_mut(&distribution) else { return Ok(()) };
            swarm.looked = self.inner.environment.monotonic().max(Duration::from_nanos(1));
            let Some(readers) = &swarm.readers else { return Ok(()) };
            let transfer = |number: u64| swarm.members.get(&number).map(|member| (number, member.transfer));
            readers.seeds.readers().filter_map(transfer).collect()
        };
        // What they have by now they do not read any more: so much is left for others.
        let mut noted = Vec::new();
        for (number, transfer) in running {
            let Some((record, _)) = self.load(transfer).await? else { continue };
            let checkpoint = self.load_ranges(&record).await?;
            // Counted after what is durable was: so nothing is durable that was read and is not counted.
            let Some((record, _)) = self.load(transfer).await? else { continue };
            if record.state.is_leased() {
                noted.push((number, record, checkpoint));
            }
        }
        let readers = {
            let fleet = self.inner.fleet.lock().expect(POISON);
            let mut swarms = self.inner.swarms.lock().expect(POISON);
            let Some(swarm) = swarms.all.get_mut(&distribution) else { return Ok(()) };
            let Some(mut readers) = swarm.readers.clone() else { return Ok(()) };
            let clock = self.clock(&fleet);
            for (number, record, checkpoint) in &noted {
                let missing = missing_of(record, checkpoint, readers.seeds.classes());
                readers.seeds.note(*number, chunks_read(record), missing);
            }
            let all = swarm.nobody_is_waited_for(clock.now);
            if swarm.unfinished().is_some() && readers.seeds.heal(all, swarm.lives(&clock)) {
                tracing::info!(%distribution, "what nobody read any more of the source is read by others");
                swarm.unstored = true;
            }
            let is_waited_for = swarm.recalled.is_some_and(|(_, since)| clock.now < since + RECALLED);
            let wants_reader = readers.seeds.wants_reader(all, swarm.lives(&clock));
            if wants_reader && !is_waited_for && !swarm.has_a_whole_copy(&clock) {
                swarm.recalled = swarm.unfinished().map(|number| (number, clock.now));
                swarm.version += 1;
            }
            readers.object = swarm.object.clone();
            swarm.readers = Some(readers.clone());
            if !std::mem::take(&mut swarm.unstored) {
                return Ok(());
            }
            readers
        };
        let stored = self.store_readers(distribution, readers).await;
        if stored.is_err() {
            let mut swarms = self.inner.swarms.lock().expect(POISON);
            swarms.all.get_mut(&distribution).into_iter().for_each(|swarm| swarm.unstored = true);
        }
        stored
    }

    fn clock<'a>(&self, fleet: &'a Fleet) -> Clock<'a> {
        Clock { fleet, now: self.inner.environment.monotonic(), patience: self.inner.config.lease }
    }

    async fn store_readers(&self, distribution: TransferId, readers: Readers) -> Result<(), LedgerError> {
        let value = serde_json::to_vec(&readers).expect("numbers and strings");
        self.write(vec![Write::Put(keys::seeds(distribution), value)]).await?;
        let mut swarms = self.inner.swarms.lock().expect(POISON);
        if let Some(swarm) = swarms.all.get_mut(&distribution) {
            swarm.shares = shares(&readers.seeds);
            swarm.version += 1;
        }
        Ok(())
    }

    /// Whether some of the object is read by nobody, because its source has been read often enough.
    pub(crate) fn is_source_exhausted(&self, distribution: TransferId) -> bool {
        let fleet = self.inner.fleet.lock().expect(POISON);
        let swarms = self.inner.swarms.lock().expect(POISON);
        let Some(swarm) = swarms.all.get(&distribution) else { return false };
        let clock = self.clock(&fleet);
        let exhausted = |readers: &Readers| readers.seeds.is_exhausted(swarm.lives(&clock));
        // Where nobody runs, nobody waits; where one has all of it, the others have it from there.
        swarm.unfinished().is_some() && !swarm.has_a_whole_copy(&clock) && swarm.readers.as_ref().is_some_and(exhausted)
    }
}

fn shares(seeds: &Seeds) -> BTreeMap<u64, Share> {
    seeds.readers().map(|number| (number, seeds.share(number))).collect()
}

/// How many chunks an attempt has read of the source, the last one of them perhaps in part.
fn chunks_read(record: &TransferRecord) -> u64 {
    record.fetched_now.saturating_sub(record.peers_now).div_ceil(chunk_bytes_of(record))
}

/// How many chunks of each class a member has not got: durable ones count.
fn missing_of(record: &TransferRecord, checkpoint: &[VerifiedRange], classes: u32) -> impl Fn(u32) -> u64 + use<> {
    let chunk_bytes = chunk_bytes_of(record);
    let total = record.bytes_total.unwrap_or(0);
    let chunks = u32::try_from(total.div_ceil(chunk_bytes)).unwrap_or(u32::MAX);
    let size = |class| Seeds::size_of(class, classes, chunks).into();
    // Of an object that it has not seen it misses all there is.
    let mut missing: Vec<u64> = (0..classes).map(|class| if total > 0 { size(class) } else { u64::MAX }).collect();
    for known in checkpoint {
        let (first, end) = (known.range.start().div_ceil(chunk_bytes), known.range.end().div_ceil(chunk_bytes));
        let is_whole = |chunk: u64| (chunk + 1) * chunk_bytes <= known.range.end() || known.range.end() == total;
        for chunk in (first..end).filter(|chunk| is_whole(*chunk)) {
            let class = &mut missing[(chunk % u64::from(classes)) as usize];
            *class = class.saturating_sub(1);
        }
    }
    move |class| missing[class as usize]
}
