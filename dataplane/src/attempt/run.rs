//! One attempt from its first open to its commit, as a sequence of steps on its own thread.

mod member;
mod patient;
mod shape;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use staccato_protocols::{
    Access, ByteRange, CRC_BLOCK, Code, Disposition, Error, Interrupt, Object, Registry, Runtime, Session,
    contract::{
        CommitError, DestinationRequest, Found, Overwrite, PreparedCommit, Present, SharedProtocol, SourceRequest,
        Writes,
    },
    spool::Spool,
};

use super::{
    AttemptSpec, CheckpointReport, Checksum, ChecksumKind, Completion, LaneChoice, Outcome, Reporter, StartOver,
    StopReason, spool, stages::micros, wanted::Wanted,
};
use crate::{
    DataplaneConfig,
    engine::{Ending, Engine, EngineConfig, SYNC_BYTES_MAX, checkpoint},
    lane::{
        LaneHandle, Lanes,
        coordinator::{Coordinator, Moved, ReportBase},
        message::{AttemptKey, Input},
    },
    transport::peers::Peers,
};
use member::{Member, NoSource};
use patient::Patient;
use shape::Shape;

pub(crate) use shape::WINDOW_CHUNKS_PER_LANE;

/// What an attempt works with.
pub(crate) struct Bench<'a> {
    pub key: AttemptKey,
    pub config: &'a DataplaneConfig,
    pub registry: &'a Registry,
    pub lanes: &'a Lanes,
    pub peers: Option<&'a Peers>,
    pub spool: Option<&'a Spool>,
    pub inbox: &'a flume::Receiver<Input>,
    pub replies: flume::Sender<Input>,
}

/// Why an attempt did not get to its end.
enum Interrupted {
    Stopped(StopReason),
    Failed(Error),
    CommitUnknown(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<CommitError> for Interrupted {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotDone(error) => Self::Failed(error),
            CommitError::Unknown(error) => Self::CommitUnknown(error),
        }
    }
}

impl From<Ending> for Interrupted {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Stopped(reason) => Self::Stopped(reason),
            Ending::Failed(error) => Self::Failed(error),
        }
    }
}

/// Runs an attempt to its end, through the spool where that is needed. Nothing of it is open or in flight afterwards.
pub(crate) fn run(bench: &Bench<'_>, spec: &AttemptSpec, reporter: &mut dyn Reporter) -> Outcome {
    let modules = match Modules::of(bench, spec) {
        Ok(modules) => modules,
        Err(error) => return Outcome::Failed { error },
    };
    spool::run(bench, spec, &modules, reporter).unwrap_or_else(|| run_one(bench, spec, &modules, reporter))
}

/// Runs an attempt from one module to another.
pub(super) fn run_one(
    bench: &Bench<'_>,
    spec: &AttemptSpec,
    modules: &Modules,
    reporter: &mut dyn Reporter,
) -> Outcome {
    let result = Attempt::new(bench, spec, modules).and_then(|attempt| attempt.run(reporter));
    match result {
        Ok(completion) => Outcome::Committed(completion),
        Err(Interrupted::Stopped(reason)) => Outcome::Stopped { reason },
        Err(Interrupted::Failed(error)) => Outcome::Failed { error },
        Err(Interrupted::CommitUnknown(error)) => Outcome::CommitUnknown { error },
    }
}

/// Who reads and who writes.
pub(super) struct Modules {
    pub source: SharedProtocol,
    pub destination: SharedProtocol,
}

impl Modules {
    /// Those that the URLs name.
    fn of(bench: &Bench<'_>, spec: &AttemptSpec) -> Result<Self, Error> {
        let source: SharedProtocol = match &spec.owner {
            Some(owner) => {
                let alone = || Error::fatal(Code::UnsupportedScheme, "this executor does not know others");
                Arc::new(bench.peers.ok_or_else(alone)?.objects_of(owner, spec, bench.config.lanes))
            }
            None if spec.swarm.as_ref().is_some_and(|swarm| swarm.share.is_none()) => Arc::new(NoSource),
            None => bench.registry.source(&spec.source_url, &spec.source_options)?.clone(),
        };
        let source = match &spec.swarm {
            Some(swarm) if !swarm.share.is_none() => Arc::new(Patient::new(source, swarm)),
            _ => source,
        };
        let destination = bench.registry.destination(&spec.destination_url, &spec.destination_options)?.clone();
        Ok(Self { source, destination })
    }

