//! Repairs: what is at the destination is read, and replaced at commit only.

use super::*;

impl Suite<'_> {
    /// Begins a repair: an attempt, and what it found.
    pub(super) async fn repair(&self, url: &ObjectUrl, epoch: u64) -> (Attempt, Option<Present>) {
        let request = DestinationRequest { overwrite: Overwrite::Repair, ..self.request(url, epoch) };
        let mut session = self.session(&request).expect("the session begins");
        let present = session.use_present().expect("it is looked at");
        let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
        let destination = open(self.lane).await.expect("the lane's half opens");
        (Attempt { session, destination }, present)
    }

    pub(super) async fn read_present(&self, attempt: &Attempt, range: ByteRange) -> Vec<u8> {
        let chunk = attempt.destination.read_present(range, &self.lane.pool).await.expect("it is read");
        assert_eq!(chunk.len() as u64, range.len(), "all of {range} is read");
        chunk.bytes().map_or_else(|| vec![0; chunk.len()], <[u8]>::to_vec)
    }

    pub(super) async fn only_a_repair_reads_what_is_there(&self) {
        begin("only_a_repair_reads_what_is_there");
        let url = self.harness.url("not read");
        let (mut attempt, present) = self.repair(&url, 1).await;
        assert_eq!(present, None, "nothing is there");
        attempt.destination.close().await;
        attempt.session.discard().expect("it is discarded");
        self.harness.place(&url, b"mine");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..self.request(&url, 2) };
        let mut attempt = self.attempt(&request).await;
        assert_eq!(attempt.session.use_present(), Ok(None), "it shall be replaced, and not read");
        assert_eq!(attempt.session.keep_present(), Ok(false));
        assert!(attempt.destination.read_present(range(0, 4), &self.lane.pool).await.is_err());
        self.write(&attempt, 0, b"new").await;
        self.complete(attempt, 3).await;
        self.assert_visible(&url, Some(b"new"));
        self.assert_clean();
    }

    /// Block 0 is right, block 1 is not, block 2 is zero and the source's is too; shorter, as long and longer.
    pub(super) async fn what_is_there_is_read_and_replaced_at_commit_only(&self) {
        begin("what_is_there_is_read_and_replaced_at_commit_only");
        let block = CRC_BLOCK as usize;
        for (name, length) in [("shorter", 2 * block + 9), ("as long", 3 * block + 17), ("longer", 4 * block + 1)] {
            let url = self.harness.url(&format!("repaired {name}"));
            let mut wanted = sample("repaired", 3 * block + 17);
            wanted[2 * block..3 * block].fill(0);
            let mut old = wanted.clone();
            old[block + 5] ^= 1;
            old.resize(length, 7);
            self.harness.place(&url, &old);
            let (mut attempt, present) = self.repair(&url, 1).await;
            let present = present.expect("it is looked at");
            assert_eq!((attempt.session.found(), present.length), (Found::Nothing, length as u64));
            // As an attempt does.
            attempt.session.set_length(wanted.len() as u64).expect("the length is set");
            for piece in range(0, length.min(wanted.len())).pieces(CRC_BLOCK) {
                let bytes = self.read_present(&attempt, piece).await;
                let place = piece.start() as usize..piece.end() as usize;
                assert!(bytes == old[place.clone()], "{piece} differs");
                if bytes != wanted[place.clone()] {
                    self.write(&attempt, piece.start(), &wanted[place]).await;
                } else if !present.in_place {
                    self.write(&attempt, piece.start(), &bytes).await;
                }
                self.assert_visible(&url, Some(&old));
            }
            let last = 3 * block;
            self.write(&attempt, last as u64, &wanted[last..]).await;
            if length < wanted.len() {
                attempt.destination.zero(range(2 * block, last), !present.in_place).await.expect("zeros");
            }
            let back = self.read_back(&attempt, range(0, 2 * block)).await;
            assert!(back == wanted[..2 * block], "what is written and what stays is read back");
            self.complete(attempt, wanted.len()).await;
            self.assert_visible(&url, Some(&wanted));
            self.assert_clean();
        }
    }

    pub(super) async fn a_repair_that_ends_early_leaves_what_is_there(&self) {
        begin("a_repair_that_ends_early_leaves_what_is_there");
        let (url, old) = (self.harness.url("left alone"), sample("left alone", CHUNK_BYTES + 3));
        self.harness.place(&url, &old);
        let (mut attempt, present) = self.repair(&url, 1).await;
        assert!(present.is_some());
        self.write_all(&attempt, &sample("other", CHUNK_BYTES)).await;
        attempt.destination.zero(range(0, CRC_BLOCK as usize), false).await.expect("a punched hole");
        attempt.session.set_length(5).expect("the length is set");
        attempt.destination.sync().await.expect("it is synced");
        self.assert_visible(&url, Some(&old));
        attempt.destination.close().await;
        attempt.session.discard().expect("it is discarded");
        self.assert_visible(&url, Some(&old));
        self.assert_clean();
    }

    pub(super) async fn what_is_right_may_stay_as_it_is(&self) {
        begin("what_is_right_may_stay_as_it_is");
        let (url, old) = (self.harness.url("stays"), sample("stays", CHUNK_BYTES + 3));
        self.harness.place(&url, &old);
        let (mut attempt, present) = self.repair(&url, 1).await;
        assert!(present.is_some());
        let partial = attempt.session.identity();
        if !attempt.session.keep_present().expect("it is looked at") {
            panic!("nobody has touched it");
        }
        let prepared = attempt.session.identity();
        assert_ne!(prepared, partial, "the object's own identity is what is committed");
        attempt.destination.close().await;
        attempt.session.commit().expect("it stays");
        assert_eq!(attempt.session.found(), Found::Committed);
        drop(attempt.session);
        self.assert_visible(&url, Some(&old));
        self.assert_clean();
        if self.harness.abilities().identifies {
            let request = DestinationRequest {
                prepared: commit_of(prepared),
                overwrite: Overwrite::Repair,
                ..self.request(&url, 2)
            };
            assert_eq!(self.session(&request).expect("the session begins").found(), Found::Committed);
        }
    }

    pub(super) async fn what_changes_while_it_is_compared_does_not_stay(&self) {
        begin("what_changes_while_it_is_compared_does_not_stay");
        let (url, new) = (self.harness.url("changes"), sample("changes", CRC_BLOCK as usize));
        self.harness.place(&url, &new);
        let (mut attempt, present) = self.repair(&url, 1).await;
        self.harness.place(&url, b"changed meanwhile");
        assert_eq!(attempt.session.keep_present(), Ok(false));
        assert!(present.is_some() && attempt.session.identity().is_some());
        self.write(&attempt, 0, &new).await;
        self.complete(attempt, new.len()).await;
        self.assert_visible(&url, Some(&new));
        self.assert_clean();
    }

    pub(super) async fn a_stale_attempt_lets_nothing_stay(&self) {
        begin("a_stale_attempt_lets_nothing_stay");
        let (url, old) = (self.harness.url("stale repair"), sample("stale repair", 10));
        self.harness.place(&url, &old);
        let (mut stale, _) = self.repair(&url, 1).await;
        let (later, _) = self.repair(&url, 2).await;
        let _ = stale.session.keep_present();
        stale.destination.close().await;
        assert!(stale.session.commit().is_err(), "a stale attempt cannot commit");
        drop(stale.session);
        self.write(&later, 0, b"new").await;
        self.complete(later, 3).await;
        self.assert_visible(&url, Some(b"new"));
        self.assert_clean();
    }

    pub(super) async fn a_later_attempt_goes_on_with_a_repair(&self) {
        begin("a_later_attempt_goes_on_with_a_repair");
        let (url, old) = (self.harness.url("goes on"), sample("goes on", 2 * CHUNK_BYTES));
        self.harness.place(&url, &old);
        let (attempt, present) = self.repair(&url, 1).await;
        let new = sample("new", CHUNK_BYTES);
        self.write(&attempt, 0, &new).await;
        attempt.destination.sync().await.expect("it is synced");
        attempt.destination.close().await;
        drop(attempt.session);
        let (attempt, again) = self.repair(&url, 2).await;
        assert_eq!(attempt.session.found(), Found::Partial);
        assert_eq!(again.map(|again| again.length), present.map(|present| present.length));
        let in_place = again.is_some_and(|again| again.in_place);
        assert!(!in_place, "what is written is not replaced by a clone");
        assert!(self.read_back(&attempt, range(0, CHUNK_BYTES)).await == new, "what was written is there");
        let second = range(CHUNK_BYTES, 2 * CHUNK_BYTES);
        let bytes = self.read_present(&attempt, second).await;
        assert!(bytes == old[CHUNK_BYTES..], "what is at the destination is read still");
        self.write(&attempt, CHUNK_BYTES as u64, &bytes).await;
        self.complete(attempt, 2 * CHUNK_BYTES).await;
        self.assert_visible(&url, Some(&[&new, &old[CHUNK_BYTES..]].concat()));
        self.assert_clean();
    }
}
