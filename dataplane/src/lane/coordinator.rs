//! Joins an engine to the lanes of one attempt.
//!
//! A coordinator owns its thread and blocks on one inbox: answers of lanes, and notices from outside. What to do is the
//! engine's decision; here it is only carried out. Nothing in flight is ever forgotten: [`Coordinator::close`] comes
//! last and waits for every lane.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use staccato_protocols::{
    ByteRange, Checksum, Code, Error, Interrupt, Object, Session,
    contract::{SharedProtocol, SourceRequest, WriteShape, Writes},
};

use super::{
    LaneHandle,
    feed::Feed,
    feeding::{Others, is_own_failure},
    follow::{Follow, Manner},
    message::{AttemptKey, Command, Compared, Fetched, Input, JobRef, LaneEvent, PeerEvent},
};
use crate::{
    attempt::{
        CheckpointReport, ChecksumKind, Notice, Reply, Reporter, StageTimes, StopReason, stages::micros,
        swarm::SwarmSpec,
    },
    engine::{Action, Ending, Engine},
    swarm::PeerKey,
};

/// One attempt's hold on its lanes.
pub(crate) struct Coordinator<'a> {
    attempt: AttemptKey,
    pub(super) lanes: &'a [LaneHandle],
    /// Chunks in flight on each lane.
    pub(super) load: Vec<usize>,
    pub(super) opened: Vec<bool>,
    /// On so many of them, the first ones, the source is open.
    pub(super) sources: usize,
    /// How other members' copies are opened, where the object is distributed.
    pub(super) others: Option<Others<'a>>,
    /// What is fetched of them, once that is known.
    pub(super) feed: Option<Feed>,
    /// What became known of them before.
    pub(super) early: Vec<(PeerKey, PeerEvent)>,
    /// Those that were asked to open their copies and have not answered.
    pub(super) opening: BTreeSet<PeerKey>,
    /// What was told of them last, while there is no feed to tell.
    pub(super) news: Option<Box<SwarmSpec>>,
    source_tells_sums: bool,
    published: Option<Checksum>,
    request_cost: Duration,
    writes: Writes,
    /// Length of what is read and written at once.
    piece_bytes: u64,
    /// The checksums that are computed, if any.
    follow: Option<Follow>,
    /// Raised when nobody's turn will come any more, where chunks are written in order.
    order_over: Interrupt,
    pub(super) inbox: &'a flume::Receiver<Input>,
    replies: flume::Sender<Input>,
    /// Raised with the first stop: who waits for a source must not wait for it any longer.
    interrupt: Interrupt,
    pub(super) stop: Option<StopReason>,
    prepared_until: Option<Duration>,
    stages: StageTimes,
    /// When the sync under way began.
    syncing: Option<Instant>,
}

/// What goes with every checkpoint of an attempt.
pub(crate) struct ReportBase {
    /// The last report, but for its ranges and counters.
    pub report: CheckpointReport,
    /// Whether the partial's name is durable yet.
    pub name_synced: bool,
}

impl<'a> Coordinator<'a> {
    /// A coordinator that uses `lanes`, of which there is at least one.
    pub fn new(
        attempt: AttemptKey,
        lanes: &'a [LaneHandle],
        inbox: &'a flume::Receiver<Input>,
        replies: flume::Sender<Input>,
    ) -> Self {
        assert!(!lanes.is_empty(), "bytes move on lanes");
        Self {
            attempt,
            lanes,
            load: vec![0; lanes.len()],
            opened: vec![false; lanes.len()],
            sources: 0,
            others: None,
            feed: None,
            early: Vec::new(),
            opening: BTreeSet::new(),
            news: None,
            source_tells_sums: false,
            published: None,
            request_cost: Duration::ZERO,
            writes: Writes::Anywhere,
            piece_bytes: 0,
            follow: None,
            order_over: Interrupt::default(),
            inbox,
            replies,
            interrupt: Interrupt::default(),
            stop: None,
            prepared_until: None,
            stages: StageTimes::default(),
            syncing: None,
        }
    }

    /// Where the attempt's time went so far. Whoever does something that has a stage of its own adds it.
    pub fn stages(&mut self) -> &mut StageTimes {
        &mut self.stages
    }

