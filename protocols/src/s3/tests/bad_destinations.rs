//! Destinations that refuse, damage what they are sent, forget it, or do not say what they did.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{store::refusal, *};
use crate::{
    Chunk, Code, Destination, Disposition, Error, Interrupt, Lane, Session,
    conformance::{on_lane, parts::apart},
    contract::{CommitError, DestinationRequest, Found, Overwrite, PreparedCommit, SweepRequest, WriteShape, Writes},
    testing::http_server::Reply,
};

const RETRY: Disposition = Disposition::Retry { after: None };

fn request(served: &Served) -> DestinationRequest {
    DestinationRequest {
        url: Served::url("x"),
        options: served.options(),
        transfer: "0190b5a0-0000-7000-8000-000000000001".into(),
        epoch: 1,
        overwrite: Overwrite::Always,
        resume: true,
        upload: None,
        prepared: None,
        interrupt: Interrupt::default(),
    }
}

/// A session that has begun an upload, and a lane's half.
struct Attempt {
    session: Box<dyn Session>,
    destination: Rc<dyn Destination>,
}

async fn attempt(served: &Served, request: &DestinationRequest, length: usize, lane: &Lane) -> Attempt {
    let mut session = apart(|| served.protocol().begin(request)).expect("it begins");
    let writes = apart(|| session.writes(Some(length as u64)));
    assert!(matches!(writes, Ok(Writes::Parts { .. })), "{writes:?}");
    let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
    Attempt { session, destination: open(lane).await.expect("the lane's half opens") }
}

impl Attempt {
    async fn write(&self, offset: usize, bytes: &[u8], lane: &Lane) -> Result<(), Error> {
        let mut chunk = lane.pool.take(bytes.len()).await;
        chunk.buffer_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        self.destination.write(offset as u64, chunk).await
    }

    fn commit(&mut self, length: usize) -> Result<(), CommitError> {
        let session = &mut self.session;
        apart(|| session.set_length(length as u64)).expect("the length is set");
        apart(|| session.commit())
    }
}

