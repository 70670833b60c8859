//! An image that is made, for one attempt.
//!
//! Glance has the record of an image first and then its data, in one PUT; once it has all of it, the image is active, and
//! everybody sees it. So the data's last byte waits for the commit. What breaks off before makes the image wait for its
//! data again (`queued`), and it can be given anew. The record stays from attempt to attempt, because Glance gives no id
//! twice: it is deleted when the transfer is given up. Who made it, the property `staccato_transfer` says; an image with
//! another, or none, is never touched.
//!
//! An earlier attempt may still have its PUT open. Glance takes one at a time and ends one that has lost its client; where
//! that does not happen soon, the image is deleted, which ends it for certain, and another id is used where the URL names
//! none.

use std::{rc::Rc, sync::Mutex, time::Duration};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, header};
use sha2::{Digest, Sha256};

use super::{
    images::{Images, no_room, said},
    options::GlanceOptions,
    record::{Record, Stage},
    target::Target,
};
use crate::{
    Checksum, ChecksumKind, Code, Destination, Error, Interrupt, Session,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, Overwrite, SweepRequest, WriteShape, Writes,
    },
    keystone::{Hold, Logins},
    web::{
        self, Web,
        upload::{self, Answer, Commit, UploadRequest},
    },
};

/// How long an earlier attempt's request may take to end.
const EARLIER_MAX: Duration = Duration::from_secs(5);
/// How long Glance may take to make an image active once it has its data.
const ACTIVE_MAX: Duration = Duration::from_secs(120);

/// An image that is made.
pub(super) struct ImageSession {
    glance: Glance,
    transfer: String,
    id: String,
    found: Found,
    /// Whether its record is there already.
    made: bool,
    length: Option<u64>,
    /// What was sent, where that was told.
    sent: Option<Checksum>,
    upload: Option<(Commit, Mutex<Option<upload::Waiting>>)>,
}

/// How Glance is asked: each time on a runtime of its own, in the thread of the attempt.
struct Glance {
    web: Web,
    logins: Logins,
    target: Target,
    options: Options,
    interrupt: Interrupt,
    /// Keeps the token from one question to the next.
    hold: Mutex<Option<Hold>>,
}

type Options = std::sync::Arc<GlanceOptions>;

impl Glance {
    fn ask<T>(&self, question: impl AsyncFnOnce(&Images) -> Result<T, Error>) -> Result<T, Error> {
        web::block_on(self.interrupt.cut(async {
            let images = Images::open(&self.web, &self.logins, &self.target, &self.options).await?;
            *self.hold.lock().expect("nobody panics with it") = images.hold();
            question(&images).await
        }))
    }
}

impl ImageSession {
    /// Looks at what is there, and ends what an earlier attempt of this transfer is still at.
    pub fn begin(web: Web, logins: Logins, request: &DestinationRequest) -> Result<Self, Error> {
        let (target, options) = (Target::parse(&request.url)?, GlanceOptions::parse(&request.options)?.into());
        let named = target.new_id()?.map(str::to_owned);
        let mut id = request.upload.clone().or_else(|| named.clone()).unwrap_or_else(|| request.transfer.clone());
        let (interrupt, hold) = (request.interrupt.clone(), Mutex::default());
        let glance = Glance { web, logins, target, options, interrupt, hold };
        let patience = if request.prepared.is_some() { ACTIVE_MAX } else { EARLIER_MAX };
        let present = glance.ask(async |images| {
            let Some(record) = images.settle(&id, patience).await? else { return Ok(Present::Nothing) };
            if record.staccato_transfer.as_ref() != Some(&request.transfer) {
                return Err(taken(&record, request.overwrite));
            }
            match (record.stage(), &request.prepared) {
                (Stage::Active, Some(prepared)) if record.size == Some(prepared.length) => {
                    images.protect(&id, &glance.options.image).await.map(|()| Present::Complete)
                }
                (Stage::Active, _) => Err(taken(&record, request.overwrite)),
                (Stage::Queued, _) => Ok(Present::Waiting),
                // Whoever is still at it must not complete it any more.
                _ => images.delete(&id).await.map(|()| Present::Deleted),
            }
        })?;
        if matches!(present, Present::Deleted) {
            if named.is_some() {
                let why = "an earlier attempt did not let go of it, so it was deleted, and Glance gives no id twice";
                return Err(Error::fatal(
                    Code::PartialBusy,
                    format!("the image {id} is lost: {why}; name another, or none"),
                ));
            }
            id = another_id(&request.transfer, request.epoch);
        }
        let found = if matches!(present, Present::Complete) { Found::Committed } else { Found::Nothing };
        let made = matches!(present, Present::Waiting | Present::Complete);
        let transfer = request.transfer.clone();
        Ok(Self { glance, transfer, id, found, made, length: None, sent: None, upload: None })
    }

