//! What every destination must do that takes parts: [`Writes::Parts`].
//!
//! A session is called on a thread of its own, as that of an attempt is: it may drive a runtime.

mod attempts;

use std::{rc::Rc, thread};

use futures_util::future::join_all;

use super::{DestinationHarness, begin, must_fail, sample};
use crate::{
    ByteRange, CRC_BLOCK, Chunk, Code, Destination, Disposition, Error, Interrupt, Lane, ObjectUrl, Session,
    contract::{
        CommitError, DestinationRequest, Found, Overwrite, Part, PreparedCommit, SweepRequest, UPLOAD_BYTES_MAX,
        WriteShape, Writes,
    },
};

pub(super) async fn all(harness: &dyn DestinationHarness, lane: &Lane) {
    let suite = Suite { harness, lane };
    suite.objects_of_critical_sizes_are_committed_whole().await;
    suite.names_with_spaces_unicode_and_percent_signs_are_kept().await;
    suite.nothing_is_visible_before_commit().await;
    suite.parts_out_of_order_and_at_once_arrive().await;
    suite.a_part_that_is_written_twice_is_there_once().await;
    suite.parts_that_are_known_to_be_zero_arrive().await;
    suite.an_object_of_unknown_length_is_committed_whole().await;
    suite.an_object_with_a_hole_is_not_committed().await;
    suite.a_part_that_broke_off_is_written_anew().await;
    suite.overwrite_never_refuses_what_is_there().await;
    suite.overwrite_never_refuses_what_came_meanwhile().await;
    suite.overwrite_always_replaces_at_commit_only().await;
    suite.discard_leaves_nothing_and_touches_nothing().await;
    suite.sweep_removes_what_attempts_left_and_nothing_else().await;
    suite.a_prepared_commit_is_recognised().await;
    suite.a_commit_that_was_prepared_but_not_done_is_not_recognised().await;
    suite.what_is_interrupted_is_canceled_and_can_be_discarded().await;
    if harness.abilities().resumes {
        suite.a_later_attempt_goes_on_with_the_parts().await;
        suite.what_is_kept_is_what_is_there().await;
        suite.an_upload_that_is_gone_is_begun_anew().await;
        suite.starting_over_gives_the_earlier_upload_up().await;
    }
}

struct Suite<'a> {
    harness: &'a dyn DestinationHarness,
    lane: &'a Lane,
}

/// An attempt with one lane.
struct Attempt {
    session: Box<dyn Session>,
    destination: Rc<dyn Destination>,
    part_bytes: u64,
    streamed: bool,
    knows_length: bool,
}

const TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000001";

