//! Sources that change, refuse, or stand still.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    ByteRange, Code, Disposition, Error, Interrupt, Lane, Source, Validator, conformance::on_lane,
    contract::SourceRequest, testing::http_server::Reply,
};

pub(super) fn request(name: &str, options: &Options) -> SourceRequest {
    SourceRequest {
        url: Served::url(name),
        options: options.clone(),
        pinned: None,
        aligned: true,
        interrupt: Interrupt::default(),
    }
}

pub(super) async fn open(served: &Served, lane: &Lane) -> Result<Rc<dyn Source>, Error> {
    served.protocol().open_source(&request("x", &served.options()), lane).await
}

pub(super) fn open_error(served: &Served) -> Error {
    let error = on_lane(Runtime::TokioUring, async |lane| open(served, &lane).await.map(drop)).expect_err("it fails");
    assert!(!error.message.contains("hush"), "{error}");
    error
}

pub(super) async fn read(source: &Rc<dyn Source>, start: u64, end: u64, lane: &Lane) -> Result<Vec<u8>, Error> {
    let chunk = source.read(ByteRange::new(start, end).unwrap(), &lane.pool).await?;
    Ok(chunk.bytes().expect("swift has no holes").to_vec())
}

#[test]
fn a_missing_container_is_not_a_missing_object() {
    let served = Served::start();
    assert_eq!(open_error(&served).code, Code::SourceMissing);
    let url = ObjectUrl::parse("swift://other/x").unwrap();
    let elsewhere = SourceRequest { url, ..request("x", &served.options()) };
    on_lane(Runtime::TokioUring, async |lane| {
        let error = served.protocol().open_source(&elsewhere, &lane).await.map(drop).unwrap_err();
        assert_eq!((error.code, error.disposition), (Code::BucketMissing, Disposition::Fatal), "{error}");
    });
    // Who may read objects need not be allowed to look at their container.
    served.store.fault("HEAD", "/c", 9, |_, request, _| request.target.ends_with("/c").then(|| Reply::new(403)));
    assert_eq!(open_error(&served).code, Code::SourceMissing);
}

#[test]
fn tags_have_quotes_or_not_and_only_those_of_plain_objects_are_checksums() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    let plain = served.store.state().containers["c"]["x"].tag.clone();
    on_lane(Runtime::TokioUring, async |lane| {
        for quoted in [false, true] {
            if quoted {
                let mut state = served.store.state();
                state.containers.get_mut("c").unwrap().get_mut("x").unwrap().tag = format!("\"{plain}\"");
            }
            let source = open(&served, &lane).await.expect("it opens");
            let pinned = Validator::Etag { etag: format!("\"{plain}\""), size: Some(10) };
            assert_eq!(source.object().validator, Some(pinned));
            assert_eq!(source.published(), Some(format!("md5:{plain}").parse().unwrap()));
            assert_eq!(read(&source, 2, 7, &lane).await.unwrap(), b"me by");
            assert_eq!(served.server.seen().last().unwrap().headers["if-match"], format!("\"{plain}\""));
            source.close().await;
        }
        for large in ["x-static-large-object", "x-object-manifest"] {
            let mut object = served.store.state().containers["c"]["x"].clone();
            object.headers = [(large.to_owned(), "true".to_owned())].into();
            served.store.state().containers.get_mut("c").unwrap().insert("x".into(), object);
            let source = open(&served, &lane).await.expect("it opens");
            assert_eq!(source.published(), None, "{large}");
            source.close().await;
        }
    });
}

#[test]
fn what_a_server_refuses_is_said_with_what_to_do() {
    for (status, code, retry) in [
        (401, Code::PermissionDenied, false),
        (403, Code::PermissionDenied, false),
        (429, Code::HttpStatus, true),
        (498, Code::HttpStatus, true),
        (503, Code::HttpStatus, true),
    ] {
        let served = Served::start();
        served.store.put("x", b"some bytes");
        served.store.fault("HEAD", "/x", 9, move |_, _, _| Some(Reply::new(status).header("Retry-After", "7")));
        let error = open_error(&served);
        let wait = Disposition::Retry { after: Some(Duration::from_secs(7)) };
        let wanted = if retry { wait } else { Disposition::Fatal };
        assert_eq!((error.code, error.disposition), (code, wanted), "{error}");
    }
}

#[test]
fn a_burst_of_failures_is_worth_another_try() {
    let served = Served::start();
    served.store.put("x", b"some bytes");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        served.store.fault("GET", "/x", 1, |_, _, _| Some(Reply::new(500)));
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
        served.store.state().containers.get_mut("c").unwrap().clear();
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap_err().code, Code::SourceMissing);
        assert_eq!(source.revalidate().await.unwrap_err().code, Code::SourceChanged);
        source.close().await;
    });
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
