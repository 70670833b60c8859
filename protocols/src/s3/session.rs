//! The attempt's half of a destination: an upload from its beginning to its commit.

use std::{
    cell::Cell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use http::StatusCode;
use tokio::time::sleep;

use super::{
    Storage,
    calls::Calls,
    lane::{S3Destination, Written},
    options::S3Options,
    refusal::Failure,
    require_tokio,
    uploads::bare,
    xml::Part,
};
use crate::{
    ByteRange, Code, Destination, Disposition, Error, Interrupt, Session,
    contract::{CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, WriteShape, Writes},
    parts::{Cut, part_bytes},
    web::{blocking::Blocking, client::Agent},
};

/// Putting an object together from its parts may take a server minutes.
const COMPLETE_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Before a server acknowledges a part it may have to put it on many disks, or to wait for the parts before it.
const PART_PATIENCE: Duration = Duration::from_secs(2 * 60);
/// How often an upload is completed before the attempt gives up, and the wait before another try.
const COMPLETE_TRIES: u32 = 3;
const COMPLETE_WAIT: Duration = Duration::from_millis(500);
/// Nobody drives connections between two calls of a session: those that lay idle for longer are not used again.
const CONNECTIONS_AGE_MAX: Duration = Duration::from_secs(2);

/// One attempt's hold on a destination.
pub(super) struct S3Session {
    storage: Storage,
    options: S3Options,
    transfer: String,
    only_new: bool,
    interrupt: Interrupt,
    found: Found,
    upload: Option<String>,
    /// The upload's parts as they were found.
    parts: BTreeMap<u32, Part>,
    /// None until it is known how the object is written.
    cut: Option<Cut>,
    /// The object's length, once it is final.
    length: Option<u64>,
    written: Written,
    blocking: Blocking,
    connections: Option<(Agent, Instant)>,
}

impl S3Session {
    pub fn begin(storage: Storage, options: S3Options, request: &DestinationRequest) -> Result<Self, Error> {
        let mut session = Self {
            storage,
            options,
            transfer: request.transfer.clone(),
            only_new: request.overwrite == Overwrite::Never,
            interrupt: request.interrupt.clone(),
            found: Found::Nothing,
            upload: None,
            parts: BTreeMap::new(),
            cut: None,
            length: None,
            written: Written::default(),
            blocking: Blocking::new()?,
            connections: None,
        };
        let calls = session.calls()?;
        let begun = session.wait(begin(&calls, request))?;
        (session.found, session.upload, session.parts) = begun;
        Ok(session)
    }

    /// Requests over connections that are in order.
    fn calls(&mut self) -> Result<Calls, Error> {
        let agent = match self.connections.take() {
            Some((agent, used)) if used.elapsed() < CONNECTIONS_AGE_MAX => agent,
            _ => self.storage.agent()?,
        };
        self.connections = Some((agent.clone(), Instant::now()));
        Ok(self.storage.calls(agent))
    }

    /// Waits for requests until they are answered or the attempt is interrupted.
    fn wait<T>(&self, requests: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.blocking.wait(self.interrupt.cut(requests))
    }

    /// Gives the upload up. Not cut short: this is what an interrupted attempt does last.
    fn give_up(&mut self) -> Result<(), Error> {
        let Some(upload) = self.upload.clone() else { return Ok(()) };
        let calls = self.calls()?;
        self.blocking.wait(calls.abort(&upload))?;
        self.upload = None;
        self.parts.clear();
        Ok(())
    }
}

/// What an attempt finds: the object of its own transfer, the upload of an earlier attempt, or nothing.
async fn begin(
    calls: &Calls,
    request: &DestinationRequest,
) -> Result<(Found, Option<String>, BTreeMap<u32, Part>), Error> {
    let only_new = request.overwrite == Overwrite::Never;
    if request.prepared.is_some() || only_new {
        let there = calls.look(None).await?;
        if let (Some(there), Some(prepared)) = (&there, request.prepared)
            && there.transfer.as_ref() == Some(&request.transfer)
            && there.facts.size == Some(prepared.length)
        {
            return Ok((Found::Committed, None, BTreeMap::new()));
        }
        if there.is_some() && only_new {
            return Err(exists(calls));
        }
    }
    let Some(upload) = &request.upload else { return Ok((Found::Nothing, None, BTreeMap::new())) };
    if !request.resume {
        calls.abort(upload).await?;
        return Ok((Found::Nothing, None, BTreeMap::new()));
    }
    Ok(match calls.parts(upload).await? {
        Some(parts) => (Found::Partial, Some(upload.clone()), parts),
        None => (Found::Nothing, None, BTreeMap::new()),
    })
}

fn exists(calls: &Calls) -> Error {
    Error::fatal(
        Code::DestinationExists,
        format!("{} exists already; submit with \"overwrite\": \"always\" to replace it", calls.address.target),
    )
}

impl Session for S3Session {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        let bytes = part_bytes(length, self.options.part_bytes)?;
        let cut = Cut { bytes, length };
        if !self.parts.values().all(|part| cut.fits(part.number, part.size)) {
            tracing::info!(transfer = self.transfer, "the earlier upload has parts of another length: it is given up");
            self.give_up()?;
        }
        self.cut = Some(cut);
        if self.upload.is_none() && length != Some(0) {
            let calls = self.calls()?;
            let create = async { Ok(calls.create(&self.transfer, &self.options).await?) };
            self.upload = Some(self.wait(create)?);
        }
        Ok(Writes::Parts { bytes, streamed: false })
    }

    fn upload(&self) -> Option<String> {
        self.upload.clone()
    }

    fn kept(&mut self, promised: &[ByteRange]) -> Result<Vec<ByteRange>, Error> {
        Ok(self
            .cut
            .map_or_else(Vec::new, |cut| cut.kept(promised, |number| self.parts.get(&number).map(|part| part.size))))
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let storage = self.storage.clone();
        let (upload, written) = (self.upload.clone().unwrap_or_default(), self.written.clone());
        let (checksum, interrupt) = (self.options.checksum, self.interrupt.clone());
        let cut = self.cut.ok_or_else(|| Error::fatal(Code::Internal, "a lane writes before it is known how"))?;
        Ok(Box::new(move |lane| {
            async move {
                require_tokio(lane)?;
                let calls = storage.calls(storage.agent()?.patient(PART_PATIENCE));
                Ok(Rc::new(S3Destination { calls, upload, cut, checksum, written, interrupt }) as Rc<dyn Destination>)
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
        let length = self.length.ok_or_else(|| not_done(Error::fatal(Code::Internal, "no length was set")))?;
        let calls = self.calls().map_err(not_done)?;
        let commit = Commit { calls: &calls, session: self, length, asked: Cell::new(false) };
        match self.blocking.wait(self.interrupt.cut(async { Ok(commit.run().await) })) {
            Ok(result) => result?,
            // What was asked for may still be done.
            Err(error) if commit.asked.get() => return Err(CommitError::Unknown(error)),
            Err(error) => return Err(not_done(error)),
        }
        if length == 0
            && let Err(error) = self.give_up()
        {
            tracing::warn!(transfer = self.transfer, "an upload without parts is left behind: {error}");
        }
        self.upload = None;
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.give_up()
    }
}

fn not_done(error: impl Into<Error>) -> CommitError {
    CommitError::NotDone(error.into())
}

/// A commit under way.
struct Commit<'a> {
    calls: &'a Calls,
    session: &'a S3Session,
    length: u64,
    /// Whether the server was asked to make the object.
    asked: Cell<bool>,
}

impl Commit<'_> {
    async fn run(&self) -> Result<(), CommitError> {
        let parts = match &self.session.upload {
            _ if self.length == 0 => None,
            None => {
                return Err(not_done(Error::fatal(Code::Internal, "nothing was written, and something is committed")));
            }
            Some(upload) => match self.calls.parts(upload).await.map_err(not_done)? {
                None => return self.unless_done(not_done(self.wrong("the upload is gone"))).await,
                Some(there) => match self.those_written(&there) {
                    Ok(parts) => Some((upload.as_str(), parts)),
                    Err(what) => {
                        // A later attempt must not take them for what was written.
                        let given_up = self.calls.abort(upload).await;
                        return Err(not_done(given_up.err().unwrap_or_else(|| self.wrong(&what))));
                    }
                },
            },
        };
        if self.session.only_new && self.calls.look(None).await.map_err(not_done)?.is_some() {
            return Err(not_done(exists(self.calls)));
        }
        let mut only_new = self.session.only_new;
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.make(parts.as_ref(), only_new).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if only_new && failure.says("NotImplemented") {
                // The server does not know the condition: that nothing was there a moment ago has to do.
                only_new = false;
                tries -= 1;
                continue;
            }
            if failure.has_status(StatusCode::PRECONDITION_FAILED) {
                return self.unless_done(not_done(exists(self.calls))).await;
            }
            if failure.says("NoSuchUpload") {
                return self.unless_done(not_done(failure)).await;
            }
            let (certain, error) = (failure.is_certain(), Error::from(failure));
            if tries < COMPLETE_TRIES && matches!(error.disposition, Disposition::Retry { .. }) {
                tracing::info!(transfer = self.session.transfer, "the commit is tried again: {error}");
                sleep(COMPLETE_WAIT * tries).await;
                continue;
            }
            let left = if certain { not_done(error) } else { CommitError::Unknown(error) };
            return self.unless_done(left).await;
        }
    }

    /// The parts that make the object: all of them, and as they were written.
    fn those_written(&self, there: &BTreeMap<u32, Part>) -> Result<Vec<Part>, String> {
        let cut = Cut { length: Some(self.length), ..self.session.cut.expect("it is known how the object is written") };
        let tags = self.session.written.tags();
        let check = |number: u32| {
            let wanted = cut.range(number).expect("the object has this part").len();
            let part = there.get(&number).ok_or_else(|| format!("part {number} is missing"))?;
            if part.size != wanted {
                return Err(format!("part {number} has {} bytes instead of {wanted}", part.size));
            }
            match tags.get(&number) {
                Some(tag) if tag != bare(&part.etag) => Err(format!("somebody else has written part {number}")),
                _ => Ok(part.clone()),
            }
        };
        (1..=cut.count(self.length) as u32).map(check).collect()
    }

    fn wrong(&self, what: &str) -> Error {
        let target = &self.calls.address.target;
        Error::retry(Code::WriteFailed, format!("{target}: {what}; everything is written again"))
    }

    async fn make(&self, parts: Option<&(&str, Vec<Part>)>, only_new: bool) -> Result<(), Failure> {
        self.asked.set(true);
        let Some((upload, parts)) = parts else {
            return self.calls.put_empty(&self.session.transfer, &self.session.options, only_new).await;
        };
        let agent = self.session.connections.as_ref().map(|(agent, _)| agent.patient(COMPLETE_PATIENCE));
        let calls = self.session.storage.calls(agent.expect("it has been asked before"));
        calls.complete(upload, parts.iter(), only_new).await
    }

    /// Well done, where the object is there in spite of all; else what was the matter.
    async fn unless_done(&self, otherwise: CommitError) -> Result<(), CommitError> {
        match self.calls.look(None).await {
            Ok(Some(there))
                if there.transfer.as_ref() == Some(&self.session.transfer) && there.facts.size == Some(self.length) =>
            {
                Ok(())
            }
            _ => Err(otherwise),
        }
    }
}
