//! This executor's objects, for others that have tickets.

use std::{
    collections::HashMap,
    future::poll_fn,
    ops::Range,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::future::{OptionFuture, join};
use staccato_protocols::{
    ByteRange, CRC_BLOCK, Chunk, Code, Error, Interrupt, Lane, Object, ObjectUrl, Options, Registry, Source, Validator,
    contract::SourceRequest, sums::pieces,
};

use super::{
    connection::Connection,
    frame::{Content, Frame},
    gauge::{Connected, Reports},
    offer::{self, Offer, Offers, ShownCopy, Upload},
    patience::{Pace, SLOWEST, within},
    tcp::{CONNECT_TIMEOUT, IDLE_TIMEOUT},
    ticket::{KeyDigest, Ticket, TicketError},
};
use crate::{swarm::PeerKey, zeros::zero_runs};

/// Most objects that one connection has open at a time.
pub const OBJECTS_MAX: usize = 1024;
/// Read at once, however much is asked for. While it is sent, as much again is read: so much of the lane's memory a reader
/// can hold.
const READ_BYTES: u64 = 2 * CRC_BLOCK;

/// Tells the time on the control plane's clock: milliseconds since 1970.
pub type ControlTime = Box<dyn Fn() -> u64 + Send + Sync>;

/// What this executor has, and whom it believes.
pub struct Owner {
    registry: Registry,
    offers: Offers,
    ticket_key: Vec<u8>,
    control_time: ControlTime,
    refused: AtomicU64,
    patience: Patience,
}

/// How long readers may take: to greet, to ask (from one answer to the end of the next question), and to take a piece of
/// what they asked for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub greeting: Duration,
    pub question: Duration,
    pub answer: Pace,
}

impl Default for Patience {
    fn default() -> Self {
        Self { greeting: CONNECT_TIMEOUT, question: IDLE_TIMEOUT, answer: SLOWEST }
    }
}

impl Owner {
    /// An owner of everything that `registry` can read, for whoever has a ticket that this Ed25519 key verifies.
    pub fn new(registry: Registry, ticket_key: Vec<u8>, control_time: ControlTime) -> Self {
        let (offers, refused, patience) = (Offers::default(), AtomicU64::new(0), Patience::default());
        Self { registry, offers, ticket_key, control_time, refused, patience }
    }

    /// What it offers of objects that many fetch from one another.
    pub(crate) fn offers(&self) -> &Offers {
        &self.offers
    }

    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// How many questions no ticket allowed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Somebody was turned away before a question was heard.
    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers one connection of a reader, whose certificate has this key, until it ends. Where there is no certificate,
    /// whoever has a ticket is its reader. Holds at most 4 MiB of the lane's memory for it, until the reader has taken
    /// them; one that takes them too slowly is let go.
    pub async fn serve(
        &self,
        lane: &Lane,
        reader: Option<&KeyDigest>,
        connected: impl Into<Connected>,
        peer: String,
    ) -> Result<(), Error> {
        let Connected { stream, gauge } = connected.into();
        let reports = Reports::new(gauge);
        let greeted = within(self.patience.greeting, Connection::begin(stream, peer.clone())).await;
        let connection =
            greeted.unwrap_or_else(|| Err(Error::retry(Code::Stalled, format!("{peer} does not greet"))))?;
        let shelf = Shelf { owner: self, lane, reader, peer, objects: HashMap::new() };
        let mut served = Served { connection, shelf, reports, ahead: None };
        let ended = served.answer_all().await;
        for shown in served.shelf.objects.into_values().flatten() {
            shown.source.close().await;
        }
        ended
    }

    fn not_allowed(&self, peer: &str, url: &ObjectUrl, why: TicketError) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let object = url.redacted();
        tracing::warn!(peer, object, %why, "refused to show an object");
        Error::fatal(Code::PermissionDenied, format!("{object} is not shown: {why}"))
    }
}

struct Served<'a> {
    connection: Connection,
    shelf: Shelf<'a>,
    reports: Reports,
    ahead: Option<Ahead>,
}

/// A question that was heard while the answer to another one left.
struct Ahead {
    heard: Result<Option<Frame>, Error>,
    /// The first piece of its answer, where it asks for bytes.
    first: Option<Result<Chunk, Error>>,
}

/// What a reader can have.
struct Shelf<'a> {
    owner: &'a Owner,
    lane: &'a Lane,
    reader: Option<&'a KeyDigest>,
    peer: String,
    /// Those that are open, and why others are not: whoever asked for their bytes at once hears it again.
    objects: HashMap<u32, Result<Shown, Error>>,
}

/// An object that is open for a reader.
struct Shown {
    source: Rc<dyn Source>,
    /// The offer of which it is the source, where it is one.
    offer: Option<Arc<Offer>>,
    ticket: Ticket,
    url: ObjectUrl,
}

