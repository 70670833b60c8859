//! The contract of a protocol module.
//!
//! A module has two halves. The *policy* half ([`Protocol::check_source`], [`Protocol::check_destination`],
//! [`Protocol::capabilities`]) looks at URLs and options only and never at storage; the control plane calls it. The
//! *data* half opens objects on a lane and moves their bytes.
//!
//! What every module promises:
//!
//! - A read returns exactly the bytes asked for, of the pinned version of the object, or an error. A shorter chunk is
//!   returned only by an [`Access::Sequential`](crate::Access::Sequential) source of unknown size, at its end.
//! - A write is complete when its future resolves, and durable after the next [`Destination::sync`].
//! - Futures of I/O in flight are not dropped: whoever calls waits for them. Modules bound the wait themselves (connect
//!   and stall time-outs), and end it early when they are interrupted ([`SourceRequest::interrupt`]).
//! - Nothing is visible under the destination's name before [`Session::commit`].
//! - Buffers come from the lane's [`BufferPool`] and go back to it when the [`Chunk`](crate::Chunk) is dropped.

mod destination;
mod source;

use std::{collections::BTreeMap, rc::Rc, sync::Arc, time::SystemTime};

pub use destination::{
    CommitError, Destination, DestinationRequest, Found, Identity, OpenDestination, Overwrite, Part, PreparedCommit,
    Present, Session, SweepRequest, Takes, UPLOAD_BYTES_MAX, WriteShape, Writes,
};
use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};
pub use source::{Source, SourceRequest, Sums};

use crate::{BufferPool, Code, Error, ObjectUrl};

/// Options of one side of a transfer (`source_options`, `destination_options`): names and values as the client sent
/// them. Each module declares the names it knows in its [`Capabilities`].
pub type Options = BTreeMap<String, String>;

/// One kind of storage.
pub trait Protocol: Send + Sync + 'static {
    /// The schemes this module answers to, in lower case.
    fn schemes(&self) -> &'static [&'static str];

    /// What the module can do, and the options it knows.
    fn capabilities(&self) -> Capabilities;

    /// Where its secret options go, and which of its options have no say in that. Unless a module tells, they are taken to
    /// go to the server that the URL names, and every option to have a say.
    fn secrecy(&self) -> Secrecy {
        Secrecy { sent_to_url: true, harmless: &[] }
    }

    /// Whether objects can be read in any order, several ranges at once, as far as their servers play along.
    fn reads_ranges(&self) -> bool {
        self.capabilities().source
    }

    /// Whether a later attempt finds what an earlier one wrote.
    fn resumes(&self) -> bool {
        let Capabilities { destination, takes, .. } = self.capabilities();
        destination && takes != Takes::InOrder
    }

    /// Checks syntax and policy of a source, never storage.
    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error>;

    /// Checks syntax and policy of a destination, never storage.
    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error>;

    /// Opens a source on the calling lane. When `request.pinned` is given and the object is another one now, the error
    /// is [`Disposition::SourceChanged`](crate::Disposition::SourceChanged).
    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>>;

    /// Begins (or takes over) the writing of a destination for one attempt: fences earlier attempts and finds what they
    /// left. Blocks; called on the attempt's own thread.
    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error>;

    /// Removes whatever attempts of this transfer left beside the destination. Blocks. Never touches a committed
    /// object. Must not fail when nothing is there.
    fn sweep(&self, request: &SweepRequest) -> Result<(), Error>;

    /// Uploads below a URL that were begun and neither completed nor given up, whoever began them; none where the storage
    /// keeps no such thing, or does not list it. Blocks.
    fn unfinished(&self, _request: &UnfinishedRequest) -> Result<Option<Vec<Unfinished>>, Error> {
        Ok(None)
    }

    /// Gives an upload up that was [listed](Protocol::unfinished), also one that is not there any more. Blocks. Never
    /// touches a committed object.
    fn give_up(&self, _request: &UnfinishedRequest, _upload: &Unfinished) -> Result<(), Error> {
        Err(Error::fatal(Code::Internal, "this storage lists no uploads"))
    }
}

/// What a module can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Can be read from.
    pub source: bool,
    /// Can be written to.
    pub destination: bool,
    /// How its destinations take what is written.
    pub takes: Takes,
    /// Runtimes its data half works on.
    pub runtimes: &'static [Runtime],
    /// Options it knows.
    pub options: &'static [OptionSpec],
}

impl Capabilities {
    /// Whether the value of an option is a secret. Unknown options count as secret.
    pub fn is_secret(&self, option: &str) -> bool {
        crate::registry::find(self.options, option).is_none_or(|spec| spec.secret)
    }
}

/// An option that a module knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OptionSpec {
    /// Its name. A name that ends in `.*` stands for every name with that prefix.
    pub name: &'static str,
    /// Whether its value is a secret: sealed in the store and never shown.
    pub secret: bool,
    /// One line for people: meaning, unit, default.
    pub help: &'static str,
}

/// The option that names a credential. The control plane puts that one's options in its place: no module has such an
/// option.
pub const CREDENTIAL: &str = "credential";

/// Where a module's secret options go. Whoever may use a named credential writes the URL and may add options: that must
/// not be enough to have its secrets sent to a server of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secrecy {
    /// Whether they, or what they buy (a session, a token), are sent to the server that the URL names. `false` where options
    /// alone (an endpoint) or the module itself say where they go.
    pub sent_to_url: bool,
    /// Options, as in [`OptionSpec::name`], that say neither where secrets go nor what is sent beside them nor whom to trust
    /// with them (time-outs, sizes): with a credential, a request may set these and no others.
    pub harmless: &'static [&'static str],
}

/// A runtime that lanes are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// tokio-uring: registered buffers that are read into and written from, and the tokio ecosystem beside them.
    TokioUring,
    /// glommio: O_DIRECT, registered memory, and (later) transports.
    Glommio,
}

/// The lane a module is called on. `!Send`, like everything it hands out.
pub struct Lane {
    /// Number of the lane within its process.
    pub index: usize,
    /// What drives it.
    pub runtime: Runtime,
    /// Where buffers come from.
    pub pool: BufferPool,
}

/// Where uploads are looked for that nobody has completed.
#[derive(Clone, Debug)]
pub struct UnfinishedRequest {
    /// What the URLs of their objects begin with; it may end anywhere in a name, or before it.
    pub url: ObjectUrl,
    /// Options of the storage.
    pub options: Options,
}

/// An upload that was begun and neither completed nor given up. It may be under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// URL of the object that it would become, for people.
    pub object: String,
    /// What the storage calls that object.
    pub name: String,
    /// What the storage calls the upload.
    pub upload: String,
    /// When it was begun, as far as the storage tells.
    pub begun: Option<SystemTime>,
}

/// A protocol module, shared by everything in the process.
pub type SharedProtocol = Arc<dyn Protocol>;
