//! One object behind HTTP, opened on one lane: read in ranges, or as one stream from the front.
//!
//! Every range is a GET of its own on a pooled connection, so as many connections carry data as reads are under way.

use std::{rc::Rc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::StatusCode;
use tokio::sync::Mutex;

use super::{
    answer::Facts,
    body::Body,
    client::{Ask, Condition, Connections},
    stretch::Stretches,
};
use crate::{
    Access, BufferPool, ByteRange, Chunk, Code, Error, Interrupt, Object, Source, chunk::BlockCrcs,
    contract::SourceRequest,
};

/// An opened object.
pub(crate) struct Reader {
    connections: Connections,
    object: Object,
    facts: Facts,
    condition: Condition,
    /// Cuts every wait. Nothing is lost by dropping it: an answer that is given up closes its connection.
    interrupt: Interrupt,
    stretches: Stretches,
    /// The stream of a sequential object; reads of it wait for one another.
    stream: Mutex<Option<Stream>>,
}

/// A whole object that is being read from the front.
struct Stream {
    body: Body,
    /// Offset of the next byte.
    position: u64,
    /// Whether the object ends here.
    ended: bool,
}

/// What the first answer told.
struct Probe {
    facts: Facts,
    access: Access,
    /// The whole object, where the server sent it unasked.
    body: Option<Body>,
}

impl Reader {
    /// Asks the server for the object once and believes what the answer proves.
    pub async fn open(connections: Connections, condition: Condition, request: &SourceRequest) -> Result<Self, Error> {
        let Probe { facts, access, body } = request.interrupt.cut(probe(&connections)).await?;
        if let Some(difference) = request.pinned.as_ref().and_then(|pinned| facts.difference_from_pinned(pinned)) {
            return Err(Error::source_changed(format!(
                "the source changed since the transfer first opened it: {difference}"
            )));
        }
        let object = Object { size: facts.size, validator: facts.validator(), access };
        let stream = body.map(|body| Stream { body, position: 0, ended: false });
        let interrupt = request.interrupt.clone();
        let (stretches, stream) = (Stretches::default(), Mutex::new(stream));
        Ok(Self { connections, object, facts, condition, interrupt, stretches, stream })
    }

    /// A ranged GET for each stretch. Servers that do not look at its condition are caught by the tag of their answer.
    async fn read_part(&self, range: ByteRange, end: u64, pool: &BufferPool) -> Result<Chunk, Error> {
        // Memory first: an answer that waits for it would be taken for one that nobody reads.
        let chunk = pool.take(range.len() as usize).await;
        let ask = async |stretch| {
            let ask = Ask { range: Some(stretch), etag: self.facts.strong_etag(), condition: self.condition };
            self.connections.get(&ask).await
        };
        self.stretches.read(range, end, &self.facts, chunk, ask).await
    }

    async fn read_stream(&self, range: ByteRange, pool: &BufferPool) -> Result<Chunk, Error> {
        let mut chunk = pool.take(range.len() as usize).await;
        let mut slot = self.stream.lock().await;
        // Whatever fails below, this stream is not used again.
        let mut stream = match slot.take() {
            Some(stream) if stream.position <= range.start() => stream,
            _ => self.start_over().await?,
        };
        let gap = range.start() - stream.position;
        stream.position += stream.body.skip(gap).await?;
        let (mut got, mut crcs) = (0, BlockCrcs::default());
        if stream.position == range.start() {
            got = stream.body.fill(buffer(&mut chunk, range), &mut crcs).await? as u64;
            stream.position += got;
        }
        stream.ended |= got < range.len();
        match self.object.size {
            Some(size) if stream.ended => return Err(stream.body.ended_early(stream.position, size)),
            Some(size) if stream.position == size && !stream.body.is_at_end().await? => {
                return Err(stream.body.head().violation(format_args!("sent more than the {size} bytes it promised")));
            }
            _ => (),
        }
        chunk.set_len(got as usize);
        chunk.set_crcs(crcs);
        *slot = Some(stream);
        Ok(chunk)
    }

    async fn start_over(&self) -> Result<Stream, Error> {
        let body = self.connections.get(&Ask::default()).await?;
        body.head().check_whole(&self.facts)?;
        Ok(Stream { body, position: 0, ended: false })
    }
}

/// The first `range.len()` bytes of a chunk that was taken for `range`.
pub(super) fn buffer(chunk: &mut Chunk, range: ByteRange) -> &mut [u8] {
    let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
    &mut buffer[..range.len() as usize]
}

/// Finds out what the object is with a GET of its first byte.
///
/// HEAD would be cheaper by that byte, but many servers refuse it or answer it differently (signed URLs are signed for
/// GET, handlers of generated content leave out length and tag), and its `Accept-Ranges` is a claim where a 206 is a
/// proof. A server without ranges answers with the whole object: that answer is kept and becomes the stream.
async fn probe(connections: &Connections) -> Result<Probe, Error> {
    let first_byte = ByteRange::new(0, 1);
    let mut body = connections.get(&Ask { range: first_byte, ..Ask::default() }).await?;
    match body.head().status {
        StatusCode::PARTIAL_CONTENT => {
            body.head().check_encoding()?;
            let facts = body.head().facts();
            let proved = body.head().proves_ranges().is_some() && body.skip(2).await? == 1;
            if proved {
                Ok(Probe { facts, access: Access::Random, body: None })
            } else {
                probe_whole(connections).await
            }
        }
        // An empty object has no first byte (`bytes */0`). Its tag is seldom in such an answer.
        StatusCode::RANGE_NOT_SATISFIABLE => probe_whole(connections).await,
        _ => whole(body),
    }
}

/// The same for servers that cannot give the first byte alone.
async fn probe_whole(connections: &Connections) -> Result<Probe, Error> {
    whole(connections.get(&Ask::default()).await?)
}

fn whole(body: Body) -> Result<Probe, Error> {
    body.head().check_whole(&Facts::default())?;
    let facts = body.head().facts();
    // Every range of an empty object can be had.
    let access = if facts.size == Some(0) { Access::Random } else { Access::Sequential };
    Ok(Probe { facts, access, body: (access == Access::Sequential).then_some(body) })
}

impl Source for Reader {
    fn object(&self) -> &Object {
        &self.object
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        self.read_on(range, range.end(), pool)
    }

    fn read_on<'a>(
        &'a self,
        range: ByteRange,
        stretch_end: u64,
        pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            if range.is_empty() || self.object.size.is_some_and(|size| range.end() > size) {
                return Err(Error::fatal(Code::RangeOutsideObject, format!("{range} does not lie within the object")));
            }
            match self.object.access {
                Access::Random => self.interrupt.cut(self.read_part(range, stretch_end, pool)).await,
                Access::Sequential => self.interrupt.cut(self.read_stream(range, pool)).await,
            }
        }
        .boxed_local()
    }

    fn request_cost(&self) -> Duration {
        self.connections.request_cost()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            if self.facts.is_empty() {
                return Ok(()); // There is nothing to compare.
            }
            let now = self.interrupt.cut(probe(&self.connections)).await?.facts;
            self.facts.unchanged(&now)
        }
        .boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}
