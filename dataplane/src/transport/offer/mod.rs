//! Objects that many executors fetch from one another: what this one shows of each, while it fills it and afterwards.
//!
//! An attempt that fills a copy offers it under its distribution's name. A chunk is in the offer once it is written and
//! checked against a [voucher](super::voucher); it need not be durable. Others open `swarm://NAME` with a ticket for it,
//! hear what is there, and read it through the descriptors of the attempt: never by a path. The offer stays when the
//! attempt has ended, until it is withdrawn.

mod first;
mod peer;
mod shown;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use first::FirstReader;
pub use peer::PeerObject;
pub(super) use shown::ShownCopy;
pub(crate) use shown::{show, withdraw};
use staccato_protocols::{ByteRange, Chunk, Code, Error, Object, ObjectUrl};
use tokio::sync::watch;

use super::{
    frame::RANGES_MAX,
    patience::within,
    ticket::KeyDigest,
    voucher::{Content, ObjectDigest, Voucher, object_digest},
};
use crate::swarm::{Answer, PeerKey, Uploads};

/// The scheme of what is offered.
pub const SCHEME: &str = "swarm";
/// Chunks that are sent at a time, to all readers together.
const UPLOADS_MAX: usize = 6;
/// So long whoever watches waits for something new, before it hears that there is nothing.
const WATCH: Duration = Duration::from_secs(10);

/// What an executor offers, by name.
#[derive(Default)]
pub(crate) struct Offers(Mutex<HashMap<String, Arc<Offer>>>);

/// One executor's copy of an object, as far as it is there.
pub struct Offer {
    name: String,
    object: Object,
    digest: ObjectDigest,
    holdings: Mutex<Holdings>,
    /// The keys of those that read the source, as far as is known.
    may_vouch: Mutex<BTreeSet<KeyDigest>>,
    /// How many chunks were told of.
    told: watch::Sender<u64>,
    uploads: Mutex<Uploads>,
    /// What the uploads' time is counted from.
    since: Instant,
}

/// A chunk that is being sent to a reader.
pub(super) struct Upload {
    offer: Arc<Offer>,
    reader: PeerKey,
    began: Instant,
}

#[derive(Default)]
struct Holdings {
    /// Of chunks that are there, and of others, by where they begin.
    vouchers: BTreeMap<u64, Arc<Voucher>>,
    /// What is there, in the order in which it came.
    log: Vec<ByteRange>,
    /// Where it begins, and where in the log it stands.
    places: HashMap<u64, usize>,
}

impl Offers {
    /// Offers a copy from now on, in place of an earlier one of the same name.
    pub fn add(&self, offer: Arc<Offer>) {
        self.map().insert(offer.name.clone(), offer);
    }