    /// Whether the image is there, and is what was sent.
    fn check_active(&self) -> Result<(), CommitError> {
        let record = self.glance.ask(async |images| images.settle(&self.id, ACTIVE_MAX).await);
        let id = &self.id;
        match record.map_err(CommitError::Unknown)? {
            None => {
                Err(CommitError::NotDone(Error::retry(Code::WriteFailed, format!("somebody deleted the image {id}"))))
            }
            Some(record) if record.stage() == Stage::Active => {
                let published = record.published();
                let differs = |sent: &Checksum| {
                    published.as_ref().is_some_and(|published| published.kind() == sent.kind() && published != sent)
                };
                if record.size == self.length && !self.sent.as_ref().is_some_and(differs) {
                    return Ok(());
                }
                let named = |checksum: &Option<Checksum>| {
                    checksum.as_ref().map_or("no checksum".to_owned(), |checksum| checksum.to_string())
                };
                let error = Error::fatal(
                    Code::ChecksumMismatch,
                    format!(
                        "Glance has {} bytes with {} for the image {id}, where {} with {} were sent; the image was deleted",
                        record.size.unwrap_or_default(),
                        named(&published),
                        self.length.unwrap_or_default(),
                        named(&self.sent),
                    ),
                );
                // What is wrong must not stay.
                match self.glance.ask(async |images| images.delete(id).await) {
                    Ok(()) => Err(CommitError::NotDone(error)),
                    Err(_) => Err(CommitError::Unknown(error)),
                }
            }
            Some(record) if record.stage() == Stage::Busy => Err(CommitError::Unknown(Error::retry(
                Code::TimedOut,
                format!("Glance has all of the image {id} and has not made it active within {ACTIVE_MAX:?}"),
            ))),
            Some(_) => Err(CommitError::NotDone(Error::retry(
                Code::WriteFailed,
                format!("Glance did not keep the data of the image {id}; its own log says why"),
            ))),
        }
    }
}

/// What of this transfer is there.
enum Present {
    Nothing,
    /// An image that waits for its data.
    Waiting,
    /// It was there, but in somebody's hands.
    Deleted,
    Complete,
}

impl Session for ImageSession {
    fn found(&self) -> Found {
        self.found
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        self.length = length;
        if !self.made {
            let record = self.glance.options.image.record(&self.id, &self.transfer);
            self.glance.ask(async |images| images.create(&record).await)?;
            self.made = true;
        }
        let (commit, waiting) = upload::ends(self.glance.interrupt.clone());
        self.upload = Some((commit, Mutex::new(Some(waiting))));
        Ok(Writes::InOrder)
    }

    /// The image's id, by which it is found again.
    fn upload(&self) -> Option<String> {
        self.made.then(|| self.id.clone())
    }

    /// The kind that Glance publishes.
    fn wants_checksum(&self) -> Option<ChecksumKind> {
        Some(ChecksumKind::Sha512)
    }