    /// Lanes that serve the source.
    pub fn source_lanes<'a>(&self, bench: &Bench<'a>) -> Result<&'a [LaneHandle], Error> {
        bench.lanes.of(choose_runtime(bench.config.lane_choice, &self.source, &self.source)?)
    }

    /// The lanes that serve both.
    pub fn lanes<'a>(&self, bench: &Bench<'a>) -> Result<&'a [LaneHandle], Error> {
        bench.lanes.of(self.runtime(bench)?)
    }

    fn runtime(&self, bench: &Bench<'_>) -> Result<Runtime, Error> {
        choose_runtime(bench.config.lane_choice, &self.source, &self.destination)
    }
}

struct Attempt<'a> {
    bench: &'a Bench<'a>,
    spec: &'a AttemptSpec,
    source: &'a SharedProtocol,
    destination: &'a SharedProtocol,
    /// Those on which the source is read, and behind them, where they are others, those on which other members' copies are.
    lanes: Vec<LaneHandle>,
    peer_lanes: Range<usize>,
    member: Option<Member<'a>>,
    chunk_bytes: u64,
}

impl<'a> Attempt<'a> {
    fn new(bench: &'a Bench<'a>, spec: &'a AttemptSpec, modules: &'a Modules) -> Result<Self, Interrupted> {
        let mut lanes = modules.lanes(bench)?.to_vec();
        // Attempts begin on different lanes, so that many small ones spread.
        let first = bench.key as usize % lanes.len();
        lanes.rotate_left(first);
        let member = Member::of(bench, spec)?;
        let mut peer_lanes = 0..lanes.len();
        if member.is_some() && modules.runtime(bench)? != Runtime::Glommio {
            peer_lanes.start = lanes.len();
            lanes.extend_from_slice(bench.lanes.of(Runtime::Glommio)?);
            peer_lanes.end = lanes.len();
        }
        let chunk_bytes = match &spec.swarm {
            Some(swarm) => swarm.chunk_bytes,
            None => bench.config.chunk_bytes_of(spec.chunk_size),
        };
        if spec.chunk_size.is_some_and(|asked| asked > chunk_bytes) {
            tracing::info!(
                transfer = spec.transfer,
                chunk_bytes,
                "chunks are smaller than asked for: memory is shared"
            );
        }
        let Modules { source, destination } = modules;
        Ok(Self { bench, spec, source, destination, lanes, peer_lanes, member, chunk_bytes })
    }

    fn run(&self, reporter: &mut dyn Reporter) -> Result<Completion, Interrupted> {
        let mut coordinator =
            Coordinator::new(self.bench.key, &self.lanes, self.bench.inbox, self.bench.replies.clone());
        let mut session = None;
        self.withdraw();
        let result = self.steps(&mut coordinator, &mut session, reporter);
        coordinator.close();
        if result.is_err() {
            self.withdraw();
        }
        let result = result.map_err(|interrupted| match interrupted {
            // An interrupted operation is the stop itself, told by who met it first.
            Interrupted::Failed(error) if error.disposition == Disposition::Canceled => {
                Interrupted::Stopped(coordinator.stop_reason().unwrap_or(StopReason::Shutdown))
            }
            other => other,
        });
        match result {
            Err(Interrupted::Stopped(StopReason::Cancel)) => Err(self.canceled(session)),
            // What does not have the right checksum is worth nothing.
            Err(Interrupted::Failed(error)) if error.code == Code::ChecksumMismatch => {
                self.forget_copy();
                self.discard(session);
                Err(Interrupted::Failed(error))
            }
            Ok(ready) => self.commit(ready, session, &mut coordinator, reporter),
            other => other.map(|ready| ready.completion),
        }
    }

