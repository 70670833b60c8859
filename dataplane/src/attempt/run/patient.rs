//! The source of a distribution, for a member that reads it: while it cannot be reached, the member goes on with what others
//! have.
//!
//! Others are of use once it is known what the object is. From then on a source that cannot be opened is opened when
//! something is to be read of it, and one that cannot be asked whether it still is the same is believed to be: what was read
//! of it was of the version that all members have.

use std::{cell::OnceCell, rc::Rc};

use futures_util::{FutureExt as _, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, Capabilities, Checksum, Chunk, Disposition, Error, Lane, Object, ObjectUrl, Options,
    Protocol, Session, Source,
    contract::{DestinationRequest, SharedProtocol, SourceRequest, SweepRequest},
};

use crate::attempt::swarm::{KnownObject, SwarmSpec};

/// See the module.
pub(super) struct Patient {
    module: SharedProtocol,
    known: Option<KnownObject>,
}

/// A source that is open, or will be.
struct PatientSource {
    module: SharedProtocol,
    request: SourceRequest,
    lane: Lane,
    object: Object,
    open: OnceCell<Rc<dyn Source>>,
}

impl Patient {
    /// What `module` opens, for a member that was told this.
    pub fn new(module: SharedProtocol, swarm: &SwarmSpec) -> Self {
        Self { module, known: swarm.object.clone() }
    }
}

/// Whether it may be otherwise later, and is nothing that others cannot help with.
fn is_passing(error: &Error) -> bool {
    matches!(error.disposition, Disposition::Retry { .. })
}

impl PatientSource {
    /// The source itself, opened if it was not.
    async fn source(&self) -> Result<&Rc<dyn Source>, Error> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let source = self.module.open_source(&self.request, &self.lane).await?;
        if !is_same(source.object(), &self.object) {
            source.close().await;
            return Err(another_version());
        }
        // Another reader may have opened it meanwhile.
        if let Err(source) = self.open.set(source) {
            source.close().await;
        }
        Ok(self.open.get().expect("it was set, now or before"))
    }
}

fn another_version() -> Error {
    Error::source_changed("the source has another version than the one that is distributed")
}

fn is_same(one: &Object, other: &Object) -> bool {
    one.size == other.size && one.validator == other.validator
}

impl Source for PatientSource {
    fn object(&self) -> &Object {
        &self.object
    }

    fn published(&self) -> Option<Checksum> {
        self.open.get()?.published()
    }

    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move { self.source().await?.read(range, pool).await }.boxed_local()
    }

    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let Some(open) = self.open.get() else { return Ok(()) };
            match open.revalidate().await {
                Err(error) if is_passing(&error) => {
                    tracing::info!(%error, "the source cannot be asked whether it has changed: what was read of it counts");
                    Ok(())
                }
                asked => asked,
            }
        }
        .boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            if let Some(open) = self.open.get() {
                open.clone().close().await;
            }
        }
        .boxed_local()
    }
}

impl Protocol for Patient {
    fn schemes(&self) -> &'static [&'static str] {
        self.module.schemes()
    }

    fn capabilities(&self) -> Capabilities {
        self.module.capabilities()
    }

    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.module.check_source(url, options)
    }

    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.module.check_destination(url, options)
    }

    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async move {
            let known = self.known.as_ref().map(KnownObject::object);
            let pinned = request.pinned.clone().or_else(|| known.as_ref()?.validator.clone());
            let request = SourceRequest { pinned, ..request.clone() };
            let open = OnceCell::new();
            let object = match (self.module.open_source(&request, lane).await, known) {
                (Ok(source), known) => {
                    let object = source.object().clone();
                    if known.is_some_and(|known| !is_same(&object, &known)) {
                        source.close().await;
                        return Err(another_version());
                    }
                    drop(open.set(source));
                    object
                }
                (Err(error), Some(known)) if is_passing(&error) => {
                    tracing::info!(%error, "the source cannot be opened: others are asked, and it is tried again");
                    known
                }
                (Err(error), _) => return Err(error),
            };
            let lane = Lane { index: lane.index, runtime: lane.runtime, pool: lane.pool.clone() };
            let module = self.module.clone();
            Ok(Rc::new(PatientSource { module, request, lane, object, open }) as Rc<dyn Source>)
        }
        .boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        self.module.begin(request)
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        self.module.sweep(request)
    }
}