/// Writes a small object to a store that is told how to fail, and commits it.
fn commit_to(served: &Served, tell: impl Fn(&Store)) -> Result<(), CommitError> {
    on_lane(Runtime::TokioUring, async |lane| {
        let mut attempt = attempt(served, &request(served), 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        tell(&served.store);
        attempt.destination.clone().close().await;
        attempt.commit(5)
    })
}

/// Writes a small object to a store that was told how to fail.
fn write_error(served: &Served, more: &[(&str, &str)]) -> Error {
    on_lane(Runtime::TokioUring, async |lane| {
        let mut request = request(served);
        request.options.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let attempt = attempt(served, &request, 5, &lane).await;
        let error = attempt.write(0, b"whole", &lane).await.expect_err("it fails");
        assert!(!error.message.contains("hush"), "{error}");
        error
    })
}

#[test]
fn a_part_that_arrives_damaged_is_refused_and_written_again() {
    for checksum in ["crc32", "md5"] {
        let served = Served::start();
        served.store.fault("PUT", "partNumber=1", 1, |_, _, body| {
            body[0] ^= 1;
            None
        });
        on_lane(Runtime::TokioUring, async |lane| {
            let mut request = request(&served);
            request.options.insert("checksum".into(), checksum.into());
            let mut attempt = attempt(&served, &request, 5, &lane).await;
            let error = attempt.write(0, b"whole", &lane).await.unwrap_err();
            assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
            attempt.write(0, b"whole", &lane).await.expect("it is written");
            attempt.commit(5).expect("it is committed");
        });
        assert_eq!(served.store.get("x").unwrap(), b"whole");
    }
}

#[test]
fn a_part_that_is_said_to_be_another_is_not_believed() {
    for (option, reply) in [
        ("crc32", Reply::new(200).header("ETag", "\"t\"").header("x-amz-checksum-crc32", "AAAAAA==")),
        ("md5", Reply::new(200).header("ETag", "\"00000000000000000000000000000000\"")),
    ] {
        let served = Served::start();
        served.store.fault("PUT", "partNumber=1", 1, move |_, _, _| Some(reply.clone()));
        let error = write_error(&served, &[("checksum", option)]);
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
    }
    let served = Served::start();
    served.store.fault("PUT", "partNumber=1", 1, |_, _, _| Some(Reply::new(200)));
    assert_eq!(write_error(&served, &[]).code, Code::ProtocolViolation, "a part without a tag");
}

#[test]
fn a_server_that_is_busy_is_left_alone_as_long_as_it_wants() {
    for (status, word) in [(503, "SlowDown"), (429, "TooManyRequests")] {
        let served = Served::start();
        let busy = refusal(status, word).header("Retry-After", "3");
        served.store.fault("PUT", "partNumber=1", 1, move |_, _, _| Some(busy.clone()));
        let error = write_error(&served, &[]);
        let wait = Disposition::Retry { after: Some(Duration::from_secs(3)) };
        assert_eq!((error.code, error.disposition), (Code::HttpStatus, wait), "{error}");
    }
}

#[test]
fn a_missing_bucket_is_said_to_be_missing() {
    let served = Served::start();
    let elsewhere = DestinationRequest { url: ObjectUrl::parse("s3://other/x").unwrap(), ..request(&served) };
    let mut session = served.protocol().begin(&elsewhere).expect("nobody has asked yet");
    assert_eq!(session.writes(Some(1)).unwrap_err().code, Code::BucketMissing);
}

#[test]
fn a_wrong_clock_is_healed_by_the_servers() {
    let served = Served::start();
    served.store.state().ahead = Duration::from_secs(86_400);
    assert_eq!(commit_to(&served, |_| ()), Ok(()));
    assert_eq!(served.store.get("x").unwrap(), b"whole");
}

#[test]
fn a_commit_that_fails_for_a_moment_is_tried_again() {
    for reply in
        [refusal(500, "InternalError"), refusal(503, "SlowDown"), refusal(200, "InternalError"), Reply::broken()]
    {
        let served = Served::start();
        let result = commit_to(&served, |store| {
            let reply = reply.clone();
            store.fault("POST", "uploadId", 1, move |_, _, _| Some(reply.clone()));
        });
        assert_eq!((result, served.store.get("x").as_deref()), (Ok(()), Some(&b"whole"[..])), "{reply:?}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_recognised() {
    let served = Served::start();
    let result = commit_to(&served, |store| {
        store.fault("POST", "uploadId", 1, |state, request, body| {
            state.answer(request, body.clone());
            Some(Reply::broken())
        });
    });
    assert_eq!(result, Ok(()));
    assert_eq!(served.store.get("x").unwrap(), b"whole");
}

#[test]
fn an_error_behind_a_good_status_is_an_error() {
    let served = Served::start();
    let tell = |store: &Store| store.fault("POST", "uploadId", 9, |_, _, _| Some(refusal(200, "InternalError")));
    let Err(CommitError::Unknown(error)) = commit_to(&served, tell) else { panic!("nobody knows") };
    assert_eq!(error.code, Code::HttpStatus);
    let tell = |store: &Store| store.fault("POST", "uploadId", 9, |_, _, _| Some(refusal(200, "InvalidPart")));
    let Err(CommitError::NotDone(error)) = commit_to(&Served::start(), tell) else { panic!("it was refused") };
    assert_eq!(error.code, Code::WriteFailed);
    let tell = |store: &Store| store.fault("POST", "uploadId", 9, |_, _, _| Some(Reply::new(200).body("<html/>")));
    assert!(matches!(commit_to(&Served::start(), tell), Err(CommitError::Unknown(_))));
    assert_eq!(served.store.get("x"), None);
}

#[test]
fn a_commit_that_takes_its_time_is_waited_for() {
    let served = Served::start();
    let result = on_lane(Runtime::TokioUring, async |lane| {
        let mut request = request(&served);
        request.options.insert("stall_timeout".into(), "0.3s".into());
        let mut attempt = attempt(&served, &request, 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        served.store.fault("POST", "uploadId", 1, |state, request, body| {
            Some(state.answer(request, body.clone()).late(Duration::from_millis(700)))
        });
        attempt.commit(5)
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn an_outcome_that_is_not_known_is_found_out_by_a_later_attempt() {
    let served = Served::start();
    let lost = |store: &Store| {
        store.fault("POST", "uploadId", 9, |_, _, _| Some(Reply::broken()));
        store.fault("HEAD", "/x", 1, |_, _, _| Some(Reply::broken()));
    };
    assert!(matches!(commit_to(&served, lost), Err(CommitError::Unknown(_))));
    let prepared = Some(PreparedCommit { length: 5, identity: None });
    let later = DestinationRequest { prepared, epoch: 2, ..request(&served) };
    let found = |request: &DestinationRequest| served.protocol().begin(request).expect("it begins").found();
    assert_eq!(found(&later), Found::Nothing, "it was not done");
    served.store.put("x", b"alien");
    assert_eq!(found(&later), Found::Nothing, "somebody else's object of the same length");
    let name = ("x-amz-meta-staccato-transfer".to_owned(), later.transfer.clone());
    served.store.state().objects.get_mut("x").unwrap().headers.extend([name]);
    assert_eq!(found(&later), Found::Committed);
    let other = PreparedCommit { length: 6, identity: None };
    assert_eq!(found(&DestinationRequest { prepared: Some(other), ..later }), Found::Nothing);
}

#[test]
fn a_server_that_does_not_know_conditions_is_asked_without() {
    let served = Served::start();
    let result = on_lane(Runtime::TokioUring, async |lane| {
        let request = DestinationRequest { overwrite: Overwrite::Never, ..request(&served) };
        let mut attempt = attempt(&served, &request, 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        served.store.fault("POST", "uploadId", 9, |_, request, _| {
            request.headers.contains_key("if-none-match").then(|| refusal(501, "NotImplemented"))
        });
        attempt.commit(5)
    });
    assert_eq!((result, served.store.get("x").as_deref()), (Ok(()), Some(&b"whole"[..])));
}

#[test]
fn what_comes_between_the_last_look_and_the_commit_stays() {
    let served = Served::start();
    let result = on_lane(Runtime::TokioUring, async |lane| {
        let request = DestinationRequest { overwrite: Overwrite::Never, ..request(&served) };
        let mut attempt = attempt(&served, &request, 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        served.store.fault("POST", "uploadId", 1, |state, _, _| {
            let alien = state.objects.get("alien").cloned().expect("it was put");
            state.objects.insert("x".into(), alien);
            None
        });
        served.store.put("alien", b"theirs");
        attempt.commit(5)
    });
    let Err(CommitError::NotDone(error)) = result else { panic!("it is refused: {result:?}") };
    assert_eq!(error.code, Code::DestinationExists);
    assert_eq!(served.store.get("x").unwrap(), b"theirs");
}

#[test]
fn a_list_that_is_cut_short_is_not_taken_for_all() {
    let served = Served::start();
    const PAGE: &str = "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>";
    let tell = |store: &Store| store.fault("GET", "uploadId", 9, |_, _, _| Some(Reply::new(200).body(PAGE)));
    let Err(CommitError::NotDone(error)) = commit_to(&served, tell) else { panic!("nothing was asked for") };
    assert_eq!(error.code, Code::ProtocolViolation);
}

#[test]
fn an_upload_that_somebody_else_gives_up_is_begun_anew() {
    let served = Served::start();
    on_lane(Runtime::TokioUring, async |lane| {
        let first = attempt(&served, &request(&served), 5, &lane).await;
        served.store.state().uploads.clear();
        let error = first.write(0, b"whole", &lane).await.unwrap_err();
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
        let later = DestinationRequest { upload: first.session.upload(), ..request(&served) };
        let mut second = attempt(&served, &later, 5, &lane).await;
        assert_eq!(second.session.found(), Found::Nothing);
        second.write(0, b"whole", &lane).await.expect("it is written");
        second.commit(5).expect("it is committed");
        // Nor is a commit taken for done whose upload is gone.
        let mut third = attempt(&served, &request(&served), 5, &lane).await;
        third.write(0, b"other", &lane).await.expect("it is written");
        served.store.state().uploads.clear();
        served.store.put("x", b"alien");
        assert!(matches!(third.commit(5), Err(CommitError::NotDone(_))));
    });
    assert_eq!(served.store.get("x").unwrap(), b"alien");
}

#[test]
fn a_part_that_somebody_else_has_written_is_not_committed_and_not_kept() {
    let served = Served::start();
    on_lane(Runtime::TokioUring, async |lane| {
        let mut first = attempt(&served, &request(&served), 5, &lane).await;
        let upload = first.session.upload();
        first.write(0, b"whole", &lane).await.expect("it is written");
        served.store.put("alien", b"alien");
        let alien = served.store.state().objects["alien"].clone();
        let crc32 = ("x-amz-checksum-crc32".to_owned(), "AAAAAA==".to_owned());
        for upload in served.store.state().uploads.values_mut() {
            upload.parts.insert(1, store::Object { headers: [crc32.clone()].into(), ..alien.clone() });
        }
        let Err(CommitError::NotDone(error)) = first.commit(5) else { panic!("it is refused") };
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
        let later = DestinationRequest { upload, ..request(&served) };
        assert_eq!(attempt(&served, &later, 5, &lane).await.session.found(), Found::Nothing);
    });
    assert_eq!(served.store.get("x"), None);
}

#[test]
fn a_server_that_stands_still_is_stalled_and_one_that_is_given_up_is_left() {
    let served = Served::start();
    served.store.stand_still("partNumber");
    let begun = Instant::now();
    on_lane(Runtime::TokioUring, async |lane| {
        let mut request = request(&served);
        request.options.insert("stall_timeout".into(), "0.3s".into());
        // More than sockets hold.
        let part = 64 << 20;
        request.options.insert("part_size".into(), "64M".into());
        let stalled = attempt(&served, &request, part, &lane).await;
        let written = stalled.destination.write(0, Chunk::zero(part)).await;
        assert_eq!(written.unwrap_err().code, Code::Stalled);
        request.options.insert("stall_timeout".into(), "1h".into());
        let given_up = attempt(&served, &request, part, &lane).await;
        let mut write = given_up.destination.write(0, Chunk::zero(part));
        assert!((&mut write).now_or_never().is_none());
        request.interrupt.raise();
        assert_eq!(write.await.unwrap_err(), Error::canceled());
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn what_is_discarded_or_swept_after_an_interruption_is_gone() {
    let served = Served::start();
    let canceled = request(&served);
    let mut session = served.protocol().begin(&canceled).expect("it begins");
    session.writes(Some(1)).expect("an upload begins");
    canceled.interrupt.raise();
    session.discard().expect("it is discarded");
    assert_eq!(served.store.uploads(), 0);

    let mut session = served.protocol().begin(&request(&served)).expect("it begins");
    session.writes(Some(1)).expect("an upload begins");
    let leavings = SweepRequest {
        url: canceled.url.clone(),
        options: canceled.options.clone(),
        transfer: canceled.transfer.clone(),
        upload: session.upload(),
    };
    // Somebody else's is left alone.
    let mut alien = served.protocol().begin(&request(&served)).expect("it begins");
    alien.writes(Some(1)).expect("an upload begins");
    served.protocol().sweep(&leavings).expect("it is swept");
    served.protocol().sweep(&leavings).expect("it is swept, though nothing is there");
    assert_eq!(served.store.uploads(), 1);
}

#[test]
fn what_the_client_says_of_the_object_is_kept_with_it() {
    let served = Served::start();
    on_lane(Runtime::TokioUring, async |lane| {
        for length in [0, 5] {
            let mut request = request(&served);
            request.options.insert("content_type".into(), "application/x-raw".into());
            let mut attempt = attempt(&served, &request, length, &lane).await;
            if length > 0 {
                attempt.write(0, b"whole", &lane).await.expect("it is written");
            }
            attempt.commit(length).expect("it is committed");
            let object = served.store.state().objects["x"].clone();
            assert_eq!(object.headers["content-type"], "application/x-raw");
            assert_eq!(object.headers["x-amz-meta-staccato-transfer"], request.transfer);
        }
    });
}
