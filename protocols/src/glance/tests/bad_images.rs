//! Images that cannot be read, change or vanish; servers that break down.

use super::*;

const LEN: usize = 100_000;

#[test]
fn an_image_without_data_is_waited_for_and_one_that_never_will_have_some_is_refused() {
    let glance = FakeGlance::start();
    glance.put(ID, b"some bytes");
    for (status, code, disposition) in [
        ("queued", Code::ReadFailed, RETRY),
        ("saving", Code::ReadFailed, RETRY),
        ("importing", Code::ReadFailed, RETRY),
        ("deactivated", Code::PermissionDenied, Disposition::Fatal),
        ("killed", Code::SourceMissing, Disposition::Fatal),
        ("pending_delete", Code::SourceMissing, Disposition::Fatal),
    ] {
        glance.set(ID, "status", status.into());
        let error = open_fails(&glance.url(ID), &[]);
        assert_error(&error, code, disposition);
        assert!(error.message.contains(status) && error.message.contains(ID), "{error}");
    }
    assert_error(&open_fails(&glance.url("no-such-image"), &[]), Code::SourceMissing, Disposition::Fatal);
}

#[test]
fn what_glance_publishes_is_told() {
    let glance = FakeGlance::start();
    glance.put(ID, b"some bytes");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        assert!(source.published().unwrap().to_string().starts_with("sha512:"));
        assert!(matches!(&source.object().validator, Some(Validator::Version { size: Some(10), .. })));
        assert_eq!(source.object().access, Access::Random);
        glance.set(ID, "os_hash_algo", json!(null));
        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        assert!(source.published().unwrap().to_string().starts_with("md5:"));
        glance.set(ID, "checksum", json!(null));
        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        assert_eq!(source.published(), None);
    });
}

#[test]
fn a_record_and_data_of_different_lengths_are_not_believed() {
    let glance = FakeGlance::start();
    for framing in [None, Some(Framing::Length)] {
        let page = Page::new(sample("bad", LEN)).etag(None);
        glance.put_page(ID, &sample("bad", LEN), framing.map_or(page.clone(), |framing| page.without_ranges(framing)));
        glance.set(ID, "size", (LEN + 1).into());
        assert_error(&open_fails(&glance.url(ID), &[]), Code::ProtocolViolation, RETRY);
    }
    let page = Page::new(sample("bad", LEN)).etag(None).without_ranges(Framing::Chunked);
    glance.put_page(ID, &sample("bad", LEN), page);
    glance.set(ID, "size", (LEN + 1).into());
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        assert_error(&failure(read(&source, 0, LEN + 1, &lane).await), Code::ConnectionLost, RETRY);
    });
}

#[test]
fn an_image_that_is_deleted_or_replaced_while_it_is_read_is_noticed() {
    let glance = FakeGlance::start();
    on_lane(Runtime::TokioUring, async |lane| {
        glance.put(ID, &sample("one", LEN));
        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        source.revalidate().await.unwrap();
        glance.put(ID, &sample("two", LEN));
        assert!(read(&source, 0, LEN, &lane).await.unwrap() == sample("two", LEN), "Glance has no tags");
        assert_error(&failure(source.revalidate().await), Code::SourceChanged, Disposition::SourceChanged);
        let pinned = source.object().validator.clone();
        let request = SourceRequest { pinned, ..request(&glance.url(ID), options(&[])) };
        let again = GlanceProtocol::new(Web::new()).open_source(&request, &lane).await;
        assert_error(&failure(again), Code::SourceChanged, Disposition::SourceChanged);

        let source = try_open(&glance.url(ID), &[], &lane).await.unwrap();
        glance.delete(ID);
        assert_error(&failure(read(&source, 0, LEN, &lane).await), Code::SourceMissing, Disposition::Fatal);
        assert_error(&failure(source.revalidate().await), Code::SourceMissing, Disposition::Fatal);
    });
}

#[test]
fn refusals_and_overload_say_what_can_be_done() {
    let glance = FakeGlance::start();
    glance.put(ID, b"some bytes");
    let after = |seconds| Disposition::Retry { after: Some(Duration::from_secs(seconds)) };
    for (reply, code, disposition) in [
        (Reply::new(401), Code::PermissionDenied, Disposition::Fatal),
        (Reply::new(403), Code::PermissionDenied, Disposition::Fatal),
        (Reply::new(404), Code::SourceMissing, Disposition::Fatal),
        (Reply::new(409), Code::HttpStatus, Disposition::Fatal),
        (Reply::new(429).header("Retry-After", "7"), Code::HttpStatus, after(7)),
        (Reply::new(500), Code::HttpStatus, RETRY),
        (Reply::new(503).header("Retry-After", "3"), Code::HttpStatus, after(3)),
        (Reply::new(200), Code::ProtocolViolation, RETRY),
        (Reply::json(200, &json!({"id": "another", "status": "active"})), Code::ProtocolViolation, RETRY),
        (Reply::new(302).header("Location", "http://elsewhere/"), Code::HttpStatus, Disposition::Fatal),
    ] {
        glance.trouble([reply.clone()]);
        let error = open_fails(&glance.url(ID), &[("token", "hush-given")]);
        assert_error(&error, code, disposition);
        if matches!(reply.status(), 401 | 403) {
            assert!(error.message.contains("token"), "{error}");
        }
    }
}

#[test]
fn a_stalled_glance_is_not_waited_for_for_ever() {
    let glance = FakeGlance::start();
    glance.put_page(ID, b"some bytes", Page::new("some bytes").trick(1.., Trick::Silence));
    let begun = Instant::now();
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &[("stall_timeout", PATIENCE)], &lane).await.unwrap();
        assert_error(&failure(read(&source, 0, 10, &lane).await), Code::Stalled, RETRY);
    });
    assert!(begun.elapsed() < Duration::from_secs(8), "it did not wait for ever");
}
