//! This executor's objects, for others that have tickets.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use staccato_protocols::{
    ByteRange, CRC_BLOCK, Chunk, Code, Error, Interrupt, Lane, ObjectUrl, Options, Registry, Source, Validator,
    contract::SourceRequest,
};

use super::{
    connection::{Connection, Stream},
    frame::{Content, Frame},
    ticket::{KeyDigest, Ticket},
};
use crate::zeros::zero_runs;

/// Most objects that one connection has open at a time.
pub const OBJECTS_MAX: usize = 1024;
/// Read at once to tell CRCs.
const SUMS_BYTES: u64 = 4 * CRC_BLOCK;

/// Tells the time on the control plane's clock: milliseconds since 1970.
pub type ControlTime = Box<dyn Fn() -> u64 + Send + Sync>;

/// What this executor has, and whom it believes.
pub struct Owner {
    registry: Registry,
    ticket_key: Vec<u8>,
    control_time: ControlTime,
    refused: AtomicU64,
}

impl Owner {
    /// An owner of everything that `registry` can read, for whoever has a ticket that this Ed25519 key verifies.
    pub fn new(registry: Registry, ticket_key: Vec<u8>, control_time: ControlTime) -> Self {
        Self { registry, ticket_key, control_time, refused: AtomicU64::new(0) }
    }

    /// How many questions no ticket allowed.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Answers one connection of a reader, whose certificate has this key, until it ends. At most one chunk is in memory
    /// for it: a reader that is slow holds up nobody but itself.
    pub async fn serve(
        &self,
        lane: &Lane,
        reader: &KeyDigest,
        stream: Box<dyn Stream>,
        peer: String,
    ) -> Result<(), Error> {
        let connection = Connection::begin(stream, peer.clone()).await?;
        let mut served = Served { owner: self, lane, reader, peer, connection, objects: HashMap::new() };
        let ended = served.answer_all().await;
        for (_, shown) in served.objects {
            shown.source.close().await;
        }
        ended
    }

    fn not_allowed(&self, peer: &str, object: &str, why: impl std::fmt::Display) -> Error {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(peer, object, %why, "refused to show an object");
        Error::fatal(Code::PermissionDenied, format!("{object} is not shown: {why}"))
    }
}

struct Served<'a> {
    owner: &'a Owner,
    lane: &'a Lane,
    reader: &'a KeyDigest,
    peer: String,
    connection: Connection,
    objects: HashMap<u32, Shown>,
}

/// An object that is open for a reader.
struct Shown {
    source: Rc<dyn Source>,
    ticket: Ticket,
}

