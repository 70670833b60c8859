//! Objects of another executor, for this one: a source like any other.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, CRC_BLOCK, Capabilities, Chunk, Code, Disposition, Error, Interrupt, Lane, Object,
    ObjectUrl, Options, Protocol, Runtime, Session, Source, Validator,
    chunk::BlockCrcs,
    contract::{DestinationRequest, SourceRequest, Sums},
    sums::pieces,
};

use super::{
    connection::{Connection, Stream},
    frame::{Content, Frame},
    idle,
};

/// A way to the owner of an object.
pub trait Transport: Send + Sync + 'static {
    /// What the owner is called in errors.
    fn peer(&self) -> String;

    /// Makes a connection, on the calling lane.
    fn connect(&self) -> LocalBoxFuture<'_, Result<Box<dyn Stream>, Error>>;
}

/// The objects of one other executor that a ticket allows to read.
pub struct RemoteProtocol {
    /// Each lane takes one of them.
    ways: Vec<Arc<dyn Transport>>,
    ticket: Vec<u8>,
}

impl RemoteProtocol {
    /// What `ticket` allows, over `transport`.
    pub fn new(transport: Arc<dyn Transport>, ticket: Vec<u8>) -> Self {
        Self::over(vec![transport], ticket)
    }

    /// The same, over several ways to one owner, of which there is at least one: each lane has its own as far as they
    /// suffice, so that those of both ends work in pairs.
    pub fn over(ways: Vec<Arc<dyn Transport>>, ticket: Vec<u8>) -> Self {
        assert!(!ways.is_empty(), "there is a way");
        Self { ways, ticket }
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
                transport: self.ways[lane.index % self.ways.len()].clone(),
                ticket: self.ticket.clone(),
                url: request.url.as_str().to_owned(),
                aligned: request.aligned,
            };
            let (ready, object) = request.interrupt.cut(link.open(request.pinned.clone())).await?;
            let ready = RefCell::new(vec![ready]);
            Ok(Rc::new(RemoteSource { link, object, interrupt: request.interrupt.clone(), ready }) as Rc<dyn Source>)
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
    transport: Arc<dyn Transport>,
    ticket: Vec<u8>,
    url: String,
    aligned: bool,
}

impl Link {
    /// Opens the object on a connection that waits, or on a new one.
    async fn open(&self, pinned: Option<Validator>) -> Result<(Ready, Object), Error> {
        let peer = self.transport.peer();
        if let Some(asker) = idle::take(&peer) {
            match self.open_on(asker, pinned.clone()).await {
                Err(error) if is_lost(&error) => idle::forget(&peer),
                opened => return opened,
            }
        }
        let stream = self.transport.connect().await?;
        let connection = Connection::begin(stream, peer).await?;
        self.open_on(Asker { connection, last_request: 0, last_object: 0 }, pinned).await
    }

    async fn open_on(&self, mut asker: Asker, pinned: Option<Validator>) -> Result<(Ready, Object), Error> {
        let (request, object) = (asker.next_request(), asker.next_object());
        let (ticket, url) = (self.ticket.clone(), self.url.clone());
        let open = Frame::Open { request, object, ticket, url, pinned, aligned: self.aligned };
        asker.connection.send(&open, &[]).await?;
        match asker.answer(request).await? {
            Frame::Opened { size, validator, access, .. } => {
                Ok((Ready { asker, object }, Object { size, validator, access }))
            }
            _ => Err(asker.unexpected()),
        }
    }
}

/// Whether a connection turned out to be gone.
fn is_lost(error: &Error) -> bool {
    matches!(error.code, Code::ConnectionLost | Code::Stalled)
}

/// Longest wait that another executor may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// CRCs are asked for of so many bytes at a time: their owner reads them all before it answers, and must not seem stalled.
const SUMMED_BYTES: u64 = 64 << 20;

/// A connection on which nothing is under way.
pub(crate) struct Asker {
    connection: Connection,
    last_request: u32,
    last_object: u32,
}

/// A connection on which the object is open, under this number.
struct Ready {
    asker: Asker,
    object: u32,
}

impl Asker {
    fn next_object(&mut self) -> u32 {
        self.last_object = self.last_object.wrapping_add(1);
        self.last_object
    }

    fn next_request(&mut self) -> u32 {
        self.last_request = self.last_request.wrapping_add(1);
        self.last_request
    }

    /// What is answered to a question; a refusal is an error.
    async fn answer(&mut self, request: u32) -> Result<Frame, Error> {
        let frame = self.connection.receive().await?;
        match frame.ok_or_else(|| self.connection.lost("it was closed instead of an answer"))? {
            Frame::Refused { request: of, error } if of == request => Err(self.believed(error)),
            Frame::Opened { request: of, .. }
            | Frame::Chunk { request: of, .. }
            | Frame::Summed { request: of, .. }
            | Frame::Valid { request: of }
            | Frame::Refused { request: of, .. }
                if of != request =>
            {
                Err(self.unexpected())
            }
            frame => Ok(frame),
        }
    }

