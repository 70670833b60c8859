//! The attempt's half of a destination that is written with a TempURL: one PUT, whose last byte waits for the commit.

use std::{rc::Rc, sync::Mutex};

use futures_util::FutureExt;
use http::{Method, StatusCode};

use super::{Storage, calls::Replicas, place::Target, refusal::Failure, require_tokio, segments::object_headers};
use crate::{
    Code, Destination, Error, Interrupt, Session,
    contract::{CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, WriteShape, Writes},
    web::{
        blocking::Blocking,
        upload::{self, Answer, Commit, UploadRequest},
    },
};

/// What an attempt writes with one request.
pub(super) struct SingleSession {
    storage: Storage,
    transfer: String,
    only_new: bool,
    interrupt: Interrupt,
    found: Found,
    length: Option<u64>,
    upload: Option<(Commit, Mutex<Option<upload::Waiting>>)>,
    blocking: Blocking,
}

impl SingleSession {
    /// Looks at what is there.
    pub fn begin(storage: Storage, request: &DestinationRequest) -> Result<Self, Error> {
        let mut session = Self {
            storage,
            transfer: request.transfer.clone(),
            only_new: request.overwrite == Overwrite::Never,
            interrupt: request.interrupt.clone(),
            found: Found::Nothing,
            length: None,
            upload: None,
            blocking: Blocking::new()?,
        };
        if let Some(prepared) = request.prepared
            && session.is_there(prepared.length)? == Some(true)
        {
            session.found = Found::Committed;
        } else if session.only_new && session.is_there(0)?.is_some() {
            return Err(exists(&session.storage.target));
        }
        Ok(session)
    }

    /// Whether what is there is this transfer's object of this length; none where nothing is.
    fn is_there(&self, length: u64) -> Result<Option<bool>, Error> {
        let look = async {
            let (calls, _hold) = self.storage.calls(self.storage.agent()?).await?;
            let there = calls.look(Replicas::Newest).await?;
            Ok(there.map(|there| there.is_of(&self.transfer, length)))
        };
        self.blocking.wait(self.interrupt.cut(look))
    }
}

fn exists(target: &Target) -> Error {
    let why = format!("{target} exists already; submit with \"overwrite\": \"always\" to replace it");
    Error::fatal(Code::DestinationExists, why)
}

/// What an answer without success means.
fn refusal(answer: &Answer, target: &Target) -> Error {
    match answer.head.status {
        StatusCode::NOT_FOUND => {
            let why = format!("{target}: there is no container {}; create it, or name another", target.container);
            Error::fatal(Code::BucketMissing, why)
        }
        StatusCode::PRECONDITION_FAILED => exists(target),
        _ => Failure::refused(&answer.head, &answer.document, target).into(),
    }
}

impl Session for SingleSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        let target = &self.storage.target;
        let account = self.storage.options.storage_url.as_deref().unwrap_or_default();
        let limits = async { Ok(self.storage.limits(self.storage.agent()?, account).await) };
        let limits = self.blocking.wait(self.interrupt.cut(limits))?;
        if !limits.temp_urls_write {
            let why = "the server takes no PUT from a TempURL; give auth_url and a user";
            return Err(Error::fatal(Code::PermissionDenied, format!("{target}: {why}")));
        }
        let most = limits.object_bytes_max;
        if length.is_some_and(|length| length > most) {
            return Err(Error::fatal(
                Code::WriteFailed,
                format!(
                    "{target}: a TempURL writes one object of {most} bytes at most; give auth_url and a user, who may \
                     write segments"
                ),
            ));
        }
        self.length = length;
        let (commit, waiting) = upload::ends(self.interrupt.clone());
        self.upload = Some((commit, Mutex::new(Some(waiting))));
        Ok(Writes::InOrder)
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let twice = || Error::fatal(Code::Internal, "one request is written on one lane");
        let (_, waiting) = self.upload.as_ref().ok_or_else(twice)?;
        let waiting = waiting.lock().expect("nobody panics with it").take().ok_or_else(twice)?;
        let (storage, length) = (self.storage.clone(), self.length);
        let headers = object_headers(&self.transfer, &storage.options, self.only_new)?;
        Ok(Box::new(move |lane| {
            async move {
                require_tokio(lane)?;
                let (calls, _) = storage.calls(storage.agent()?).await?;
                let place = calls.address.object(&[])?;
                let request = UploadRequest { method: Method::PUT, place, headers, length };
                let refusal = move |answer: &Answer| refusal(answer, &storage.target);
                Ok(Rc::new(waiting.begin(calls.client, request, refusal)) as Rc<dyn Destination>)
            }
            .boxed_local()
        }))
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        if self.length.is_some_and(|promised| promised != length) {
            return Err(Error::fatal(Code::Internal, "the object has another length"));
        }
        self.length = Some(length);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let nothing = || CommitError::NotDone(Error::fatal(Code::Internal, "nothing was written"));
        let (commit, _) = self.upload.take().ok_or_else(nothing)?;
        let length = self.length.ok_or_else(nothing)?;
        let left = match commit.finish() {
            Ok(answer) if answer.head.status.is_success() => None,
            Ok(answer) => {
                let error = refusal(&answer, &self.storage.target);
                let certain = Failure::refused(&answer.head, &[], &self.storage.target).is_certain();
                Some(if certain { CommitError::NotDone(error) } else { CommitError::Unknown(error) })
            }
            Err(error) => Some(CommitError::Unknown(error)),
        };
        match (left, self.is_there(length)) {
            (_, Ok(Some(true))) => self.found = Found::Committed,
            (Some(left), _) => return Err(left),
            (None, Ok(_)) => {
                let why = format!("{} is not what was sent, though the server took it", self.storage.target);
                return Err(CommitError::Unknown(Error::retry(Code::WriteFailed, why)));
            }
            (None, Err(error)) => return Err(CommitError::Unknown(error)),
        }
        Ok(())
    }

    fn discard(&mut self) -> Result<(), Error> {
        // The request breaks off, and Swift keeps nothing of it.
        self.upload = None;
        Ok(())
    }
}