    fn note_checksum(&mut self, checksum: Checksum) {
        self.sent = Some(checksum);
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let twice = || Error::fatal(Code::Internal, "an image is written on one lane");
        let (_, waiting) = self.upload.as_ref().ok_or_else(twice)?;
        let waiting = waiting.lock().expect("nobody panics with it").take().ok_or_else(twice)?;
        let Glance { web, logins, target, options, .. } = &self.glance;
        let (web, logins, target, options) = (web.clone(), logins.clone(), target.clone(), options.clone());
        let (id, length) = (self.id.clone(), self.length);
        Ok(Box::new(move |_lane| {
            async move {
                let images = Images::open(&web, &logins, &target, &options).await?;
                let mut headers = HeaderMap::new();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                let (method, place) = (Method::PUT, images.data(&id)?);
                let request = UploadRequest { method, place, headers, length };
                Ok(Rc::new(waiting.begin(Rc::new(images.into_client()?), request, refusal)) as Rc<dyn Destination>)
            }
            .boxed_local()
        }))
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        match self.length {
            Some(promised) if promised != length => Err(Error::fatal(Code::Internal, "the image has another length")),
            _ => {
                self.length = Some(length);
                Ok(())
            }
        }
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let Some((commit, _)) = self.upload.take() else {
            return Err(CommitError::NotDone(Error::fatal(Code::Internal, "nothing was written")));
        };
        let refused = match commit.finish() {
            Ok(Answer { head, .. }) if head.status.is_success() => None,
            Ok(answer) => Some(refusal(&answer)),
            Err(error) => Some(error),
        };
        // Whatever was answered, the image itself says what became of it.
        match (self.check_active(), refused) {
            (Ok(()), _) => {
                let protected =
                    self.glance.ask(async |images| images.protect(&self.id, &self.glance.options.image).await);
                protected.map_err(CommitError::Unknown)?;
                self.found = Found::Committed;
                Ok(())
            }
            (Err(CommitError::NotDone(found)), Some(refused)) if found.code == Code::WriteFailed => {
                Err(CommitError::NotDone(refused))
            }
            (Err(error), _) => Err(error),
        }
    }

    fn discard(&mut self) -> Result<(), Error> {
        self.upload = None;
        if self.found == Found::Committed || !self.made {
            return Ok(());
        }
        // The wish to stop has been heard; what is left is to clean up.
        self.glance.interrupt = Interrupt::default();
        self.glance.ask(async |images| remove(images, &self.id, &self.transfer).await)?;
        self.made = false;
        Ok(())
    }
}

/// Removes the image that a transfer had begun.
pub(super) fn sweep(web: &Web, logins: &Logins, request: &SweepRequest) -> Result<(), Error> {
    // Nothing was begun.
    let Some(id) = &request.upload else { return Ok(()) };
    let (target, options) = (Target::parse(&request.url)?, GlanceOptions::parse(&request.options)?);
    web::block_on(async {
        let images = Images::open(web, logins, &target, &options).await?;
        remove(&images, id, &request.transfer).await
    })
}

/// Deletes an image, unless it is complete or another's.
async fn remove(images: &Images, id: &str, transfer: &str) -> Result<(), Error> {
    match images.find(id).await? {
        Some(record) if record.staccato_transfer.as_deref() == Some(transfer) && record.stage() != Stage::Active => {
            images.delete(id).await
        }
        _ => Ok(()),
    }
}

/// An id for an attempt whose transfer's own was lost.
fn another_id(transfer: &str, epoch: u64) -> String {
    let digest = Sha256::digest(format!("{transfer} {epoch}"));
    let hex = data_encoding::HEXLOWER.encode(&digest[..16]);
    // RFC 9562 §5.8: version 8, bits of one's own.
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

fn taken(record: &Record, overwrite: Overwrite) -> Error {
    let advice = match overwrite {
        Overwrite::Never => "name another id, or none",
        // To delete it would lose it, and not free its id.
        _ => "images cannot be overwritten, and an id is never free again; name another id, or none",
    };
    Error::fatal(Code::DestinationExists, format!("the image {} is there already; {advice}", record.id))
}

/// What an answer without success means for whoever writes.
fn refusal(Answer { head, document }: &Answer) -> Error {
    let (url, status, said) = (&head.url, head.status, said(document));
    match status.as_u16() {
        // The token ran out at this very moment: the next attempt begins with another, or is refused for good.
        401 => Error::retry(Code::PermissionDenied, format!("{url} answered {status}; {}", head.advice)),
        404 | 410 => Error::retry(Code::WriteFailed, format!("{url} answered {status}: somebody deleted the image")),
        409 => {
            Error::retry(Code::PartialBusy, format!("{url} answered {status}: somebody else writes the image ({said})"))
        }
        413 => no_room(url),
        _ => head.status_error(),
    }
}
