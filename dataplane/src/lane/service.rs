//! What a lane does, whatever drives it.

use std::{
    cell::RefCell, collections::HashMap, convert::Infallible, future::Future, ops::Range, panic::AssertUnwindSafe,
    rc::Rc, sync::Arc, time::Instant,
};

use futures_util::{FutureExt as _, future::join};
use staccato_protocols::{
    BufferPool, ByteRange, CRC_BLOCK, Chunk, Code, Destination, Error, Lane, Runtime, Source, chunk::Lent,
    contract::Writes,
};

use super::{
    checksums::Checksums,
    message::{AttemptKey, Command, Fetched, From, HashFrom, JobRef, LaneEvent, OpenedSource, PeerEvent},
    order::{Order, Refusal},
    peers::Peers,
    repair, stream,
};
use crate::{
    engine::front::Run,
    transport::{
        idle,
        offer::{self, FirstReader},
    },
    zeros::zero_runs,
};

/// Takes commands until every sender is gone, and what they began is over: a runtime must not end with I/O in flight. For
/// other executors that read, `others` is the lane: the same with memory of its own.
pub(super) async fn serve(lane: Lane, others: Lane, inbox: flume::Receiver<Command>) {
    let service = Rc::new(Service { lane, others, jobs: RefCell::default() });
    let (under_way, over) = flume::bounded::<Infallible>(0);
    while let Ok(command) = inbox.recv_async().await {
        let (service, under_way) = (service.clone(), under_way.clone());
        spawn(service.lane.runtime, async move {
            // Both runtimes would bury the panic in a handle that nobody holds, and the attempt would wait for ever.
            if AssertUnwindSafe(service.handle(command)).catch_unwind().await.is_err() {
                std::process::abort();
            }
            drop(under_way);
        });
    }
    drop(under_way);
    let Err(_) = over.recv_async().await;
    idle::forget_all();
}

fn spawn(runtime: Runtime, task: impl Future<Output = ()> + 'static) {
    match runtime {
        Runtime::TokioUring => drop(tokio_uring::spawn(task)),
        Runtime::Glommio => drop(glommio::spawn_local(task).detach()),
    }
}

struct Service {
    lane: Lane,
    others: Lane,
    jobs: RefCell<HashMap<AttemptKey, Job>>,
}

/// What one attempt has open here.
#[derive(Clone, Default)]
struct Job {
    source: Option<Rc<dyn Source>>,
    /// Other executors' copies.
    peers: Peers,
    destination: Option<Rc<dyn Destination>>,
    manner: Manner,
    checksums: Option<Arc<Checksums>>,
}

/// How chunks are written.
#[derive(Clone, Default)]
enum Manner {
    /// In any pieces: zero blocks of them take no space.
    #[default]
    Anywhere,
    /// Whole.
    Parts,
    /// In pieces of so many bytes, from the front of each.
    StreamedParts { piece_bytes: u64 },
    /// Whole, one after the other.
    InOrder(Rc<Order>),
}

