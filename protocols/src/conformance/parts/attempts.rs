//! What one attempt has left and another one finds: parts that are kept, uploads that are gone, commits that were
//! prepared.

use super::*;

impl Suite<'_> {
    /// An attempt that writes some parts, and ends without a word, as one does that was killed; its upload.
    async fn leave_parts(&self, request: &DestinationRequest, object: &[u8], parts: &[usize]) -> Option<String> {
        let attempt = self.attempt(request, Some(object.len() as u64)).await;
        for part in parts {
            self.write(&attempt, object, *part).await;
        }
        attempt.destination.sync().await.expect("it is synced");
        attempt.destination.close().await;
        let upload = attempt.session.upload();
        apart(move || drop(attempt.session));
        self.assert_visible(&request.url, None);
        upload
    }

    pub(super) async fn sweep_removes_what_attempts_left_and_nothing_else(&self) {
        begin("sweep_removes_what_attempts_left_and_nothing_else");
        let (swept, kept) = (self.harness.url("swept"), self.harness.url("kept"));
        let left = self.leave_parts(&self.request(&swept, 1), b"left", &[0]).await;
        let stays = self.leave_parts(&self.request(&kept, 1), b"kept", &[0]).await;
        let before = self.harness.left_overs();
        self.sweep(&swept, left.clone());
        assert!(self.harness.left_overs() < before, "something was removed");
        self.sweep(&swept, left);
        self.sweep(&swept, None);
        self.sweep(&self.harness.url("never heard of"), None);
        if self.harness.abilities().resumes {
            let request = DestinationRequest { upload: stays.clone(), ..self.request(&kept, 2) };
            let session = self.session(&request).expect("the session begins");
            assert_eq!(session.found(), Found::Partial, "what belongs to another destination stays");
            apart(move || drop(session));
        }
        self.sweep(&kept, stays);
        self.assert_clean();

        let attempt = self.begin(&swept, 3, 5).await;
        let upload = attempt.session.upload();
        self.write_all(&attempt, b"whole").await;
        self.complete(attempt, 5).await;
        self.sweep(&swept, upload);
        self.assert_visible(&swept, Some(b"whole"));
    }

    pub(super) async fn a_prepared_commit_is_recognised(&self) {
        begin("a_prepared_commit_is_recognised");
        for object in [&b"whole"[..], b""] {
            let url = self.harness.url(&format!("recognised-{}", object.len()));
            let attempt = self.begin(&url, 1, object.len()).await;
            let upload = attempt.session.upload();
            self.write_all(&attempt, object).await;
            self.complete(attempt, object.len()).await;
            // The commit was done, but nobody heard of it.
            for overwrite in [Overwrite::Never, Overwrite::Always] {
                let prepared = Some(PreparedCommit { length: object.len() as u64, identity: None });
                let request =
                    DestinationRequest { prepared, overwrite, upload: upload.clone(), ..self.request(&url, 2) };
                let mut session = self.session(&request).expect("the session begins");
                assert_eq!(session.found(), Found::Committed, "{overwrite:?}");
                apart(|| session.discard()).expect("there is nothing to discard");
                self.assert_visible(&url, Some(object));
            }
        }
        self.assert_clean();
    }

    pub(super) async fn a_commit_that_was_prepared_but_not_done_is_not_recognised(&self) {
        begin("a_commit_that_was_prepared_but_not_done_is_not_recognised");
        let url = self.harness.url("not done");
        let upload = self.leave_parts(&self.request(&url, 1), b"whole", &[0]).await;
        self.harness.place(&url, b"theirs");
        self.harness.place(&url, b"other");
        let prepared = Some(PreparedCommit { length: 5, identity: None });
        let request = DestinationRequest { prepared, upload, ..self.request(&url, 2) };
        must_fail(self.session(&request), &[Code::DestinationExists], "taking a foreign object for a commit");
        let request = DestinationRequest { overwrite: Overwrite::Always, ..request };
        let attempt = self.attempt(&request, Some(5)).await;
        assert_ne!(attempt.session.found(), Found::Committed, "what is there is not this transfer's");
        self.write_all(&attempt, b"whole").await;
        self.complete(attempt, 5).await;
        self.assert_visible(&url, Some(b"whole"));
        self.assert_clean();
    }

    pub(super) async fn a_later_attempt_goes_on_with_the_parts(&self) {
        begin("a_later_attempt_goes_on_with_the_parts");
        let url = self.harness.url("resumed");
        let bytes = sample("resumed", 2 * self.usual_part_bytes().await + 9);
        let upload = self.leave_parts(&self.request(&url, 1), &bytes, &[0, 2]).await;
        let request = DestinationRequest { upload: upload.clone(), ..self.request(&url, 2) };
        let mut attempt = self.attempt(&request, Some(bytes.len() as u64)).await;
        assert_eq!(attempt.session.found(), Found::Partial);
        assert_eq!(attempt.session.upload(), upload, "it is the same upload");
        let part = attempt.part_bytes as usize;
        let promised = [range(0, part), range(2 * part, bytes.len())];
        let session = &mut attempt.session;
        assert_eq!(apart(|| session.kept(&promised)).expect("it is told"), promised);
        self.write(&attempt, &bytes, 1).await;
        self.complete(attempt, bytes.len()).await;
        self.assert_visible(&url, Some(&bytes));
        self.assert_clean();
    }

    pub(super) async fn what_is_kept_is_what_is_there(&self) {
        begin("what_is_kept_is_what_is_there");
        let url = self.harness.url("kept parts");
        let bytes = sample("kept", 2 * self.usual_part_bytes().await + 9);
        let upload = self.leave_parts(&self.request(&url, 1), &bytes, &[1]).await;
        let request = DestinationRequest { upload, ..self.request(&url, 2) };
        let mut attempt = self.attempt(&request, Some(bytes.len() as u64)).await;
        let part = attempt.part_bytes as usize;
        let session = &mut attempt.session;
        for (promised, kept) in [
            (vec![range(0, bytes.len())], vec![range(part, 2 * part)]),
            (vec![range(0, part), range(2 * part, bytes.len())], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(apart(|| session.kept(&promised)).expect("it is told"), kept, "of {promised:?}");
        }
        self.discard(attempt).await;

        // An object of another length has other parts.
        let upload = self.leave_parts(&self.request(&url, 3), &bytes, &[2]).await;
        let request = DestinationRequest { upload, ..self.request(&url, 4) };
        let mut attempt = self.attempt(&request, Some(bytes.len() as u64 + 1)).await;
        let (session, promised) = (&mut attempt.session, [range(2 * part, bytes.len())]);
        assert_eq!(apart(|| session.kept(&promised)).expect("it is told"), []);
        self.discard(attempt).await;
        self.assert_clean();
    }

    pub(super) async fn an_upload_that_is_gone_is_begun_anew(&self) {
        begin("an_upload_that_is_gone_is_begun_anew");
        let url = self.harness.url("gone");
        let upload = self.leave_parts(&self.request(&url, 1), b"whole", &[0]).await;
        self.sweep(&url, upload.clone());
        let request = DestinationRequest { upload, ..self.request(&url, 2) };
        let mut attempt = self.attempt(&request, Some(5)).await;
        assert_eq!(attempt.session.found(), Found::Nothing);
        let session = &mut attempt.session;
        assert_eq!(apart(|| session.kept(&[range(0, 5)])).expect("it is told"), []);
        self.write_all(&attempt, b"whole").await;
        self.complete(attempt, 5).await;
        self.assert_visible(&url, Some(b"whole"));
        self.assert_clean();
    }

    pub(super) async fn starting_over_gives_the_earlier_upload_up(&self) {
        begin("starting_over_gives_the_earlier_upload_up");
        let url = self.harness.url("over");
        let mut stale = self.begin(&url, 1, 5).await;
        self.write_all(&stale, b"stale").await;
        let upload = stale.session.upload();
        let request = DestinationRequest { upload, resume: false, ..self.request(&url, 2) };
        let attempt = self.attempt(&request, Some(5)).await;
        assert_eq!(attempt.session.found(), Found::Nothing);
        self.write_all(&attempt, b"fresh").await;
        // The earlier attempt goes on and does not know that it is over.
        drop(self.put(&stale, 0, b"stale").await);
        let session = &mut stale.session;
        drop(apart(|| session.set_length(5)));
        assert!(apart(|| session.commit()).is_err(), "a stale attempt cannot commit");
        self.assert_visible(&url, None);
        stale.destination.close().await;
        let mut session = stale.session;
        drop(apart(|| session.discard()));
        self.complete(attempt, 5).await;
        self.assert_visible(&url, Some(b"fresh"));
        self.assert_clean();
    }
}