    /// What is raised when the attempt shall stop; for the requests that sources are opened with.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Opens the source on one lane.
    pub fn open_source(
        &mut self,
        lane: usize,
        module: &SharedProtocol,
        request: &SourceRequest,
    ) -> Result<Object, Error> {
        self.opened[lane] = true;
        self.sources = self.sources.max(lane + 1);
        let job = self.job(lane);
        self.lanes[lane].send(Command::OpenSource { job, module: module.clone(), request: Box::new(request.clone()) });
        match self.receive() {
            LaneEvent::SourceOpened(opened) => opened.map(|opened| {
                self.source_tells_sums = opened.tells_sums;
                self.published = opened.published;
                self.request_cost = opened.request_cost;
                opened.object
            }),
            _ => unexpected(),
        }
    }

    /// Whether the source that was opened last tells the CRCs of its blocks.
    pub fn source_tells_sums(&self) -> bool {
        self.source_tells_sums
    }

    /// The checksum of the whole object that the storage of the source publishes, as the source that was opened last
    /// told it.
    pub fn published(&self) -> Option<&Checksum> {
        self.published.as_ref()
    }

    /// What a request costs the server of the source that was opened last.
    pub fn request_cost(&self) -> Duration {
        self.request_cost
    }

    /// How the destination takes what is written, from now on.
    pub fn set_writes(&mut self, writes: Writes, piece_bytes: u64) {
        (self.writes, self.piece_bytes) = (writes, piece_bytes);
    }

    /// How it does.
    pub fn writes(&self) -> Writes {
        self.writes
    }

    /// What is moved from now on is hashed for checksums of these kinds, if there are any.
    pub fn hash(&mut self, kinds: &[ChecksumKind], manner: Manner) -> Result<(), Error> {
        self.follow = if kinds.is_empty() { None } else { Some(Follow::start(kinds, manner)?) };
        Ok(())
    }

    /// Opens the destination on one lane.
    pub fn open_destination(&mut self, lane: usize, session: &dyn Session) -> Result<(), Error> {
        self.opened[lane] = true;
        // Parts are written from offset 0 of the destination in chunks of whole blocks.
        let open = session.open_on_lane(WriteShape { aligned: true })?;
        let job = self.job(lane);
        let (writes, piece_bytes, over) = (self.writes, self.piece_bytes, self.order_over.clone());
        let checksums = self.follow.as_ref().map(Follow::checksums);
        self.lanes[lane].send(Command::OpenDestination { job, open, writes, piece_bytes, over, checksums });
        match self.receive() {
            LaneEvent::DestinationOpened(result) => result,
            _ => unexpected(),
        }
    }

    /// From now on chunks go to the first `lanes` lanes, on which both ends are open.
    pub fn use_lanes(&mut self, lanes: usize) {
        assert!((1..=self.lanes.len()).contains(&lanes), "only lanes that are there can be used");
        self.load = vec![0; lanes];
    }

    /// Moves bytes until the engine has finished or ended. `source_shift` is where the wanted part begins in the
    /// source.
    pub fn run(
        &mut self,
        engine: &mut Engine,
        session: &mut dyn Session,
        reporter: &mut dyn Reporter,
        base: &mut ReportBase,
        source_shift: u64,
    ) -> Result<Moved, Ending> {
        let ended = self.run_to_end(engine, session, reporter, base, source_shift);
        if ended.is_err() {
            self.give_up_checksums();
        }
        if self.follow.as_ref().is_some_and(Follow::is_reading) {
            let LaneEvent::Hashed(result) = self.receive() else { unexpected() };
            self.handle_hashed(&result);
        }
        ended
    }

