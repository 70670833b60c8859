//! Objects of another executor, for this one: a source like any other.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, CRC_BLOCK, Capabilities, Chunk, Code, Disposition, Error, Interrupt, Lane, Object,
    ObjectUrl, Options, Protocol, Runtime, Session, Source, Validator,
    chunk::BlockCrcs,
    contract::{DestinationRequest, SourceRequest, Sums},
    sums::pieces,
};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

use super::{
    choose::Kind,
    connection::{Connection, Ears, Mouth},
    frame::{BODY_BYTES_MAX, Content, Frame},
    gauge::{Connected, Gauge},
    idle,
    patience::{SLOWEST, within},
    way::Way,
};

/// A way to the owner of an object.
pub trait Transport: Send + Sync + 'static {
    /// What the owner is called in errors, and how it is reached: a connection that waits serves whoever would make one to
    /// a peer of the same name.
    fn peer(&self) -> String;

    /// Makes a connection, on the calling lane.
    fn connect(&self) -> LocalBoxFuture<'_, Result<Connected, Error>>;
}

/// Connections of a source at a time, unless told.
pub const CONNECTIONS_MAX: usize = 4;

/// The objects of one other executor that a ticket allows to read.
pub struct RemoteProtocol {
    /// Each lane takes one of them.
    ways: Vec<Way>,
    ticket: Vec<u8>,
    connections_max: usize,
}

impl RemoteProtocol {
    /// What `ticket` allows, over `transport`.
    pub fn new(transport: Arc<dyn Transport>, ticket: Vec<u8>) -> Self {
        Self::over(vec![Way::over(transport)], ticket)
    }

    /// The same, over several ways to one owner, of which there is at least one: each lane has its own as far as they
    /// suffice, so that those of both ends work in pairs.
    pub fn over(ways: Vec<Way>, ticket: Vec<u8>) -> Self {
        assert!(!ways.is_empty(), "there is a way");
        Self { ways, ticket, connections_max: CONNECTIONS_MAX }
    }

    /// With at most so many connections for each source that is opened. Who reads more ranges at a time than that asks for
    /// the next one while an earlier one is on its way: then a connection has no pause between them, however long the
    /// round trip is, as long as what is asked for covers it.
    pub fn with_connections(self, connections_max: usize) -> Self {
        Self { connections_max: connections_max.max(1), ..self }
    }
}

impl Protocol for RemoteProtocol {
    /// None: which URLs are another executor's is not said by their scheme.
    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { source: true, destination: false, runtimes: &[Runtime::Glommio], options: &[] }
    }

    /// Its owner checks it.
    fn check_source(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Err(no_destination())
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let link = Link {
                way: self.ways[lane.index % self.ways.len()].clone(),
                ticket: self.ticket.clone(),
                url: request.url.as_str().to_owned(),
                aligned: request.aligned,
            };
            let (line, object) = request.interrupt.cut(link.open(request.pinned.clone())).await?;
            let lines = Lines::new(line, self.connections_max);
            Ok(Rc::new(RemoteSource { link, object, interrupt: request.interrupt.clone(), lines }) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, _request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(no_destination())
    }

    fn sweep(&self, _url: &ObjectUrl, _transfer: &str) -> Result<(), Error> {
        Ok(())
    }
}

fn no_destination() -> Error {
    Error::fatal(Code::UnsupportedScheme, "objects of other executors are read, and written by their own executor")
}

/// How to get at an object.
struct Link {
    way: Way,
    ticket: Vec<u8>,
    url: String,
    aligned: bool,
}

impl Link {
    /// Opens the object on a connection that waits, or on a new one; where that fails, in the other way, if there is one.
    async fn open(&self, pinned: Option<Validator>) -> Result<(Line, Object), Error> {
        let kind = self.way.choose();
        match self.open_over(kind, pinned.clone()).await {
            Err(error) if is_unreachable(&error) && self.way.failed(kind) => {
                tracing::info!(peer = self.way.peer(kind), %error, "not reached so; trying the other transport");
                self.open_over(self.way.choose(), pinned).await
            }
            opened => opened,
        }
    }

    async fn open_over(&self, kind: Kind, pinned: Option<Validator>) -> Result<(Line, Object), Error> {
        let peer = self.way.peer(kind);
        if let Some(wire) = idle::take(&peer) {
            match self.open_on(kind, wire, pinned.clone()).await {
                Err(error) if is_lost(&error) => idle::forget(&peer),
                opened => return opened,
            }
        }
        let (connection, gauge) = self.way.connect(kind).await?;
        self.open_on(kind, Wire::new(connection, gauge), pinned).await
    }

