//! An object that is read, opened on one lane.

use std::time::Duration;

use http::Method;

use super::calls::{Calls, Payload, Told};
use crate::{
    Access, Code, Error, Object, Validator,
    contract::SourceRequest,
    web::{
        answer::Facts,
        body::Body,
        client::Ask,
        place::Place,
        stored::{Stored, StoredSource},
    },
};

/// The object, or the version of it that is read.
pub(super) struct Opened {
    calls: Calls,
    /// In a bucket that keeps versions.
    version: Option<String>,
    place: Place,
}

/// Looks at the object, or at the version of it that is pinned.
pub(super) async fn open(calls: Calls, request: &SourceRequest) -> Result<StoredSource<Opened>, Error> {
    let pinned = request.pinned.as_ref();
    let version = match pinned {
        Some(Validator::Version { version, .. }) => Some(version.clone()),
        _ => None,
    };
    let Some(told) = request.interrupt.cut(calls.look(version.as_deref())).await? else {
        let why = request.interrupt.cut(async { Ok(calls.explain(version.as_deref()).await?) }).await;
        return Err(match why {
            Err(error) if version.is_some() && error.code == Code::SourceMissing => gone(),
            Err(error) => error,
            Ok(()) => Error::retry(Code::SourceMissing, "the object came while it was being opened"),
        });
    };
    if let Some(difference) = pinned.and_then(|pinned| difference_from_pinned(&told, pinned)) {
        return Err(Error::source_changed(format!(
            "the source changed since the transfer first opened it: {difference}"
        )));
    }
    // What was pinned by its tag stays so, also in a bucket that keeps versions since.
    let version = version.or_else(|| told.version.clone().filter(|_| pinned.is_none()));
    let size = told.facts.size;
    let validator = match &version {
        Some(version) => Some(Validator::Version { version: version.clone(), size }),
        None => told.facts.validator(),
    };
    if size.is_none() {
        return Err(calls.nonsense("does not say how long the object is"));
    }
    let object = Object { size, validator, access: Access::Random };
    let place = calls.object(version.as_deref())?;
    let opened = Opened { calls, version, place };
    Ok(StoredSource::new(opened, object, told.facts, told.checksum, request.interrupt.clone()))
}

impl Stored for Opened {
    async fn get(&self, ask: &Ask<'_>) -> Result<Body, Error> {
        match self.calls.call(Method::GET, &self.place, ask.headers(), Payload::Nothing).await {
            Err(failure) if self.version.is_some() && failure.says("NoSuchVersion") => Err(gone()),
            answer => Ok(answer?),
        }
    }

    async fn look_again(&self) -> Result<Facts, Error> {
        Ok(self.calls.look(self.version.as_deref()).await?.ok_or_else(gone)?.facts)
    }

    fn request_cost(&self) -> Duration {
        self.calls.client.request_cost()
    }
}

fn gone() -> Error {
    Error::source_changed("the version of the source that was being read is gone")
}

/// In what an object differs from the version that a transfer is pinned to.
fn difference_from_pinned(told: &Told, pinned: &Validator) -> Option<String> {
    match pinned {
        Validator::Version { size, .. } if *size == told.facts.size => None,
        Validator::Version { .. } => Some("a version of that name has another length".into()),
        other => told.facts.difference_from_pinned(other),
    }
}
