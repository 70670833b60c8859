//! What every destination must do that takes one stream from the front.

use std::{rc::Rc, thread};

use tokio::sync::oneshot;

use super::{CHUNK_BYTES, DestinationHarness, begin, must_fail, sample};
use crate::{
    Code, Destination, Disposition, Error, Interrupt, Lane, ObjectUrl, Session,
    checksum::Hasher,
    contract::{DestinationRequest, Found, Overwrite, PreparedCommit, SweepRequest, WriteShape, Writes},
};

pub(super) async fn all(harness: &dyn DestinationHarness, lane: &Lane) {
    let suite = Suite { harness, lane };
    suite.objects_of_critical_sizes_are_committed_whole().await;
    suite.an_object_of_unknown_length_is_committed_whole().await;
    suite.nothing_is_visible_before_commit().await;
    suite.what_is_abandoned_is_not_visible_and_a_later_attempt_commits().await;
    suite.a_prepared_commit_is_recognised().await;
    suite.a_commit_that_was_prepared_but_not_done_is_not_recognised().await;
    suite.overwrite_never_refuses_what_is_there().await;
    suite.what_is_there_stays_until_it_is_replaced().await;
    suite.discard_leaves_nothing_and_touches_nothing().await;
    suite.sweep_removes_what_attempts_left_and_nothing_else().await;
}

const TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000001";
const OTHER_TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000002";

struct Suite<'a> {
    harness: &'a dyn DestinationHarness,
    lane: &'a Lane,
}

/// An attempt with its one lane.
struct Attempt {
    session: Box<dyn Session>,
    destination: Rc<dyn Destination>,
}