/// Runs what a session does on a thread of its own.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Suite<'_> {
    fn request(&self, url: &ObjectUrl, epoch: u64) -> DestinationRequest {
        DestinationRequest {
            url: url.clone(),
            options: self.harness.options(),
            transfer: TRANSFER.into(),
            epoch,
            overwrite: Overwrite::Never,
            resume: true,
            upload: None,
            prepared: None,
            interrupt: Interrupt::default(),
        }
    }

    fn session(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let protocol = self.harness.protocol();
        protocol.check_destination(&request.url, &request.options).expect("the policy half accepts it");
        apart(|| protocol.begin(request))
    }

    /// Length of the parts that an object of this length is written in, and whether they are streamed.
    fn part_bytes(&self, session: &mut dyn Session, length: Option<u64>) -> Result<(u64, bool), Error> {
        match apart(|| session.writes(length))? {
            Writes::Parts { bytes, streamed } => {
                assert!(bytes > 0 && bytes % CRC_BLOCK == 0, "parts of {bytes} bytes are not made of whole blocks");
                Ok((bytes, streamed))
            }
            other => panic!("this storage takes no parts, but {other:?}"),
        }
    }

    async fn attempt(&self, request: &DestinationRequest, length: Option<u64>) -> Attempt {
        let mut session = self.session(request).expect("the session begins");
        let (part_bytes, streamed) = self.part_bytes(&mut *session, length).expect("it says how it is written");
        if let Some(upload) = session.upload() {
            assert!((1..=UPLOAD_BYTES_MAX).contains(&upload.len()), "an upload of {} bytes", upload.len());
        }
        let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
        let destination = open(self.lane).await.expect("the lane's half opens");
        Attempt { session, destination, part_bytes, streamed, knows_length: length.is_some() }
    }

    async fn begin(&self, url: &ObjectUrl, epoch: u64, length: usize) -> Attempt {
        self.attempt(&self.request(url, epoch), Some(length as u64)).await
    }

    /// Length of the parts of short objects.
    async fn usual_part_bytes(&self) -> usize {
        let attempt = self.begin(&self.harness.url("usual"), 1, 1).await;
        let part_bytes = attempt.part_bytes as usize;
        self.discard(attempt).await;
        part_bytes
    }

    async fn chunk(&self, bytes: &[u8]) -> Chunk {
        let mut chunk = self.lane.pool.take(bytes.len()).await;
        let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
        buffer[..bytes.len()].copy_from_slice(bytes);
        // What lies behind must not matter.
        buffer[bytes.len()..].fill(0xaa);
        chunk
    }

    /// Writes the part of `object` that has this number, counted from 0.
    async fn write(&self, attempt: &Attempt, object: &[u8], index: usize) {
        let start = index * attempt.part_bytes as usize;
        let part = &object[start..object.len().min(start + attempt.part_bytes as usize)];
        self.put(attempt, start, part).await.expect("the part is written");
    }

    /// Writes the part that begins at `start`, in two pieces and a chunk of zeros where parts are streamed.
    async fn put(&self, attempt: &Attempt, start: usize, part: &[u8]) -> Result<(), Error> {
        if !attempt.streamed {
            return attempt.destination.write(start as u64, self.chunk(part).await).await;
        }
        let mut stream = self.put_half(attempt, start, part).await?;
        let rest = &part[part.len().min(CRC_BLOCK as usize)..];
        if !rest.is_empty() {
            let is_zero = rest.iter().all(|byte| *byte == 0);
            stream.write(if is_zero { Chunk::zero(rest.len()) } else { self.chunk(rest).await }).await?;
        }
        stream.finish().await
    }

    /// Begins a streamed part, and writes its first piece.
    async fn put_half(&self, attempt: &Attempt, start: usize, part: &[u8]) -> Result<Box<dyn Part>, Error> {
        let bytes = Some(part.len() as u64).filter(|_| attempt.knows_length);
        let mut stream = attempt.destination.begin_part(start as u64, bytes)?;
        stream.write(self.chunk(&part[..part.len().min(CRC_BLOCK as usize)]).await).await?;
        Ok(stream)
    }

    async fn write_all(&self, attempt: &Attempt, object: &[u8]) {
        for index in 0..object.len().div_ceil(attempt.part_bytes as usize) {
            self.write(attempt, object, index).await;
        }
    }

    /// Brings an attempt whose parts are written to the moment before its commit, as the contract orders it.
    async fn finish(&self, mut attempt: Attempt, length: usize) -> Box<dyn Session> {
        let session = &mut attempt.session;
        apart(|| session.sync_name()).expect("the name is synced");
        apart(|| session.set_length(length as u64)).expect("the length is set");
        attempt.destination.sync().await.expect("everything is synced");
        attempt.destination.close().await;
        attempt.session
    }

    async fn complete(&self, attempt: Attempt, length: usize) {
        let mut session = self.finish(attempt, length).await;
        apart(|| session.commit()).expect("the object gets its name");
    }

    async fn discard(&self, attempt: Attempt) {
        attempt.destination.close().await;
        let mut session = attempt.session;
        apart(|| session.discard()).expect("it is discarded");
    }

    fn sweep(&self, url: &ObjectUrl, upload: Option<String>) {
        let (protocol, options) = (self.harness.protocol(), self.harness.options());
        let leavings = SweepRequest { url: url.clone(), options, transfer: TRANSFER.into(), upload };
        apart(|| protocol.sweep(&leavings)).expect("leavings are swept, also where there are none");
    }

    fn assert_visible(&self, url: &ObjectUrl, bytes: Option<&[u8]>) {
        let found = self.harness.visible(url);
        match (&found, bytes) {
            (None, None) => (),
            (Some(found), Some(bytes)) => {
                assert_eq!(found.len(), bytes.len(), "length of {url}");
                assert!(found == bytes, "the bytes of {url} differ");
            }
            _ => panic!("{url}: there is {}, but that is wrong", if found.is_some() { "something" } else { "nothing" }),
        }
    }

    fn assert_clean(&self) {
        assert_eq!(self.harness.left_overs(), 0, "something is left beside the objects");
    }

    async fn objects_of_critical_sizes_are_committed_whole(&self) {
        begin("objects_of_critical_sizes_are_committed_whole");
        let part = self.usual_part_bytes().await;
        for len in [0, 1, part - 1, part, part + 1, 2 * part + 4_097] {
            let (url, bytes) = (self.harness.url(&format!("size-{len}")), sample("size", len));
            let attempt = self.begin(&url, 1, len).await;
            assert_eq!(attempt.session.found(), Found::Nothing);
            self.write_all(&attempt, &bytes).await;
            self.complete(attempt, len).await;
            self.assert_visible(&url, Some(&bytes));
            self.assert_clean();
        }
    }

    async fn names_with_spaces_unicode_and_percent_signs_are_kept(&self) {
        begin("names_with_spaces_unicode_and_percent_signs_are_kept");
        for name in ["two words", "größe 你好", "100%", "%41 %2e%2e", "a+b&c=d;e#f?g", "-", ".hidden", "\"quoted'"]
        {
            let (url, bytes) = (self.harness.url(name), sample(name, 17));
            let attempt = self.begin(&url, 1, bytes.len()).await;
            self.write_all(&attempt, &bytes).await;
            self.complete(attempt, bytes.len()).await;
            self.assert_visible(&url, Some(&bytes));
        }
        self.assert_clean();
    }

    async fn nothing_is_visible_before_commit(&self) {
        begin("nothing_is_visible_before_commit");
        let url = self.harness.url("unseen");
        let bytes = sample("unseen", self.usual_part_bytes().await + 1);
        let attempt = self.begin(&url, 1, bytes.len()).await;
        self.assert_visible(&url, None);
        self.write_all(&attempt, &bytes).await;
        self.assert_visible(&url, None);
        let mut session = self.finish(attempt, bytes.len()).await;
        self.assert_visible(&url, None);
        apart(|| session.commit()).expect("the object gets its name");
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn parts_out_of_order_and_at_once_arrive(&self) {
        begin("parts_out_of_order_and_at_once_arrive");
        let url = self.harness.url("at once");
        let bytes = sample("at once", 3 * self.usual_part_bytes().await + 4_097);
        let attempt = self.begin(&url, 1, bytes.len()).await;
        let mut pieces: Vec<_> = range(0, bytes.len()).pieces(attempt.part_bytes).collect();
        pieces.reverse();
        pieces.swap(1, 3);
        let mut writes = Vec::new();
        for piece in &pieces {
            let (start, end) = (piece.start() as usize, piece.end() as usize);
            writes.push(self.put(&attempt, start, &bytes[start..end]));
        }
        join_all(writes).await.into_iter().for_each(|written| written.expect("the part is written"));
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    /// As it is after an answer that was lost. What is written again is the same: both attempts at it read one version
    /// of the source.
    async fn a_part_that_is_written_twice_is_there_once(&self) {
        begin("a_part_that_is_written_twice_is_there_once");
        let url = self.harness.url("twice");
        let bytes = sample("twice", self.usual_part_bytes().await + 7);
        let attempt = self.begin(&url, 1, bytes.len()).await;
        self.write_all(&attempt, &bytes).await;
        self.write_all(&attempt, &bytes).await;
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn parts_that_are_known_to_be_zero_arrive(&self) {
        begin("parts_that_are_known_to_be_zero_arrive");
        let url = self.harness.url("zeros");
        let mut bytes = sample("zeros", self.usual_part_bytes().await + 7);
        let attempt = self.begin(&url, 1, bytes.len()).await;
        let part = attempt.part_bytes as usize;
        bytes[..part].fill(0);
        match attempt.streamed {
            true => self.write(&attempt, &bytes, 0).await,
            false => attempt.destination.write(0, Chunk::zero(part)).await.expect("the part is written"),
        }
        self.write(&attempt, &bytes, 1).await;
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn an_object_of_unknown_length_is_committed_whole(&self) {
        begin("an_object_of_unknown_length_is_committed_whole");
        for len in [0, 1000] {
            let (url, bytes) = (self.harness.url(&format!("unknown-{len}")), sample("unknown", len));
            let attempt = self.attempt(&self.request(&url, 1), None).await;
            self.write_all(&attempt, &bytes).await;
            self.complete(attempt, len).await;
            self.assert_visible(&url, Some(&bytes));
            self.assert_clean();
        }
    }

    async fn an_object_with_a_hole_is_not_committed(&self) {
        begin("an_object_with_a_hole_is_not_committed");
        let url = self.harness.url("hole");
        let bytes = sample("hole", self.usual_part_bytes().await + 7);
        for missing in [0, 1] {
            let attempt = self.begin(&url, 1, bytes.len()).await;
            self.write(&attempt, &bytes, 1 - missing).await;
            let mut session = self.finish(attempt, bytes.len()).await;
            let committed = apart(|| session.commit());
            assert!(matches!(committed, Err(CommitError::NotDone(_))), "{committed:?}");
            self.assert_visible(&url, None);
            apart(|| session.discard()).expect("it is discarded");
        }
        self.assert_clean();
    }

    /// Only where parts are streamed.
    async fn a_part_that_broke_off_is_written_anew(&self) {
        begin("a_part_that_broke_off_is_written_anew");
        let url = self.harness.url("broken off");
        let bytes = sample("broken off", self.usual_part_bytes().await + 7);
        let attempt = self.begin(&url, 1, bytes.len()).await;
        if attempt.streamed {
            let part = &bytes[..attempt.part_bytes as usize];
            drop(self.put_half(&attempt, 0, part).await.expect("a piece is written"));
            let other = sample("something else", part.len());
            drop(self.put_half(&attempt, 0, &other).await.expect("a piece is written"));
            self.assert_visible(&url, None);
        }
        self.write_all(&attempt, &bytes).await;
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn overwrite_never_refuses_what_is_there(&self) {
        begin("overwrite_never_refuses_what_is_there");
        let url = self.harness.url("there");
        self.harness.place(&url, b"mine");
        let error = must_fail(self.session(&self.request(&url, 1)), &[Code::DestinationExists], "overwriting");
        assert_eq!(error.disposition, Disposition::Fatal);
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    async fn overwrite_never_refuses_what_came_meanwhile(&self) {
        begin("overwrite_never_refuses_what_came_meanwhile");
        let url = self.harness.url("meanwhile");
        let attempt = self.begin(&url, 1, 6).await;
        self.write_all(&attempt, b"theirs").await;
        self.harness.place(&url, b"mine");
        let mut session = self.finish(attempt, 6).await;
        match apart(|| session.commit()) {
            Err(CommitError::NotDone(error)) => {
                assert_eq!(error.code, Code::DestinationExists, "committing over a new object: {error}");
            }
            other => panic!("it must be refused for certain: {other:?}"),
        }
        self.assert_visible(&url, Some(b"mine"));
        apart(|| session.discard()).expect("it is discarded");
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    async fn overwrite_always_replaces_at_commit_only(&self) {
        begin("overwrite_always_replaces_at_commit_only");
        let url = self.harness.url("replaced");
        self.harness.place(&url, b"the old one, which is longer");
        for new in [&b"the new one"[..], b""] {
            let old = self.harness.visible(&url).expect("something is there");
            let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 1) };
            let attempt = self.attempt(&request, Some(new.len() as u64)).await;
            assert_eq!(attempt.session.found(), Found::Nothing, "what is there is not this attempt's");
            self.write_all(&attempt, new).await;
            let mut session = self.finish(attempt, new.len()).await;
            self.assert_visible(&url, Some(&old));
            apart(|| session.commit()).expect("the object gets its name");
            self.assert_visible(&url, Some(new));
        }
        self.assert_clean();
    }

    async fn discard_leaves_nothing_and_touches_nothing(&self) {
        begin("discard_leaves_nothing_and_touches_nothing");
        let url = self.harness.url("discard");
        self.harness.place(&url, b"mine");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 1) };
        let bytes = sample("discard", self.usual_part_bytes().await + 1);
        let attempt = self.attempt(&request, Some(bytes.len() as u64)).await;
        self.write_all(&attempt, &bytes).await;
        self.discard(attempt).await;
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    async fn what_is_interrupted_is_canceled_and_can_be_discarded(&self) {
        begin("what_is_interrupted_is_canceled_and_can_be_discarded");
        let url = self.harness.url("interrupted");
        let request = self.request(&url, 1);
        let attempt = self.attempt(&request, Some(5)).await;
        request.interrupt.raise();
        if let Err(error) = self.put(&attempt, 0, b"whole").await {
            assert_eq!(error, Error::canceled());
        }
        if let Err(error) = self.session(&request).map(|session| apart(move || drop(session))) {
            assert_eq!(error, Error::canceled());
        }
        self.discard(attempt).await;
        self.assert_visible(&url, None);
        self.assert_clean();
    }
}

fn range(start: usize, end: usize) -> ByteRange {
    ByteRange::new(start as u64, end as u64).expect("ranges of the suite are in order")
}