    async fn open_on(&self, kind: Kind, wire: Wire, pinned: Option<Validator>) -> Result<(Line, Object), Error> {
        let line = Line::new(kind, wire);
        let (ticket, url, object) = (self.ticket.clone(), self.url.clone(), line.object);
        let open = |request| Frame::Open { request, object, ticket, url, pinned, aligned: self.aligned };
        let mut turn = line.ask(open).await?;
        match turn.answer().await? {
            Frame::Opened { size, validator, access, .. } => {
                turn.over();
                line.tell(&self.way);
                Ok((line, Object { size, validator, access }))
            }
            _ => Err(turn.unexpected()),
        }
    }
}

/// Whether a connection turned out to be gone.
fn is_lost(error: &Error) -> bool {
    matches!(error.code, Code::ConnectionLost | Code::Stalled)
}

/// Whether the other end was not reached, or not any more.
fn is_unreachable(error: &Error) -> bool {
    is_lost(error) || matches!(error.code, Code::ConnectFailed | Code::TlsFailed)
}

/// CRCs of so many bytes are asked for at a time: the owner may have to read them first, and says nothing meanwhile.
const SUMMED_BYTES: u64 = 64 << 20;
/// So often an owner may ask before an answer whether this end is there, or tell of its packets.
const ASIDES_MAX: usize = 1000;
/// Longest wait that another executor may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A connection on which the object is open. Questions are sent one behind the other, without waiting for answers, and are
/// answered in that order. A question that is given up before its answer was heard to its end breaks the line: what
/// would come next is nobody's.
struct Line {
    mouth: Mutex<Mouth>,
    ears: Mutex<Ears>,
    last_request: Cell<u32>,
    /// The number of the object.
    object: u32,
    /// What it goes over.
    kind: Kind,
    gauge: Gauge,
    /// Packets of the other end, and those of them that were lost, as it has told since [`Line::tell`].
    reported: Cell<(u64, u64)>,
    /// Questions that are not answered to their ends.
    asked: Cell<usize>,
    broken: Cell<bool>,
    /// Another one was found to be gone since this one was made.
    doubted: Cell<bool>,
}

/// A connection on which nothing is under way, and nothing open.
pub(crate) struct Wire {
    mouth: Mouth,
    ears: Ears,
    gauge: Gauge,
    last_request: u32,
    last_object: u32,
}

/// The turn of a question whose answer comes next.
struct Turn<'a> {
    line: &'a Line,
    request: u32,
    ears: MutexGuard<'a, Ears>,
    asked: Asked<'a>,
}

/// A question that was asked; dropped before [`Asked::over`], it breaks its line.
struct Asked<'a> {
    line: &'a Line,
    over: bool,
}

impl Wire {
    fn new(connection: Connection, gauge: Gauge) -> Self {
        let (mouth, ears) = connection.halves();
        Self { mouth, ears, gauge, last_request: 0, last_object: 0 }
    }
}

impl Line {
    /// For the next object on a connection.
    fn new(kind: Kind, Wire { mouth, ears, gauge, last_request, last_object }: Wire) -> Self {
        Self {
            mouth: Mutex::new(mouth),
            ears: Mutex::new(ears),
            last_request: Cell::new(last_request),
            object: last_object.wrapping_add(1),
            kind,
            gauge,
            reported: Cell::default(),
            asked: Cell::new(0),
            broken: Cell::new(false),
            doubted: Cell::new(false),
        }
    }

    /// Closes the object; what is left is for the next one. Nothing where the line is broken.
    async fn close(self) -> Option<Wire> {
        if self.broken.get() || self.asked.get() > 0 {
            return None;
        }
        let Self { mouth, ears, gauge, last_request, object, .. } = self;
        let mut mouth = mouth.into_inner();
        mouth.send(&Frame::Close { object }, &[]).await.ok()?;
        Some(Wire { mouth, ears: ears.into_inner(), gauge, last_request: last_request.get(), last_object: object })
    }

    /// Tells what is known of its path.
    fn tell(&self, way: &Way) {
        let seen = self.gauge.look().unwrap_or_default();
        way.seen(seen.round_trip, self.reported.take());
    }

