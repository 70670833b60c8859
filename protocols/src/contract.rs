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
//! - Buffers come from the lane's [`BufferPool`] and go back to it when the [`Chunk`] is dropped.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    BufferPool, ByteRange, Checksum, ChecksumKind, Chunk, Code, Error, Interrupt, Object, ObjectUrl, Validator,
};

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

/// A source to open.
#[derive(Clone, Debug)]
pub struct SourceRequest {
    /// Where the object is.
    pub url: ObjectUrl,
    /// The client's options for it.
    pub options: Options,
    /// The version that must be read; none at the first open of a transfer.
    pub pinned: Option<Validator>,
    /// Whether every offset and length that will be asked for, but for the object's end, is a multiple of
    /// [`CRC_BLOCK`](crate::CRC_BLOCK); where it is not, a file cannot be read with O_DIRECT.
    pub aligned: bool,
    /// Raised when the bytes are not wanted any more. The opening, and whatever is read or revalidated then and later,
    /// ends soon with [`Code::Canceled`] where the module can do that without leaving I/O
    /// behind: the future of a network's answer may be dropped, that of a ring's operation may not. Modules that answer
    /// within moments anyway need not look at it.
    pub interrupt: Interrupt,
}

/// An opened object, on one lane.
pub trait Source {
    /// The object as it was when it was opened.
    fn object(&self) -> &Object;

    /// Whether the storage knows, without reading, that the whole range is zero (a hole).
    fn is_hole(&self, _range: ByteRange) -> bool {
        false
    }

    /// Whoever tells the CRCs of its blocks without moving their bytes over a network; none where nobody can. What is at
    /// a destination is [repaired](Overwrite::Repair) with them: only blocks that differ are read.
    fn sums(&self) -> Option<&dyn Sums> {
        None
    }

    /// The checksum of the whole object that its storage publishes, if any: what was moved is compared with it.
    fn published(&self) -> Option<Checksum> {
        None
    }

    /// Reads a range into a buffer of the pool. The range is not empty and lies within the object.
    fn read<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>>;

    /// The same, at the beginning or within a stretch: most likely what follows the range, up to `stretch_end`, is read
    /// next from this very source, chunk by chunk. A source that sends requests over a network may have all of it come
    /// with one.
    fn read_on<'a>(
        &'a self,
        range: ByteRange,
        stretch_end: u64,
        pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        let _ = stretch_end;
        self.read(range, pool)
    }

    /// What each request costs the server, beside the bytes and the way there and back, as far as opening the object has
    /// shown: how long a stretch should be is decided by it.
    fn request_cost(&self) -> Duration {
        Duration::ZERO
    }

    /// Checks that the object still is the one that was opened; or was, until the last byte that was read left the storage.
    fn revalidate(&self) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Gives back what the source holds (descriptors, connections).
    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// A source that knows what its blocks are like, or finds out where they lie.
pub trait Sums {
    /// CRC-32 of each [`CRC_BLOCK`](crate::CRC_BLOCK) of a range, counted from the range's start. The range is not empty
    /// and lies within the object. Memory to find out comes from the pool and is given back before it is answered.
    fn crcs<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Vec<u32>, Error>>;
}

/// A destination to write, for one attempt.
#[derive(Clone, Debug)]
pub struct DestinationRequest {
    /// Where the object shall be.
    pub url: ObjectUrl,
    /// The client's options for it.
    pub options: Options,
    /// The transfer's id: names the partial.
    pub transfer: String,
    /// This attempt's epoch: names the partial, grows with every attempt.
    pub epoch: u64,
    /// What to do with an object that is there already.
    pub overwrite: Overwrite,
    /// Whether to keep what an earlier attempt wrote; `false` starts over with a new inode, or a new upload.
    pub resume: bool,
    /// The [upload](Session::upload) that an earlier attempt had begun, where it had one. One that is not gone on with
    /// is given up at the storage.
    pub upload: Option<String>,
    /// A commit that an earlier attempt had prepared: if that very object is at the destination, the transfer is
    /// complete.
    pub prepared: Option<PreparedCommit>,
    /// Raised when the object is not wanted any more: waits for a network end soon with [`Code::Canceled`].
    pub interrupt: Interrupt,
}

/// A commit that was recorded before it was done, and may have been done since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedCommit {
    /// Length of the object in bytes.
    pub length: u64,
    /// What tells it from every other, where the storage has such a thing.
    pub identity: Option<Identity>,
}

