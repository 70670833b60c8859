//! Images that cannot be made, or turn out wrong.

use std::thread;

use super::*;
use crate::{
    checksum::Hasher,
    contract::{CommitError, DestinationRequest, Found, Overwrite, WriteShape},
};

const TRANSFER: &str = "0190b5a0-0000-7000-8000-000000000001";

fn upload(url: &str, pairs: &[(&str, &str)]) -> DestinationRequest {
    DestinationRequest {
        url: ObjectUrl::parse(url).unwrap(),
        options: options(pairs),
        transfer: TRANSFER.into(),
        epoch: 1,
        overwrite: Overwrite::Never,
        resume: false,
        upload: None,
        prepared: None,
        interrupt: Interrupt::default(),
    }
}

/// What has become of an image that was written whole.
enum End {
    NotBegun(Error),
    NotWritten(Error),
    Committed(Result<(), CommitError>),
}

/// Makes an image of `bytes`, as an attempt does.
fn make(request: &DestinationRequest, bytes: &[u8]) -> End {
    let module = GlanceProtocol::new(Web::new());
    let begun = module.begin(request).and_then(|mut session| {
        session.writes(Some(bytes.len() as u64))?;
        Ok(session)
    });
    let mut session = match begun {
        Ok(session) => session,
        Err(error) => return End::NotBegun(error),
    };
    let open = session.open_on_lane(WriteShape { aligned: true }).unwrap();
    let bytes = bytes.to_vec();
    on_lane(Runtime::TokioUring, async move |lane| {
        let written = async {
            let destination = open(&lane).await?;
            let mut chunk = lane.pool.take(bytes.len()).await;
            chunk.buffer_mut().unwrap()[..bytes.len()].copy_from_slice(&bytes);
            destination.write(0, chunk).await?;
            destination.sync().await?;
            destination.close().await;
            Ok(())
        };
        if let Err(error) = written.await {
            return End::NotWritten(error);
        }
        let mut hasher = Hasher::new(session.wants_checksum().expect("it compares what Glance publishes"));
        hasher.update(&bytes);
        session.note_checksum(hasher.finish());
        let (tell, told) = tokio::sync::oneshot::channel();
        thread::spawn(move || drop(tell.send(session.commit())));
        End::Committed(told.await.unwrap())
    })
}

#[test]
fn an_image_is_made_as_the_options_say_and_has_the_transfers_id_without_another() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    let token = keystone.issue();
    let pairs =
        [("token", token.as_str()), ("name", "Debian"), ("protected", "true"), ("property.os_distro", "debian")];
    let end = make(&upload(&format!("glance://{}/", glance.server.address()), &pairs), b"some bytes");
    assert!(matches!(end, End::Committed(Ok(()))));
    assert_eq!(glance.data(TRANSFER).as_deref(), Some(&b"some bytes"[..]));
    let record = glance.record(TRANSFER).unwrap();
    assert_eq!((&record["name"], &record["os_distro"]), (&json!("Debian"), &json!("debian")));
    assert_eq!((&record["protected"], &record["staccato_transfer"]), (&json!(true), &json!(TRANSFER)));
}

#[test]
fn an_image_that_turns_out_wrong_does_not_stay() {
    let glance = FakeGlance::start();
    glance.spoil();
    let End::Committed(Err(CommitError::NotDone(error))) = make(&upload(&glance.url(ID), &[]), b"some bytes") else {
        panic!("it must not be committed")
    };
    assert_error(&error, Code::ChecksumMismatch, Disposition::Fatal);
    assert_eq!(glance.record(ID), None);
}

#[test]
fn refusals_of_a_record_say_what_can_be_done() {
    let glance = FakeGlance::start();
    for (reply, code, disposition) in [
        (Reply::new(400), Code::InvalidOption, Disposition::Fatal),
        (Reply::new(403), Code::PermissionDenied, Disposition::Fatal),
        (Reply::new(409), Code::DestinationExists, Disposition::Fatal),
        (Reply::new(413), Code::NoSpace, Disposition::Fatal),
        (Reply::new(503), Code::HttpStatus, RETRY),
    ] {
        glance.trouble([Reply::new(404), reply]);
        let End::NotBegun(error) = make(&upload(&glance.url(ID), &[]), b"some bytes") else { panic!("{code}") };
        assert_error(&error, code, disposition);
    }
    assert_eq!(glance.record(ID), None);
}

#[test]
fn refusals_of_data_say_what_can_be_done_and_a_later_attempt_goes_on() {
    let glance = FakeGlance::start();
    let bytes = sample("refused", 3 << 20);
    let request = upload(&glance.url(ID), &[]);
    for (reply, code, disposition) in [
        (Reply::new(401), Code::PermissionDenied, RETRY),
        (Reply::new(403), Code::PermissionDenied, Disposition::Fatal),
        (Reply::new(409), Code::PartialBusy, RETRY),
        (Reply::new(410), Code::WriteFailed, RETRY),
        (Reply::new(413), Code::NoSpace, Disposition::Fatal),
        (Reply::new(503), Code::HttpStatus, RETRY),
    ] {
        glance.refuse([reply]);
        let error = match make(&request, &bytes) {
            End::NotWritten(error) | End::Committed(Err(CommitError::NotDone(error))) => error,
            _ => panic!("{code}"),
        };
        assert_error(&error, code, disposition);
        assert_eq!(glance.record(ID).unwrap()["status"], "queued", "the record waits for the next attempt");
    }
    let later = DestinationRequest { epoch: 2, upload: Some(ID.into()), ..request };
    assert!(matches!(make(&later, &bytes), End::Committed(Ok(()))));
    assert!(glance.data(ID) == Some(bytes));
}

#[test]
fn an_id_that_was_given_away_is_refused_and_images_are_not_overwritten() {
    let glance = FakeGlance::start();
    let request = upload(&glance.url(ID), &[]);
    assert!(matches!(make(&request, b"some bytes"), End::Committed(Ok(()))));
    for overwrite in [Overwrite::Never, Overwrite::Always, Overwrite::Repair] {
        let again = DestinationRequest { overwrite, transfer: "another".into(), ..request.clone() };
        let End::NotBegun(error) = make(&again, b"others") else { panic!("it is there") };
        assert_error(&error, Code::DestinationExists, Disposition::Fatal);
    }
    glance.delete(ID);
    let End::NotBegun(error) = make(&request, b"others") else { panic!("no id is given twice") };
    assert_error(&error, Code::DestinationExists, Disposition::Fatal);
}

#[test]
fn an_image_in_the_hands_of_an_earlier_attempt_is_ended() {
    let glance = FakeGlance::start();
    let url = format!("glance://{}/", glance.server.address());
    let first = GlanceProtocol::new(Web::new());
    let mut session = first.begin(&upload(&url, &[])).unwrap();
    session.writes(Some(10)).unwrap();
    glance.set(TRANSFER, "status", "saving".into());
    let later = DestinationRequest { epoch: 2, upload: session.upload(), ..upload(&url, &[]) };
    let begun = Instant::now();
    let mut session = first.begin(&later).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(4), "it was waited for");
    assert_eq!((session.found(), glance.record(TRANSFER)), (Found::Nothing, None));
    session.writes(Some(10)).unwrap();
    let id = session.upload().unwrap();
    assert_ne!(id, TRANSFER);
    assert_eq!(glance.record(&id).unwrap()["staccato_transfer"], TRANSFER);
}
