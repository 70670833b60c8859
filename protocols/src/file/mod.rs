//! `file://`: regular files under configured roots.
//!
//! Every path is opened beneath a root with `openat2(RESOLVE_BENEATH)`, so that neither `..` nor a symbolic link, not
//! even one swapped in during a transfer, leads out of it. What is written goes to a hidden partial beside the
//! destination and is renamed at commit; `session` says how attempts are kept apart, `sidecar` how block CRCs are kept
//! beside it.

mod destination;
mod folder;
mod lane_file;
mod lock;
mod names;
mod present;
mod probe;
mod roots;
mod session;
mod sidecar;
mod source;

#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::LocalBoxFuture};
pub use names::{NAME_BYTES_MAX, hidden};
pub use roots::{Root, RootAccess, Roots};

use crate::{
    Capabilities, Code, Error, Lane, ObjectUrl, Options, Protocol, Runtime, Session, Source,
    contract::{DestinationRequest, SourceRequest, SweepRequest, Takes},
};

/// The module for `file://` URLs.
pub struct FileProtocol {
    roots: Arc<Roots>,
    fence_wait: Duration,
}

impl FileProtocol {
    /// Files under `roots`, and no others.
    pub fn new(roots: Roots) -> Self {
        Self { roots: Arc::new(roots), fence_wait: lock::FENCE_WAIT }
    }

    /// The same module with another patience for an earlier attempt that still holds a partial (5 s unless told). After
    /// that the partial is copied, and the copy verified, instead of taken over.
    pub fn fence_wait(self, fence_wait: Duration) -> Self {
        Self { fence_wait, ..self }
    }
}

impl Protocol for FileProtocol {
    fn schemes(&self) -> &'static [&'static str] {
        &["file"]
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            source: true,
            destination: true,
            takes: Takes::Anywhere,
            runtimes: &[Runtime::TokioUring, Runtime::Glommio],
            options: &[],
        }
    }

    fn check_source(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        self.roots.locate(url, false).map(drop)
    }

    fn check_destination(&self, url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        let place = self.roots.locate(url, true)?;
        if place.name().is_ok_and(names::is_reserved) {
            return Err(Error::fatal(
                Code::InvalidUrl,
                "names like .NAME.staccato-ID are kept for partials, which are swept away; choose another destination",
            ));
        }
        Ok(())
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let source = source::FileSource::open(&self.roots, request, lane.runtime).await?;
            Ok(Rc::new(source) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(session::FileSession::begin(self.roots.clone(), request, self.fence_wait)?))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        folder::sweep(&self.roots, &request.url, &request.transfer)
    }
}
