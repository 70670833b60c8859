//! Servers that break the protocol, or break down.

use std::pin::pin;

use tokio::time::timeout;

use super::*;

const LEN: usize = 100_000;

/// Opens an honest page of [`LEN`] bytes, then reads its second half from a server that plays `trick` from the second
/// request on.
fn read_from_server_that(trick: Trick, pairs: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    read_from(Page::new(sample("bad", LEN)).trick(1.., trick), pairs)
}

fn read_from(page: Page, pairs: &[(&str, &str)]) -> Result<Vec<u8>, Error> {
    let server = HttpServer::start();
    server.put("/x", page);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), pairs, &lane).await;
        let result = read(&source, LEN / 2, LEN, &lane).await;
        source.close().await;
        result
    })
}

fn open_at_server_that(trick: Trick, pairs: &[(&str, &str)]) -> Error {
    let server = HttpServer::start();
    server.put("/x", Page::new("some bytes").trick(.., trick));
    on_lane(Runtime::TokioUring, async |lane| failure(try_open(&server.url("/x"), pairs, &lane).await))
}

#[test]
fn server_that_lies_about_length_then_hangs() {
    let begun = Instant::now();
    let error = failure(read_from_server_that(Trick::HangAfter(1000), &[("stall_timeout", PATIENCE)]));
    assert_error(&error, Code::Stalled, RETRY);
    assert!(begun.elapsed() < Duration::from_secs(8), "it did not wait for ever");

    let page = Page::new(sample("bad", LEN)).without_ranges(Framing::Length).trick(.., Trick::HangAfter(1000));
    assert_error(&failure(read_from(page, &[("stall_timeout", PATIENCE)])), Code::Stalled, RETRY);
}

#[test]
fn server_that_never_answers_is_stalled() {
    assert_error(&open_at_server_that(Trick::Silence, &[("stall_timeout", PATIENCE)]), Code::Stalled, RETRY);
    let error = failure(read_from_server_that(Trick::Silence, &[("stall_timeout", PATIENCE)]));
    assert_error(&error, Code::Stalled, RETRY);
}

#[test]
fn server_that_trickles_counts_as_stalled() {
    let trickle = || Trick::Trickle(Duration::from_millis(20));
    let error = failure(read_from_server_that(trickle(), &[("stall_timeout", PATIENCE)]));
    assert_error(&error, Code::Stalled, RETRY);
    let page = Page::new(sample("bad", LEN)).without_ranges(Framing::Length).trick(.., trickle());
    assert_error(&failure(read_from(page, &[("stall_timeout", PATIENCE)])), Code::Stalled, RETRY);
}

#[test]
fn what_waits_for_a_server_ends_when_it_is_interrupted() {
    let server = HttpServer::start();
    let honest = || Page::new(sample("bad", LEN));
    server.put("/silent", honest().trick(.., Trick::Silence));
    for (number, trick) in
        [Trick::Silence, Trick::HangAfter(1000), Trick::Trickle(Duration::from_millis(20))].into_iter().enumerate()
    {
        server.put(&format!("/part{number}"), honest().trick(1.., trick.clone()));
        if !matches!(trick, Trick::Silence) {
            server.put(&format!("/stream{number}"), honest().without_ranges(Framing::Length).trick(.., trick));
        }
    }
    on_lane(Runtime::TokioUring, async |lane| {
        let waits = [("stall_timeout", "1h")];
        let asks = |path: &str| request(&server.url(path), options(&waits), None);
        let http = HttpProtocol::new(Web::new());
        let opening = asks("/silent");
        let mut open = pin!(http.open_source(&opening, &lane));
        assert!(timeout(Duration::from_millis(50), open.as_mut()).await.is_err(), "it waits");
        opening.interrupt.raise();
        assert_error(&failure(open.await), Code::Canceled, Disposition::Canceled);

        for path in ["/part0", "/part1", "/part2", "/stream1", "/stream2"] {
            let request = asks(path);
            let source = http.open_source(&request, &lane).await.expect(path);
            let read_until_interrupted = async {
                let mut reading = pin!(read(&source, 0, LEN, &lane));
                assert!(timeout(Duration::from_millis(50), reading.as_mut()).await.is_err(), "{path}: it waits");
                request.interrupt.raise();
                reading.await
            };
            assert_error(&failure(read_until_interrupted.await), Code::Canceled, Disposition::Canceled);
            assert_error(&failure(read(&source, 0, LEN, &lane).await), Code::Canceled, Disposition::Canceled);
            assert_error(&failure(source.revalidate().await), Code::Canceled, Disposition::Canceled);
            source.close().await;
        }
    });
}

