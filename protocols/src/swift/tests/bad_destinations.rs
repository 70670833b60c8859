//! Destinations that refuse, damage what they are sent, forget it, or do not say what they did.

use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::{store::Object, *};
use crate::{
    Chunk, Code, Destination, Disposition, Error, Interrupt, Lane, Session,
    conformance::{on_lane, parts::apart},
    contract::{CommitError, DestinationRequest, Found, Overwrite, SweepRequest, WriteShape, Writes},
    testing::http_server::Reply,
};

const RETRY: Disposition = Disposition::Retry { after: None };
const MIB: usize = 1 << 20;

pub(super) fn request(served: &Served) -> DestinationRequest {
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
pub(super) struct Attempt {
    pub session: Box<dyn Session>,
    destination: Rc<dyn Destination>,
}

pub(super) async fn attempt(served: &Served, request: &DestinationRequest, length: usize, lane: &Lane) -> Attempt {
    let mut session = apart(|| served.protocol().begin(request)).expect("it begins");
    let writes = apart(|| session.writes(Some(length as u64)));
    assert!(matches!(writes, Ok(Writes::Parts { .. })), "{writes:?}");
    let open = session.open_on_lane(WriteShape { aligned: true }).expect("the lane's half is made");
    Attempt { session, destination: open(lane).await.expect("the lane's half opens") }
}

impl Attempt {
    pub async fn write(&self, offset: usize, bytes: &[u8], lane: &Lane) -> Result<(), Error> {
        let mut chunk = lane.pool.take(bytes.len()).await;
        chunk.buffer_mut().unwrap()[..bytes.len()].copy_from_slice(bytes);
        self.destination.write(offset as u64, chunk).await
    }

    pub fn commit(&mut self, length: usize) -> Result<(), CommitError> {
        let session = &mut self.session;
        apart(|| session.set_length(length as u64)).expect("the length is set");
        apart(|| session.commit())
    }
}

/// Writes a small object to a store that is told how to fail, and commits it.
fn commit_to(served: &Served, tell: impl Fn(&Store)) -> Result<(), CommitError> {
    commit_as(served, &request(served), tell)
}

fn commit_as(served: &Served, request: &DestinationRequest, tell: impl Fn(&Store)) -> Result<(), CommitError> {
    on_lane(Runtime::TokioUring, async |lane| {
        let mut attempt = attempt(served, request, 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        tell(&served.store);
        attempt.destination.clone().close().await;
        attempt.commit(5)
    })
}

/// Writes a small object to a store that was told how to fail.
fn write_error(served: &Served) -> Error {
    on_lane(Runtime::TokioUring, async |lane| {
        let attempt = attempt(served, &request(served), 5, &lane).await;
        attempt.write(0, b"whole", &lane).await.expect_err("it fails")
    })
}

#[test]
fn a_segment_that_arrives_damaged_is_refused_and_written_again() {
    let served = Served::start();
    served.store.fault("PUT", "/00000001", 1, |_, _, body| {
        body[0] ^= 1;
        None
    });
    on_lane(Runtime::TokioUring, async |lane| {
        let mut attempt = attempt(&served, &request(&served), 5, &lane).await;
        let error = attempt.write(0, b"whole", &lane).await.unwrap_err();
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
        attempt.write(0, b"whole", &lane).await.expect("it is written");
        attempt.commit(5).expect("it is committed");
    });
    assert_eq!(served.store.get("x").unwrap(), b"whole");
}

#[test]
fn a_segment_that_is_said_to_be_another_is_not_believed() {
    for reply in [Reply::new(201), Reply::new(201).header("ETag", "00000000000000000000000000000000")] {
        let served = Served::start();
        served.store.fault("PUT", "/00000001", 1, move |_, _, _| Some(reply.clone()));
        let error = write_error(&served);
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
    }
}

#[test]
fn a_full_or_busy_server_is_told_apart() {
    let wait = Disposition::Retry { after: Some(Duration::from_secs(3)) };
    for (status, code, disposition) in [
        (413, Code::NoSpace, Disposition::Fatal),
        (507, Code::NoSpace, wait),
        (498, Code::HttpStatus, wait),
        (503, Code::HttpStatus, wait),
    ] {
        let served = Served::start();
        served.store.fault("PUT", "/00000001", 1, move |_, _, _| Some(Reply::new(status).header("Retry-After", "3")));
        let error = write_error(&served);
        assert_eq!((error.code, error.disposition), (code, disposition), "{error}");
    }
}

#[test]
fn a_missing_container_is_said_before_anything_is_sent_and_that_of_segments_is_made() {
    let served = Served::start();
    let elsewhere = DestinationRequest { url: ObjectUrl::parse("swift://other/x").unwrap(), ..request(&served) };
    let mut session = served.protocol().begin(&elsewhere).expect("nobody has asked yet");
    assert_eq!(session.writes(Some(1)).unwrap_err().code, Code::BucketMissing);
    assert_eq!(served.store.state().containers.len(), 1);
    commit_to(&served, |_| ()).unwrap();
    assert!(served.store.state().containers.contains_key("c_segments"));
    // It may be named.
    let mut named = request(&served);
    named.options.insert("segment_container".into(), "parts of all".into());
    commit_as(&served, &named, |_| ()).unwrap();
    assert_eq!(served.store.state().containers["parts of all"].len(), 1);
}

#[test]
fn a_commit_that_fails_for_a_moment_is_tried_again() {
    for reply in [Reply::new(500), Reply::new(503), Reply::broken()] {
        let served = Served::start();
        let result = commit_to(&served, |store| {
            let reply = reply.clone();
            store.fault("PUT", "multipart-manifest", 1, move |_, _, _| Some(reply.clone()));
        });
        assert_eq!((result, served.store.get("x").as_deref()), (Ok(()), Some(&b"whole"[..])), "{reply:?}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_recognised() {
    for overwrite in [Overwrite::Never, Overwrite::Always] {
        let served = Served::start();
        let result = commit_as(&served, &DestinationRequest { overwrite, ..request(&served) }, |store| {
            store.fault("PUT", "multipart-manifest", 3, |state, request, body| {
                state.answer(request, body.clone());
                Some(Reply::broken())
            });
        });
        assert_eq!(result, Ok(()));
        assert_eq!(served.store.get("x").unwrap(), b"whole");
        assert!(served.store.left_overs().is_empty());
    }
}

/// As it is when an operator cleans up what a very old transfer is about to complete.
#[test]
fn an_upload_that_is_given_up_while_it_is_committed_makes_no_object() {
    let served = Served::start();
    let result = commit_to(&served, |store| {
        store.fault("PUT", "multipart-manifest", 1, move |state, request, body| {
            let reply = state.answer(request, body.clone());
            state.containers.get_mut("c_segments").unwrap().retain(|name, _| !name.ends_with("/upload"));
            Some(reply)
        });
    });
    let Err(CommitError::NotDone(error)) = result else { panic!("it is refused: {result:?}") };
    assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
    assert_eq!(served.store.get("x"), None);
}

#[test]
fn a_commit_that_nobody_answers_is_not_known() {
    let served = Served::start();
    let tell = |store: &Store| store.fault("PUT", "multipart-manifest", 9, |_, _, _| Some(Reply::broken()));
    assert!(matches!(commit_to(&served, tell), Err(CommitError::Unknown(_))));
}

#[test]
fn an_object_that_comes_at_the_last_moment_is_not_overwritten() {
    let served = Served::start();
    let never = DestinationRequest { overwrite: Overwrite::Never, ..request(&served) };
    let result = commit_as(&served, &never, |store| {
        store.fault("PUT", "multipart-manifest", 1, |state, _, _| {
            let theirs = Object::plain(b"theirs".to_vec(), Default::default());
            state.containers.get_mut("c").unwrap().insert("x".into(), theirs);
            None
        });
    });
    let Err(CommitError::NotDone(error)) = result else { panic!("it is refused: {result:?}") };
    assert_eq!(error.code, Code::DestinationExists);
    assert_eq!(served.store.get("x").unwrap(), b"theirs");
}

#[test]
fn a_segment_that_somebody_else_has_written_is_not_committed_and_not_kept() {
    let served = Served::start();
    on_lane(Runtime::TokioUring, async |lane| {
        let mut first = attempt(&served, &request(&served), 5, &lane).await;
        let upload = first.session.upload();
        first.write(0, b"whole", &lane).await.expect("it is written");
        for (name, object) in served.store.state().containers.get_mut("c_segments").unwrap() {
            if name.ends_with("/00000001") {
                *object = Object::plain(b"alien".to_vec(), Default::default());
            }
        }
        let Err(CommitError::NotDone(error)) = first.commit(5) else { panic!("it is refused") };
        assert_eq!((error.code, error.disposition), (Code::WriteFailed, RETRY), "{error}");
        let later = DestinationRequest { upload, ..request(&served) };
        assert_eq!(attempt(&served, &later, 5, &lane).await.session.found(), Found::Nothing);
    });
    assert_eq!(served.store.get("x"), None);
}

#[test]
fn what_a_replaced_object_was_made_of_goes_unless_versions_are_kept() {
    let served = Served::start();
    let numbered = |epoch| DestinationRequest { epoch, ..request(&served) };
    commit_as(&served, &numbered(1), |_| ()).unwrap();
    commit_as(&served, &numbered(2), |_| ()).unwrap();
    assert_eq!(served.store.left_overs(), [""; 0], "the first one's segments are gone");
    served.store.state().container_headers.push(("X-Versions-Enabled", "True"));
    commit_as(&served, &numbered(3), |_| ()).unwrap();
    assert_eq!(served.store.left_overs().len(), 1, "the second one's segments are an old version's");
    assert_eq!(served.store.get("x").unwrap(), b"whole");
}

#[test]
fn segments_of_somebody_elses_object_stay_when_it_is_replaced() {
    let served = Served::start();
    let segments = [("mine".to_owned(), Object::plain(b"theirs".to_vec(), Default::default()))];
    served.store.state().containers.insert("c_segments".into(), segments.into());
    let headers = [("x-static-large-object".to_owned(), "True".to_owned())].into();
    let object = Object { headers, segments: Some(vec![("c_segments".into(), "mine".into())]), ..Object::default() };
    served.store.state().containers.get_mut("c").unwrap().insert("x".into(), object);
    commit_to(&served, |_| ()).unwrap();
    assert_eq!(served.store.left_overs(), ["mine"]);
}

#[test]
fn an_object_of_more_segments_than_a_manifest_names_has_manifests_of_its_own() {
    let served = Served::start();
    let length = 7 * MIB + 3;
    on_lane(Runtime::TokioUring, async |lane| {
        let mut attempt = attempt(&served, &request(&served), length, &lane).await;
        for offset in (0..length).step_by(MIB) {
            let part = Chunk::zero(MIB.min(length - offset));
            attempt.destination.write(offset as u64, part).await.expect("it is written");
        }
        attempt.commit(length).expect("it is committed");
    });
    assert_eq!(served.store.get("x").unwrap().len(), length);
    assert!(served.store.left_overs().is_empty());
    let named = served.store.state().containers["c"]["x"].segments.clone().unwrap();
    assert_eq!(named.len(), 3, "of 8 segments, 3 to a manifest");
}

#[test]
fn a_sweep_takes_what_was_never_recorded_and_nothing_of_an_object() {
    let served = Served::start();
    let first = request(&served);
    let leavings = SweepRequest {
        url: first.url.clone(),
        options: first.options.clone(),
        transfer: first.transfer.clone(),
        upload: None,
    };
    commit_as(&served, &first, |store| {
        // The marker stays behind.
        store.fault("DELETE", "/upload", 1, |_, _, _| Some(Reply::new(503)));
    })
    .unwrap();
    on_lane(Runtime::TokioUring, async |lane| {
        let other = DestinationRequest { epoch: 2, ..request(&served) };
        let attempt = attempt(&served, &other, 5, &lane).await;
        attempt.write(0, b"other", &lane).await.expect("it is written");
    });
    assert_eq!(served.store.left_overs().len(), 3, "two markers and a segment");
    served.protocol().sweep(&leavings).expect("it is swept");
    served.protocol().sweep(&leavings).expect("it is swept, though nothing is there");
    assert_eq!(served.store.left_overs(), [""; 0]);
    assert_eq!(served.store.get("x").unwrap(), b"whole");
}

#[test]
fn what_is_discarded_after_an_interruption_is_gone() {
    let served = Served::start();
    let canceled = request(&served);
    let mut session = served.protocol().begin(&canceled).expect("it begins");
    session.writes(Some(1)).expect("an upload begins");
    canceled.interrupt.raise();
    session.discard().expect("it is discarded");
    assert_eq!(served.store.left_overs(), [""; 0]);
}

#[test]
fn a_list_that_makes_no_sense_is_not_taken_for_one() {
    let served = Served::start();
    on_lane(Runtime::TokioUring, async |lane| {
        let first = attempt(&served, &request(&served), 5, &lane).await;
        let later = DestinationRequest { upload: first.session.upload(), ..request(&served) };
        for page in ["<html>", "{}", r#"[{"name": "elsewhere", "bytes": 5, "hash": ""}]"#] {
            served.store.fault("GET", "prefix=", 1, move |_, _, _| Some(Reply::new(200).body(page)));
            let error = apart(|| served.protocol().begin(&later).map(drop)).unwrap_err();
            assert_eq!(error.code, Code::ProtocolViolation, "{page}");
        }
    });
}

#[test]
fn a_server_that_stands_still_is_stalled_and_one_that_is_given_up_is_left() {
    let served = Served::start();
    served.store.stand_still("/00000001");
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
            let object = served.store.state().containers["c"]["x"].clone();
            assert_eq!(object.headers["content-type"], "application/x-raw");
            assert_eq!(object.headers["x-object-meta-public-staccato-transfer"], request.transfer);
        }
    });
}
