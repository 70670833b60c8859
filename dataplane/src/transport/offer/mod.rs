//! Objects that many executors fetch from one another: what this one shows of each, while it fills it and afterwards.
//!
//! Copies of one object have one name, and each has a number: together they are a copy's key. An attempt offers the copy that
//! it fills. A chunk is in the offer once it is written and checked against a [voucher](super::voucher); it need not be
//! durable. Others open `swarm://NAME/NUMBER` with a ticket for the name, hear what is there, and read it through the
//! descriptors of the attempt: never by a path. The offer stays when the attempt has ended, until it is withdrawn. What is
//! known of a copy is kept on disk ([`store`]): an attempt that goes on with it shows what was durable, and what is whole can be
//! shown by the next process.

mod first;
mod peer;
mod shown;
pub mod store;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use first::FirstReader;
pub use peer::PeerObject;
use serde::{Deserialize, Serialize};
pub(super) use shown::ShownCopy;
pub(crate) use shown::{Where, show, withdraw};
use staccato_protocols::{ByteRange, Chunk, Code, Error, Object, ObjectUrl, Validator};
use tokio::sync::watch;

use super::{
    frame::RANGES_MAX,
    patience::within,
    ticket::KeyDigest,
    voucher::{Content, ObjectDigest, Voucher, object_digest},
};
use crate::{
    attempt::swarm::KnownObject,
    engine::rate::RateLimit,
    swarm::{Answer, PeerKey, Uploads, uploads::SLOTS},
};
use store::{CopyFile, Known, Whole};

/// The scheme of what is offered.
pub const SCHEME: &str = "swarm";
/// So long whoever watches waits for something new, before it hears that there is nothing.
const WATCH: Duration = Duration::from_secs(10);

/// Whoever opens a copy that is not offered yet waits for it so long: those that begin together know of one another before
/// they have anything to show.
const COMING: Duration = Duration::from_secs(2);
/// A voucher whose signer is not known waits so long, with its chunk, for the news that it reads the source: others may have
/// heard of it earlier. Where there are few members, news are sooner; where there are many, the chunk is had from others.
const NEWS: Duration = Duration::from_millis(500);

/// What an executor offers, by key.
#[derive(Default)]
pub(crate) struct Offers {
    map: Mutex<HashMap<String, Arc<Offer>>>,
    /// How many were added.
    added: watch::Sender<u64>,
}

/// One executor's copy of an object, as far as it is there.
pub struct Offer {
    copy: CopyName,
    object: Object,
    digest: ObjectDigest,
    holdings: Mutex<Holdings>,
    /// The keys of those that read the source, as far as is known.
    may_vouch: watch::Sender<BTreeSet<KeyDigest>>,
    /// How many chunks were told of.
    told: watch::Sender<u64>,
    uploads: Mutex<Uploads>,
    /// How fast it is sent, all readers together; none: as fast as can be.
    limit: Mutex<Option<(u64, RateLimit)>>,
    /// Where what is known of it is kept, if anywhere.
    record: Mutex<Option<Recorded>>,
    /// What the uploads' time is counted from.
    since: Instant,
}

/// Which copy it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyName {
    /// What all copies of the object are called.
    pub name: String,
    /// Its number among them.
    pub member: u64,
    /// The distribution for which it was made.
    pub distribution: String,
    /// The transfer that writes it.
    pub transfer: String,
}

/// The file of a copy, and how many chunks of the log are in it.
struct Recorded {
    file: CopyFile,
    chunks: usize,
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
    /// Offers a copy from now on, in place of an earlier one of the same key.
    pub fn add(&self, offer: Arc<Offer>) {
        self.map().insert(offer.key(), offer);
        self.added.send_modify(|added| *added += 1);
    }

    /// The copy of this key, if there is one.
    pub fn get(&self, key: &str) -> Option<Arc<Offer>> {
        self.map().get(key).cloned()
    }

    /// The same, once there is one, if that is soon.
    pub async fn coming(&self, key: &str) -> Option<Arc<Offer>> {
        let mut added = self.added.subscribe();
        within(COMING, added.wait_for(|_| self.map().contains_key(key))).await;
        self.get(key)
    }

