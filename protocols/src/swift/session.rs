//! The attempt's half of a destination in parts: an upload from its beginning to its commit.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use super::{
    Storage,
    calls::{Calls, Replicas},
    commit::Commit,
    lane::{SegmentsDestination, Written},
    limits::Limits,
    require_tokio,
    segments::Segment,
    upload::Upload,
};
use crate::{
    ByteRange, Code, Destination, Error, Interrupt, Session,
    contract::{CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, WriteShape, Writes},
    keystone::Hold,
    parts::Cut,
    web::{blocking::Blocking, client::Agent},
};

/// Before a server acknowledges a segment it has to put it on several disks.
const SEGMENT_PATIENCE: Duration = Duration::from_secs(2 * 60);
/// Nobody drives connections between two calls of a session: those that lay idle for longer are not used again.
const CONNECTIONS_AGE_MAX: Duration = Duration::from_secs(2);

/// One attempt's hold on a destination.
pub(super) struct SegmentsSession {
    storage: Storage,
    transfer: String,
    epoch: u64,
    only_new: bool,
    interrupt: Interrupt,
    found: Found,
    upload: Option<Upload>,
    /// The upload's segments as they were found.
    segments: BTreeMap<u32, Segment>,
    /// None until it is known how the object is written.
    cut: Option<Cut>,
    limits: Limits,
    /// The object's length, once it is final.
    length: Option<u64>,
    written: Written,
    blocking: Blocking,
    connections: Option<(Agent, Instant)>,
    hold: Option<Hold>,
}

/// What an attempt finds, and the upload that it goes on with.
type Beginning = (Found, Option<Upload>, BTreeMap<u32, Segment>);

impl SegmentsSession {
    pub fn begin(storage: Storage, request: &DestinationRequest) -> Result<Self, Error> {
        let mut session = Self {
            storage,
            transfer: request.transfer.clone(),
            epoch: request.epoch,
            only_new: request.overwrite == Overwrite::Never,
            interrupt: request.interrupt.clone(),
            found: Found::Nothing,
            upload: None,
            segments: BTreeMap::new(),
            cut: None,
            limits: Limits::default(),
            length: None,
            written: Written::default(),
            blocking: Blocking::new()?,
            connections: None,
            hold: None,
        };
        let calls = session.calls(&request.interrupt)?;
        (session.found, session.upload, session.segments) = session.wait(begin(&calls, request))?;
        Ok(session)
    }

    /// Requests over connections that are in order.
    fn calls(&mut self, interrupt: &Interrupt) -> Result<Calls, Error> {
        let agent = match self.connections.take() {
            Some((agent, used)) if used.elapsed() < CONNECTIONS_AGE_MAX => agent,
            _ => self.storage.agent()?,
        };
        self.connections = Some((agent.clone(), Instant::now()));
        let (calls, hold) = self.blocking.wait(interrupt.cut(self.storage.calls(agent)))?;
        self.hold = hold;
        Ok(calls)
    }

    /// Waits for requests until they are answered or the attempt is interrupted.
    fn wait<T>(&self, requests: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.blocking.wait(self.interrupt.cut(requests))
    }

    /// Gives the upload up. Not cut short: this is what an interrupted attempt does last.
    fn give_up(&mut self) -> Result<(), Error> {
        let Some(upload) = self.upload.clone() else { return Ok(()) };
        let calls = self.calls(&Interrupt::default())?;
        let written = self.written.segments();
        self.blocking.wait(calls.give_up(&upload, written.into_keys()))?;
        self.upload = None;
        self.segments.clear();
        Ok(())
    }
}

/// What an attempt finds: the object of its own transfer, the upload of an earlier attempt, or nothing.
async fn begin(calls: &Calls, request: &DestinationRequest) -> Result<Beginning, Error> {
    let nothing = || (Found::Nothing, None, BTreeMap::new());
    let only_new = request.overwrite == Overwrite::Never;
    if request.prepared.is_some() || only_new {
        let there = calls.look(Replicas::Newest).await?;
        if let (Some(there), Some(prepared)) = (&there, request.prepared)
            && there.is_of(&request.transfer, prepared.length)
        {
            return Ok((Found::Committed, None, BTreeMap::new()));
        }
        if there.is_some() && only_new {
            return Err(calls.exists());
        }
    }
    let Some(upload) = request.upload.as_ref().and_then(|text| text.parse::<Upload>().ok()) else {
        return Ok(nothing());
    };
    if !request.resume {
        calls.give_up(&upload, std::iter::empty()).await?;
        return Ok(nothing());
    }
    if !calls.is_under_way(&upload).await? {
        return Ok(nothing());
    }
    let segments = calls.segments(&upload).await?;
    Ok((Found::Partial, Some(upload), segments))
}

