//! What is written: an attempt's session, and its halves on lanes.

use std::{collections::BTreeMap, rc::Rc};

use futures_util::future::LocalBoxFuture;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Source;
use super::{Lane, Options, SourceRequest};
use crate::{BufferPool, ByteRange, Checksum, ChecksumKind, Chunk, Code, Error, Interrupt, ObjectUrl};

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
        /// Whether parts are written [from the front, in pieces](Destination::begin_part), and not each as one chunk: so
        /// a part may be longer than what there is of memory.
        streamed: bool,
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
    /// [taken](Session::writes), each is one chunk, unless they are streamed; where bytes are taken in order, that is the
    /// order of the calls, and one is over before the next begins.
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Begins the part at `offset`, of which `bytes` will come (not known in advance in an object of unknown length).
    /// Called only where [parts](Writes::Parts) are streamed.
    fn begin_part(&self, _offset: u64, _bytes: Option<u64>) -> Result<Box<dyn Part>, Error> {
        Err(Error::fatal(Code::Internal, "this storage takes no streams"))
    }

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

/// A part that is written from the front. Dropped before it was finished, nothing of it is there.
pub trait Part {
    /// Writes the next bytes; their buffer goes back to the pool. As in [`Destination::write`], they may be a chunk without
    /// bytes. After an error nothing more is written.
    fn write(&mut self, piece: Chunk) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// Every byte of it was written: the part lasts when this is complete.
    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), Error>>;
}

/// Longest [`Session::upload`], in bytes.
pub const UPLOAD_BYTES_MAX: usize = 1024;