impl Suite<'_> {
    fn request(&self, url: &ObjectUrl, epoch: u64) -> DestinationRequest {
        DestinationRequest {
            url: url.clone(),
            options: self.harness.options(),
            transfer: TRANSFER.into(),
            epoch,
            overwrite: Overwrite::Never,
            resume: false,
            upload: None,
            prepared: None,
            interrupt: Interrupt::default(),
        }
    }

    async fn session(&self, request: DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let protocol = self.harness.protocol();
        protocol.check_destination(&request.url, &request.options).expect("the policy half accepts it");
        apart(move || protocol.begin(&request)).await
    }

    async fn attempt(&self, request: DestinationRequest, length: Option<u64>) -> Attempt {
        let session = self.session(request).await.expect("the session begins");
        assert_eq!(session.found(), Found::Nothing);
        let (mut session, writes) = with(session, move |session| session.writes(length)).await;
        assert_eq!(writes, Ok(Writes::InOrder));
        let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
        let destination = open(self.lane).await.expect("the lane's half opens");
        session.sync_name().expect("there is no name to sync yet");
        Attempt { session, destination }
    }

    async fn begin(&self, url: &ObjectUrl, length: usize) -> Attempt {
        self.attempt(self.request(url, 1), Some(length as u64)).await
    }

    /// Writes all of an object, and closes the lane's half, as the contract orders it.
    async fn write_all(&self, attempt: Attempt, bytes: &[u8]) -> Box<dyn Session> {
        let Attempt { mut session, destination } = attempt;
        for (index, bytes) in bytes.chunks(CHUNK_BYTES).enumerate() {
            let mut chunk = self.lane.pool.take(bytes.len()).await;
            let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
            buffer[..bytes.len()].copy_from_slice(bytes);
            // What lies behind must not matter.
            buffer[bytes.len()..].fill(0xaa);
            destination.write((index * CHUNK_BYTES) as u64, chunk).await.expect("the chunk is written");
        }
        session.set_length(bytes.len() as u64).expect("the length is set");
        if let Some(kind) = session.wants_checksum() {
            let mut hasher = Hasher::new(kind);
            hasher.update(bytes);
            session.note_checksum(hasher.finish());
        }
        destination.sync().await.expect("everything has left");
        destination.close().await;
        session
    }

    async fn commit(&self, session: Box<dyn Session>) -> Box<dyn Session> {
        let (session, committed) = with(session, |session| session.commit()).await;
        committed.expect("the object gets its name");
        session
    }

    async fn sweep(&self, url: &ObjectUrl, transfer: &str, upload: Option<String>) {
        let (protocol, options) = (self.harness.protocol(), self.harness.options());
        let leavings = SweepRequest { url: url.clone(), options, transfer: transfer.into(), upload };
        apart(move || protocol.sweep(&leavings)).await.expect("leavings are swept, also where there are none");
    }

    fn assert_visible(&self, url: &ObjectUrl, bytes: Option<&[u8]>) {
        let found = self.harness.visible(url);
        assert_eq!(found.as_ref().map(Vec::len), bytes.map(<[u8]>::len), "length of {url}");
        assert!(found.as_deref() == bytes, "the bytes of {url} differ");
    }

    fn assert_clean(&self) {
        assert_eq!(self.harness.left_overs(), 0, "something is left beside the objects");
    }

    async fn objects_of_critical_sizes_are_committed_whole(&self) {
        begin("objects_of_critical_sizes_are_committed_whole");
        for len in [0, 1, 4_097, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let (url, bytes) = (self.harness.url(&format!("size-{len}")), sample("size", len));
            let session = self.write_all(self.begin(&url, len).await, &bytes).await;
            self.commit(session).await;
            self.assert_visible(&url, Some(&bytes));
            self.assert_clean();
        }
    }

    async fn an_object_of_unknown_length_is_committed_whole(&self) {
        begin("an_object_of_unknown_length_is_committed_whole");
        for len in [0, CHUNK_BYTES, CHUNK_BYTES + 17] {
            let (url, bytes) = (self.harness.url(&format!("unknown-{len}")), sample("unknown", len));
            let session = self.write_all(self.attempt(self.request(&url, 1), None).await, &bytes).await;
            self.assert_visible(&url, None);
            self.commit(session).await;
            self.assert_visible(&url, Some(&bytes));
        }
    }

    async fn nothing_is_visible_before_commit(&self) {
        begin("nothing_is_visible_before_commit");
        for len in [0, 1, CHUNK_BYTES + 1] {
            let (url, bytes) = (self.harness.url(&format!("hidden-{len}")), sample("hidden", len));
            let session = self.write_all(self.begin(&url, len).await, &bytes).await;
            self.assert_visible(&url, None);
            self.commit(session).await;
            self.assert_visible(&url, Some(&bytes));
        }
    }

    async fn what_is_abandoned_is_not_visible_and_a_later_attempt_commits(&self) {
        begin("what_is_abandoned_is_not_visible_and_a_later_attempt_commits");
        let (url, bytes) = (self.harness.url("abandoned"), sample("abandoned", 2 * CHUNK_BYTES));
        let session = self.write_all(self.begin(&url, bytes.len()).await, &bytes).await;
        let upload = session.upload();
        drop(session);
        self.assert_visible(&url, None);
        let later = DestinationRequest { upload: upload.clone(), ..self.request(&url, 2) };
        let session = self.write_all(self.attempt(later, Some(bytes.len() as u64)).await, &bytes).await;
        self.commit(session).await;
        self.assert_visible(&url, Some(&bytes));
        self.sweep(&url, TRANSFER, upload).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn a_prepared_commit_is_recognised(&self) {
        begin("a_prepared_commit_is_recognised");
        let (url, bytes) = (self.harness.url("recognised"), sample("recognised", 5_000));
        let session = self.write_all(self.begin(&url, 5_000).await, &bytes).await;
        let session = self.commit(session).await;
        let prepared = Some(PreparedCommit { length: 5_000, identity: session.identity() });
        let request = DestinationRequest { prepared, upload: session.upload(), ..self.request(&url, 2) };
        let later = self.session(request.clone()).await.expect("the session begins");
        assert_eq!(later.found(), Found::Committed);
        drop(later);
        let other = PreparedCommit { length: 4_999, identity: None };
        match self.session(DestinationRequest { prepared: Some(other), ..request }).await {
            Ok(session) => assert_eq!(session.found(), Found::Nothing, "its length is another"),
            Err(error) => assert_eq!(error.code, Code::DestinationExists, "{error}"),
        }
        self.assert_visible(&url, Some(&bytes));
    }

    async fn a_commit_that_was_prepared_but_not_done_is_not_recognised(&self) {
        begin("a_commit_that_was_prepared_but_not_done_is_not_recognised");
        let (url, bytes) = (self.harness.url("not done"), sample("not done", 5_000));
        let session = self.write_all(self.begin(&url, 5_000).await, &bytes).await;
        let prepared = Some(PreparedCommit { length: 5_000, identity: session.identity() });
        let request = DestinationRequest { prepared, upload: session.upload(), ..self.request(&url, 2) };
        drop(session);
        let session = self.write_all(self.attempt(request, Some(5_000)).await, &bytes).await;
        self.commit(session).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn overwrite_never_refuses_what_is_there(&self) {
        begin("overwrite_never_refuses_what_is_there");
        let url = self.harness.url("there");
        self.harness.place(&url, b"mine");
        let error = must_fail(self.session(self.request(&url, 1)).await, &[Code::DestinationExists], "overwriting");
        assert_eq!(error.disposition, Disposition::Fatal);
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    /// A storage whose objects never change refuses to begin.
    async fn what_is_there_stays_until_it_is_replaced(&self) {
        begin("what_is_there_stays_until_it_is_replaced");
        let url = self.harness.url("replaced");
        self.harness.place(&url, b"the old one");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 1) };
        match self.session(request.clone()).await {
            Err(error) => assert_eq!(error.code, Code::DestinationExists, "{error}"),
            Ok(session) => {
                drop(session);
                let session = self.write_all(self.attempt(request, Some(7)).await, b"the new").await;
                self.assert_visible(&url, Some(b"the old one"));
                self.commit(session).await;
                self.assert_visible(&url, Some(b"the new"));
                return self.assert_clean();
            }
        }
        self.assert_visible(&url, Some(b"the old one"));
    }

    async fn discard_leaves_nothing_and_touches_nothing(&self) {
        begin("discard_leaves_nothing_and_touches_nothing");
        for written in [0, CHUNK_BYTES + 1] {
            let url = self.harness.url(&format!("discarded-{written}"));
            let bytes = sample("discarded", CHUNK_BYTES + 1);
            let attempt = self.begin(&url, bytes.len()).await;
            let session = if written > 0 {
                self.write_all(attempt, &bytes).await
            } else {
                attempt.destination.close().await;
                attempt.session
            };
            let (session, discarded) = with(session, |session| session.discard()).await;
            discarded.expect("it is discarded");
            drop(session);
            self.assert_visible(&url, None);
            self.assert_clean();
        }
        let (url, bytes) = (self.harness.url("kept"), sample("kept", 3));
        let session = self.write_all(self.begin(&url, 3).await, &bytes).await;
        let session = self.commit(session).await;
        let (_, discarded) = with(session, |session| session.discard()).await;
        discarded.expect("there is nothing to discard");
        self.assert_visible(&url, Some(&bytes));
    }

    async fn sweep_removes_what_attempts_left_and_nothing_else(&self) {
        begin("sweep_removes_what_attempts_left_and_nothing_else");
        let (url, bytes) = (self.harness.url("swept"), sample("swept", CHUNK_BYTES + 1));
        let session = self.write_all(self.begin(&url, bytes.len()).await, &bytes).await;
        let upload = session.upload();
        drop(session);
        let before = self.harness.left_overs();
        self.sweep(&url, OTHER_TRANSFER, upload.clone()).await;
        assert_eq!(self.harness.left_overs(), before, "a stranger's are left alone");
        self.sweep(&url, TRANSFER, upload.clone()).await;
        self.sweep(&url, TRANSFER, upload).await;
        self.sweep(&self.harness.url("never heard of"), TRANSFER, None).await;
        self.assert_visible(&url, None);
        self.assert_clean();
    }
}

/// Does what blocks, on a thread of its own: the lane goes on meanwhile.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || drop(tell.send(work())));
    told.await.expect("it does not panic")
}

/// The same with a session.
async fn with<T: Send + 'static>(
    mut session: Box<dyn Session>,
    work: impl FnOnce(&mut dyn Session) -> T + Send + 'static,
) -> (Box<dyn Session>, T) {
    apart(move || {
        let result = work(session.as_mut());
        (session, result)
    })
    .await
}
