//! What one attempt has left and another one finds: resuming, commits that were prepared, and attempts that are over and do
//! not know it.

use super::*;

impl Suite<'_> {
    /// An attempt that writes, syncs, and ends without a word, as one does that was killed.
    pub(super) async fn leave_partial(&self, request: &DestinationRequest, bytes: &[u8]) -> Option<Identity> {
        let mut attempt = self.attempt(request).await;
        self.write_all(&attempt, bytes).await;
        let crcs = bytes.chunks(CRC_BLOCK as usize).map(crc32fast::hash).enumerate();
        let crcs: Vec<_> = crcs.map(|(block, crc)| (block as u64, crc)).collect();
        attempt.session.append_block_crcs(&crcs).expect("CRCs are noted");
        attempt.session.sync_name().expect("the name is synced");
        attempt.destination.sync().await.expect("it is synced");
        attempt.destination.close().await;
        attempt.session.identity()
    }

    pub(super) async fn starting_over_finds_nothing(&self) {
        begin("starting_over_finds_nothing");
        let url = self.harness.url("over");
        self.leave_partial(&self.request(&url, 1), &sample("over", CHUNK_BYTES)).await;
        let mut attempt = self.attempt(&DestinationRequest { resume: false, ..self.request(&url, 2) }).await;
        assert_eq!(attempt.session.found(), Found::Nothing);
        assert_eq!(attempt.session.load_block_crcs(9), Ok(BTreeMap::new()), "old CRCs are not believed");
        self.write(&attempt, CRC_BLOCK, b"new").await;
        let zeros = self.read_back(&attempt, range(0, CRC_BLOCK as usize)).await;
        assert!(zeros.iter().all(|byte| *byte == 0), "nobody ever wrote there");
        self.complete(attempt, CRC_BLOCK as usize + 3).await;
        self.assert_clean();
    }

    pub(super) async fn a_later_attempt_finds_bytes_and_block_crcs(&self) {
        begin("a_later_attempt_finds_bytes_and_block_crcs");
        let (url, bytes) = (self.harness.url("resumed"), sample("resumed", CHUNK_BYTES + CRC_BLOCK as usize));
        let identity = self.leave_partial(&self.request(&url, 1), &bytes).await;
        self.assert_visible(&url, None);
        let mut attempt = self.begin(&url, 7).await;
        assert_eq!(attempt.session.found(), Found::Partial);
        assert_eq!(attempt.session.identity(), identity, "it is the same partial");
        let crcs = attempt.session.load_block_crcs(9).expect("CRCs are found");
        let expected = bytes.chunks(CRC_BLOCK as usize).map(crc32fast::hash);
        assert_eq!(crcs, (0..).zip(expected).collect());
        let first = attempt.session.load_block_crcs(1).expect("CRCs are found");
        assert!(first.into_iter().eq(crcs.into_iter().take(1)), "no more than was asked for");
        let back = self.read_back(&attempt, range(0, CHUNK_BYTES)).await;
        assert!(back == bytes[..CHUNK_BYTES], "the bytes differ");
        let longer = sample("longer", CRC_BLOCK as usize + 5);
        self.write(&attempt, bytes.len() as u64, &longer).await;
        attempt.session.append_block_crcs(&[(0, 99)]).expect("CRCs are noted");
        let crcs = attempt.session.load_block_crcs(9).expect("CRCs are found");
        assert_eq!(crcs.get(&0), Some(&99), "the later entry wins");
        let whole = [bytes, longer].concat();
        self.complete(attempt, whole.len()).await;
        self.assert_visible(&url, Some(&whole));
        self.assert_clean();
    }

    pub(super) async fn of_several_earlier_attempts_the_last_counts(&self) {
        begin("of_several_earlier_attempts_the_last_counts");
        let url = self.harness.url("several");
        for (epoch, byte) in [(1, b"a"), (2, b"b"), (9, b"c"), (10, b"d")] {
            self.leave_partial(&self.request(&url, epoch), byte).await;
        }
        let attempt = self.begin(&url, 11).await;
        assert_eq!(attempt.session.found(), Found::Partial);
        assert_eq!(self.read_back(&attempt, range(0, 1)).await, b"d");
        self.complete(attempt, 1).await;
        self.assert_visible(&url, Some(b"d"));
        self.assert_clean();
    }

    pub(super) async fn a_prepared_commit_is_recognised(&self) {
        begin("a_prepared_commit_is_recognised");
        let url = self.harness.url("recognised");
        let attempt = self.begin(&url, 1).await;
        self.write(&attempt, 0, b"whole").await;
        let prepared = attempt.session.identity();
        self.complete(attempt, 5).await;
        // The commit was done, but nobody heard of it.
        for overwrite in [Overwrite::Never, Overwrite::Always] {
            let request = DestinationRequest { prepared: commit_of(prepared), overwrite, ..self.request(&url, 2) };
            let mut session = self.session(&request).expect("the session begins");
            assert_eq!(session.found(), Found::Committed, "{overwrite:?}");
            session.discard().expect("there is nothing to discard");
            self.assert_visible(&url, Some(b"whole"));
        }
        self.assert_clean();
    }

    pub(super) async fn a_commit_that_was_prepared_but_not_done_is_not_recognised(&self) {
        begin("a_commit_that_was_prepared_but_not_done_is_not_recognised");
        let url = self.harness.url("not done");
        let prepared = self.leave_partial(&self.request(&url, 1), b"whole").await;
        self.harness.place(&url, b"mine");
        let request = DestinationRequest { prepared: commit_of(prepared), ..self.request(&url, 2) };
        must_fail(self.session(&request), &[Code::DestinationExists], "taking a foreign object for a commit");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..request };
        let attempt = self.attempt(&request).await;
        assert_ne!(attempt.session.found(), Found::Committed, "what is there is not this transfer's");
        self.write(&attempt, 0, b"whole").await;
        self.complete(attempt, 5).await;
        self.assert_visible(&url, Some(b"whole"));
        self.assert_clean();
    }

    /// A paused process that goes on after another has taken over: it must reach neither the new partial nor the
    /// destination.
    pub(super) async fn a_stale_attempt_reaches_nothing(&self) {
        begin("a_stale_attempt_reaches_nothing");
        let (url, bytes) = (self.harness.url("stale"), sample("stale", CHUNK_BYTES));
        let mut stale = self.begin(&url, 1).await;
        self.write_all(&stale, &bytes).await;
        stale.destination.sync().await.expect("it is synced");
        let reopen = stale.session.open_on_lane(WriteShape { aligned: true });

        let mut attempt = self.begin(&url, 2).await;
        let resumed = attempt.session.found() == Found::Partial;
        self.write_all(&attempt, &bytes).await;

        // From here on the stale one does its worst. What it is told does not matter, what becomes of the object does.
        let chunk = self.chunk(&sample("poison", CHUNK_BYTES)).await;
        drop(stale.destination.write(0, chunk).await);
        drop(stale.destination.zero(range(0, CRC_BLOCK as usize), false).await);
        drop(stale.session.set_length(1));
        if let Ok(open) = reopen
            && let Ok(another) = open(self.lane).await
        {
            let chunk = self.chunk(&sample("poison", CHUNK_BYTES)).await;
            drop(another.write(0, chunk).await);
            another.close().await;
        }
        assert!(stale.session.commit().is_err(), "a stale attempt cannot commit");
        self.assert_visible(&url, None);
        drop(stale.session.discard());
        stale.destination.close().await;
        drop(stale.session);

        let back = self.read_back(&attempt, range(0, CHUNK_BYTES)).await;
        assert!(back == bytes, "the stale attempt wrote into the new one's partial (resumed: {resumed})");
        attempt.session.append_block_crcs(&[(0, 1)]).expect("the new attempt's CRCs are noted");
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }
}
