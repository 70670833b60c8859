//! An object that is read, opened on one lane.

use std::time::Duration;

use http::Method;

use super::calls::{Calls, Payload, Replicas};
use crate::{
    Access, Code, Error, Object,
    contract::SourceRequest,
    keystone::Hold,
    web::{
        answer::Facts,
        body::Body,
        client::Ask,
        place::Place,
        stored::{Stored, StoredSource},
    },
};

/// The object that is read.
pub(super) struct Opened {
    calls: Calls,
    place: Place,
    _hold: Option<Hold>,
}

/// Looks at the object.
pub(super) async fn open(
    calls: Calls,
    hold: Option<Hold>,
    request: &SourceRequest,
) -> Result<StoredSource<Opened>, Error> {
    let interrupt = request.interrupt.clone();
    let Some(told) = interrupt.cut(calls.look(Replicas::Any)).await? else {
        return Err(interrupt.cut(async { Ok(why_missing(&calls).await) }).await?);
    };
    if let Some(difference) = request.pinned.as_ref().and_then(|pinned| told.facts.difference_from_pinned(pinned)) {
        return Err(Error::source_changed(format!(
            "the source changed since the transfer first opened it: {difference}"
        )));
    }
    if told.facts.size.is_none() {
        return Err(calls.nonsense("does not say how long the object is"));
    }
    let object = Object { size: told.facts.size, validator: told.facts.validator(), access: Access::Random };
    let opened = Opened { place: calls.address.object(&[])?, calls, _hold: hold };
    Ok(StoredSource::new(opened, object, told.facts, told.checksum, interrupt))
}

/// Why there is no object: its container may be missing, where whoever asks may know that.
async fn why_missing(calls: &Calls) -> Error {
    match calls.container().await {
        Err(error) if error.code == Code::BucketMissing => error,
        _ => Error::fatal(Code::SourceMissing, format!("{}: there is no such object", calls.address.target)),
    }
}

impl Stored for Opened {
    async fn get(&self, ask: &Ask<'_>) -> Result<Body, Error> {
        Ok(self.calls.call(Method::GET, &self.place, ask.headers(), Payload::Nothing).await?)
    }

    async fn look_again(&self) -> Result<Facts, Error> {
        let gone = || Error::source_changed("the object that was being read is gone");
        Ok(self.calls.look(Replicas::Any).await?.ok_or_else(gone)?.facts)
    }

    fn request_cost(&self) -> Duration {
        self.calls.client.request_cost()
    }
}