/// Leavings to remove.
#[derive(Clone, Debug)]
pub struct SweepRequest {
    /// Beside which object.
    pub url: ObjectUrl,
    /// The client's options for it.
    pub options: Options,
    /// Whose: the transfer's id.
    pub transfer: String,
    /// The [upload](Session::upload) that its last attempt had begun, where it had one.
    pub upload: Option<String>,
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

/// How destinations of a module take what is written: [`Writes`], before an object is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// Any chunk, in any order, over what was written before.
    #[default]
    Anywhere,
    /// Parts of an upload.
    Parts,
    /// One stream from the front.
    InOrder,
}

/// How a destination takes what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Any chunk, in any order, several at once, over what was written before. What is written can be read back, and
    /// lasts once it is synced.
    Anywhere,
    /// Parts of an upload, in any order, several at once: each begins at a multiple of `bytes` and is as long, but for
    /// the object's last one. A part lasts when its write is complete, and cannot be read back.
    Parts {
        /// Length of a part, a multiple of [`CRC_BLOCK`](crate::CRC_BLOCK). The same for every attempt that goes on
        /// with one upload.
        bytes: u64,
    },
    /// From the front, one chunk after the other, each once. Nothing lasts before the commit, and nothing can be read
    /// back: an attempt that fails leaves nothing to go on from.
    InOrder,
}

impl Takes {
    /// Its spelling in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::Parts => "parts",
            Self::InOrder => "in_order",
        }
    }
}

/// What to do with an object that is at the destination already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overwrite {
    /// Fail with `destination_exists`.
    #[default]
    Never,
    /// Replace it, atomically, at commit.
    Always,
    /// The same, but blocks of it that are the source's already are not moved: those that differ are. One that is right
    /// as a whole may be left as it is. Where the source does not [tell its CRCs](Source::sums), or nothing is there,
    /// everything is moved.
    Repair,
}

/// What is at a destination that shall be repaired, as lanes can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its length in bytes.
    pub length: u64,
    /// Whether its bytes are part of the session's object already (a clone): blocks that are right need not be written.
    pub in_place: bool,
}

/// What tells one partial from every other: recorded before commit, so that recovery recognises a rename that had
/// happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// How a session found its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the session starts with an empty object that nobody ever wrote.
    Nothing,
    /// The partial of an earlier attempt, now this session's.
    Partial,
    /// The committed object of this very transfer: nothing is left to do.
    Committed,
}

/// Makes the lane's half of a destination; sent to a lane and called there.
pub type OpenDestination =
    Box<dyn for<'a> FnOnce(&'a Lane) -> LocalBoxFuture<'a, Result<Rc<dyn Destination>, Error>> + Send>;

/// The attempt's half of a destination: names, locks, sizes and commit. Lives on the attempt's own thread; its methods
/// block.
pub trait Session: Send {
    /// What was there.
    fn found(&self) -> Found;

    /// Identity of the partial; none where the storage has no such thing.
    fn identity(&self) -> Option<Identity>;

    /// Makes ready for an object of this length (unknown where the source does not tell), and says how it is to be
    /// written. Called once, before any lane's half is opened; where [parts](Writes::Parts) are written, their upload
    /// has begun when this returns.
    fn writes(&mut self, _length: Option<u64>) -> Result<Writes, Error> {
        Ok(Writes::Anywhere)
    }

    /// What a later session has to be told to go on from here, for instance an upload's id; at most
    /// [`UPLOAD_BYTES_MAX`]. It is recorded before the first part is written.
    fn upload(&self) -> Option<String> {
        None
    }

    /// Which of the ranges that a checkpoint promises are still there, whole: asked where [parts](Writes::Parts) of an
    /// earlier attempt were found, because those cannot be read back.
    fn kept(&mut self, _promised: &[ByteRange]) -> Result<Vec<ByteRange>, Error> {
        Ok(Vec::new())
    }

    /// CRC-32 of each of the first `blocks` blocks that an earlier attempt noted last, by the block's index. Empty when
    /// unknown.
    fn load_block_crcs(&mut self, _blocks: u64) -> Result<BTreeMap<u64, u32>, Error> {
        Ok(BTreeMap::new())
    }

    /// Notes the CRCs of blocks, to be found by [`Session::load_block_crcs`] after a restart. Need not be durable.
    fn append_block_crcs(&mut self, _blocks: &[(u64, u32)]) -> Result<(), Error> {
        Ok(())
    }

    /// The kind of checksum that the session wants to [know](Session::note_checksum) of what is written, if any. Asked
    /// once its [way of writing](Session::writes) is known.
    fn wants_checksum(&self) -> Option<ChecksumKind> {
        None
    }