impl Service {
    async fn handle(&self, command: Command) {
        match command {
            Command::Serve(visit) => visit.serve(&self.others).await,
            Command::OpenPort(port) => port.serve(&self.others).await,
            Command::OpenSource { job, module, request } => {
                let opened = module.open_source(&request, &self.lane).await;
                job.reply(LaneEvent::SourceOpened(opened.map(|source| {
                    let opened = OpenedSource {
                        object: source.object().clone(),
                        tells_sums: source.sums().is_some(),
                        published: source.published(),
                        request_cost: source.request_cost(),
                    };
                    self.jobs.borrow_mut().entry(job.attempt).or_default().source = Some(source);
                    opened
                })));
            }
            Command::OpenDestination { job, open, writes, piece_bytes, over, checksums } => {
                let opened = open(&self.lane).await;
                job.reply(LaneEvent::DestinationOpened(opened.map(|destination| {
                    let mut jobs = self.jobs.borrow_mut();
                    let open = jobs.entry(job.attempt).or_default();
                    open.destination = Some(destination);
                    open.manner = match writes {
                        Writes::Anywhere => Manner::Anywhere,
                        Writes::Parts { streamed: false, .. } => Manner::Parts,
                        Writes::Parts { streamed: true, .. } => Manner::StreamedParts { piece_bytes },
                        Writes::InOrder => Manner::InOrder(Rc::new(Order::new(checksums.clone(), over))),
                    };
                    open.checksums = checksums;
                })));
            }
            Command::Fetch { job, range, source_shift, untouched, reuse, stretch_end, tell_read, from, sent } => {
                let queue = sent.elapsed();
                let when_read = || {
                    if tell_read {
                        job.reply(LaneEvent::Read { range });
                    }
                };
                let peer = from.as_ref().map(|from| from.peer);
                let mut result = match (self.ends_from(&job, source_shift, from), reuse, &self.job(&job).manner) {
                    (Err(error), ..) => Err(error),
                    (Ok(ends), Some(reuse), _) => repair::fetch(&ends, range, untouched, reuse).await,
                    (Ok(ends), None, Manner::Anywhere) => ends.fetch(range, stretch_end, untouched, when_read).await,
                    (Ok(ends), None, Manner::Parts) => {
                        ends.fetch_whole(range, stretch_end, None, when_read).await.map_err(error_of)
                    }
                    (Ok(ends), None, &Manner::StreamedParts { piece_bytes }) => {
                        stream::fetch_part(&ends, range, piece_bytes, stretch_end, when_read).await
                    }
                    (Ok(ends), None, Manner::InOrder(order)) => {
                        match ends.fetch_whole(range, None, Some(order), when_read).await {
                            Err(Refusal::Broken(error)) => return job.reply(LaneEvent::StreamBroken { range, error }),
                            other => other.map_err(error_of),
                        }
                    }
                };
                if let Ok(fetched) = &mut result {
                    fetched.times.queue = queue;
                }
                job.reply(LaneEvent::Fetched { range, from: peer, result });
            }
            Command::Compare { job, range, source_shift, sent } => {
                let queue = sent.elapsed();
                let mut result = match self.ends(&job, source_shift) {
                    Ok(ends) => repair::compare(&ends, range).await,
                    Err(error) => Err(error),
                };
                if let Ok(compared) = &mut result {
                    compared.times.queue = queue;
                }
                job.reply(LaneEvent::Compared { range, result });
            }
            Command::ReadBack { job, range } => {
                let began = Instant::now();
                let crcs = self.read_back(&job, range).await;
                job.reply(LaneEvent::ReadBack { range, crcs, took: began.elapsed() });
            }
            Command::Sync { job } => {
                let result = match self.destination(&job) {
                    Ok(destination) => destination.sync().await,
                    Err(error) => Err(error),
                };
                job.reply(LaneEvent::Synced(result));
            }
            Command::Hash { job, run, piece_bytes, from } => {
                let result = self.hash(&job, run, piece_bytes, from).await;
                job.reply(LaneEvent::Hashed(result));
            }
            Command::Vouch { job, own, identity } => {
                let mut jobs = self.jobs.borrow_mut();
                let source = &mut jobs.entry(job.attempt).or_default().source;
                *source =
                    source.take().map(|source| Rc::new(FirstReader::new(source, own, identity)) as Rc<dyn Source>);
            }
            Command::Show { job, key } => {
                if let Ok(destination) = self.destination(&job) {
                    offer::show(&key, offer::Where::Written(destination));
                }
            }
            Command::ShowKept { key, module, request, told } => {
                let opened = module.open_source(&request, &self.lane).await;
                let shown = opened.map(|source| offer::show(&key, offer::Where::Kept(source)));
                // Who has ended does not hear it.
                let _ = told.send(shown);
            }
            Command::Withdraw { key, done } => {
                offer::withdraw(&key).await;
                drop(done);
            }
            Command::OpenPeer { job, peer, objects, request } => {
                let opened = objects.open_offer(&request, &self.lane).await;
                let event = opened.map(|remote| {
                    let object = remote.object().clone();
                    self.jobs.borrow_mut().entry(job.attempt).or_default().peers.opened(peer, remote);
                    object
                });
                job.tell(peer, PeerEvent::Opened(event));
            }
            Command::WatchPeer { job, peer, own } => {
                let peers = self.job(&job).peers;
                let gone = peers.watch(peer, own, |ranges| job.tell(peer, PeerEvent::Has(ranges))).await;
                peers.close(peer).await;
                job.tell(peer, PeerEvent::Gone(gone));
            }
            Command::ClosePeer { job, peer } => self.job(&job).peers.close(peer).await,
            Command::Revalidate { job } => {
                let result = match self.source(&job) {
                    Ok(source) => source.revalidate().await,
                    Err(error) => Err(error),
                };
                job.reply(LaneEvent::Revalidated(result));
            }
            Command::Close { job } => {
                let open = self.jobs.borrow_mut().remove(&job.attempt).unwrap_or_default();
                open.peers.close_all().await;
                if let Some(source) = open.source {
                    source.close().await;
                }
                if let Some(destination) = open.destination {
                    destination.close().await;
                }
                job.reply(LaneEvent::Closed);
            }
        }
    }