    /// Asks, and waits until it is this question's turn to be answered.
    async fn ask(&self, question: impl FnOnce(u32) -> Frame) -> Result<Turn<'_>, Error> {
        let asked = Asked::new(self);
        let mut mouth = self.mouth.lock().await;
        let request = self.last_request.get().wrapping_add(1);
        self.last_request.set(request);
        mouth.send(&question(request), &[]).await?;
        // Whoever asks next is behind this one also where answers are awaited.
        let mut turn = pin!(self.ears.lock());
        let ears = match poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await {
            Poll::Ready(ears) => ears,
            Poll::Pending => {
                drop(mouth);
                turn.await
            }
        };
        if self.broken.get() {
            return Err(ears.lost("it failed while something else was asked"));
        }
        Ok(Turn { line: self, request, ears, asked })
    }

    async fn revalidate(&self) -> Result<(), Error> {
        let mut turn = self.ask(|request| Frame::Revalidate { request, object: self.object }).await?;
        let Frame::Valid { .. } = turn.answer().await? else { return Err(turn.unexpected()) };
        turn.over();
        Ok(())
    }

    async fn sums(&self, wanted: ByteRange) -> Result<Vec<u32>, Error> {
        let mut turn = self.ask(|request| Frame::Sums { request, object: self.object, range: wanted }).await?;
        match turn.answer().await? {
            Frame::Summed { range, crcs, .. } if range == wanted => {
                turn.over();
                Ok(crcs)
            }
            _ => Err(turn.unexpected()),
        }
    }

    async fn fetch(&self, wanted: ByteRange, buffer: &mut [u8]) -> Result<BlockCrcs, Error> {
        let mut turn = self.ask(|request| Frame::Fetch { request, object: self.object, range: wanted }).await?;
        let (mut crcs, mut at) = (BlockCrcs::default(), wanted.start());
        while at < wanted.end() {
            let Frame::Chunk { range, content, .. } = turn.answer().await? else { return Err(turn.unexpected()) };
            let from = at - wanted.start();
            if range.start() != at || range.end() > wanted.end() || !from.is_multiple_of(CRC_BLOCK) {
                return Err(turn.ears.violation(&format!("sent {range} where {at} should go on")));
            }
            let part = &mut buffer[from as usize..][..range.len() as usize];
            match content {
                Content::Zero => {
                    part.fill(0);
                    crcs.update(part);
                }
                Content::Data(announced) => {
                    let taken = within(SLOWEST.time_for(range.len()), turn.ears.take_payload(part, &mut crcs)).await;
                    taken.unwrap_or_else(|| Err(turn.ears.late()))?;
                    if crcs.blocks()[(from / CRC_BLOCK) as usize..] != announced {
                        return Err(turn.ears.violation(&format!("sent bytes at {range} with another CRC")));
                    }
                }
            }
            at = range.end();
        }
        turn.over();
        Ok(crcs)
    }
}

impl Turn<'_> {
    /// What is answered; a refusal is an error, and the end of the answer.
    async fn answer(&mut self) -> Result<Frame, Error> {
        let heard = within(SLOWEST.time_for(BODY_BYTES_MAX as u64), self.hear()).await;
        match heard.unwrap_or_else(|| Err(self.ears.late()))? {
            Frame::Refused { request, error } if request == self.request => {
                self.asked.over = true;
                Err(self.believed(error))
            }
            Frame::Opened { request, .. }
            | Frame::Chunk { request, .. }
            | Frame::Summed { request, .. }
            | Frame::Valid { request }
            | Frame::Refused { request, .. }
                if request != self.request =>
            {
                Err(self.unexpected())
            }
            frame => Ok(frame),
        }
    }

    /// What comes next, but for pings and reports.
    async fn hear(&mut self) -> Result<Frame, Error> {
        for _ in 0..=ASIDES_MAX {
            match self.ears.receive().await? {
                Some(Frame::Ping { nonce }) => {
                    self.line.mouth.lock().await.send(&Frame::Pong { nonce }, &[]).await?;
                }
                Some(Frame::SenderReport { packets, lost }) => {
                    let before = self.line.reported.get();
                    self.line.reported.set((before.0 + u64::from(packets), before.1 + u64::from(lost)));
                }
                Some(frame) => return Ok(frame),
                None => return Err(self.ears.lost("it was closed instead of an answer")),
            }
        }
        Err(self.ears.violation("says without end what nobody has asked"))
    }

    /// A refusal, as far as it is the other end's to say what this one does.
    fn believed(&self, error: Error) -> Error {
        match error.disposition {
            Disposition::Canceled => self.ears.lost(&error.message),
            Disposition::Retry { after: Some(wait) } => error.after(wait.min(RETRY_AFTER_MAX)),
            _ => error,
        }
    }

    fn unexpected(&self) -> Error {
        self.ears.violation("answers what it was not asked")
    }

    /// The answer was heard to its end.
    fn over(mut self) {
        self.asked.over = true;
        self.line.doubted.set(false);
    }
}