    /// The copy of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<Arc<Offer>> {
        self.map().get(name).cloned()
    }

    /// Offers it no more. Whoever has it open reads nothing of it any more.
    pub fn remove(&self, name: &str) {
        self.map().remove(name);
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        self.map().keys().cloned().collect()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Offer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The URL of what is offered under this name.
pub fn url_of(name: &str) -> Result<ObjectUrl, Error> {
    ObjectUrl::parse(&format!("{SCHEME}://{name}"))
}

impl Offer {
    /// A copy of which nothing is there yet.
    pub fn new(name: String, object: Object) -> Self {
        let digest = object_digest(&object);
        let (holdings, told, since) = (Mutex::default(), watch::Sender::new(0), Instant::now());
        Self {
            name,
            object,
            digest,
            holdings,
            may_vouch: Mutex::default(),
            told,
            uploads: Mutex::new(Uploads::new(UPLOADS_MAX)),
            since,
        }
    }

    /// The object of which it is a copy.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The distribution's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose vouchers count, from now on.
    pub fn believe(&self, keys: impl IntoIterator<Item = KeyDigest>) {
        *self.may_vouch.lock().unwrap_or_else(PoisonError::into_inner) = keys.into_iter().collect();
    }

    fn believes(&self, key: &KeyDigest) -> bool {
        self.may_vouch.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// What a chunk is that was read from the source.
    pub fn content_of(&self, range: ByteRange, chunk: &Chunk) -> Content {
        Content::of(&self.name, self.digest, range, chunk)
    }

    /// The voucher of a chunk, if it is known.
    pub fn voucher(&self, range: ByteRange) -> Option<Arc<Voucher>> {
        let found = self.holdings().vouchers.get(&range.start()).cloned();
        found.filter(|voucher| voucher.content.range == range)
    }

    /// Keeps a voucher, if it is about this object. The first one of a chunk counts: others of it must say the same.
    pub fn keep(&self, voucher: Voucher) -> Result<Arc<Voucher>, Error> {
        let Content { name, object, range, .. } = &voucher.content;
        let violation = |why: &str| Error::retry(Code::ProtocolViolation, format!("a voucher of {range} {why}"));
        if *name != self.name {
            return Err(violation("is of another distribution"));
        }
        if *object != self.digest {
            return Err(Error::source_changed("others read another version of the source"));
        }
        let mut holdings = self.holdings();
        let kept = holdings.vouchers.entry(range.start()).or_insert_with(|| Arc::new(voucher.clone()));
        if kept.content != voucher.content {
            return Err(violation("says something else than an earlier one"));
        }
        Ok(kept.clone())
    }

    /// A chunk is there: written, and what its voucher says.
    pub fn hold(&self, range: ByteRange) {
        let mut holdings = self.holdings();
        let place = holdings.log.len();
        if holdings.vouchers.contains_key(&range.start()) && !holdings.places.contains_key(&range.start()) {
            holdings.places.insert(range.start(), place);
            holdings.log.push(range);
            let told = holdings.log.len() as u64;
            drop(holdings);
            self.told.send_replace(told);
        }
    }

    /// Whether all of a chunk is there.
    fn holds(&self, range: ByteRange) -> bool {
        let holdings = self.holdings();
        let within = |(_, voucher): (&u64, &Arc<Voucher>)| {
            voucher.content.range.contains(range) && holdings.places.contains_key(&voucher.content.range.start())
        };
        holdings.vouchers.range(..=range.start()).next_back().is_some_and(within)
    }

    /// Waits until there is more than was `known`, but not for long.
    pub async fn changed(&self, known: u64) {
        let mut told = self.told.subscribe();
        within(WATCH, told.wait_for(|told| *told > known)).await;
    }

    /// What came behind what was `known`, and how much is known with that.
    pub fn since(&self, known: u64) -> (u64, Vec<ByteRange>) {
        let holdings = self.holdings();
        let from = usize::try_from(known).unwrap_or(usize::MAX).min(holdings.log.len());
        let new = &holdings.log[from..];
        let new = &new[..new.len().min(RANGES_MAX)];
        ((from + new.len()) as u64, coalesced(new))
    }

    /// A slot to send a chunk to this reader, while there is one.
    pub(super) fn upload(self: &Arc<Self>, reader: PeerKey) -> Result<Upload, Error> {
        match self.uploads().handle_asked(reader, self.since.elapsed()) {
            Answer::Serve => Ok(Upload { offer: self.clone(), reader, began: Instant::now() }),
            Answer::Busy { after } => {
                Err(Error::retry(Code::PartialBusy, "others are being served; ask somebody else").after(after))
            }
        }
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holdings(&self) -> MutexGuard<'_, Holdings> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.offer.uploads().handle_ended(self.reader, Some(self.began.elapsed()));
    }
}

/// The same bytes in as few ranges as possible.
fn coalesced(ranges: &[ByteRange]) -> Vec<ByteRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start());
    let mut few: Vec<ByteRange> = Vec::new();
    for range in sorted {
        match few.last_mut() {
            Some(last) if last.end() == range.start() => {
                *last = ByteRange::new(last.start(), range.end()).expect("it begins before it ends");
            }
            _ => few.push(range),
        }
    }
    few
}