impl Session for SegmentsSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        let calls = self.calls(&self.interrupt.clone())?;
        let limits = async { Ok(self.storage.limits(self.storage.agent()?, &calls.address.account).await) };
        self.limits = self.wait(limits)?;
        let bytes = self.limits.segment_bytes(length, self.storage.options.part_bytes)?;
        let cut = Cut { bytes, length };
        if self.upload.as_ref().is_some_and(|upload| upload.cut != cut) {
            tracing::info!(transfer = self.transfer, "the earlier upload has other segments: it is given up");
            self.give_up()?;
        }
        self.cut = Some(cut);
        if self.upload.is_none() && length != Some(0) {
            let upload = Upload { transfer: self.transfer.clone(), epoch: self.epoch, cut };
            self.wait(calls.begin(&upload))?;
            self.upload = Some(upload);
        }
        Ok(Writes::Parts { bytes, streamed: true })
    }

    fn upload(&self) -> Option<String> {
        self.upload.as_ref().map(ToString::to_string)
    }

    fn kept(&mut self, promised: &[ByteRange]) -> Result<Vec<ByteRange>, Error> {
        let len = |number| self.segments.get(&number).map(|segment| segment.bytes);
        Ok(self.cut.map_or_else(Vec::new, |cut| cut.kept(promised, len)))
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let (storage, written, interrupt) = (self.storage.clone(), self.written.clone(), self.interrupt.clone());
        let cut = self.cut.ok_or_else(|| Error::fatal(Code::Internal, "a lane writes before it is known how"))?;
        let none = || Upload { transfer: self.transfer.clone(), epoch: self.epoch, cut };
        let upload = self.upload.clone().unwrap_or_else(none);
        Ok(Box::new(move |lane| {
            async move {
                require_tokio(lane)?;
                let agent = storage.agent()?.patient(SEGMENT_PATIENCE);
                let (calls, hold) = interrupt.cut(storage.calls(agent)).await?;
                let destination =
                    SegmentsDestination { calls: Rc::new(calls), upload, written, interrupt, _hold: hold };
                Ok(Rc::new(destination) as Rc<dyn Destination>)
            }
            .boxed_local()
        }))
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        if let Some(expected) = self.cut.and_then(|cut| cut.length).filter(|expected| *expected != length) {
            return Err(Error::fatal(Code::Internal, format!("{length} bytes are to be committed of {expected}")));
        }
        self.length = Some(length);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let not_done = CommitError::NotDone;
        let length = self.length.ok_or_else(|| not_done(Error::fatal(Code::Internal, "no length was set")))?;
        let calls = self.calls(&self.interrupt.clone()).map_err(not_done)?;
        let mut segments = std::mem::take(&mut self.segments);
        segments.extend(self.written.segments());
        let commit = Commit {
            calls: &calls,
            agent: &self.connections.as_ref().expect("it has just been asked").0,
            storage: &self.storage,
            transfer: &self.transfer,
            upload: self.upload.as_ref(),
            only_new: self.only_new,
            manifest_segments_max: self.limits.manifest_segments_max,
            length,
            asked: false.into(),
        };
        let result = self.blocking.wait(self.interrupt.cut(async { Ok(commit.run(&segments).await) }));
        let asked = commit.asked.get();
        self.segments = segments;
        match result {
            Ok(result) => result?,
            // What was asked for may still be done.
            Err(error) if asked => return Err(CommitError::Unknown(error)),
            Err(error) => return Err(not_done(error)),
        }
        if length == 0
            && let Err(error) = self.give_up()
        {
            tracing::warn!(transfer = self.transfer, "an upload without segments is left behind: {error}");
        }
        self.upload = None;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.give_up()
    }
}