#[test]
fn server_that_trickles_meets_the_total_timeout() {
    let trickle = Trick::Trickle(Duration::from_millis(20));
    let pairs = [("stall_timeout", "5s"), ("total_timeout", "0.6s")];
    let error = failure(read_from_server_that(trickle, &pairs));
    assert_error(&error, Code::TimedOut, Disposition::Fatal);
}

#[test]
fn server_that_resets_mid_body() {
    assert_error(&failure(read_from_server_that(Trick::ResetAfter(1000), &[])), Code::ConnectionLost, RETRY);
}

#[test]
fn server_that_closes_mid_body() {
    assert_error(&failure(read_from_server_that(Trick::CloseAfter(1000), &[])), Code::ConnectionLost, RETRY);
}

#[test]
fn server_that_closes_without_an_answer() {
    assert_error(&failure(read_from_server_that(Trick::CloseUnanswered, &[])), Code::ConnectionLost, RETRY);
    assert_error(&open_at_server_that(Trick::CloseUnanswered, &[]), Code::ConnectionLost, RETRY);
}

#[test]
fn server_without_ranges_that_ends_early_is_never_a_short_object() {
    for framing in [Framing::Length, Framing::Chunked] {
        for trick in [Trick::CloseAfter(60_000), Trick::ResetAfter(60_000)] {
            let page = Page::new(sample("bad", LEN)).without_ranges(framing).trick(.., trick.clone());
            let error = failure(read_from(page, &[]));
            assert_error(&error, Code::ConnectionLost, RETRY);
        }
    }
}

#[test]
fn chunked_body_without_its_last_chunk_is_an_error_even_when_all_bytes_came() {
    let page = Page::new(sample("bad", LEN)).without_ranges(Framing::Chunked).trick(.., Trick::CloseAfter(LEN));
    let server = HttpServer::start();
    server.put("/x", page);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        // More than there is: only the end of the body can tell that.
        assert_error(&failure(read(&source, 0, 2 * LEN, &lane).await), Code::ConnectionLost, RETRY);
        source.close().await;
    });
}

#[test]
fn server_that_breaks_off_is_asked_again_from_the_front() {
    let bytes = sample("bad", LEN);
    let server = HttpServer::start();
    let page = Page::new(bytes.clone()).without_ranges(Framing::Length).trick(0..1, Trick::CloseAfter(60_000));
    server.put("/x", page);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        assert!(read(&source, 0, LEN / 2, &lane).await.unwrap() == bytes[..LEN / 2]);
        assert_error(&failure(read(&source, LEN / 2, LEN, &lane).await), Code::ConnectionLost, RETRY);
        assert!(read(&source, LEN / 2, LEN, &lane).await.unwrap() == bytes[LEN / 2..]);
        source.close().await;
    });
}

#[test]
fn server_that_sends_garbage() {
    assert_error(&failure(read_from_server_that(Trick::Garbage, &[])), Code::ProtocolViolation, RETRY);
    assert_error(&open_at_server_that(Trick::Garbage, &[]), Code::ProtocolViolation, RETRY);
}

#[test]
fn server_that_sends_garbage_as_chunks() {
    assert_error(&failure(read_from_server_that(Trick::GarbageChunk, &[])), Code::ProtocolViolation, RETRY);
}

#[test]
fn server_that_ignores_ranges_after_the_first() {
    assert_error(&failure(read_from_server_that(Trick::IgnoreRange, &[])), Code::ProtocolViolation, RETRY);
}

#[test]
fn server_that_sends_another_range_than_asked() {
    assert_error(&failure(read_from_server_that(Trick::ShiftedRange, &[])), Code::ProtocolViolation, RETRY);
    assert_error(&failure(read_from_server_that(Trick::NoContentRange, &[])), Code::ProtocolViolation, RETRY);
}

#[test]
fn server_that_sends_more_or_less_than_the_range() {
    assert_error(&failure(read_from_server_that(Trick::SurplusChunked(1), &[])), Code::ProtocolViolation, RETRY);
    assert_error(&failure(read_from_server_that(Trick::MissingChunked(1), &[])), Code::ProtocolViolation, RETRY);
}

#[test]
fn server_that_says_another_total_means_a_changed_source() {
    let error = failure(read_from_server_that(Trick::OtherTotal(LEN as u64 + 1), &[]));
    assert_error(&error, Code::SourceChanged, Disposition::SourceChanged);
}

#[test]
fn server_that_changes_its_etag_between_ranges() {
    for trick in [Trick::OtherEtag("\"v2\""), Trick::OtherEtag("W/\"v2\""), Trick::NoEtag] {
        let error = failure(read_from_server_that(trick, &[]));
        assert_error(&error, Code::SourceChanged, Disposition::SourceChanged);
    }
}