    /// CRCs of a range that an earlier attempt has written.
    async fn read_back(&self, job: &JobRef, range: ByteRange) -> Result<Vec<u32>, Error> {
        let chunk = self.destination(job)?.read_back(range, &self.lane.pool).await?;
        let Some(checksums) = self.job(job).checksums else { return Ok(chunk.block_crcs()) };
        let lent = checksums.show_found(range, chunk);
        let crcs = lent.block_crcs();
        lent.back().await;
        Ok(crcs)
    }

    /// Reads a run back and shows it to the attempt's checksums: the next piece is read while one is hashed.
    async fn hash(&self, job: &JobRef, run: Run, piece_bytes: u64, from: HashFrom) -> Result<(), Error> {
        let Some(checksums) = self.job(job).checksums else {
            return Err(Error::fatal(Code::Internal, "nothing is hashed on this lane"));
        };
        let result = self.hash_pieces(job, &checksums, run, piece_bytes, from).await;
        checksums.end_run(run);
        result
    }

    async fn hash_pieces(
        &self,
        job: &JobRef,
        checksums: &Checksums,
        run: Run,
        piece_bytes: u64,
        from: HashFrom,
    ) -> Result<(), Error> {
        let ends = self.ends(job, if let HashFrom::Source { shift } = from { shift } else { 0 })?;
        let mut before = Lent::to_nobody(Chunk::zero(0));
        for piece in run.range.pieces(piece_bytes) {
            if job.interrupt.is_raised() {
                // Whoever dropped it would hold up the lane until it is hashed.
                before.back().await;
                return Err(Error::canceled());
            }
            let read = async {
                match from {
                    HashFrom::Written => ends.destination.read_back(piece, &ends.pool).await,
                    HashFrom::Present => ends.destination.read_present(piece, &ends.pool).await,
                    HashFrom::Source { .. } => ends.read(piece, Some(run.range.end())).await,
                }
            };
            // Memory is given back as soon as it is hashed: an attempt that held one buffer until it had the next could
            // block others that do the same, and they it.
            let (chunk, ()) = join(read, async { drop(before.back().await) }).await;
            match checksums.show_piece(run, piece, chunk?) {
                Some(lent) => before = lent,
                None => return Ok(()),
            }
        }
        before.back().await;
        Ok(())
    }

    fn ends(&self, job: &JobRef, source_shift: u64) -> Result<Ends, Error> {
        self.ends_from(job, source_shift, None)
    }

