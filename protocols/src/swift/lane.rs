//! The lane's half of a destination in parts: segments, each sent while it is read.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use data_encoding::HEXLOWER;
use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, Method, header};
use md5::{Digest, Md5};

use super::{calls::Calls, refusal::Failure, segments::Segment, upload::Upload};
use crate::{
    Chunk, Code, Destination, Error, Interrupt,
    contract::Part,
    keystone::Hold,
    web::upload::{self, Answer, Commit, UploadDestination, UploadRequest},
};

/// The segments that lanes have written, by number. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<Mutex<BTreeMap<u32, Segment>>>);

impl Written {
    fn note(&self, number: u32, segment: Segment) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, segment);
    }

    /// What lanes have written so far.
    pub fn segments(&self) -> BTreeMap<u32, Segment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where one lane writes segments.
pub(super) struct SegmentsDestination {
    pub calls: Rc<Calls>,
    pub upload: Upload,
    pub written: Written,
    /// Cuts every wait. A request that is given up closes its connection.
    pub interrupt: Interrupt,
    pub _hold: Option<Hold>,
}

impl Destination for SegmentsDestination {
    fn write(&self, offset: u64, chunk: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            let mut segment = self.begin_part(offset, Some(chunk.len() as u64))?;
            segment.write(chunk).await?;
            segment.finish().await
        }
        .boxed_local()
    }

    fn begin_part(&self, offset: u64, bytes: Option<u64>) -> Result<Box<dyn Part>, Error> {
        let number = self.upload.cut.number(offset, bytes.unwrap_or(1))?;
        let Calls { client, address } = &*self.calls;
        let request = UploadRequest {
            method: Method::PUT,
            place: address.segment(&self.upload.segment(&address.target.object, number), &[])?,
            headers: HeaderMap::new(),
            length: bytes,
        };
        let (commit, waiting) = upload::ends(self.interrupt.clone());
        // What an answer means is looked at when it is there.
        let refusal = |_: &Answer| Error::retry(Code::WriteFailed, "the server refuses the segment");
        Ok(Box::new(SegmentUnderWay {
            stream: waiting.begin(client.clone(), request, refusal),
            commit,
            calls: self.calls.clone(),
            written: self.written.clone(),
            number,
            bytes: 0,
            md5: Md5::new(),
        }))
    }

    fn sync(&self) -> LocalBoxFuture<'_, Result<(), Error>> {
        // A segment lasts once it is acknowledged.
        async { Ok(()) }.boxed_local()
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        // Connections close with the last hold on them.
        async move { drop(self) }.boxed_local()
    }
}

/// A segment of which some was sent. Swift keeps nothing of one that breaks off.
struct SegmentUnderWay {
    stream: UploadDestination,
    commit: Commit,
    calls: Rc<Calls>,
    written: Written,
    number: u32,
    /// What was sent.
    bytes: u64,
    md5: Md5,
}

impl Part for SegmentUnderWay {
    fn write(&mut self, piece: Chunk) -> LocalBoxFuture<'_, Result<(), Error>> {
        async move {
            piece.pieces(|bytes| self.md5.update(bytes));
            let offset = self.bytes;
            self.bytes += piece.len() as u64;
            if self.stream.write(offset, piece).await.is_ok() {
                return Ok(());
            }
            // The server has answered already.
            let early = || self.calls.nonsense("answered before it had everything");
            Err(self.concluded().await.err().unwrap_or_else(early))
        }
        .boxed_local()
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), Error>> {
        async move {
            // Nothing more comes: in an object of unknown length, this is what ends it.
            let _ = self.stream.sync().await;
            let segment = self.concluded().await?;
            self.written.note(self.number, segment);
            Ok(())
        }
        .boxed_local()
    }
}

impl SegmentUnderWay {
    /// Ends the request: the segment as the server has it.
    async fn concluded(&self) -> Result<Segment, Error> {
        let Calls { client, address } = &*self.calls;
        let answer = self.commit.finish_on_lane().await?;
        if !answer.head.status.is_success() {
            if client.renews(&answer.head).await? {
                let why = format!("{}: the token had run out; it is renewed", address.target);
                return Err(Error::retry(Code::PermissionDenied, why));
            }
            let failure = Failure::refused(&answer.head, &answer.document, &address.target);
            return Err(self.calls.unless_missing(failure, &address.segments));
        }
        let md5 = HEXLOWER.encode(&self.md5.clone().finalize());
        let told = answer.head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
        match told.map(|tag| tag.trim_matches('"').to_ascii_lowercase()) {
            Some(told) if told == md5 => Ok(Segment { bytes: self.bytes, md5 }),
            told => Err(Error::retry(
                Code::WriteFailed,
                format!(
                    "{}: segment {} is not what was sent: its tag is {} instead of {md5}",
                    address.target,
                    self.number,
                    told.as_deref().unwrap_or("missing")
                ),
            )),
        }
    }
}