    /// Tells the [wanted](Session::wants_checksum) checksum of all that was written, before the commit.
    fn note_checksum(&mut self, _checksum: Checksum) {}

    /// Opens the lane's half. Called once for each lane, and for all of them before any of them is written to.
    fn open_on_lane(&self, shape: WriteShape) -> Result<OpenDestination, Error>;

    /// Makes the source's bytes appear without reading them, where both lie on one storage that can (FICLONE).
    /// `Ok(false)`: it cannot, and nothing was changed.
    fn try_clone(&mut self, _source: &SourceRequest, _part: ByteRange) -> Result<bool, Error> {
        Ok(false)
    }

    /// Looks at the object that shall be [repaired](Overwrite::Repair), so that lanes can
    /// [read](Destination::read_present) it; none where there is nothing that can be read, and then everything is
    /// written. Called at most once, before any lane's half is opened. The object itself is not touched.
    fn use_present(&mut self) -> Result<Option<Present>, Error> {
        Ok(None)
    }

    /// Every byte of the object to repair is right: whether that very object may stay. `Ok(true)`: it is still the one
    /// that was looked at, durable, and [`Session::commit`] will leave it where it is; [`Session::identity`] is its from
    /// now on. `Ok(false)`: there is doubt, and the session's own object must be completed.
    fn keep_present(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Makes the name of the partial durable, once, before the first checkpoint (sync of the directory).
    fn sync_name(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Cuts or extends the object to its final length. The next sync makes it durable. Called with no write in flight.
    fn set_length(&mut self, length: u64) -> Result<(), Error>;

    /// Gives the object its name, durably. What is there must be complete and synced; the lanes' halves are closed.
    fn commit(&mut self) -> Result<(), CommitError>;

    /// Removes the partial and everything beside it. Called with no write in flight.
    fn discard(&mut self) -> Result<(), Error>;
}

/// Why a commit did not succeed, by what the destination is then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// As it was before: the object has not got its name, and will not get it by this commit any more.
    NotDone(Error),
    /// Not known: the object may have its name, or may lose it in a power cut. A later session that is told which
    /// object was [prepared](DestinationRequest::prepared) finds out.
    Unknown(Error),
}

/// How the lanes will write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteShape {
    /// Whether every offset is a multiple of [`CRC_BLOCK`](crate::CRC_BLOCK); O_DIRECT needs it.
    pub aligned: bool,
}

/// The lane's half of a destination.
pub trait Destination {
    /// Writes the chunk at `offset` (a multiple of [`CRC_BLOCK`](crate::CRC_BLOCK)); its buffer goes back to the pool.
    /// Only the last chunk of an object may have a length that is no multiple of the block; the storage may pad it, and
    /// [`Session::set_length`] cuts the padding. The chunk may be one without bytes ([`Chunk::zero`]). Where parts are
    /// [taken](Session::writes), each is one chunk; where bytes are taken in order, that is the order of the calls, and
    /// one is over before the next begins.
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Makes a range read as zero without storing it. `untouched`: this inode was never written or allocated there, so
    /// nothing needs to be done; else the range is punched (or overwritten with zeros where the storage cannot punch).
    /// Called only where chunks may be written [anywhere](Writes::Anywhere).
    fn zero(&self, _range: ByteRange, _untouched: bool) -> LocalBoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Err(Error::fatal(Code::Internal, "this storage takes whole chunks only")) })
    }

    /// Reads back what was written. Called only where chunks may be written [anywhere](Writes::Anywhere).
    fn read_back<'a>(&'a self, _range: ByteRange, _pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        Box::pin(async { Err(Error::fatal(Code::Internal, "this storage gives nothing back before it is complete")) })
    }

    /// Reads from the object that is at the destination, where [`Session::use_present`] found one. The range lies within
    /// it and begins at a multiple of the block.
    fn read_present<'a>(
        &'a self,
        _range: ByteRange,
        _pool: &'a BufferPool,
    ) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        Box::pin(async { Err(Error::fatal(Code::Internal, "there is no object to repair")) })
    }

    /// Makes every completed write durable. A failure is final: never call it again.
    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Gives back what it holds. What a commit needs stays with the session.
    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// Longest [`Session::upload`], in bytes.
pub const UPLOAD_BYTES_MAX: usize = 1024;

/// A protocol module, shared by everything in the process.
pub type SharedProtocol = Arc<dyn Protocol>;