    fn ends_from(&self, job: &JobRef, source_shift: u64, from: Option<From>) -> Result<Ends, Error> {
        let source = match from {
            Some(from) => self.job(job).peers.source(from)?,
            None => self.source(job)?,
        };
        let (destination, checksums) = (self.destination(job)?, self.job(job).checksums);
        Ok(Ends { source, destination, checksums, source_shift, pool: self.lane.pool.clone() })
    }

    fn source(&self, job: &JobRef) -> Result<Rc<dyn Source>, Error> {
        self.job(job).source.ok_or_else(|| Error::fatal(Code::Internal, "the source is not open on this lane"))
    }

    fn destination(&self, job: &JobRef) -> Result<Rc<dyn Destination>, Error> {
        self.job(job)
            .destination
            .ok_or_else(|| Error::fatal(Code::Internal, "the destination is not open on this lane"))
    }

    fn job(&self, job: &JobRef) -> Job {
        self.jobs.borrow().get(&job.attempt).cloned().unwrap_or_default()
    }
}

/// Both ends of an attempt on this lane. Ranges are in the destination's offsets.
pub(super) struct Ends {
    pub source: Rc<dyn Source>,
    pub destination: Rc<dyn Destination>,
    /// What is told of everything that is written.
    pub checksums: Option<Arc<Checksums>>,
    pub source_shift: u64,
    pub pool: BufferPool,
}

impl Ends {
    /// The same range in the source's offsets.
    pub fn in_source(&self, range: ByteRange) -> Result<ByteRange, Error> {
        range
            .shifted(self.source_shift)
            .ok_or_else(|| Error::fatal(Code::RangeOutsideObject, "the part ends beyond any object"))
    }

    /// Reads a range, or the next part of a stretch.
    pub async fn read(&self, range: ByteRange, stretch_end: Option<u64>) -> Result<Chunk, Error> {
        let in_source = self.in_source(range)?;
        match stretch_end {
            Some(end) => self.source.read_on(in_source, end + self.source_shift, &self.pool).await,
            None => self.source.read(in_source, &self.pool).await,
        }
    }

    /// Reads a range, perhaps of a stretch, and writes it; `when_read` is called between the two.
    pub async fn fetch(
        &self,
        range: ByteRange,
        stretch_end: Option<u64>,
        untouched: bool,
        when_read: impl Fn(),
    ) -> Result<Fetched, Error> {
        let Self { source, destination, .. } = self;
        let mut whole = Fetched::default();
        let mut clock = Instant::now();
        // The time since it was last asked.
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
        let is_hole = |piece| self.in_source(piece).is_ok_and(|piece| source.is_hole(piece));
        for (piece, hole) in pieces_by(range, is_hole) {
            if hole {
                self.show(piece.start(), Chunk::zero(piece.len() as usize)).back().await;
                whole.times.checksum += lap();
                destination.zero(piece, untouched).await?;
                whole.times.write += lap();
                whole.len += piece.len();
                whole.crcs.extend(Chunk::zero(piece.len() as usize).block_crcs());
                continue;
            }
            let chunk = self.read(piece, stretch_end).await?;
            let (len, waited) = (chunk.len() as u64, chunk.waited());
            whole.times.memory += waited;
            whole.times.read += lap().saturating_sub(waited);
            if piece.end() == range.end() {
                when_read();
            }
            let lent = self.show(piece.start(), chunk);
            let crcs = lent.block_crcs();
            let chunk = lent.back().await;
            whole.times.checksum += lap();
            if len > 0 {
                write_sparsely(&**destination, piece.start(), chunk, &crcs, untouched).await?;
            }
            whole.times.write += lap();
            whole.len += len;
            whole.fetched += len;
            whole.crcs.extend(crcs);
            if len < piece.len() {
                break;
            }
        }
        Ok(whole)
    }
}