    fn run_to_end(
        &mut self,
        engine: &mut Engine,
        session: &mut dyn Session,
        reporter: &mut dyn Reporter,
        base: &mut ReportBase,
        source_shift: u64,
    ) -> Result<Moved, Ending> {
        let began = Instant::now();
        let mut counted_up_to = began;
        let mut kept = false;
        if let Some(reason) = self.stop {
            engine.handle_stop(reason);
        }
        loop {
            let now = began.elapsed();
            while let Some(action) = engine.poll(now) {
                match action {
                    Action::Fetch { range, untouched, reuse, place } => {
                        let lane = place.map_or_else(|| self.least_loaded(), |place| self.lane_of(place.stretch));
                        self.load[lane] += 1;
                        let job = self.job(lane);
                        let sent = Instant::now();
                        let tell_read = engine.counts_reads();
                        let stretch_end = place.map(|place| place.end);
                        self.lanes[lane].send(Command::Fetch {
                            job,
                            range,
                            source_shift,
                            untouched,
                            reuse,
                            stretch_end,
                            tell_read,
                            from: None,
                            sent,
                        });
                    }
                    Action::Compare(range) => {
                        let lane = self.least_loaded();
                        self.load[lane] += 1;
                        let (job, sent) = (self.job(lane), Instant::now());
                        self.lanes[lane].send(Command::Compare { job, range, source_shift, sent });
                    }
                    Action::KeepPresent => {
                        kept = session.keep_present().unwrap_or_else(|error| {
                            tracing::warn!(%error, "what is at the destination is replaced, though it is right");
                            false
                        });
                        engine.handle_present(kept);
                    }
                    Action::ReadBack(range) => {
                        let lane = self.least_loaded();
                        self.load[lane] += 1;
                        self.lanes[lane].send(Command::ReadBack { job: self.job(lane), range });
                    }
                    Action::Sync { blocks } => {
                        if !blocks.is_empty()
                            && let Err(error) = session.append_block_crcs(&blocks)
                        {
                            // The sidecar only narrows down what a later comparison finds; the data does not need it.
                            tracing::warn!(%error, "block CRCs were not noted");
                        }
                        // So what is in a checkpoint can be shown by whoever goes on from there.
                        self.feed.iter().for_each(|feed| feed.own().note());
                        self.syncing = Some(Instant::now());
                        self.lanes[0].send(Command::Sync { job: self.job(0) });
                    }
                    Action::Checkpoint(ranges) => {
                        if !base.name_synced {
                            if let Err(error) = session.sync_name() {
                                engine.handle_checkpoint_failed(error);
                                continue;
                            }
                            base.name_synced = true;
                        }
                        base.report.ranges = ranges;
                        base.report.bytes_total = engine.length();
                        base.report.bytes_fetched = engine.bytes_fetched();
                        base.report.bytes_from_peers = self.bytes_from_peers();
                        base.report.stages = self.stages;
                        reporter.checkpoint(base.report.clone());
                        base.report.started_over = None;
                    }
                    Action::SetLength(length) => match session.set_length(length) {
                        Ok(()) => engine.handle_length_set(),
                        Err(error) => engine.handle_length_failed(error),
                    },
                    Action::Finish { length, crc32 } => {
                        self.wait_for_rest(engine, now);
                        return Ok(Moved { length, crc32: Some(crc32), bytes_fetched: engine.bytes_fetched(), kept });
                    }
                    Action::End(ending) => {
                        self.wait_for_rest(engine, now);
                        return Err(ending);
                    }
                }
            }
            self.feed(engine, now);
            if engine.is_ending() {
                self.order_over.raise();
                self.give_up_checksums();
            } else {
                self.read_back_for_checksums();
            }
            let waits_for_sync = engine.waits_for_sync();
            let passed = began.elapsed();
            let fed_at = self.feed.as_ref().and_then(|feed| feed.poll_timeout(engine, passed));
            let input = match engine.poll_timeout(passed).into_iter().chain(fed_at).min() {
                Some(at) => self.inbox.recv_deadline(began + at).ok(),
                None => Some(self.inbox.recv().expect("this coordinator holds a sender itself")),
            };
            let places = engine.window_chunks().saturating_sub(self.load.iter().sum()) as u64;
            let empty = if waits_for_sync { &mut self.stages.sync_wait_us } else { &mut self.stages.idle_us };
            *empty += places * micros(std::mem::replace(&mut counted_up_to, Instant::now()).elapsed());
            if let Some(input) = input {
                self.handle(input, engine, began.elapsed());
            }
        }
    }