    /// Everything up to the point where the object only lacks its name.
    fn steps<'c>(
        &'c self,
        coordinator: &mut Coordinator<'c>,
        keep: &mut Option<Box<dyn Session>>,
        reporter: &mut dyn Reporter,
    ) -> Result<Ready, Interrupted> {
        let spec = self.spec;
        let opening = Instant::now();
        let mut request = SourceRequest {
            url: spec.source_url.clone(),
            options: spec.source_options.clone(),
            pinned: spec.validator.clone(),
            aligned: spec.part.start.is_multiple_of(CRC_BLOCK),
            interrupt: coordinator.interrupt(),
        };

        // A commit that had been prepared may have been done: then the source does not matter any more.
        let mut partial_gone = false;
        if let Some(prepared) = spec.prepared {
            let session = keep
                .insert(self.begin(DestinationRequest { resume: true, ..request_of(spec, coordinator.interrupt()) })?);
            if session.found() == Found::Committed {
                return Ok(Ready { completion: prepared, committed: true });
            }
            partial_gone = session.found() == Found::Nothing;
            *keep = None;
        }

        if let Some(member) = &self.member {
            coordinator.among(member.others(spec, self.peer_lanes.clone())?);
        }
        let object = match &self.member {
            Some(member) if !member.reads_source() => {
                coordinator.find_object(member.spec).map_err(Interrupted::Stopped)?
            }
            _ => coordinator.open_source(0, self.source, &request)?,
        };
        let part = part_of(spec, &object)?;
        request.pinned = object.validator.clone();
        let useless = self.checkpoint_is_useless(&object, &part);
        let resume = !spec.checkpoint.is_empty() && useless.is_none() && !partial_gone;
        let session =
            keep.insert(self.begin(DestinationRequest { resume, ..request_of(spec, coordinator.interrupt()) })?);
        let writes = session.writes(part.length)?;
        let is_whole = part.start == 0 && part.length == object.size;
        let wanted = Wanted::new(spec, coordinator.published().filter(|_| is_whole));
        let kinds = wanted.kinds(session.as_ref(), false);
        let shape = self.shape(writes, &object, &part, coordinator.request_cost(), !kinds.is_empty())?;
        coordinator.set_writes(shape.writes, shape.piece_bytes);
        if let Some(reason) = coordinator.stop_reason() {
            return Err(Interrupted::Stopped(reason));
        }

        let resumed = session.found() == Found::Partial;
        let started_over = (!resumed && !spec.checkpoint.is_empty()).then(|| useless.unwrap_or(StartOver::PartialGone));
        let mut base = ReportBase {
            report: CheckpointReport {
                bytes_total: part.length,
                validator: object.validator.clone(),
                started_over,
                upload: session.upload(),
                ..CheckpointReport::default()
            },
            name_synced: false,
        };

        let whole = part.length.and_then(|length| ByteRange::at(part.start, length));
        let moved = match whole {
            // What lies on another host is no file here, whatever its URL says.
            Some(whole)
                if !resumed
                    && spec.owner.is_none()
                    && self.member.is_none()
                    && session.try_clone(&request, whole)? =>
            {
                coordinator.hash(&wanted.kinds(session.as_ref(), true), self.manner(shape))?;
                coordinator.open_destination(0, session.as_ref())?;
                coordinator.stages().open_us = micros(opening.elapsed());
                session.set_length(whole.len())?;
                let syncing = Instant::now();
                coordinator.sync()?;
                coordinator.stages().sync_us = micros(syncing.elapsed());
                Moved { length: whole.len(), crc32: None, bytes_fetched: 0, kept: false }
            }
            _ => {
                let present = self.use_present(coordinator, &part, session.as_mut())?;
                coordinator.hash(&kinds, self.manner(shape))?;
                coordinator.open_destination(0, session.as_ref())?;
                for lane in 1..shape.lanes {
                    if self.reads_source() {
                        coordinator.open_source(lane, self.source, &request)?;
                    }
                    coordinator.open_destination(lane, session.as_ref())?;
                }
                if self.member.is_some() {
                    for lane in shape.lanes..self.lanes.len() {
                        coordinator.open_destination(lane, session.as_ref())?;
                    }
                }
                coordinator.use_lanes(if self.member.is_some() { self.lanes.len() } else { shape.lanes });
                if let Some(length) = part.length.filter(|_| !resumed && shape.writes == Writes::Anywhere) {
                    // On ext4 a write with O_DIRECT that makes a file longer is done alone, one into a hole is not
                    // (measured on ext4 in memory: chunks were in `write` for 54 % of their time instead of 81 %). What
                    // padding adds is cut at the end.
                    session.set_length(length)?;
                }
                // The ledger hears of an upload before its first part is sent, as it hears that nothing is left.
                let tell_first = started_over.is_some() || (!resumed && session.upload().is_some());
                let config =
                    self.engine_config(&object, &part, resumed, tell_first, present, shape, session.as_mut())?;
                // What a later attempt does not write again is not seen by its checksums, unless it is compared.
                if shape.writes != Writes::Anywhere {
                    config.checkpoint.iter().for_each(|known| coordinator.note_written(known.range));
                }
                if let Some(member) = &self.member {
                    let have: Vec<_> = config.checkpoint.iter().map(|known| known.range).collect();
                    self.take_part(member, coordinator, &object, &part, shape.writes, &have)?;
                }
                let mut engine = Engine::new(config);
                coordinator.stages().open_us = micros(opening.elapsed());
                coordinator.run(&mut engine, session.as_mut(), reporter, &mut base, part.start)?
            }
        };

        let verifying = Instant::now();
        let mut found = coordinator.checksums(&moved)?;
        // That of the whole is made of those of the blocks.
        found.extend(moved.crc32.map(|crc32| Checksum::new(ChecksumKind::Crc32, crc32.to_be_bytes().to_vec())));
        wanted.compare(&found)?;
        if let Some(kind) = session.wants_checksum() {
            found.into_iter().filter(|found| found.kind() == kind).for_each(|found| session.note_checksum(found));
        }
        if self.reads_source() {
            coordinator.revalidate()?;
        }
        coordinator.stages().verify_us = micros(verifying.elapsed());
        let completion = Completion {
            bytes_total: moved.length,
            crc32: moved.crc32,
            bytes_fetched: moved.bytes_fetched,
            bytes_from_peers: coordinator.bytes_from_peers(),
            identity: session.identity(),
            stages: *coordinator.stages(),
        };
        Ok(Ready { completion, committed: false })
    }

    /// Why what the ledger knows to be durable cannot be gone on from with this object, if so.
    fn checkpoint_is_useless(&self, object: &Object, part: &WantedPart) -> Option<StartOver> {
        if object.validator.is_none() || self.spec.validator.is_none() {
            return Some(StartOver::SourceUnversioned);
        }
        let same = object.validator == self.spec.validator && checkpoint::fits(&self.spec.checkpoint, part.length);
        (!same).then_some(StartOver::SourceChanged)
    }

    /// Whether the source is read by this attempt at all.
    fn reads_source(&self) -> bool {
        self.member.as_ref().is_none_or(Member::reads_source)
    }

    fn begin(&self, request: DestinationRequest) -> Result<Box<dyn Session>, Error> {
        self.destination.begin(&request)
    }

    /// What is at the destination, where it shall be repaired and the source tells what it has to be.
    fn use_present(
        &self,
        coordinator: &Coordinator<'_>,
        part: &WantedPart,
        session: &mut dyn Session,
    ) -> Result<Option<Present>, Error> {
        if self.spec.overwrite != Overwrite::Repair || self.member.is_some() {
            return Ok(None);
        }
        if coordinator.writes() != Writes::Anywhere {
            tracing::info!(
                transfer = self.spec.transfer,
                "what is at the destination cannot be repaired: it is replaced"
            );
            return Ok(None);
        }
        if !coordinator.source_tells_sums() || part.length.is_none() {
            tracing::info!(transfer = self.spec.transfer, "the source does not tell its CRCs: fetching everything");
            return Ok(None);
        }
        session.use_present()
    }

    #[expect(clippy::too_many_arguments, reason = "each is known at another step")]
    fn engine_config(
        &self,
        object: &Object,
        part: &WantedPart,
        resumed: bool,
        started_over: bool,
        present: Option<Present>,
        shape: Shape,
        session: &mut dyn Session,
    ) -> Result<EngineConfig, Error> {
        let mut checkpoint = if resumed { self.spec.checkpoint.clone() } else { Vec::new() };
        if shape.writes != Writes::Anywhere && !checkpoint.is_empty() {
            let promised: Vec<_> = checkpoint.iter().map(|known| known.range).collect();
            let kept = session.kept(&promised)?;
            checkpoint.retain(|known| kept.contains(&known.range));
        }
        let blocks = checkpoint.last().map_or(0, |known| known.range.end().div_ceil(CRC_BLOCK));
        let sidecar = if resumed { session.load_block_crcs(blocks)? } else { BTreeMap::new() };
        Ok(EngineConfig {
            length: part.length,
            chunk_bytes: shape.chunk_bytes,
            window_chunks_max: self.window_chunks(shape),
            connections: self.connections(shape),
            request_cost: shape.request_cost,
            chosen: self.member.is_some(),
            sequential: object.access == Access::Sequential,
            writes: shape.writes,
            fresh: !resumed && !present.is_some_and(|present| present.in_place),
            started_over,
            rate_limit: self.spec.rate_limit,
            sync_bytes_max: SYNC_BYTES_MAX,
            checkpoint,
            sidecar,
            present,
        })
    }

    fn commit(
        &self,
        ready: Ready,
        session: Option<Box<dyn Session>>,
        coordinator: &mut Coordinator<'_>,
        reporter: &mut dyn Reporter,
    ) -> Result<Completion, Interrupted> {
        if ready.committed {
            return Ok(ready.completion);
        }
        let mut completion = ready.completion;
        let asking = Instant::now();
        reporter.prepare(completion);
        let lease_until = match coordinator.wait_prepared() {
            Ok(lease_until) => lease_until,
            Err(StopReason::Cancel) => return Err(self.canceled(session)),
            Err(reason) => return Err(Interrupted::Stopped(reason)),
        };
        let mut session = session.ok_or_else(|| Error::fatal(Code::Internal, "there is nothing to commit"))?;
        // The last look at the clock before the rename: a process that slept through its lease must not do it.
        if coordinator.stop_reason() == Some(StopReason::LeaseLost) || boottime() >= lease_until {
            return Err(Interrupted::Stopped(StopReason::LeaseLost));
        }
        completion.stages.ledger_us = micros(asking.elapsed());
        let committing = Instant::now();
        session.commit()?;
        completion.stages.commit_us = micros(committing.elapsed());
        self.keep_copy(coordinator);
        Ok(completion)
    }

    /// Ends a canceled attempt: as stopped once nothing is left beside the destination, else as failed.
    fn canceled(&self, session: Option<Box<dyn Session>>) -> Interrupted {
        self.forget_copy();
        if self.discard(session) {
            Interrupted::Stopped(StopReason::Cancel)
        } else {
            Interrupted::Failed(Error::canceled())
        }
    }

    /// Removes what is beside the destination; whether all of it is gone. Without a session, what earlier attempts left
    /// has not been looked for.
    fn discard(&self, session: Option<Box<dyn Session>>) -> bool {
        let Some(mut session) = session else { return self.spec.epoch == 1 };
        let discarded = session.discard();
        if let Err(error) = &discarded {
            tracing::warn!(%error, transfer = self.spec.transfer, "a partial stays behind");
        }
        discarded.is_ok()
    }
}

