//! Sources that change, refuse, or stand still.

use std::time::{Duration, Instant};

use super::{
    store::{Object, refusal},
    *,
};
use crate::{
    ByteRange, Code, Disposition, Error, Interrupt, Lane, Source, Validator, conformance::on_lane,
    contract::SourceRequest, testing::http_server::Reply,
};

pub(super) fn request(key: &str, options: &Options) -> SourceRequest {
    SourceRequest {
        url: Served::url(key),
        options: options.clone(),
        pinned: None,
        aligned: true,
        interrupt: Interrupt::default(),
    }
}

async fn open(served: &Served, lane: &Lane) -> Result<Rc<dyn Source>, Error> {
    served.protocol().open_source(&request("x", &served.options()), lane).await
}

fn open_error(served: &Served) -> Error {
    let error = on_lane(Runtime::TokioUring, async |lane| open(served, &lane).await.map(drop)).expect_err("it fails");
    assert!(!error.message.contains("hush"), "{error}");
    error
}

async fn read(source: &Rc<dyn Source>, start: u64, end: u64, lane: &Lane) -> Result<Vec<u8>, Error> {
    let chunk = source.read(ByteRange::new(start, end).unwrap(), &lane.pool).await?;
    Ok(chunk.bytes().expect("s3 has no holes").to_vec())
}

#[test]
fn a_missing_bucket_is_not_a_missing_object() {
    let served = Served::start();
    assert_eq!(open_error(&served).code, Code::SourceMissing);
    let elsewhere = SourceRequest { url: ObjectUrl::parse("s3://other/x").unwrap(), ..request("x", &served.options()) };
    on_lane(Runtime::TokioUring, async |lane| {
        let error = served.protocol().open_source(&elsewhere, &lane).await.map(drop).unwrap_err();
        assert_eq!((error.code, error.disposition), (Code::BucketMissing, Disposition::Fatal), "{error}");
    });
}

#[test]
fn what_a_server_refuses_is_said_with_its_reason_though_head_brings_none() {
    for (status, word, code) in [
        (403, "AccessDenied", Code::PermissionDenied),
        (403, "InvalidAccessKeyId", Code::PermissionDenied),
        (403, "SignatureDoesNotMatch", Code::PermissionDenied),
        (400, "ExpiredToken", Code::PermissionDenied),
        (503, "SlowDown", Code::HttpStatus),
    ] {
        let served = Served::start();
        served.store.put("x", b"some bytes");
        served.store.fault("HEAD", "/x", 9, move |_, _, _| Some(Reply::new(status)));
        served.store.fault("GET", "/x", 9, move |_, _, _| Some(refusal(status, word).header("Retry-After", "7")));
        let error = open_error(&served);
        assert!(error.message.contains(word), "{error}");
        assert_eq!(error.code, code);
        if status == 503 {
            assert_eq!(error.disposition, Disposition::Retry { after: Some(Duration::from_secs(7)) });
        }
    }
}

#[test]
fn a_wrong_clock_is_healed_by_the_servers() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    served.store.state().ahead = Duration::from_secs(3600);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
        source.close().await;
    });
    // One that says so whatever is done is believed in the end.
    served.store.fault("HEAD", "/x", 99, |_, _, _| Some(refusal(403, "RequestTimeTooSkewed")));
    served.store.fault("GET", "/x", 99, |_, _, _| Some(refusal(403, "RequestTimeTooSkewed")));
    let error = open_error(&served);
    assert_eq!(error.code, Code::PermissionDenied);
    assert!(error.message.contains("clock"), "{error}");
}

#[test]
fn a_burst_of_failures_is_worth_another_try() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        served.store.fault("GET", "/x", 1, |_, _, _| Some(refusal(500, "InternalError")));
        served.store.fault("GET", "/x", 1, |_, _, _| Some(Reply::broken()));
        for code in [Code::HttpStatus, Code::ConnectionLost] {
            let error = read(&source, 0, 10, &lane).await.unwrap_err();
            assert_eq!((error.code, error.disposition), (code, Disposition::Retry { after: None }), "{error}");
        }
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
        source.close().await;
    });
}

#[test]
fn an_object_that_goes_while_it_is_read_is_missing() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        served.store.state().objects.clear();
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap_err().code, Code::SourceMissing);
        assert_eq!(source.revalidate().await.unwrap_err().code, Code::SourceChanged);
        source.close().await;
    });
}

#[test]
fn a_version_is_read_by_its_name_and_pinned() {
    let served = Served::start();
    let mark = |version: &str| {
        let object = Object { bytes: b"some bytes".to_vec(), tag: "\"t\"".into(), ..Object::default() };
        let headers = [("x-amz-version-id".to_owned(), version.to_owned())].into();
        served.store.state().objects.insert("x".into(), Object { headers, ..object });
    };
    mark("v+1");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        let pinned = Validator::Version { version: "v+1".into(), size: Some(10) };
        assert_eq!(source.object().validator.as_ref(), Some(&pinned));
        read(&source, 0, 10, &lane).await.unwrap();
        source.revalidate().await.unwrap();
        let target = served.server.seen().last().unwrap().target.clone();
        assert_eq!(target, "/bucket/x?versionId=v%2B1");
        source.close().await;
        // A store that has lost it.
        served.store.fault("HEAD", "versionId", 1, |_, _, _| Some(Reply::new(404)));
        served.store.fault("GET", "versionId", 1, |_, _, _| Some(refusal(404, "NoSuchVersion")));
        let again = SourceRequest { pinned: Some(pinned), ..request("x", &served.options()) };
        let error = served.protocol().open_source(&again, &lane).await.map(drop).unwrap_err();
        assert_eq!(error.disposition, Disposition::SourceChanged, "{error}");
        // Versions that are overwritten are told by their tag.
        mark("null");
        let source = open(&served, &lane).await.expect("it opens");
        assert_eq!(source.object().validator, Some(Validator::Etag { etag: "\"t\"".into(), size: Some(10) }));
        source.close().await;
    });
}

#[test]
fn the_checksum_that_the_store_publishes_is_handed_on() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    let sum = ("x-amz-checksum-crc32c".to_owned(), "AAAAAQ==".to_owned());
    served.store.state().objects.get_mut("x").unwrap().headers.extend([sum]);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        assert_eq!(source.published(), Some("crc32c:00000001".parse().unwrap()));
        source.close().await;
    });
    assert_eq!(served.server.seen()[0].headers["x-amz-checksum-mode"], "ENABLED");
}

#[test]
fn a_server_that_stands_still_is_stalled_and_one_that_is_given_up_is_left() {
    let served = Served::start();
    served.store.stand_still("/x");
    let begun = Instant::now();
    on_lane(Runtime::TokioUring, async |lane| {
        let mut asks = request("x", &served.options());
        asks.options.insert("stall_timeout".into(), "0.3s".into());
        let error = served.protocol().open_source(&asks, &lane).await.map(drop).unwrap_err();
        assert_eq!(error.code, Code::Stalled, "{error}");
        asks.options.insert("stall_timeout".into(), "1h".into());
        let raiser = asks.interrupt.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            raiser.raise();
        });
        let error = served.protocol().open_source(&asks, &lane).await.map(drop).unwrap_err();
        assert_eq!(error, Error::canceled());
        thread.join().unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