    fn handle(&mut self, input: Input, engine: &mut Engine, now: Duration) {
        match input {
            Input::Notice(Notice::Reply(Reply::Checkpointed)) => {
                for lost in engine.handle_checkpointed() {
                    self.feed.iter_mut().for_each(|feed| feed.handle_lost(lost));
                }
            }
            Input::Notice(Notice::Swarm(news)) => match &mut self.feed {
                Some(feed) => feed.handle_spec(&news, now),
                None => self.news = Some(news),
            },
            Input::Peer { peer, event } => self.hear_peer(peer, event, now),
            Input::Notice(notice) => {
                self.note(notice);
                if let Some(reason) = self.stop {
                    engine.handle_stop(reason);
                }
            }
            Input::Lane { lane, event, sent } => match event {
                LaneEvent::Read { range } => engine.handle_read(range, now),
                LaneEvent::Fetched { range, from, result } => {
                    self.load[lane] -= 1;
                    if let Ok(fetched) = &result {
                        self.stages.add_chunk(&fetched.times);
                        self.stages.queue_us += micros(sent.elapsed());
                    }
                    if self.feed.is_some() {
                        return self.hear_fed(range, from, result, engine, now);
                    }
                    match result {
                        Ok(Fetched { len, fetched, crcs, .. }) if len == range.len() || engine.length().is_none() => {
                            engine.handle_chunk(range, len, fetched, &crcs, now);
                            self.note_written(ByteRange::at(range.start(), len).expect("no longer than the range"));
                        }
                        Ok(Fetched { len, .. }) => {
                            let error = Error::retry(
                                Code::ProtocolViolation,
                                format!("the source gave {len} of {} bytes at {}", range.len(), range.start()),
                            );
                            engine.handle_chunk_failed(range, error, now);
                        }
                        Err(error) => {
                            tracing::debug!(%error, %range, "a chunk failed");
                            engine.handle_chunk_failed(range, error, now);
                        }
                    }
                }
                LaneEvent::StreamBroken { range, error } => {
                    self.load[lane] -= 1;
                    engine.handle_stream_broken(range, error);
                }
                LaneEvent::Compared { range, result } => {
                    self.load[lane] -= 1;
                    match result {
                        Ok(Compared { crcs, times }) => {
                            self.stages.add_chunk(&times);
                            self.stages.queue_us += micros(sent.elapsed());
                            engine.handle_compared(range, crcs.as_deref(), now);
                        }
                        Err(error) => {
                            tracing::debug!(%error, %range, "a chunk was not compared");
                            engine.handle_chunk_failed(range, error, now);
                        }
                    }
                }
                LaneEvent::ReadBack { range, crcs, took } => {
                    self.load[lane] -= 1;
                    self.stages.read_back_us += micros(took);
                    if let Err(error) = &crcs {
                        tracing::warn!(%error, %range, "a verified range cannot be read back: fetching it again");
                    }
                    engine.handle_read_back(range, crcs.as_deref().ok());
                    if crcs.is_ok() {
                        self.note_written(range);
                    }
                }
                LaneEvent::Synced(result) => {
                    self.stages.sync_us += self.syncing.take().map_or(0, |began| micros(began.elapsed()));
                    engine.handle_synced(result);
                }
                LaneEvent::Hashed(result) => self.handle_hashed(&result),
                _ => unexpected(),
            },
        }
    }