    /// A refusal, as far as it is the other end's to say what this one does.
    fn believed(&self, error: Error) -> Error {
        match error.disposition {
            Disposition::Canceled => self.connection.lost(&error.message),
            Disposition::Retry { after: Some(wait) } => error.after(wait.min(RETRY_AFTER_MAX)),
            _ => error,
        }
    }

    fn unexpected(&self) -> Error {
        self.connection.violation("answers what it was not asked")
    }

    async fn revalidate(&mut self, object: u32) -> Result<(), Error> {
        let request = self.next_request();
        self.connection.send(&Frame::Revalidate { request, object }, &[]).await?;
        let Frame::Valid { .. } = self.answer(request).await? else { return Err(self.unexpected()) };
        Ok(())
    }

    async fn sums(&mut self, object: u32, wanted: ByteRange) -> Result<Vec<u32>, Error> {
        let request = self.next_request();
        self.connection.send(&Frame::Sums { request, object, range: wanted }, &[]).await?;
        match self.answer(request).await? {
            Frame::Summed { range, crcs, .. } if range == wanted => Ok(crcs),
            _ => Err(self.unexpected()),
        }
    }

    async fn fetch(&mut self, object: u32, wanted: ByteRange, buffer: &mut [u8]) -> Result<BlockCrcs, Error> {
        let request = self.next_request();
        self.connection.send(&Frame::Fetch { request, object, range: wanted }, &[]).await?;
        let (mut crcs, mut at) = (BlockCrcs::default(), wanted.start());
        while at < wanted.end() {
            let Frame::Chunk { range, content, .. } = self.answer(request).await? else {
                return Err(self.unexpected());
            };
            let from = at - wanted.start();
            if range.start() != at || range.end() > wanted.end() || !from.is_multiple_of(CRC_BLOCK) {
                return Err(self.connection.violation(&format!("sent {range} where {at} should go on")));
            }
            let part = &mut buffer[from as usize..][..range.len() as usize];
            match content {
                Content::Zero => {
                    part.fill(0);
                    crcs.update(part);
                }
                Content::Data(announced) => {
                    self.connection.take_payload(part, &mut crcs).await?;
                    if crcs.blocks()[(from / CRC_BLOCK) as usize..] != announced {
                        return Err(self.connection.violation(&format!("sent bytes at {range} with another CRC")));
                    }
                }
            }
            at = range.end();
        }
        Ok(crcs)
    }
}

struct RemoteSource {
    link: Link,
    object: Object,
    interrupt: Interrupt,
    /// Connections on which it is open. What fails on one is not asked for on that one again.
    ready: RefCell<Vec<Ready>>,
}

impl RemoteSource {
    /// Asks over a connection on which the object is open, and where its other end turns out to be gone, over a new one.
    async fn ask<T>(&self, mut question: impl AsyncFnMut(&mut Asker, u32) -> Result<T, Error>) -> Result<T, Error> {
        let waiting = self.ready.borrow_mut().pop();
        if let Some(mut ready) = waiting {
            match question(&mut ready.asker, ready.object).await {
                Err(error) if is_lost(&error) => {
                    // What happened to one most likely happened to all.
                    self.ready.borrow_mut().clear();
                }
                asked => return self.done(ready, asked),
            }
        }
        let (mut ready, object) = self.link.open(self.object.validator.clone()).await?;
        if object != self.object {
            return Err(Error::source_changed("the source changed while it was being read"));
        }
        let asked = question(&mut ready.asker, ready.object).await;
        self.done(ready, asked)
    }

    fn done<T>(&self, ready: Ready, asked: Result<T, Error>) -> Result<T, Error> {
        if asked.is_ok() {
            self.ready.borrow_mut().push(ready);
        }
        asked
    }
}

impl Source for RemoteSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        let read = async move {
            if self.object.size.is_some_and(|size| range.end() > size) {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
            }
            let mut chunk = pool.take(range.len() as usize).await;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            let buffer = &mut buffer[..range.len() as usize];
            let crcs = self.ask(async |asker, object| asker.fetch(object, range, buffer).await).await?;
            chunk.set_crcs(crcs);
            Ok(chunk)
        };
        self.interrupt.cut(read).boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.interrupt.cut(self.ask(async |asker, object| asker.revalidate(object).await)).boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let ready = std::mem::take(&mut *self.ready.borrow_mut());
            for Ready { mut asker, object } in ready {
                // One that cannot say that much is of no use to others either.
                if asker.connection.send(&Frame::Close { object }, &[]).await.is_ok() {
                    idle::keep(self.link.transport.peer(), asker);
                }
            }
        }
        .boxed_local()
    }
}

impl Sums for RemoteSource {
    fn crcs<'a>(&'a self, range: ByteRange, _pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>> {
        let tell = async move {
            let mut crcs = Vec::new();
            for piece in pieces(range, SUMMED_BYTES) {
                crcs.extend(self.ask(async |asker, object| asker.sums(object, piece).await).await?);
            }
            Ok(crcs)
        };
        self.interrupt.cut(tell).boxed_local()
    }
}
