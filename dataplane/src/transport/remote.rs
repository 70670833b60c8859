//! Objects of another executor, for this one: a source like any other.

use std::{rc::Rc, sync::Arc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, Capabilities, Chunk, Code, Error, Interrupt, Lane, Object, ObjectUrl, Options, Protocol,
    Runtime, Session, Source, Validator,
    contract::{DestinationRequest, SourceRequest, Sums, SweepRequest, Takes},
    sums::pieces,
};

use super::{
    choose::Kind,
    frame::WHOLE_BYTES_MAX,
    gauge::Connected,
    idle,
    line::{Line, Opening, Wire},
    lines::Lines,
    way::Way,
    whole::Whole,
};
use tokio::sync::Mutex;

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
    whole_up_to: u32,
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
        Self { ways, ticket, connections_max: CONNECTIONS_MAX, whole_up_to: 0 }
    }

    /// With at most so many connections for each source that is opened. Who reads more ranges at a time than that asks for
    /// the next one while an earlier one is on its way: then a connection has no pause between them, however long the
    /// round trip is, as long as what is asked for covers it.
    pub fn with_connections(self, connections_max: usize) -> Self {
        Self { connections_max: connections_max.max(1), ..self }
    }

    /// With objects that are short as a whole in the answer to their opening, for whoever wants all of them and has read
    /// nothing yet. Such an object is one question, and holds no connection.
    pub fn with_short_ones_whole(self) -> Self {
        Self { whole_up_to: WHOLE_BYTES_MAX, ..self }
    }

    /// Opens what another executor [offers](super::offer), on the calling lane.
    pub async fn open_offer(&self, request: &SourceRequest, lane: &Lane) -> Result<RemoteSource, Error> {
        let link = self.link(request, lane);
        match request.interrupt.cut(link.open(request.pinned.clone(), 0)).await? {
            Opened::On(line, object) => Ok(self.source(link, line, object, request)),
            Opened::Whole(_) => unreachable!("nothing was asked for as a whole"),
        }
    }

    fn link(&self, request: &SourceRequest, lane: &Lane) -> Link {
        Link {
            way: self.ways[lane.index % self.ways.len()].clone(),
            ticket: self.ticket.clone(),
            url: request.url.as_str().to_owned(),
            aligned: request.aligned,
        }
    }

    fn source(&self, link: Link, line: Rc<Line>, object: Object, request: &SourceRequest) -> RemoteSource {
        let lines = Lines::new(line, self.connections_max);
        RemoteSource { link, object, interrupt: request.interrupt.clone(), lines, watching: Mutex::default() }
    }
}

