//! The requests that clean up: uploads that are given up, and what replaced objects were made of.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, StatusCode};

use super::{
    calls::{Calls, Payload, Replicas, Told},
    place::Target,
    segments::Listed,
    upload::{Upload, transfer_prefix},
};
use crate::{Error, contract::Unfinished, web::place::Place};

/// How many segments are deleted at once.
const DELETIONS: usize = 8;

/// What the head of a container has that keeps versions of its objects.
const VERSIONS: [&str; 3] = ["x-versions-enabled", "x-versions-location", "x-history-location"];

impl Calls {
    /// Gives an upload up, also one that is not there. Nothing that the object is made of is touched. `written`: numbers
    /// of segments that a list may not show yet.
    pub async fn give_up(&self, upload: &Upload, written: impl Iterator<Item = u32>) -> Result<(), Error> {
        let object = &self.address.target.object;
        self.delete(&upload.marker(object)).await?;
        let made_of = self.look(Replicas::Newest).await?.and_then(|told| told.upload);
        if made_of.is_some_and(|made_of| made_of == upload.to_string()) {
            return Ok(());
        }
        let mut names = self.names(&upload.prefix(object)).await?;
        names.extend(written.map(|number| upload.segment(object, number)));
        self.delete_all(names).await
    }

    /// Removes the object itself; what it is made of stays.
    pub async fn remove(&self) -> Result<(), Error> {
        self.delete_at(&self.address.object(&[])?).await
    }

    /// An upload is complete: its marker goes.
    pub async fn forget(&self, upload: &Upload) -> Result<(), Error> {
        self.delete(&upload.marker(&self.address.target.object)).await
    }

    /// Removes whatever uploads of a transfer have left, but for what the object is made of.
    pub async fn sweep(&self, transfer: &str) -> Result<(), Error> {
        let object = &self.address.target.object;
        let mut names = self.names(&transfer_prefix(object, transfer)).await?;
        if names.is_empty() {
            return Ok(());
        }
        let markers: BTreeSet<_> = names.iter().filter(|name| name.ends_with("/upload")).cloned().collect();
        names.retain(|name| !markers.contains(name));
        self.delete_all(markers).await?;
        let made_of = self.look(Replicas::Newest).await?.and_then(|told| told.upload?.parse::<Upload>().ok());
        if let Some(prefix) = made_of.map(|upload| upload.prefix(object)) {
            names.retain(|name| !name.starts_with(&prefix));
        }
        self.delete_all(names).await
    }

    /// Removes what an object was made of that was replaced, if it was ours and is not what `upload` is, which replaced it. Segments of a container
    /// that keeps versions stay, and so do others': the log says so.
    pub async fn remove_replaced(&self, old: &Told, upload: Option<&Upload>, transfer: &str) -> Result<(), Error> {
        if !old.is_static_large_object {
            return Ok(());
        }
        let object = &self.address.target.object;
        let target = &self.address.target;
        let Some(replaced) = old.upload.as_ref().and_then(|text| text.parse::<Upload>().ok()) else {
            tracing::info!(transfer, object = %target, "the object that was replaced had segments of somebody else's: they stay");
            return Ok(());
        };
        if Some(&replaced) == upload {
            return Ok(());
        }
        let container = self.container().await?;
        if VERSIONS.iter().any(|name| container.head().headers.get(*name).is_some_and(|value| value != "False")) {
            tracing::info!(transfer, object = %target, "the container keeps versions: the replaced object's segments stay");
            return Ok(());
        }
        let names = self.names(&replaced.prefix(object)).await?;
        self.delete_all(names).await
    }

    /// Uploads of ours, of objects whose names begin with the target's, that were begun and neither completed nor given up.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let target = &self.address.target;
        let listed = self.list(&target.object).await?;
        let described = |listed: Listed| {
            let (object, upload) = Upload::of_marker(listed.name.as_deref()?)?;
            let shown = Target { container: target.container.clone(), object: object.to_owned() }.to_string();
            let begun = listed.written();
            Some(Unfinished { object: shown, name: object.to_owned(), upload: upload.to_string(), begun })
        };
        Ok(listed.into_iter().filter_map(described).collect())
    }

    async fn names(&self, prefix: &str) -> Result<BTreeSet<String>, Error> {
        Ok(self.list(prefix).await?.into_iter().filter_map(|listed| listed.name).collect())
    }

    async fn delete_all(&self, names: BTreeSet<String>) -> Result<(), Error> {
        let deletions = stream::iter(names).map(|name| async move { self.delete(&name).await });
        deletions.buffer_unordered(DELETIONS).try_collect().await
    }

    /// Deletes an object of the container of segments; one that is not there is no error. Of a manifest only itself.
    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.delete_at(&self.address.segment(name, &[])?).await
    }

    async fn delete_at(&self, place: &Place) -> Result<(), Error> {
        match self.call(Method::DELETE, place, HeaderMap::new(), Payload::Nothing).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.has_status(StatusCode::NOT_FOUND) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }
}
