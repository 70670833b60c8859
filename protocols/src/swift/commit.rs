//! A commit: the manifest that makes the object, and what is cleaned up behind it.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use http::StatusCode;
use tokio::time::sleep;

use super::{
    Storage,
    calls::{Calls, Replicas, Told},
    refusal::Failure,
    segments::{Entry, Segment},
    upload::Upload,
};
use crate::{Code, Disposition, Error, contract::CommitError, parts::Cut, web::client::Agent};

/// Looking at every segment of a manifest may take a server minutes.
const COMPLETE_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// How often the manifest is put before the attempt gives up, and the wait before another try.
const COMPLETE_TRIES: u32 = 3;
const COMPLETE_WAIT: Duration = Duration::from_millis(500);

/// A commit under way.
pub(super) struct Commit<'a> {
    pub calls: &'a Calls,
    pub agent: &'a Agent,
    pub storage: &'a Storage,
    pub transfer: &'a str,
    pub upload: Option<&'a Upload>,
    pub only_new: bool,
    /// Most segments that a manifest names.
    pub manifest_segments_max: u64,
    pub length: u64,
    /// Whether the server was asked to make the object.
    pub asked: Cell<bool>,
}

fn not_done(error: impl Into<Error>) -> CommitError {
    CommitError::NotDone(error.into())
}

impl Commit<'_> {
    /// Makes the object of these segments, and removes what it replaces.
    pub async fn run(&self, segments: &BTreeMap<u32, Segment>) -> Result<(), CommitError> {
        let upload = self.upload.filter(|_| self.length > 0);
        let made = match upload {
            None if self.length > 0 => {
                return Err(not_done(Error::fatal(Code::Internal, "nothing was written, and something is committed")));
            }
            None => None,
            Some(upload) => Some((upload, self.in_order(upload.cut, segments).map_err(not_done)?)),
        };
        if let Some(upload) = upload
            && !self.calls.is_under_way(upload).await.map_err(not_done)?
        {
            return self.unless_done(not_done(self.wrong("the upload was given up"))).await;
        }
        let replaced = self.calls.look(Replicas::Newest).await.map_err(not_done)?;
        if let Some(there) = replaced.as_ref().filter(|_| self.only_new) {
            // An earlier try of this very commit may have come through late.
            if !self.is_done(there) {
                return Err(not_done(self.calls.exists()));
            }
            self.clean_up(upload, None).await;
            return Ok(());
        }
        let (patient, _hold) = self.storage.calls(self.agent.patient(COMPLETE_PATIENCE)).await.map_err(not_done)?;
        let manifest = match &made {
            Some((upload, segments)) => {
                let most = usize::try_from(self.manifest_segments_max).unwrap_or(usize::MAX);
                Some((*upload, patient.manifest(upload, segments, most).await.map_err(not_done)?))
            }
            None => None,
        };
        self.make_it(&patient, manifest.as_ref()).await?;
        if let Some(upload) = upload {
            self.unless_given_up(upload).await?;
        }
        self.clean_up(upload, replaced.as_ref()).await;
        Ok(())
    }

    /// Asks for the object until it is made, or it makes no sense any more.
    async fn make_it(&self, calls: &Calls, manifest: Option<&(&Upload, Vec<Entry>)>) -> Result<(), CommitError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let Err(failure) = self.make(calls, manifest).await else { return Ok(()) };
            if failure.has_status(StatusCode::PRECONDITION_FAILED) {
                return self.unless_done(not_done(self.calls.exists())).await;
            }
            if failure.has_status(StatusCode::BAD_REQUEST)
                && let Some((upload, _)) = manifest
            {
                // A later attempt must not take them for what was written.
                self.calls.give_up(upload, std::iter::empty()).await.map_err(not_done)?;
                let wrong = format!("segments are not what was written ({})", Error::from(failure));
                return self.unless_done(not_done(self.wrong(&wrong))).await;
            }
            let certain = failure.is_certain();
            let error = calls.unless_missing(failure, &calls.address.target.container);
            if tries < COMPLETE_TRIES && matches!(error.disposition, Disposition::Retry { .. }) {
                tracing::info!(transfer = self.transfer, "the commit is tried again: {error}");
                sleep(COMPLETE_WAIT * tries).await;
                continue;
            }
            let left = if certain { not_done(error) } else { CommitError::Unknown(error) };
            return self.unless_done(left).await;
        }
    }

    /// Whoever gave the upload up before the object was there removes its segments, or will: such an object goes. That
    /// takes an operator who cleans up what is about to be complete.
    async fn unless_given_up(&self, upload: &Upload) -> Result<(), CommitError> {
        if self.calls.is_under_way(upload).await.map_err(CommitError::Unknown)? {
            return Ok(());
        }
        if let Some(there) = self.calls.look(Replicas::Newest).await.map_err(CommitError::Unknown)?
            && self.is_done(&there)
        {
            self.calls.remove().await.map_err(CommitError::Unknown)?;
        }
        Err(not_done(self.wrong("the upload was given up while it was completed")))
    }

    async fn make(&self, calls: &Calls, manifest: Option<&(&Upload, Vec<Entry>)>) -> Result<(), Failure> {
        self.asked.set(true);
        let options = &self.storage.options;
        match manifest {
            Some((upload, manifest)) => calls.complete(upload, manifest, options, self.only_new).await,
            None => calls.put_empty(self.transfer, options, self.only_new).await,
        }
    }

    /// The segments that make the object, all of them.
    fn in_order(&self, cut: Cut, segments: &BTreeMap<u32, Segment>) -> Result<Vec<Segment>, Error> {
        let cut = Cut { length: Some(self.length), ..cut };
        let check = |number: u32| {
            let segment = segments.get(&number).filter(|segment| cut.fits(number, segment.bytes));
            segment.cloned().ok_or_else(|| self.wrong(&format!("segment {number} is missing or has another length")))
        };
        (1..=cut.count(self.length) as u32).map(check).collect()
    }

    fn wrong(&self, what: &str) -> Error {
        let target = &self.calls.address.target;
        Error::retry(Code::WriteFailed, format!("{target}: {what}; everything is written again"))
    }

    /// The object is there: nothing that goes wrong now makes it another one.
    async fn clean_up(&self, upload: Option<&Upload>, replaced: Option<&Told>) {
        let transfer = self.transfer;
        let mut cleaned = Ok(());
        if let Some(upload) = upload {
            cleaned = self.calls.forget(upload).await;
        }
        if let Some(replaced) = replaced {
            cleaned = cleaned.and(self.calls.remove_replaced(replaced, upload, transfer).await);
        }
        if let Err(error) = cleaned {
            tracing::warn!(transfer, "something is left beside the object: {error}");
        }
    }

    /// Well done, where the object is there in spite of all; else what was the matter.
    async fn unless_done(&self, otherwise: CommitError) -> Result<(), CommitError> {
        match self.calls.look(Replicas::Newest).await {
            Ok(Some(there)) if self.is_done(&there) => Ok(()),
            _ => Err(otherwise),
        }
    }

    /// Whether what is there is what this commit makes.
    fn is_done(&self, there: &Told) -> bool {
        let upload = self.upload.filter(|_| self.length > 0).map(ToString::to_string);
        there.is_of(self.transfer, self.length) && there.upload == upload
    }
}