impl Shown {
    fn opened(&self, request: u32) -> Frame {
        let Object { size, validator, access } = self.source.object().clone();
        Frame::Opened { request, size, validator, access }
    }

    /// Whether it is one whose bytes come with the answer to its opening.
    fn is_short(&self, whole_up_to: u32) -> bool {
        whole_up_to > 0 && self.source.object().size.is_some_and(|size| size <= whole_up_to.into())
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Served<'_> {
    async fn answer_all(&mut self) -> Result<(), Error> {
        loop {
            let Ahead { heard, first } = match self.ahead.take() {
                Some(ahead) => ahead,
                None => Ahead { heard: self.hear().await, first: None },
            };
            let Some(frame) = heard? else { return Ok(()) };
            match frame {
                Frame::Open { request, object, ticket, url, pinned, aligned, whole_up_to } => {
                    if self.shelf.objects.len() >= OBJECTS_MAX || self.shelf.objects.contains_key(&object) {
                        return Err(self.connection.violation("opens too many objects, or one number twice"));
                    }
                    let opened = match self.shelf.open(&ticket, &url, pinned, aligned).await {
                        Ok(shown) if shown.is_short(whole_up_to) => {
                            self.say_whole(request, object, shown).await?;
                            continue;
                        }
                        opened => opened,
                    };
                    let answer = match &opened {
                        Ok(shown) => shown.opened(request),
                        Err(error) => Frame::Refused { request, error: error.clone() },
                    };
                    self.shelf.objects.insert(object, opened);
                    self.say(&answer).await?;
                }
                Frame::Fetch { request, object, range } => self.fetch(request, object, range, first).await?,
                Frame::Sums { request, object, range } => self.sums(request, object, range).await?,
                Frame::Revalidate { request, object } => {
                    let valid = match self.shelf.shown(object) {
                        Ok(shown) => shown.source.clone().revalidate().await,
                        Err(error) => Err(error),
                    };
                    let answer =
                        valid.map_or_else(|error| Frame::Refused { request, error }, |()| Frame::Valid { request });
                    self.say(&answer).await?;
                }
                Frame::Watch { request, object, known } => {
                    let answer = match self.shelf.offer(object) {
                        Ok(offer) => {
                            offer.changed(known).await;
                            let (known, ranges) = offer.since(known);
                            Frame::Have { request, known, ranges }
                        }
                        Err(error) => Frame::Refused { request, error },
                    };
                    self.say(&answer).await?;
                }
                Frame::Vouch { request, object, range } => {
                    let voucher = self.shelf.offer(object).and_then(|offer| {
                        let unknown = || Error::retry(Code::SourceMissing, format!("nobody vouches for {range} here"));
                        offer.voucher(range).ok_or_else(unknown)
                    });
                    let answer = match voucher {
                        Ok(voucher) => Frame::Vouched { request, voucher: voucher.bytes.clone() },
                        Err(error) => Frame::Refused { request, error },
                    };
                    self.say(&answer).await?;
                }
                Frame::Close { object } => {
                    if let Some(Ok(shown)) = self.shelf.objects.remove(&object) {
                        shown.source.close().await;
                    }
                }
                Frame::Ping { nonce } => self.say(&Frame::Pong { nonce }).await?,
                Frame::Hello { .. }
                | Frame::Opened { .. }
                | Frame::Chunk { .. }
                | Frame::Summed { .. }
                | Frame::Valid { .. }
                | Frame::Have { .. }
                | Frame::Vouched { .. }
                | Frame::Refused { .. }
                | Frame::Pong { .. }
                | Frame::SenderReport { .. } => return Err(self.connection.violation("answers what it was not asked")),
            }
        }
    }

    /// The next question. One that comes byte by byte is none.
    async fn hear(&mut self) -> Result<Option<Frame>, Error> {
        let heard = within(self.shelf.owner.patience.question, self.connection.receive()).await;
        heard.unwrap_or_else(|| Err(self.connection.late()))
    }

    /// Answers, in a word.
    async fn say(&mut self, answer: &Frame) -> Result<(), Error> {
        let said = within(self.shelf.owner.patience.answer.time_for(0), self.connection.send(answer, &[])).await;
        said.unwrap_or_else(|| Err(self.connection.late()))
    }

    /// Says that an object is open, all of its bytes, and that they are of one version; then it is closed.
    async fn say_whole(&mut self, request: u32, object: u32, shown: Shown) -> Result<(), Error> {
        let size = shown.source.object().size.unwrap_or_default();
        let range = ByteRange::new(0, size).expect("0 is the smallest start");
        let read = async {
            let chunk = if size == 0 { Chunk::zero(0) } else { self.shelf.read_shown(&shown, range).await? };
            shown.source.revalidate().await?;
            Ok(chunk)
        };
        let read: Result<Chunk, Error> = read.await;
        if let Some(report) = self.reports.due() {
            self.connection.put(&report, &[]);
        }
        self.connection.put(&shown.opened(request), &[]);
        shown.source.close().await;
        let last = match &read {
            Ok(chunk) => {
                for (frame, bytes) in parts(request, range, chunk, &chunk.block_crcs()) {
                    self.connection.put(&frame, bytes);
                }
                Frame::Valid { request }
            }
            Err(error) => {
                self.shelf.objects.insert(object, Err(error.clone()));
                Frame::Refused { request, error: error.clone() }
            }
        };
        let pace = self.shelf.owner.patience.answer;
        // The chunk is held until it is over: it counts for its copy, which leaves.
        let said = within(pace.time_for(size), self.connection.send(&last, &[])).await;
        drop(read);
        said.unwrap_or_else(|| Err(self.connection.late()))
    }

    async fn sums(&mut self, request: u32, object: u32, range: ByteRange) -> Result<(), Error> {
        let mut crcs = Vec::new();
        for piece in pieces(range, READ_BYTES) {
            match self.shelf.read(object, piece).await {
                Ok(chunk) => crcs.extend(chunk.block_crcs()),
                Err(error) => return self.refuse(request, error).await,
            }
            // What is made or known to be zero is there at once; others on this lane have their turn, too.
            yield_now().await;
        }
        self.say(&Frame::Summed { request, range, crcs }).await
    }

    /// The bytes of a range, piece by piece, of which the first may have been read already. While one leaves, the next one
    /// is read: of this range, or of the next question's.
    async fn fetch(
        &mut self,
        request: u32,
        object: u32,
        range: ByteRange,
        first: Option<Result<Chunk, Error>>,
    ) -> Result<(), Error> {
        let pace = self.shelf.owner.patience.answer;
        let mut rest = pieces(range, READ_BYTES);
        let Some(mut piece) = rest.next() else { return Ok(()) };
        let _upload = match self.shelf.upload(object, range.len()) {
            Ok(upload) => upload,
            Err(busy) => return self.refuse(request, busy).await,
        };
        // Where an answer follows, it is heard.
        if let Some(report) = self.reports.due() {
            self.say(&report).await?;
        }
        let mut read = match first {
            Some(first) => first,
            None => self.shelf.read(object, piece).await,
        };
        loop {
            let chunk = match read {
                Ok(chunk) => chunk,
                Err(error) => return self.refuse(request, error).await,
            };
            let next = rest.next();
            let heard = if next.is_some() { None } else { self.connection.heard() };
            let coming = match (next, &heard) {
                (Some(next), _) => Some((object, next)),
                (None, Some(Ok(Some(Frame::Fetch { object, range, .. })))) => {
                    pieces(*range, READ_BYTES).next().map(|first| (*object, first))
                }
                _ => None,
            };
            // To their ends, both of them: what is being read must not be dropped.
            // What has left gives its memory back at once: who waits for the next piece's may wait for that.
            let connection = &mut self.connection;
            let sending = async move { send_chunk(connection, pace, request, piece, &chunk).await };
            let reading = OptionFuture::from(coming.map(|(object, piece)| self.shelf.read(object, piece)));
            let (sent, coming) = join(sending, reading).await;
            sent?;
            let Some(next) = next else {
                self.ahead = heard.map(|heard| Ahead { heard, first: coming });
                return Ok(());
            };
            (piece, read) = (next, coming.expect("there is a next one"));
        }
    }

    async fn refuse(&mut self, request: u32, error: Error) -> Result<(), Error> {
        self.say(&Frame::Refused { request, error }).await
    }
}

impl Shelf<'_> {
    async fn open(&self, ticket: &[u8], url: &str, pinned: Option<Validator>, aligned: bool) -> Result<Shown, Error> {
        let owner = self.owner;
        let url = ObjectUrl::parse(url)?;
        // A ticket for a name is good for all of its copies.
        let (key, allowed) = match url.scheme() {
            offer::SCHEME => offer::key_in(&url).map(|(key, all)| (Some(key), all))?,
            _ => (None, url.clone()),
        };
        let ticket = Ticket::verify(ticket, &owner.ticket_key)
            .and_then(|ticket| ticket.allows(self.reader, &allowed, (owner.control_time)()).map(|()| ticket))
            .map_err(|why| owner.not_allowed(&self.peer, &url, why))?;
        if let Some(key) = key {
            let missing = || Error::retry(Code::SourceMissing, format!("{} is not offered here", url.redacted()));
            let offer = owner.offers.coming(&key).await.ok_or_else(missing)?;
            let source = Rc::new(ShownCopy(offer.clone()));
            return Ok(Shown { source, offer: Some(offer), ticket, url });
        }
        let module = owner.registry.source(&url, &Options::new())?;
        let (options, interrupt) = (Options::new(), Interrupt::default());
        let request = SourceRequest { url: url.clone(), options, pinned, aligned, interrupt };
        let source = module.open_source(&request, self.lane).await?;
        if source.object().size.is_none() {
            source.close().await;
            let why = "its length is not known, and so it can only be read where it is";
            return Err(Error::fatal(Code::UnsupportedScheme, format!("{} is not shown: {why}", url.redacted())));
        }
        Ok(Shown { source, offer: None, ticket, url })
    }