    /// What was asked of other members, or of the source for all of them, has come, or not.
    fn hear_fed(
        &mut self,
        range: ByteRange,
        from: Option<PeerKey>,
        result: Result<Fetched, Error>,
        engine: &mut Engine,
        now: Duration,
    ) {
        let feed = self.feed.as_mut().expect("it is asked for");
        let result = result.map(|fetched| {
            let bytes = fetched.fetched;
            (fetched, bytes)
        });
        match feed.handle_fetched(range, from, result, engine, now) {
            None => (),
            Some(Ok(Fetched { len, fetched, crcs, .. })) => {
                engine.handle_chunk(range, len, fetched, &crcs, now);
                feed.handle_written(range, from, engine, now);
                self.note_written(range);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, %range, "a chunk did not come");
                engine.handle_given_back(range, now);
                if is_own_failure(&error) {
                    engine.give_up(error);
                }
            }
        }
    }

    /// What lies at the destination can be read back for the checksums.
    pub fn note_written(&self, range: ByteRange) {
        if let Some(follow) = &self.follow {
            follow.note(range);
        }
    }

    fn read_back_for_checksums(&mut self) {
        let lane = self.least_loaded();
        let job = self.job(lane);
        if let Some(command) = self.follow.as_mut().and_then(|follow| follow.next(job)) {
            self.lanes[lane].send(command);
        }
    }

    fn handle_hashed(&mut self, result: &Result<(), Error>) {
        self.follow.as_mut().expect("only what was asked for is answered").handle_hashed(result);
    }

    fn give_up_checksums(&self) {
        if let Some(follow) = &self.follow {
            follow.give_up();
        }
    }

    /// Makes completed writes durable.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.lanes[0].send(Command::Sync { job: self.job(0) });
        match self.receive() {
            LaneEvent::Synced(result) => result,
            _ => unexpected(),
        }
    }

    /// The checksums of all that was moved, or was there already. What was not hashed on the way is read now.
    pub fn checksums(&mut self, moved: &Moved) -> Result<Vec<Checksum>, Error> {
        loop {
            let job = self.job(0);
            let Some(follow) = &mut self.follow else { return Ok(Vec::new()) };
            let Some(command) = follow.rest(moved.length, moved.kept, job) else { return follow.finish(moved.length) };
            self.lanes[0].send(command);
            let LaneEvent::Hashed(result) = self.receive() else { unexpected() };
            self.handle_hashed(&result);
            result?;
        }
    }

    /// Checks that the source is still the one that was opened.
    pub fn revalidate(&mut self) -> Result<(), Error> {
        self.lanes[0].send(Command::Revalidate { job: self.job(0) });
        match self.receive() {
            LaneEvent::Revalidated(result) => result,
            _ => unexpected(),
        }
    }

    /// Closes everything on every lane and waits for it.
    pub fn close(&mut self) {
        self.leave_others();
        let open: Vec<usize> = (0..self.lanes.len()).filter(|lane| self.opened[*lane]).collect();
        for &lane in &open {
            self.lanes[lane].send(Command::Close { job: self.job(lane) });
            self.opened[lane] = false;
        }
        for _ in open {
            match self.receive() {
                LaneEvent::Closed => (),
                _ => unexpected(),
            }
        }
    }

    /// The stop that was asked for, if any.
    pub fn stop_reason(&mut self) -> Option<StopReason> {
        while let Ok(input) = self.inbox.try_recv() {
            match input {
                Input::Notice(notice) => self.note(notice),
                Input::Peer { peer, event } => self.hear_peer(peer, event, Duration::ZERO),
                Input::Lane { .. } => unexpected(),
            }
        }
        self.stop
    }

    /// Waits for the answer to [`Reporter::prepare`]: until when the commit may be done.
    pub fn wait_prepared(&mut self) -> Result<Duration, StopReason> {
        loop {
            if let Some(until) = self.prepared_until {
                return Ok(until);
            }
            if let Some(reason) = self.stop {
                return Err(reason);
            }
            match self.inbox.recv().expect("this coordinator holds a sender itself") {
                Input::Notice(notice) => self.note(notice),
                Input::Peer { .. } => (),
                Input::Lane { .. } => unexpected(),
            }
        }
    }

    /// The next event of a lane; notices that come in between are noted.
    fn receive(&mut self) -> LaneEvent {
        loop {
            match self.inbox.recv().expect("this coordinator holds a sender itself") {
                Input::Lane { event, .. } => return event,
                Input::Peer { peer, event } => self.hear_peer(peer, event, Duration::ZERO),
                Input::Notice(notice) => self.note(notice),
            }
        }
    }

    pub(super) fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Reply(Reply::Prepared { lease_until }) => self.prepared_until = Some(lease_until),
            Notice::Reply(Reply::Checkpointed) => (),
            Notice::Swarm(news) => self.news = Some(news),
            Notice::Stop(reason) => {
                self.interrupt.raise();
                self.leave_others();
                if self.stop.is_none_or(|earlier| reason.overrides(earlier)) {
                    self.stop = Some(reason);
                }
            }
        }
    }

    pub(super) fn job(&self, lane: usize) -> JobRef {
        JobRef { attempt: self.attempt, lane, replies: self.replies.clone(), interrupt: self.interrupt.clone() }
    }

    /// The lane that reads a stretch.
    fn lane_of(&self, stretch: u64) -> usize {
        (stretch % self.load.len() as u64) as usize
    }

    fn least_loaded(&self) -> usize {
        (0..self.load.len()).min_by_key(|lane| self.load[*lane]).expect("there is a lane")
    }
}

/// What a coordinator has moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub length: u64,
    pub crc32: Option<u32>,
    pub bytes_fetched: u64,
    /// Whether what was at the destination was right as a whole, and stays.
    pub kept: bool,
}

pub(super) fn unexpected() -> ! {
    unreachable!("a lane answers what it was asked, and only that")
}