#[test]
fn server_whose_object_was_replaced_answers_if_range_with_200() {
    let server = HttpServer::start();
    server.put("/x", Page::new(sample("old", LEN)));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        server.put("/x", Page::new(sample("new", LEN)));
        let error = failure(read(&source, 0, LEN, &lane).await);
        assert_error(&error, Code::SourceChanged, Disposition::SourceChanged);
        assert_error(&failure(source.revalidate().await), Code::SourceChanged, Disposition::SourceChanged);
        source.close().await;
    });
}

#[test]
fn server_whose_object_was_truncated() {
    let server = HttpServer::start();
    server.put("/x", Page::new(sample("old", LEN)).etag(None));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        server.put("/x", Page::new(sample("old", LEN / 4)).etag(None));
        let error = failure(read(&source, LEN / 2, LEN, &lane).await);
        assert_error(&error, Code::SourceChanged, Disposition::SourceChanged);
        source.close().await;
    });
}

#[test]
fn server_that_compresses_though_asked_not_to() {
    assert_error(&failure(read_from_server_that(Trick::Encoded, &[])), Code::ProtocolViolation, Disposition::Fatal);
    assert_error(&open_at_server_that(Trick::Encoded, &[]), Code::ProtocolViolation, Disposition::Fatal);
}

#[test]
fn server_that_asks_to_retry_after_a_while() {
    let busy = |status, wait: &str| Trick::Status(status, vec![("Retry-After", wait.into())]);
    for status in [429, 503] {
        let wanted = Disposition::Retry { after: Some(Duration::from_secs(7)) };
        assert_error(&open_at_server_that(busy(status, "7"), &[]), Code::HttpStatus, wanted);
        assert_error(&failure(read_from_server_that(busy(status, "7"), &[])), Code::HttpStatus, wanted);
    }
    let then = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3600));
    match open_at_server_that(busy(503, &then), &[]).disposition {
        Disposition::Retry { after: Some(wait) } => {
            assert!((3500..=3600).contains(&wait.as_secs()), "{wait:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn server_that_is_busy_once_is_read_at_the_next_try() {
    let bytes = sample("busy", LEN);
    let server = HttpServer::start();
    server.put("/x", Page::new(bytes.clone()).trick(1..2, Trick::Status(503, vec![])));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        assert_error(&failure(read(&source, 0, LEN, &lane).await), Code::HttpStatus, RETRY);
        assert!(read(&source, 0, LEN, &lane).await.unwrap() == bytes);
        source.close().await;
    });
}

#[test]
fn server_that_denies_or_misses_the_object() {
    for (status, code) in [
        (400, Code::HttpStatus),
        (401, Code::PermissionDenied),
        (403, Code::PermissionDenied),
        (404, Code::SourceMissing),
        (410, Code::SourceMissing),
    ] {
        assert_error(&open_at_server_that(Trick::Status(status, vec![]), &[]), code, Disposition::Fatal);
        let error = failure(read_from_server_that(Trick::Status(status, vec![]), &[]));
        assert_error(&error, code, Disposition::Fatal);
    }
}

#[test]
fn server_that_is_not_there() {
    on_lane(Runtime::TokioUring, async |lane| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = failure(try_open(&format!("http://{free}/x"), &[], &lane).await);
        assert_error(&error, Code::ConnectFailed, RETRY);
        assert!(error.message.contains("refused"), "{error}");
    });
}

#[test]
fn server_that_does_not_accept_connections_meets_the_connect_timeout() {
    // A listener whose queue is full drops what knocks.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: std::net::SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
    let waiting: Vec<_> = std::iter::repeat_with(connect).take_while(Result::is_ok).collect();
    on_lane(Runtime::TokioUring, async |lane| {
        let begun = Instant::now();
        let error = failure(try_open(&format!("http://{address}/x"), &[("connect_timeout", PATIENCE)], &lane).await);
        assert_error(&error, Code::ConnectFailed, RETRY);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
    drop(waiting);
}

#[test]
fn a_read_that_is_given_up_closes_its_connection_and_harms_no_other() {
    let bytes = sample("given up", LEN);
    let server = HttpServer::start();
    server.put("/x", Page::new(bytes.clone()).trick(1..2, Trick::HangAfter(10)));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        let mut given_up = Box::pin(read(&source, 0, LEN, &lane));
        // Not before the server has seen it, or the next one would meet its trick.
        while server.seen().len() < 2 {
            assert!(tokio::time::timeout(Duration::from_millis(10), &mut given_up).await.is_err());
        }
        drop(given_up);
        assert!(read(&source, 0, LEN, &lane).await.unwrap() == bytes);
        source.close().await;
    });
}