    async fn read(&self, object: u32, range: ByteRange) -> Result<Chunk, Error> {
        self.read_shown(self.shown(object)?, range).await
    }

    async fn read_shown(&self, shown: &Shown, range: ByteRange) -> Result<Chunk, Error> {
        shown.ticket.covers(range).map_err(|why| self.owner.not_allowed(&self.peer, &shown.url, why))?;
        if shown.source.object().size.is_some_and(|size| range.end() > size) {
            return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
        }
        if shown.source.is_hole(range) {
            return Ok(Chunk::zero(range.len() as usize));
        }
        let chunk = shown.source.read(range, &self.lane.pool).await?;
        if chunk.len() as u64 == range.len() {
            return Ok(chunk);
        }
        Err(Error::retry(Code::ReadFailed, format!("{range} is not there to its end")))
    }

    /// A slot to send a chunk, where that is offered to many.
    fn upload(&self, object: u32, bytes: u64) -> Result<Option<Upload>, Error> {
        let Some(Ok(Shown { offer: Some(offer), .. })) = self.objects.get(&object) else { return Ok(None) };
        // Nobody is known by a plain connection: all of them are one.
        let key = self.reader.map_or(0, |key| u64::from_le_bytes(key[..8].try_into().expect("8 bytes")));
        offer.upload(PeerKey(key), bytes).map(Some)
    }