impl Served<'_> {
    async fn answer_all(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.connection.receive().await? {
            match frame {
                Frame::Open { request, object, ticket, url, pinned, aligned } => {
                    let opened = self.open(object, &ticket, &url, pinned, aligned).await;
                    let answer = opened.map_or_else(
                        |error| Frame::Refused { request, error },
                        |object| Frame::Opened {
                            request,
                            size: object.size,
                            validator: object.validator,
                            access: object.access,
                        },
                    );
                    self.connection.send(&answer, &[]).await?;
                }
                Frame::Fetch { request, object, range } => match self.read(object, range).await {
                    Ok(chunk) => self.send_chunk(request, range, &chunk).await?,
                    Err(error) => self.refuse(request, error).await?,
                },
                Frame::Sums { request, object, range } => self.sums(request, object, range).await?,
                Frame::Revalidate { request, object } => {
                    let valid = match self.shown(object) {
                        Ok(shown) => shown.source.clone().revalidate().await,
                        Err(error) => Err(error),
                    };
                    let answer =
                        valid.map_or_else(|error| Frame::Refused { request, error }, |()| Frame::Valid { request });
                    self.connection.send(&answer, &[]).await?;
                }
                Frame::Close { object } => {
                    if let Some(shown) = self.objects.remove(&object) {
                        shown.source.close().await;
                    }
                }
                Frame::Ping { nonce } => self.connection.send(&Frame::Pong { nonce }, &[]).await?,
                Frame::Hello { .. }
                | Frame::Opened { .. }
                | Frame::Chunk { .. }
                | Frame::Summed { .. }
                | Frame::Valid { .. }
                | Frame::Refused { .. }
                | Frame::Have { .. }
                | Frame::Pong { .. } => return Err(self.connection.violation("answers what it was not asked")),
            }
        }
        Ok(())
    }

    async fn open(
        &mut self,
        number: u32,
        ticket: &[u8],
        url: &str,
        pinned: Option<Validator>,
        aligned: bool,
    ) -> Result<staccato_protocols::Object, Error> {
        if self.objects.len() >= OBJECTS_MAX || self.objects.contains_key(&number) {
            return Err(self.connection.violation("opens too many objects, or one number twice"));
        }
        let owner = self.owner;
        let url = ObjectUrl::parse(url)?;
        let ticket = Ticket::verify(ticket, &owner.ticket_key)
            .and_then(|ticket| ticket.allows(self.reader, &url, (owner.control_time)()).map(|()| ticket))
            .map_err(|why| owner.not_allowed(&self.peer, url.as_str(), why))?;
        let module = owner.registry.source(&url, &Options::new())?;
        let request = SourceRequest { url, options: Options::new(), pinned, aligned, interrupt: Interrupt::default() };
        let source = module.open_source(&request, self.lane).await?;
        let object = source.object().clone();
        self.objects.insert(number, Shown { source, ticket });
        Ok(object)
    }

    async fn read(&self, object: u32, range: ByteRange) -> Result<Chunk, Error> {
        let shown = self.shown(object)?;
        shown.ticket.covers(range).map_err(|why| self.owner.not_allowed(&self.peer, &shown.ticket.url, why))?;
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
        // Sources that do not know their end are read where they are (a spool knows it).
        Err(Error::retry(Code::ReadFailed, format!("{range} is not there to its end")))
    }

    fn shown(&self, object: u32) -> Result<&Shown, Error> {
        let missing = || Error::retry(Code::ProtocolViolation, format!("the object {object} is not open"));
        self.objects.get(&object).ok_or_else(missing)
    }

    /// Zero blocks do not travel.
    async fn send_chunk(&mut self, request: u32, range: ByteRange, chunk: &Chunk) -> Result<(), Error> {
        let crcs = chunk.block_crcs();
        let mut at = 0;
        for zeros in zero_runs(chunk, &crcs) {
            self.send_part(request, range, chunk, &crcs, at..zeros.start, false).await?;
            at = zeros.end;
            self.send_part(request, range, chunk, &crcs, zeros, true).await?;
        }
        self.send_part(request, range, chunk, &crcs, at..chunk.len(), false).await
    }

    async fn send_part(
        &mut self,
        request: u32,
        whole: ByteRange,
        chunk: &Chunk,
        crcs: &[u32],
        part: std::ops::Range<usize>,
        zero: bool,
    ) -> Result<(), Error> {
        if part.is_empty() {
            return Ok(());
        }
        let range = ByteRange::at(whole.start() + part.start as u64, part.len() as u64).expect("it lies within");
        if zero {
            return self.connection.send(&Frame::Chunk { request, range, content: Content::Zero }, &[]).await;
        }
        let block = CRC_BLOCK as usize;
        let content = Content::Data(crcs[part.start / block..part.end.div_ceil(block)].to_vec());
        let bytes = &chunk.bytes().expect("what is not zero is stored")[part];
        self.connection.send(&Frame::Chunk { request, range, content }, bytes).await
    }

    async fn sums(&mut self, request: u32, object: u32, range: ByteRange) -> Result<(), Error> {
        let mut at = range.start();
        while at < range.end() {
            let piece = ByteRange::new(at, range.end().min(at.saturating_add(SUMS_BYTES))).expect("it is in order");
            at = piece.end();
            match self.read(object, piece).await {
                Ok(chunk) => {
                    let crcs = chunk.block_crcs();
                    self.connection.send(&Frame::Summed { request, range: piece, crcs }, &[]).await?;
                }
                Err(error) => return self.refuse(request, error).await,
            }
        }
        Ok(())
    }

    async fn refuse(&mut self, request: u32, error: Error) -> Result<(), Error> {
        self.connection.send(&Frame::Refused { request, error }, &[]).await
    }
}