impl Protocol for RemoteProtocol {
    /// None: which URLs are another executor's is not said by their scheme.
    fn schemes(&self) -> &'static [&'static str] {
        &[]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: false,
            takes: Takes::Anywhere,
            runtimes: &[Runtime::Glommio],
            options: &[],
        }
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
            let link = self.link(request, lane);
            let opened = request.interrupt.cut(link.open(request.pinned.clone(), self.whole_up_to)).await?;
            Ok(match opened {
                Opened::Whole(whole) => Rc::new(whole) as Rc<dyn Source>,
                Opened::On(line, object) => Rc::new(self.source(link, line, object, request)),
            })
        }
        .boxed_local()
    }

    fn begin(&self, _request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Err(no_destination())
    }

    fn sweep(&self, _request: &SweepRequest) -> Result<(), Error> {
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

/// An object that was opened.
enum Opened {
    /// On this connection.
    On(Rc<Line>, Object),
    /// All of it is here.
    Whole(Whole),
}

impl Link {
    /// Opens the object on a connection that waits, or on a new one; where that fails, in the other way, if there is one.
    async fn open(&self, pinned: Option<Validator>, whole_up_to: u32) -> Result<Opened, Error> {
        let (ticket, url, aligned) = (self.ticket.clone(), self.url.clone(), self.aligned);
        let opening = Opening { ticket, url, pinned, aligned, whole_up_to };
        let kind = self.way.choose();
        match self.open_over(kind, &opening).await {
            Err(error) if is_unreachable(&error) && self.way.failed(kind) => {
                tracing::info!(peer = self.way.peer(kind), %error, "not reached so; trying the other transport");
                self.open_over(self.way.choose(), &opening).await
            }
            opened => opened,
        }
    }

    async fn open_over(&self, kind: Kind, opening: &Opening) -> Result<Opened, Error> {
        let peer = self.way.peer(kind);
        if let Some(wire) = idle::take(&peer) {
            match self.open_on(kind, wire, opening.clone()).await {
                Err(error) if is_lost(&error) => idle::forget(&peer),
                opened => return opened,
            }
        }
        let (connection, gauge) = self.way.connect(kind).await?;
        self.open_on(kind, Wire::new(connection, gauge), opening.clone()).await
    }

    async fn open_on(&self, kind: Kind, wire: Wire, opening: Opening) -> Result<Opened, Error> {
        let line = Line::new(kind, self.way.clone(), wire);
        let (object, whole) = line.open(opening).await.inspect_err(|_| self.way.rests())?;
        line.tell();
        let Some(bytes) = whole else { return Ok(Opened::On(Rc::new(line), object)) };
        self.way.rests();
        if let Some(wire) = line.rest() {
            idle::keep(self.way.peer(kind), wire);
        }
        Ok(Opened::Whole(Whole::new(object, bytes)))
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

/// See the module.
pub struct RemoteSource {
    link: Link,
    object: Object,
    interrupt: Interrupt,
    lines: Lines,
    /// The connection on which it is asked what there is: whoever waits there for an answer holds up no other question.
    watching: Mutex<Option<Rc<Line>>>,
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

    /// Waits until there is more of what is offered than was `known`, but not for long: what, and how much is known with
    /// that.
    pub async fn watch(&self, known: u64) -> Result<(u64, Vec<ByteRange>), Error> {
        let watch = async {
            let mut watching = self.watching.lock().await;
            if watching.as_ref().is_none_or(|line| line.is_broken()) {
                // What there is, is asked first.
                *watching = Some(match self.lines.spare() {
                    Some(line) => line,
                    None => self.open_again().await?,
                });
            }
            watching.as_ref().expect("it has just been made").watch(known).await
        };
        self.interrupt.cut(watch).await
    }

    /// Has a connection ready on which something can be asked.
    pub async fn prepare(&self) -> Result<(), Error> {
        let prepare = async {
            match self.lines.best(self.link.way.choose(), 0) {
                Some(_) => Ok(()),
                None => self.one_more_line().await.map(drop),
            }
        };
        self.interrupt.cut(prepare).await
    }

    /// The voucher of a chunk of what is offered.
    pub async fn vouch(&self, range: ByteRange) -> Result<Vec<u8>, Error> {
        let vouch = async {
            // It is short: no line is made for it.
            if let Some(line) = self.lines.any() {
                match line.vouch(range).await {
                    Err(error) if is_lost(&error) => self.lines.doubt(),
                    asked => return asked,
                }
            }
            self.ask(async |line| line.vouch(range).await).await
        };
        self.interrupt.cut(vouch).await
    }

    /// A new line; where all that may be were made meanwhile, the best of them.
    async fn one_more_line(&self) -> Result<Rc<Line>, Error> {
        let _leave = self.lines.leave().await;
        if let Some(line) = self.lines.best(self.link.way.choose(), 1) {
            return Ok(line);
        }
        let line = self.open_again().await?;
        self.lines.add(line.clone());
        Ok(line)
    }

    async fn open_again(&self) -> Result<Rc<Line>, Error> {
        let Opened::On(line, object) = self.link.open(self.object.validator.clone(), 0).await? else {
            unreachable!("nothing was asked for as a whole");
        };
        if object != self.object {
            return Err(Error::source_changed("the source changed while it was being read"));
        }
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
                line.tell();
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
            let watching = self.watching.lock().await.take();
            let lines = self.lines.take().into_iter().chain(watching);
            // What somebody still asks on closes with them.
            for line in lines.filter_map(Rc::into_inner) {
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