impl<'a> Asked<'a> {
    fn new(line: &'a Line) -> Self {
        line.asked.set(line.asked.get() + 1);
        Self { line, over: false }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.line.asked.set(self.line.asked.get() - 1);
        if !self.over {
            self.line.broken.set(true);
        }
    }
}

/// The connections of a source: over each transport never more than may be.
struct Lines {
    open: RefCell<Vec<Rc<Line>>>,
    /// A permit for each that is made at a time.
    opening: Semaphore,
    max: usize,
}

impl Lines {
    fn new(first: Line, max: usize) -> Self {
        Self { open: RefCell::new(vec![Rc::new(first)]), opening: Semaphore::new(max), max }
    }

    /// Of those over this transport, the line with the fewest questions, if possible one that is not doubted; none where
    /// one more line is better. `permits`: those of whoever asks.
    fn best(&self, kind: Kind, permits: usize) -> Option<Rc<Line>> {
        let mut open = self.open.borrow_mut();
        open.retain(|line| !line.broken.get());
        let of_kind = || open.iter().filter(|line| line.kind == kind);
        let best = of_kind().min_by_key(|line| (line.doubted.get(), line.asked.get()))?;
        let opening = self.max - self.opening.available_permits() - permits;
        let may_open = of_kind().count() + opening < self.max;
        (best.asked.get() == 0 || !may_open).then(|| best.clone())
    }

    /// One was found to be gone. What happened to one most likely happened to all: those that wait to be asked are not
    /// believed, the others when there is a choice.
    fn doubt(&self) {
        let mut open = self.open.borrow_mut();
        open.retain(|line| line.asked.get() > 0);
        open.iter().for_each(|line| line.doubted.set(true));
    }
}

struct RemoteSource {
    link: Link,
    object: Object,
    interrupt: Interrupt,
    lines: Lines,
}

impl RemoteSource {
    /// Asks over a line that is there, and where its other end turns out to be gone, over a new one.
    async fn ask<T>(&self, mut question: impl AsyncFnMut(&Line) -> Result<T, Error>) -> Result<T, Error> {
        if let Some(line) = self.lines.best(self.link.way.choose(), 0) {
            match question(&line).await {
                Err(error) if is_lost(&error) => {
                    self.link.way.failed(line.kind);
                    self.lines.doubt();
                }
                asked => return asked,
            }
        }
        let line = self.one_more_line().await?;
        question(&line).await
    }

    /// A new line; where all that may be were made meanwhile, the best of them.
    async fn one_more_line(&self) -> Result<Rc<Line>, Error> {
        let _permit = self.lines.opening.acquire().await.expect("it is never closed");
        if let Some(line) = self.lines.best(self.link.way.choose(), 1) {
            return Ok(line);
        }
        let (line, object) = self.link.open(self.object.validator.clone()).await?;
        if object != self.object {
            return Err(Error::source_changed("the source changed while it was being read"));
        }
        let line = Rc::new(line);
        self.lines.open.borrow_mut().push(line.clone());
        Ok(line)
    }
}

impl Source for RemoteSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        let read = async move {
            if self.object.size.is_some_and(|size| range.end() > size) {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
            }
            let mut chunk = pool.take(range.len() as usize).await;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            let buffer = &mut buffer[..range.len() as usize];
            let fetch = async |line: &Line| {
                let crcs = line.fetch(range, buffer).await?;
                self.link.way.moved(line.kind, range.len());
                line.tell(&self.link.way);
                Ok(crcs)
            };
            let crcs = self.ask(fetch).await?;
            chunk.set_crcs(crcs);
            Ok(chunk)
        };
        self.interrupt.cut(read).boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.interrupt.cut(self.ask(async |line| line.revalidate().await)).boxed_local()
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let lines = std::mem::take(&mut *self.lines.open.borrow_mut());
            // What somebody still asks on closes with them.
            for line in lines.into_iter().filter_map(Rc::into_inner) {
                let kind = line.kind;
                if let Some(wire) = line.close().await {
                    idle::keep(self.link.way.peer(kind), wire);
                }
            }
            self.link.way.rests();
        }
        .boxed_local()
    }
}

impl Sums for RemoteSource {
    fn crcs<'a>(&'a self, range: ByteRange, _pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        let tell = async move {
            let mut crcs = Vec::new();
            for piece in pieces(range, SUMMED_BYTES) {
                crcs.extend(self.ask(async |line| line.sums(piece).await).await?);
            }
            Ok(crcs)
        };
        self.interrupt.cut(tell).boxed_local()
    }
}
