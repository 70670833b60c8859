//! A storage in memory that takes chunks anywhere, parts, or one stream in order, and breaks when it is told to.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use staccato_protocols::{
    BufferPool, ByteRange, Capabilities, Checksum, ChecksumKind, Chunk, Code, Destination, Error, Lane, ObjectUrl,
    Options, Protocol, Runtime, Session, Source,
    contract::{
        CommitError, DestinationRequest, Found, Identity, OpenDestination, Part, SourceRequest, SweepRequest, Takes,
        WriteShape, Writes,
    },
};

pub const MIB: u64 = 1 << 20;
/// Parts, each of which is one chunk.
pub const PARTS: Writes = Writes::Parts { bytes: 2 * MIB, streamed: false };
/// As long, but each in pieces.
pub const STREAMED_PARTS: Writes = Writes::Parts { bytes: 2 * MIB, streamed: true };

/// What is stored, and what happened to it. Clones are one and the same.
#[derive(Clone)]
pub struct Shelf {
    writes: Writes,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    /// Uploads under way by their ids: parts by offset.
    pub uploads: BTreeMap<String, BTreeMap<u64, Vec<u8>>>,
    /// What was committed.
    pub object: Option<Vec<u8>>,
    /// Offsets of what was written, in that order.
    pub written: Vec<u64>,
    /// Longest piece of a streamed part.
    pub longest_piece: usize,
    /// Offsets of what was read back.
    pub read_back: Vec<u64>,
    /// Which checksum a session wants to know.
    pub wants: Option<ChecksumKind>,
    /// What it was told.
    pub noted: Option<Checksum>,
    /// Writes that fail, by their number, counted from 0.
    pub fails_at: Vec<usize>,
    /// Commits that fail.
    pub commits_fail: usize,
    uploads_begun: usize,
}

impl Shelf {
    pub fn new(writes: Writes) -> Self {
        Self { writes, state: Arc::default() }
    }

    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn url() -> ObjectUrl {
        ObjectUrl::parse("shelf:///d").unwrap()
    }
}

impl Protocol for Shelf {
    fn schemes(&self) -> &'static [&'static str] {
        &["shelf"]
    }

    fn capabilities(&self) -> Capabilities {
        let takes = match self.writes {
            Writes::Anywhere => Takes::Anywhere,
            Writes::Parts { .. } => Takes::Parts,
            Writes::InOrder => Takes::InOrder,
        };
        let runtimes = &[Runtime::TokioUring, Runtime::Glommio];
        Capabilities { source: false, destination: true, takes, runtimes, options: &[] }
    }

    fn check_source(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn check_destination(&self, _url: &ObjectUrl, _options: &Options) -> Result<(), Error> {
        Ok(())
    }

    fn open_source<'a>(
        &'a self,
        _request: &'a SourceRequest,
        _lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        async { Err(Error::fatal(Code::Internal, "it is only written to")) }.boxed_local()
    }

    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let earlier = request.upload.clone().filter(|upload| self.with(|state| state.uploads.contains_key(upload)));
        let upload = match (earlier, request.resume) {
            (Some(upload), true) => Some(upload),
            (Some(upload), false) => {
                self.with(|state| state.uploads.remove(&upload));
                None
            }
            (None, _) => None,
        };
        Ok(Box::new(Shelving { shelf: self.clone(), resumed: upload.is_some(), upload, length: None }))
    }

    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        self.with(|state| request.upload.as_ref().and_then(|upload| state.uploads.remove(upload)));
        Ok(())
    }
}

struct Shelving {
    shelf: Shelf,
    resumed: bool,
    upload: Option<String>,
    length: Option<u64>,
}

impl Session for Shelving {
    fn found(&self) -> Found {
        if self.resumed { Found::Partial } else { Found::Nothing }
    }

    fn identity(&self) -> Option<Identity> {
        None
    }

    fn writes(&mut self, length: Option<u64>) -> Result<Writes, Error> {
        self.length = length;
        if self.upload.is_none() {
            let upload = self.shelf.with(|state| {
                state.uploads_begun += 1;
                let upload = format!("upload {}", state.uploads_begun);
                state.uploads.insert(upload.clone(), BTreeMap::new());
                upload
            });
            self.upload = Some(upload);
        }
        Ok(self.shelf.writes)
    }

    fn upload(&self) -> Option<String> {
        self.upload.clone().filter(|_| self.shelf.writes != Writes::InOrder)
    }