impl Ends {
    /// Shows a chunk that is about to be written at `offset`.
    pub fn show(&self, offset: u64, chunk: Chunk) -> Lent {
        match (&self.checksums, ByteRange::at(offset, chunk.len() as u64)) {
            (Some(checksums), Some(range)) => checksums.show(range, chunk),
            _ => Lent::to_nobody(chunk),
        }
    }

    /// Reads a range, perhaps of a stretch, and writes it as one chunk, in `order` where there is one; `when_read` is
    /// called between the two.
    async fn fetch_whole(
        &self,
        range: ByteRange,
        stretch_end: Option<u64>,
        order: Option<&Order>,
        when_read: impl Fn(),
    ) -> Result<Fetched, Refusal> {
        let Self { source, destination, .. } = self;
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
        let in_source = self.in_source(range).map_err(Refusal::NotTaken)?;
        let mut fetched = Fetched::default();
        let chunk = if source.is_hole(in_source) {
            Chunk::zero(range.len() as usize)
        } else {
            let chunk = self.read(range, stretch_end).await.map_err(Refusal::NotTaken)?;
            fetched.fetched = chunk.len() as u64;
            chunk
        };
        fetched.times.memory = chunk.waited();
        fetched.times.read = lap().saturating_sub(chunk.waited());
        when_read();
        fetched.len = chunk.len() as u64;
        // What is written in order is hashed in order.
        let lent = if order.is_some() { Lent::to_nobody(chunk) } else { self.show(range.start(), chunk) };
        fetched.crcs = lent.block_crcs();
        let chunk = lent.back().await;
        fetched.times.checksum = lap();
        match order {
            Some(order) => order.write(&**destination, range.start(), chunk).await?,
            None if chunk.is_empty() => (),
            None => destination.write(range.start(), chunk).await.map_err(Refusal::NotTaken)?,
        }
        fetched.times.write = lap();
        Ok(fetched)
    }
}

fn error_of(refusal: Refusal) -> Error {
    let (Refusal::NotTaken(error) | Refusal::Broken(error)) = refusal;
    error
}

/// Cuts a range where a property of blocks (for instance that they are holes) begins and ends.
pub(super) fn pieces_by(range: ByteRange, has_it: impl Fn(ByteRange) -> bool) -> Vec<(ByteRange, bool)> {
    if has_it(range) {
        return vec![(range, true)];
    }
    let mut pieces: Vec<(ByteRange, bool)> = Vec::new();
    for block in range.pieces(CRC_BLOCK) {
        let has = has_it(block);
        match pieces.last_mut() {
            Some((last, kind)) if *kind == has => {
                *last = ByteRange::new(last.start(), block.end()).expect("blocks come in order");
            }
            _ => pieces.push((block, has)),
        }
    }
    pieces
}

/// Writes a chunk so that its zero blocks take no space.
pub(super) async fn write_sparsely(
    destination: &dyn Destination,
    offset: u64,
    chunk: Chunk,
    crcs: &[u32],
    untouched: bool,
) -> Result<(), Error> {
    let zeros = zero_runs(&chunk, crcs);
    let len = chunk.len();
    let at = |run: &Range<usize>| {
        ByteRange::new(offset + run.start as u64, offset + run.end as u64).expect("runs lie within the chunk")
    };
    if let [run] = &zeros[..]
        && run.len() == len
    {
        drop(chunk);
        return destination.zero(at(run), untouched).await;
    }
    destination.write(offset, chunk).await?;
    for run in &zeros {
        destination.zero(at(run), false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_holes_begin_and_end() {
        let block = |start: u64, end: u64| ByteRange::new(start * CRC_BLOCK, end * CRC_BLOCK).unwrap();
        let hole = block(1, 3);
        let cut = pieces_by(block(0, 4), |piece| hole.contains(piece));
        assert_eq!(cut, [(block(0, 1), false), (hole, true), (block(3, 4), false)]);
        assert_eq!(pieces_by(hole, |piece| hole.contains(piece)), [(hole, true)]);
    }
}