    /// Offers it no more. Whoever has it open reads nothing of it any more.
    pub fn remove(&self, key: &str) {
        if let Some(offer) = self.map().remove(key) {
            offer.record().take();
        }
    }

    /// All of them.
    pub fn list(&self) -> Vec<CopyName> {
        self.map().values().map(|offer| offer.copy.clone()).collect()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, Arc<Offer>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CopyName {
    /// Its key.
    pub fn key(&self) -> String {
        key_of(&self.name, self.member)
    }
}

/// The key of one of the copies of a name.
pub fn key_of(name: &str, member: u64) -> String {
    format!("{name}/{member}")
}

/// The URL of a copy, or of all copies of a name.
pub fn url_of(key: &str) -> Result<ObjectUrl, Error> {
    ObjectUrl::parse(&format!("{SCHEME}://{key}"))
}

/// The key in a URL, and the URL of all copies of its name.
pub(super) fn key_in(url: &ObjectUrl) -> Result<(String, ObjectUrl), Error> {
    let name = url.url().host_str().unwrap_or_default();
    Ok((format!("{name}{}", url.url().path()), url_of(name)?))
}

impl Offer {
    /// A copy of which nothing is there yet.
    pub fn new(copy: CopyName, object: Object) -> Self {
        let digest = object_digest(&object);
        let (holdings, told, since) = (Mutex::default(), watch::Sender::new(0), Instant::now());
        Self {
            copy,
            object,
            digest,
            holdings,
            may_vouch: watch::Sender::default(),
            told,
            uploads: Mutex::new(Uploads::new(SLOTS)),
            limit: Mutex::default(),
            record: Mutex::default(),
            since,
        }
    }

    /// The object of which it is a copy.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// What it is called.
    pub fn key(&self) -> String {
        self.copy.key()
    }

    /// Takes over what is known of it, where that is about this version of the object: what of it is `durable` is there. From
    /// now on what is noted goes to this file.
    pub fn remember(&self, file: CopyFile, known: Known, durable: impl Fn(ByteRange) -> bool) {
        for voucher in known.vouchers {
            let range = voucher.content.range;
            if durable(range) && self.keep(voucher).is_ok() {
                self.hold(range);
            }
        }
        let chunks = self.holdings().log.len();
        *self.record() = Some(Recorded { file, chunks });
    }

    /// Notes what is there by now.
    pub fn note(&self) {
        let mut record = self.record();
        let Some(Recorded { file, chunks }) = record.as_mut() else { return };
        let new: Vec<Arc<Voucher>> = {
            let holdings = self.holdings();
            let log = &holdings.log[*chunks..];
            log.iter().filter_map(|range| holdings.vouchers.get(&range.start()).cloned()).collect()
        };
        *chunks += new.len();
        if let Err(error) = file.append(&new) {
            tracing::warn!(%error, key = self.key(), "a copy will not be shown again by another process");
            *record = None;
        }
    }

    /// Notes that it is whole, and where; another process may show it.
    pub fn note_whole(&self, url: &ObjectUrl, validator: Option<Validator>) {
        self.note();
        let object = KnownObject { size: self.object.size.unwrap_or(0), validator: self.object.validator.clone() };
        let limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(rate, _)| *rate);
        let (copy, url) = (self.copy.clone(), url.as_str().to_owned());
        let whole = Whole { copy, object, url, validator, upload_limit: limit };
        let noted = self.record().as_mut().map(|record| record.file.finish(&whole));
        if let Some(Err(error)) = noted {
            tracing::warn!(%error, key = self.key(), "a copy will not be shown again by another process");
        }
    }

    fn record(&self) -> MutexGuard<'_, Option<Recorded>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose vouchers count, from now on.
    pub fn believe(&self, keys: impl IntoIterator<Item = KeyDigest>) {
        self.may_vouch.send_replace(keys.into_iter().collect());
    }

    /// Whether the vouchers of this key count, by now or soon.
    async fn will_believe(&self, key: &KeyDigest) -> bool {
        let mut may_vouch = self.may_vouch.subscribe();
        within(NEWS, may_vouch.wait_for(|known| known.contains(key))).await.is_some_and(|known| known.is_ok())
    }

    /// What a chunk is that was read from the source.
    pub fn content_of(&self, range: ByteRange, chunk: &Chunk) -> Content {
        Content::of(&self.copy.name, self.digest, range, chunk)
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
        if *name != self.copy.name {
            return Err(violation("is of another object"));
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

    /// Most bytes per second that are sent of it from now on.
    pub fn limit_uploads(&self, limit: Option<u64>) {
        let mut known = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().map(|(rate, _)| *rate) != limit {
            *known = limit.map(|rate| (rate, RateLimit::new(rate, self.since.elapsed())));
        }
    }

    /// A slot to send so many bytes to this reader, while there is one and the limit lets them through.
    pub(super) fn upload(self: &Arc<Self>, reader: PeerKey, bytes: u64) -> Result<Upload, Error> {
        let busy = |why: &str, after| Err(Error::retry(Code::PartialBusy, why).after(after));
        let now = self.since.elapsed();
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(until)) = limit.as_mut().map(|(_, limit)| limit.ready(now)) {
            return busy("as much is sent as may be; ask somebody else", until.saturating_sub(now));
        }
        match self.uploads().handle_asked(reader, now) {
            Answer::Serve => {
                limit.iter_mut().for_each(|(_, limit)| limit.charge(bytes));
                Ok(Upload { offer: self.clone(), reader, began: Instant::now() })
            }
            Answer::Busy { after } => busy("others are being served; ask somebody else", after),
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

#[cfg(test)]
mod tests {
    use futures_util::future::join;
    use staccato_protocols::Access;

    use super::*;

    #[test]
    fn whoever_opens_a_copy_that_is_not_there_yet_has_it_once_it_is() {
        let offers = Offers::default();
        let copy = CopyName { name: "n".into(), member: 1, distribution: "d".into(), transfer: "t".into() };
        let object = Object { size: Some(1), validator: None, access: Access::Random };
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async {
            let began = Instant::now();
            let adding = async {
                glommio::timer::sleep(Duration::from_millis(20)).await;
                offers.add(Arc::new(Offer::new(copy.clone(), object.clone())));
            };
            let (coming, ()) = join(offers.coming("n/1"), adding).await;
            assert!(coming.is_some() && began.elapsed() < COMING);
            assert!(offers.coming("n/1").await.is_some() && began.elapsed() < COMING, "it is there");
            assert!(offers.coming("n/2").await.is_none(), "nobody waits for ever");
        });
    }

    #[test]
    fn a_voucher_whose_signer_is_not_known_yet_waits_until_it_is() {
        let copy = CopyName { name: "n".into(), member: 1, distribution: "d".into(), transfer: "t".into() };
        let offer = Offer::new(copy, Object { size: Some(1), validator: None, access: Access::Random });
        let (seed, other, nobody) = ([1; 32], [2; 32], [3; 32]);
        glommio::LocalExecutorBuilder::default().make().unwrap().run(async {
            let began = Instant::now();
            let hearing = async {
                offer.believe([other]);
                glommio::timer::sleep(Duration::from_millis(20)).await;
                offer.believe([other, seed]);
            };
            let (believed, ()) = join(offer.will_believe(&seed), hearing).await;
            assert!(believed && offer.will_believe(&seed).await && began.elapsed() < NEWS);
            assert!(!offer.will_believe(&nobody).await, "nobody waits for ever");
        });
    }

    #[test]
    fn no_more_is_sent_than_the_limit_lets_through() {
        let copy = CopyName { name: "n".into(), member: 1, distribution: "d".into(), transfer: "t".into() };
        let object = Object { size: Some(1 << 30), validator: None, access: Access::Random };
        let offer = Arc::new(Offer::new(copy, object));
        let reader = PeerKey(7);
        assert!((0..3).all(|_| offer.upload(reader, 1 << 30).is_ok()), "without one there is none");
        offer.limit_uploads(Some(1 << 20));
        // The bucket is empty, and may go into debt once.
        drop(offer.upload(reader, 10 << 20).expect("the first one"));
        let busy = offer.upload(reader, 1 << 20).err().expect("as much is sent as may be");
        assert_eq!(busy.code, Code::PartialBusy);
        offer.limit_uploads(Some(1 << 20));
        assert!(offer.upload(reader, 1).is_err(), "the same limit is no new one");
        offer.limit_uploads(None);
        assert!(offer.upload(reader, 1).is_ok());
    }
}
