//! What every destination must do: here, one attempt by itself.

mod attempts;
mod repairs;

use std::{collections::BTreeMap, rc::Rc};

use futures_util::future::join_all;

use super::{CHUNK_BYTES, DestinationHarness, begin, critical_sizes, must_fail, sample};
use crate::{
    ByteRange, CRC_BLOCK, Chunk, Code, Destination, Disposition, Error, Interrupt, Lane, ObjectUrl, Session,
    contract::{
        CommitError, DestinationRequest, Found, Identity, Overwrite, PreparedCommit, Present, SweepRequest, WriteShape,
    },
};

pub(super) async fn all(harness: &dyn DestinationHarness, lane: &Lane) {
    let suite = Suite { harness, lane };
    suite.everything_that_is_allowed_succeeds().await;
    if !harness.abilities().keeps {
        return suite.what_is_not_kept_is_not_read_back().await;
    }
    suite.objects_of_critical_sizes_are_committed_whole().await;
    suite.names_with_spaces_unicode_and_percent_signs_are_kept().await;
    suite.nothing_is_visible_before_commit().await;
    suite.writes_out_of_order_and_at_once_arrive().await;
    suite.what_was_written_is_read_back().await;
    suite.zeros_read_as_zero_also_over_old_bytes().await;
    suite.set_length_cuts_and_extends().await;
    suite.overwrite_never_refuses_what_is_there().await;
    suite.overwrite_never_refuses_what_came_meanwhile().await;
    suite.overwrite_always_replaces_at_commit_only().await;
    suite.discard_leaves_nothing_and_touches_nothing().await;
    suite.sweep_removes_what_attempts_left_and_nothing_else().await;
    suite.starting_over_finds_nothing().await;
    if harness.abilities().resumes {
        suite.a_later_attempt_finds_bytes_and_block_crcs().await;
        suite.of_several_earlier_attempts_the_last_counts().await;
    }
    if harness.abilities().identifies {
        suite.a_prepared_commit_is_recognised().await;
        suite.a_commit_that_was_prepared_but_not_done_is_not_recognised().await;
    }
    suite.a_stale_attempt_reaches_nothing().await;
    if harness.abilities().repairs {
        suite.only_a_repair_reads_what_is_there().await;
        suite.what_is_there_is_read_and_replaced_at_commit_only().await;
        suite.a_repair_that_ends_early_leaves_what_is_there().await;
        suite.what_is_right_may_stay_as_it_is().await;
        suite.what_changes_while_it_is_compared_does_not_stay().await;
        suite.a_stale_attempt_lets_nothing_stay().await;
        if harness.abilities().resumes {
            suite.a_later_attempt_goes_on_with_a_repair().await;
        }
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
}

const TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000001";
const OTHER_TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000002";

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

    fn sweep(&self, url: &ObjectUrl, transfer: &str) {
        let leavings =
            SweepRequest { url: url.clone(), options: self.harness.options(), transfer: transfer.into(), upload: None };
        self.harness.protocol().sweep(&leavings).expect("leavings are swept, also where there are none");
    }

    fn session(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        let protocol = self.harness.protocol();
        protocol.check_destination(&request.url, &request.options).expect("the policy half accepts it");
        protocol.begin(request)
    }

    async fn attempt(&self, request: &DestinationRequest) -> Attempt {
        let session = self.session(request).expect("the session begins");
        let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
        let destination = open(self.lane).await.expect("the lane's half opens");
        Attempt { session, destination }
    }

    async fn begin(&self, url: &ObjectUrl, epoch: u64) -> Attempt {
        self.attempt(&self.request(url, epoch)).await
    }

    async fn chunk(&self, bytes: &[u8]) -> Chunk {
        let mut chunk = self.lane.pool.take(bytes.len()).await;
        let buffer = chunk.buffer_mut().expect("chunks from a pool have a buffer");
        buffer[..bytes.len()].copy_from_slice(bytes);
        // What lies behind must not matter.
        buffer[bytes.len()..].fill(0xaa);
        chunk
    }

    async fn write(&self, attempt: &Attempt, offset: u64, bytes: &[u8]) {
        let chunk = self.chunk(bytes).await;
        attempt.destination.write(offset, chunk).await.expect("the chunk is written");
    }

    async fn write_all(&self, attempt: &Attempt, bytes: &[u8]) {
        for (index, bytes) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.write(attempt, (index * CHUNK_BYTES) as u64, bytes).await;
        }
    }

    /// Brings an attempt whose bytes are written to its end, as the contract orders it.
    async fn complete(&self, mut attempt: Attempt, length: usize) {
        attempt.session.sync_name().expect("the name is synced");
        attempt.session.set_length(length as u64).expect("the length is set");
        attempt.destination.sync().await.expect("everything is synced");
        attempt.destination.close().await;
        attempt.session.commit().expect("the object gets its name");
    }

    async fn read_back(&self, attempt: &Attempt, range: ByteRange) -> Vec<u8> {
        let chunk = attempt.destination.read_back(range, &self.lane.pool).await.expect("it is read back");
        assert_eq!(chunk.len() as u64, range.len(), "all of {range} is read back");
        chunk.bytes().map_or_else(|| vec![0; chunk.len()], <[u8]>::to_vec)
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

    async fn everything_that_is_allowed_succeeds(&self) {
        begin("everything_that_is_allowed_succeeds");
        let url = self.harness.url("everything");
        let mut attempt = self.begin(&url, 1).await;
        assert_eq!(attempt.session.found(), Found::Nothing);
        assert_eq!(attempt.session.identity().is_some(), self.harness.abilities().identifies);
        assert_eq!(attempt.session.load_block_crcs(9), Ok(BTreeMap::new()));
        self.write(&attempt, 0, &sample("everything", CHUNK_BYTES)).await;
        attempt.destination.zero(range(CHUNK_BYTES, 2 * CHUNK_BYTES), true).await.expect("a fresh hole");
        attempt.destination.zero(range(0, CRC_BLOCK as usize), false).await.expect("a punched hole");
        attempt.destination.write(2 * CHUNK_BYTES as u64, Chunk::zero(CHUNK_BYTES)).await.expect("zeros");
        attempt.session.append_block_crcs(&[(0, 1), (1, 2)]).expect("CRCs are noted");
        attempt.destination.sync().await.expect("it is synced");
        attempt.destination.sync().await.expect("it is synced again");
        self.complete(attempt, 3 * CHUNK_BYTES).await;
        self.sweep(&url, TRANSFER);
        self.sweep(&self.harness.url("never heard of"), TRANSFER);
        let mut attempt = self.begin(&self.harness.url("discarded"), 1).await;
        self.write(&attempt, 0, b"x").await;
        attempt.destination.close().await;
        attempt.session.discard().expect("it is discarded");
        self.assert_clean();
    }

    async fn what_is_not_kept_is_not_read_back(&self) {
        begin("what_is_not_kept_is_not_read_back");
        let attempt = self.begin(&self.harness.url("not kept"), 1).await;
        self.write(&attempt, 0, b"some bytes").await;
        let read = attempt.destination.read_back(range(0, 10), &self.lane.pool).await;
        let error = must_fail(read, &[Code::ReadFailed], "reading back");
        assert_eq!(error.disposition, Disposition::Fatal, "another try cannot help");
        self.complete(attempt, 10).await;
    }

    async fn objects_of_critical_sizes_are_committed_whole(&self) {
        begin("objects_of_critical_sizes_are_committed_whole");
        for len in critical_sizes() {
            let (url, bytes) = (self.harness.url(&format!("size-{len}")), sample("size", len));
            let attempt = self.begin(&url, 1).await;
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
            let attempt = self.begin(&url, 1).await;
            self.write_all(&attempt, &bytes).await;
            self.complete(attempt, bytes.len()).await;
            self.assert_visible(&url, Some(&bytes));
            self.assert_clean();
        }
    }

    async fn nothing_is_visible_before_commit(&self) {
        begin("nothing_is_visible_before_commit");
        let (url, bytes) = (self.harness.url("unseen"), sample("unseen", 3 * CHUNK_BYTES));
        let mut attempt = self.begin(&url, 1).await;
        self.assert_visible(&url, None);
        self.write_all(&attempt, &bytes).await;
        self.assert_visible(&url, None);
        attempt.session.sync_name().expect("the name is synced");
        attempt.session.set_length(bytes.len() as u64).expect("the length is set");
        attempt.destination.sync().await.expect("it is synced");
        self.assert_visible(&url, None);
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    async fn writes_out_of_order_and_at_once_arrive(&self) {
        begin("writes_out_of_order_and_at_once_arrive");
        let (url, bytes) = (self.harness.url("at once"), sample("at once", 4 * CHUNK_BYTES + 4097));
        let attempt = self.begin(&url, 1).await;
        let mut pieces: Vec<_> = range(0, bytes.len()).pieces(CHUNK_BYTES as u64).collect();
        pieces.reverse();
        pieces.swap(1, 3);
        let mut writes = Vec::new();
        for piece in &pieces {
            let chunk = self.chunk(&bytes[piece.start() as usize..piece.end() as usize]).await;
            writes.push(attempt.destination.write(piece.start(), chunk));
        }
        join_all(writes).await.into_iter().for_each(|written| written.expect("the chunk is written"));
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
    }

    async fn what_was_written_is_read_back(&self) {
        begin("what_was_written_is_read_back");
        let (url, bytes) = (self.harness.url("back"), sample("back", CHUNK_BYTES + 4099));
        let mut attempt = self.begin(&url, 1).await;
        self.write_all(&attempt, &bytes).await;
        let block = CRC_BLOCK as usize;
        let parts = [(0, block), (block, 2 * block), (0, CHUNK_BYTES), (CHUNK_BYTES, bytes.len())];
        for stage in ["as written", "synced", "with its length"] {
            for (start, end) in parts {
                let back = self.read_back(&attempt, range(start, end)).await;
                assert!(back == bytes[start..end], "{start}..{end} differs, {stage}");
            }
            match stage {
                "as written" => attempt.destination.sync().await.expect("it is synced"),
                _ => attempt.session.set_length(bytes.len() as u64).expect("the length is set"),
            }
        }
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
    }

    async fn zeros_read_as_zero_also_over_old_bytes(&self) {
        begin("zeros_read_as_zero_also_over_old_bytes");
        let block = CRC_BLOCK as usize;
        let url = self.harness.url("zeros");
        let mut bytes = sample("zeros", 6 * block + 1000);
        let attempt = self.begin(&url, 1).await;
        self.write(&attempt, 0, &bytes[..3 * block]).await;
        attempt.destination.zero(range(3 * block, 4 * block), true).await.expect("a fresh hole");
        attempt.destination.zero(range(block, 2 * block), false).await.expect("a punched hole");
        self.write(&attempt, 4 * block as u64, &bytes[4 * block..5 * block]).await;
        attempt.destination.write(4 * block as u64, Chunk::zero(block)).await.expect("zeros over bytes");
        self.write(&attempt, 5 * block as u64, &bytes[5 * block..6 * block]).await;
        // The end of the object, where nothing was written yet.
        attempt.destination.zero(range(6 * block, 6 * block + 1000), false).await.expect("zeros at the end");
        for hole in [(block, 2 * block), (3 * block, 5 * block), (6 * block, 6 * block + 1000)] {
            bytes[hole.0..hole.1].fill(0);
        }
        for piece in range(0, 6 * block).pieces(CRC_BLOCK) {
            let back = self.read_back(&attempt, piece).await;
            assert!(back == bytes[piece.start() as usize..piece.end() as usize], "{piece} differs");
        }
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
    }

    async fn set_length_cuts_and_extends(&self) {
        begin("set_length_cuts_and_extends");
        let written = sample("length", CHUNK_BYTES);
        for length in [0, 1, 4097, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17] {
            let url = self.harness.url(&format!("length-{length}"));
            let attempt = self.begin(&url, 1).await;
            self.write_all(&attempt, &written).await;
            self.complete(attempt, length).await;
            let mut bytes = written.clone();
            bytes.resize(length, 0);
            self.assert_visible(&url, Some(&bytes));
        }
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
        let mut attempt = self.begin(&url, 1).await;
        self.write(&attempt, 0, b"theirs").await;
        attempt.session.set_length(6).expect("the length is set");
        attempt.destination.sync().await.expect("it is synced");
        self.harness.place(&url, b"mine");
        attempt.destination.close().await;
        let Err(CommitError::NotDone(error)) = attempt.session.commit() else {
            panic!("it must be refused for certain")
        };
        assert_eq!(error.code, Code::DestinationExists, "committing over a new object: {error}");
        self.assert_visible(&url, Some(b"mine"));
        attempt.session.discard().expect("it is discarded");
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    async fn overwrite_always_replaces_at_commit_only(&self) {
        begin("overwrite_always_replaces_at_commit_only");
        let url = self.harness.url("replaced");
        self.harness.place(&url, b"the old one, which is longer");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 1) };
        let attempt = self.attempt(&request).await;
        assert_eq!(attempt.session.found(), Found::Nothing, "what is there is not this transfer's");
        self.write(&attempt, 0, b"the new one").await;
        self.assert_visible(&url, Some(b"the old one, which is longer"));
        self.complete(attempt, 11).await;
        self.assert_visible(&url, Some(b"the new one"));
        self.assert_clean();
    }

    async fn discard_leaves_nothing_and_touches_nothing(&self) {
        begin("discard_leaves_nothing_and_touches_nothing");
        let url = self.harness.url("discard");
        self.harness.place(&url, b"mine");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 1) };
        let mut attempt = self.attempt(&request).await;
        self.write_all(&attempt, &sample("discard", CHUNK_BYTES + 1)).await;
        attempt.session.append_block_crcs(&[(0, 1)]).expect("CRCs are noted");
        attempt.destination.close().await;
        attempt.session.discard().expect("it is discarded");
        self.assert_visible(&url, Some(b"mine"));
        self.assert_clean();
    }

    async fn sweep_removes_what_attempts_left_and_nothing_else(&self) {
        begin("sweep_removes_what_attempts_left_and_nothing_else");
        let (swept, kept) = (self.harness.url("swept"), self.harness.url("kept"));
        self.leave_partial(&self.request(&swept, 1), b"left").await;
        self.leave_partial(&self.request(&kept, 1), b"kept").await;
        let stranger = DestinationRequest { transfer: OTHER_TRANSFER.into(), ..self.request(&swept, 1) };
        self.leave_partial(&stranger, b"a stranger's").await;
        let before = self.harness.left_overs();
        self.sweep(&swept, TRANSFER);
        assert!(self.harness.left_overs() < before, "something was removed");
        self.sweep(&swept, TRANSFER);
        if self.harness.abilities().resumes {
            let attempt = self.begin(&kept, 2).await;
            assert_eq!(attempt.session.found(), Found::Partial, "the partial of another destination stays");
            assert_eq!(self.read_back(&attempt, range(0, 4)).await, b"kept");
            attempt.destination.close().await;
            let attempt = self.attempt(&DestinationRequest { epoch: 2, ..stranger }).await;
            assert_eq!(attempt.session.found(), Found::Partial, "the partial of another transfer stays");
            attempt.destination.close().await;
        }
        self.sweep(&kept, TRANSFER);
        self.sweep(&swept, OTHER_TRANSFER);
        self.assert_clean();

        let committed = self.begin(&swept, 3).await;
        self.write(&committed, 0, b"whole").await;
        self.complete(committed, 5).await;
        self.sweep(&swept, TRANSFER);
        self.assert_visible(&swept, Some(b"whole"));
    }
}

/// What the next attempt is told of a commit that was prepared.
fn commit_of(identity: Option<Identity>) -> Option<PreparedCommit> {
    Some(PreparedCommit { length: 5, identity })
}

fn range(start: usize, end: usize) -> ByteRange {
    ByteRange::new(start as u64, end as u64).expect("ranges of the suite are in order")
}
