//! What coordinators and lanes say to one another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use staccato_protocols::{
    ByteRange, Checksum, Error, Interrupt, Object,
    contract::{OpenDestination, SharedProtocol, SourceRequest, Writes},
};

use super::checksums::Checksums;
use crate::{
    attempt::{Notice, stages::ChunkTimes},
    engine::{front::Run, repair::Reuse},
    swarm::PeerKey,
    transport::{
        offer::Offer,
        peers::{QuicPort, Visit},
        remote::RemoteProtocol,
        tls::Identity,
    },
};

/// Tells the attempts on a lane apart; unique within the process.
pub(crate) type AttemptKey = u64;

/// To a lane. Each command of an attempt but [`Command::Close`] is answered by one event of the same name; a close is
/// always answered.
pub(crate) enum Command {
    /// Answer another executor that wants to read objects of this one.
    Serve(Box<Visit>),
    /// Let other executors in over QUIC, and answer them, until they shall be left.
    OpenPort(Box<QuicPort>),
    /// Open the attempt's source.
    OpenSource { job: JobRef, module: SharedProtocol, request: Box<SourceRequest> },
    /// Open the attempt's destination, which takes what is written so. Where parts are streamed, their pieces have
    /// `piece_bytes`; where everything is written in order, waits for a turn end with `over`. What is written is shown to `checksums`.
    OpenDestination {
        job: JobRef,
        open: OpenDestination,
        writes: Writes,
        piece_bytes: u64,
        over: Interrupt,
        checksums: Option<Arc<Checksums>>,
    },
    /// Read a range (in the destination's offsets; the source's are `source_shift` further on) and write it. What follows
    /// up to `stretch_end` is most likely wanted next, of the same lane. With `tell_read` it is also said when it is read
    /// and not written yet, unless blocks of it that are at the destination
    /// are reused.
    Fetch {
        job: JobRef,
        range: ByteRange,
        source_shift: u64,
        untouched: bool,
        reuse: Option<Reuse>,
        stretch_end: Option<u64>,
        tell_read: bool,
        /// Who has it; without, the source.
        from: Option<From>,
        sent: Instant,
    },
    /// Compare a range (in the destination's offsets) of the source with what is at the destination.
    Compare { job: JobRef, range: ByteRange, source_shift: u64, sent: Instant },
    /// Read a range back from the destination.
    ReadBack { job: JobRef, range: ByteRange },
    /// Make completed writes durable.
    Sync { job: JobRef },
    /// Read a run back in order, in pieces of `piece_bytes`, for the checksums.
    Hash { job: JobRef, run: Run, piece_bytes: u64, from: HashFrom },
    /// Whatever is read of the source is read first, for everybody to whom the copy is offered: vouch for it.
    Vouch { job: JobRef, own: Arc<Offer>, identity: Identity },
    /// What is offered under this key is what the attempt writes here.
    Show { job: JobRef, key: String },
    /// What is offered under this key is what an earlier process has written, if it still is.
    ShowKept {
        key: String,
        module: SharedProtocol,
        request: Box<SourceRequest>,
        told: flume::Sender<Result<(), Error>>,
    },
    /// Nothing is offered under this key any more; say so when that is so.
    Withdraw { key: String, done: flume::Sender<()> },
    /// Open another executor's copy. Answered by [`PeerEvent::Opened`].
    OpenPeer { job: JobRef, peer: PeerKey, objects: Arc<RemoteProtocol>, request: Box<SourceRequest> },
    /// Hold what comes from it against vouchers, and tell what it has: [`PeerEvent::Has`], until [`PeerEvent::Gone`].
    WatchPeer { job: JobRef, peer: PeerKey, own: Arc<Offer> },
    /// Close it.
    ClosePeer { job: JobRef, peer: PeerKey },
    /// Check that the source is still the one that was opened.
    Revalidate { job: JobRef },
    /// Close whatever the attempt has open here. Comes last, with nothing in flight.
    Close { job: JobRef },
}

/// Another executor that is asked for a chunk.
#[derive(Clone)]
pub(crate) struct From {
    pub peer: PeerKey,
    /// Raised when the chunk is not wanted from there any more.
    pub interrupt: Interrupt,
}

/// Where bytes are read back that a checksum is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashFrom {
    /// What was written.
    Written,
    /// What is at the destination already, and stays.
    Present,
    /// The source, from this offset on: what was written cannot be read back.
    Source { shift: u64 },
}

/// The attempt a command belongs to.
#[derive(Clone)]
pub(crate) struct JobRef {
    pub attempt: AttemptKey,
    pub lane: usize,
    pub replies: flume::Sender<Input>,
    /// Raised when long work should end early.
    pub interrupt: Interrupt,
}

impl JobRef {
    /// Answers. An attempt that has gone needs no answer.
    pub fn reply(&self, event: LaneEvent) {
        let _ = self.replies.send(Input::Lane { lane: self.lane, event, sent: Instant::now() });
    }

    /// Tells of another executor, asked or not.
    pub fn tell(&self, peer: PeerKey, event: PeerEvent) {
        let _ = self.replies.send(Input::Peer { peer, event });
    }
}

/// Into a coordinator.
pub(crate) enum Input {
    /// From a lane.
    Lane { lane: usize, event: LaneEvent, sent: Instant },
    /// Of another executor's copy.
    Peer { peer: PeerKey, event: PeerEvent },
    /// From outside.
    Notice(Notice),
}

/// What became known of another executor's copy.
pub(crate) enum PeerEvent {
    /// It is open, and of this object; or it cannot be opened.
    Opened(Result<Object, Error>),
    /// It has these bytes, besides those that were told before.
    Has(Vec<ByteRange>),
    /// Nothing comes from there any more.
    Gone(Error),
}

/// From a lane.
pub(crate) enum LaneEvent {
    SourceOpened(Result<OpenedSource, Error>),
    DestinationOpened(Result<(), Error>),
    /// Comes before [`LaneEvent::Fetched`], where it was asked for.
    Read {
        range: ByteRange,
    },
    Fetched {
        range: ByteRange,
        /// Who was asked; none: the source.
        from: Option<PeerKey>,
        result: Result<Fetched, Error>,
    },
    /// In place of [`LaneEvent::Fetched`]: the range was read, but writing in order has failed, and nothing can follow.
    StreamBroken {
        range: ByteRange,
        error: Error,
    },
    Compared {
        range: ByteRange,
        result: Result<Compared, Error>,
    },
    ReadBack {
        range: ByteRange,
        crcs: Result<Vec<u32>, Error>,
        took: Duration,
    },
    Synced(Result<(), Error>),
    Hashed(Result<(), Error>),
    Revalidated(Result<(), Error>),
    Closed,
}

/// A source that is open on a lane.
pub(crate) struct OpenedSource {
    pub object: Object,
    /// Whether it tells the CRCs of its blocks.
    pub tells_sums: bool,
    /// The checksum that its storage publishes.
    pub published: Option<Checksum>,
    /// What a request costs its server.
    pub request_cost: Duration,
}

/// A range that was compared with what is at the destination.
pub(crate) struct Compared {
    /// CRC-32 of each block; none where one of them differs.
    pub crcs: Option<Vec<u32>>,
    /// Where its time went.
    pub times: ChunkTimes,
}

/// A chunk that was read and written.
#[derive(Default)]
pub(crate) struct Fetched {
    /// Bytes that were there; fewer than asked for only at the end of an object of unknown length.
    pub len: u64,
    /// Bytes read from the source.
    pub fetched: u64,
    /// CRC-32 of each block.
    pub crcs: Vec<u32>,
    /// Where its time went.
    pub times: ChunkTimes,
}
