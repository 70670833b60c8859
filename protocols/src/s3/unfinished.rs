//! Uploads that were begun and neither completed nor given up. A list tells neither metadata nor who began them.

use std::time::SystemTime;

use http::{HeaderMap, Method};

use super::{
    calls::{Calls, Payload},
    uploads::DOCUMENT_BYTES_MAX,
    xml::{Document, Upload, Uploads},
};
use crate::{Error, contract::Unfinished};

/// Most uploads that are listed: whoever has more asks for what lies below a longer prefix.
const UPLOADS_MAX: usize = 100_000;

impl Calls {
    /// All of them whose keys begin with the target's.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after.as_ref()).await?;
            all.extend(page.uploads.into_iter().filter_map(|upload| self.described(upload)));
            if !page.is_truncated {
                return Ok(all);
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if next.0.is_empty() || after.as_ref() == Some(&next) {
                return Err(self.nonsense("cut a list of uploads short and does not say where it goes on"));
            }
            if all.len() > UPLOADS_MAX {
                return Err(self.nonsense("lists more uploads than are looked at; ask for a longer prefix"));
            }
            after = Some(next);
        }
    }

    /// Says in the log how many uploads of the object are not complete: they may be anybody's, and cost their storage.
    pub async fn report_unfinished(&self, transfer: &str) {
        let key = &self.address.target.key;
        let page = self.page(None).await;
        match page.map(|page| page.uploads.iter().filter(|upload| upload.key == *key).count()) {
            Ok(0) => (),
            Ok(uploads) => tracing::info!(
                transfer,
                object = %self.address.target,
                uploads,
                "uploads of this object are not complete and are not known to be ours; `staccato protocol orphans` lists \
                 and aborts them, a lifecycle rule of the bucket (AbortIncompleteMultipartUpload) removes them by itself"
            ),
            Err(error) => tracing::debug!(transfer, "unfinished uploads cannot be listed: {error}"),
        }
    }

    /// A page of the list, behind a key and an upload of it.
    async fn page(&self, after: Option<&(String, String)>) -> Result<Uploads, Error> {
        let mut query = vec![("uploads", "")];
        let prefix = Some(("prefix", self.address.target.key.as_str()));
        let after = after.map(|(key, upload)| [("key-marker", key.as_str()), ("upload-id-marker", upload.as_str())]);
        query.extend(prefix.into_iter().chain(after.into_iter().flatten()).filter(|(_, value)| !value.is_empty()));
        let place = self.address.bucket(&query)?;
        let mut answer = self.call(Method::GET, &place, HeaderMap::new(), Payload::Nothing).await?;
        match Document::parse(&answer.document(DOCUMENT_BYTES_MAX).await?) {
            Some(Document::ListMultipartUploadsResult(page)) => Ok(page),
            _ => Err(self.nonsense("answered with something that is no list of uploads")),
        }
    }

    /// None where it is not what was asked for.
    fn described(&self, upload: Upload) -> Option<Unfinished> {
        let Upload { key, upload_id, initiated } = upload;
        let target = &self.address.target;
        let asked_for = key.starts_with(&target.key) && !upload_id.is_empty();
        asked_for.then(|| Unfinished {
            object: target.shown(&key),
            name: key,
            upload: upload_id,
            begun: humantime::parse_rfc3339_weak(&initiated).ok().filter(|begun| *begun > SystemTime::UNIX_EPOCH),
        })
    }
}