    /// What is offered under an object that is open, while its ticket is valid.
    fn offer(&self, object: u32) -> Result<Arc<Offer>, Error> {
        let none = || {
            let why = format!("{} asks what there is of the object {object}, which is no offer", self.peer);
            Error::retry(Code::ProtocolViolation, why)
        };
        self.shown(object)?.offer.clone().ok_or_else(none)
    }

    /// An object that is open, while its ticket is valid.
    fn shown(&self, object: u32) -> Result<&Shown, Error> {
        let missing = || {
            let why = format!("{} asks for the object {object}, which it did not open", self.peer);
            Error::retry(Code::ProtocolViolation, why)
        };
        let shown = self.objects.get(&object).ok_or_else(missing)?.as_ref().map_err(Clone::clone)?;
        let valid = shown.ticket.is_valid((self.owner.control_time)());
        valid.map_err(|why| self.owner.not_allowed(&self.peer, &shown.url, why))?;
        Ok(shown)
    }
}

/// Within its time, or its memory would be held by whoever takes a byte now and then.
async fn send_chunk(
    to: &mut Connection,
    pace: Pace,
    request: u32,
    range: ByteRange,
    chunk: &Chunk,
) -> Result<(), Error> {
    let sent = within(pace.time_for(range.len()), send_parts(to, request, range, chunk)).await;
    sent.unwrap_or_else(|| Err(to.late()))
}

async fn send_parts(to: &mut Connection, request: u32, range: ByteRange, chunk: &Chunk) -> Result<(), Error> {
    for (frame, bytes) in parts(request, range, chunk, &chunk.block_crcs()) {
        to.send(&frame, bytes).await?;
    }
    Ok(())
}

/// A chunk as frames, each with the bytes that follow it. Zero blocks do not travel.
fn parts<'a>(request: u32, whole: ByteRange, chunk: &'a Chunk, crcs: &[u32]) -> Vec<(Frame, &'a [u8])> {
    let mut parts = Vec::new();
    let mut add = |part: Range<usize>, zero: bool| {
        if part.is_empty() {
            return;
        }
        let range = ByteRange::at(whole.start() + part.start as u64, part.len() as u64).expect("it lies within");
        let (content, bytes) = if zero {
            (Content::Zero, &[][..])
        } else {
            let block = CRC_BLOCK as usize;
            let bytes = &chunk.bytes().expect("what is not zero is stored")[part.clone()];
            (Content::Data(crcs[part.start / block..part.end.div_ceil(block)].to_vec()), bytes)
        };
        parts.push((Frame::Chunk { request, range, content }, bytes));
    };
    let mut at = 0;
    for zeros in zero_runs(chunk, crcs) {
        add(at..zeros.start, false);
        at = zeros.end;
        add(zeros, true);
    }
    add(at..chunk.len(), false);
    parts
}