    fn kept(&mut self, promised: &[ByteRange]) -> Result<Vec<ByteRange>, Error> {
        let Writes::Parts { bytes, .. } = self.shelf.writes else { return Ok(Vec::new()) };
        let upload = self.upload.clone().unwrap_or_default();
        let kept = |range: &&ByteRange| {
            self.shelf.with(|state| {
                let parts = &state.uploads[&upload];
                range.pieces(bytes).all(|part| parts.get(&part.start()).map(Vec::len) == Some(part.len() as usize))
            })
        };
        Ok(promised.iter().filter(kept).copied().collect())
    }

    fn wants_checksum(&self) -> Option<ChecksumKind> {
        self.shelf.with(|state| state.wants)
    }

    fn note_checksum(&mut self, checksum: Checksum) {
        self.shelf.with(|state| state.noted = Some(checksum));
    }

    fn open_on_lane(&self, _shape: WriteShape) -> Result<OpenDestination, Error> {
        let (shelf, upload) = (self.shelf.clone(), self.upload.clone().expect("it has begun"));
        Ok(Box::new(move |_lane| {
            async move { Ok(Rc::new(OnLane { shelf, upload }) as Rc<dyn Destination>) }.boxed_local()
        }))
    }

    fn set_length(&mut self, length: u64) -> Result<(), Error> {
        self.length = Some(length);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), CommitError> {
        let upload = self.upload.clone().unwrap_or_default();
        self.shelf.with(|state| {
            if state.commits_fail > 0 {
                state.commits_fail -= 1;
                return Err(CommitError::NotDone(Error::retry(Code::WriteFailed, "no commit today")));
            }
            let whole: Vec<u8> =
                state.uploads.remove(&upload).into_iter().flatten().flat_map(|(_, part)| part).collect();
            assert_eq!(Some(whole.len() as u64), self.length, "all parts are there");
            state.object = Some(whole);
            Ok(())
        })
    }

    fn discard(&mut self) -> Result<(), Error> {
        let upload = self.upload.clone().unwrap_or_default();
        self.shelf.with(|state| state.uploads.remove(&upload));
        Ok(())
    }
}

struct OnLane {
    shelf: Shelf,
    upload: String,
}

impl OnLane {
    fn take(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        self.shelf.with(|state| {
            let number = state.written.len();
            state.written.push(offset);
            if state.fails_at.contains(&number) {
                return Err(Error::retry(Code::ConnectionLost, "the shelf fell"));
            }
            state.uploads.get_mut(&self.upload).expect("nobody took it away").insert(offset, bytes);
            Ok(())
        })
    }
}

fn bytes_of(chunk: &Chunk) -> Vec<u8> {
    chunk.bytes().map_or_else(|| vec![0; chunk.len()], <[u8]>::to_vec)
}

/// A part that is written from the front.
struct Streamed {
    destination: OnLane,
    offset: u64,
    bytes: Option<u64>,
    taken: Vec<u8>,
}

impl Part for Streamed {
    fn write(&mut self, piece: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.destination.shelf.with(|state| state.longest_piece = state.longest_piece.max(piece.len()));
        self.taken.extend(bytes_of(&piece));
        async { Ok(()) }.boxed_local()
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), Error>> {
        let Self { destination, offset, bytes, taken } = *self;
        assert!(bytes.is_none_or(|bytes| bytes == taken.len() as u64), "what was promised is what came");
        async move { destination.take(offset, taken) }.boxed_local()
    }
}

impl Destination for OnLane {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        let taken = self.take(offset, bytes_of(&chunk));
        async move { taken }.boxed_local()
    }

    fn begin_part(&self, offset: u64, bytes: Option<u64>) -> Result<Box<dyn Part>, Error> {
        let destination = Self { shelf: self.shelf.clone(), upload: self.upload.clone() };
        Ok(Box::new(Streamed { destination, offset, bytes, taken: Vec::new() }))
    }

    fn zero(&self, range: ByteRange, _untouched: bool) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.write(range.start(), Chunk::zero(range.len() as usize))
    }

    fn read_back<'a>(&'a self, range: ByteRange, pool: &'a BufferPool) -> LocalBoxFuture<'a, Result<Chunk, Error>> {
        async move {
            let mut chunk = pool.take(range.len() as usize).await;
            let found: Vec<u8> = self.shelf.with(|state| {
                state.read_back.push(range.start());
                let (start, bytes) = state.uploads[&self.upload].range(..=range.start()).next_back().expect("is there");
                bytes[(range.start() - start) as usize..][..range.len() as usize].to_vec()
            });
            chunk.buffer_mut().expect("chunks from a pool have a buffer")[..found.len()].copy_from_slice(&found);
            Ok(chunk)
        }
        .boxed_local()
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { drop(self) }.boxed_local()
    }
}