/// An object that only lacks its name; or has it already.
struct Ready {
    completion: Completion,
    committed: bool,
}

/// Whether a module's objects are read without a network.
pub(super) fn is_local(source: &SharedProtocol) -> bool {
    let schemes = source.schemes();
    schemes.contains(&"file") || schemes.contains(&"zero")
}

/// The destination as the request has it; starts over.
pub(super) fn request_of(spec: &AttemptSpec, interrupt: Interrupt) -> DestinationRequest {
    DestinationRequest {
        url: spec.destination_url.clone(),
        options: spec.destination_options.clone(),
        transfer: spec.transfer.clone(),
        epoch: spec.epoch,
        overwrite: spec.overwrite,
        resume: false,
        upload: spec.upload.clone(),
        prepared: spec
            .prepared
            .map(|prepared| PreparedCommit { length: prepared.bytes_total, identity: prepared.identity }),
        interrupt,
    }
}

/// The wanted part of an object, its length unknown where the object's is.
struct WantedPart {
    start: u64,
    length: Option<u64>,
}

fn part_of(spec: &AttemptSpec, object: &Object) -> Result<WantedPart, Error> {
    let start = spec.part.start;
    let outside = |size: u64| {
        let end = spec.part.end.map_or("the end".to_owned(), |end| end.to_string());
        Error::fatal(
            Code::RangeOutsideObject,
            format!("the part from {start} to {end} does not lie within the {size} bytes of {}", spec.source_url),
        )
    };
    match (object.size, spec.part.end) {
        (Some(size), end) => {
            let end = end.unwrap_or(size);
            if start > end || end > size {
                Err(outside(size))
            } else {
                Ok(WantedPart { start, length: Some(end - start) })
            }
        }
        (None, Some(end)) => Ok(WantedPart { start, length: Some(end.saturating_sub(start)) }),
        (None, None) => Ok(WantedPart { start, length: None }),
    }
}

/// Which kind of lane serves a pair of modules: the one both work on, tokio-uring unless told otherwise (measured: the
/// same speed on files for less than half the CPU seconds of glommio).
fn choose_runtime(choice: LaneChoice, source: &SharedProtocol, destination: &SharedProtocol) -> Result<Runtime, Error> {
    let (source, destination) = (source.capabilities().runtimes, destination.capabilities().runtimes);
    let both: Vec<Runtime> = source.iter().filter(|runtime| destination.contains(runtime)).copied().collect();
    let wanted = match choice {
        LaneChoice::Auto | LaneChoice::TokioUring => Runtime::TokioUring,
        LaneChoice::Glommio => Runtime::Glommio,
    };
    both.iter().find(|runtime| **runtime == wanted).or(both.first()).copied().ok_or_else(|| {
        Error::fatal(Code::UnsupportedScheme, "no kind of lane can serve both the source and the destination")
    })
}

/// Time since boot, sleep included.
fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
