//! Where redirects lead, and what is told there.

use super::*;

fn to(location: impl Into<String>) -> Trick {
    Trick::Status(302, vec![("Location", location.into())])
}

#[test]
fn redirects_are_followed_and_their_end_is_remembered() {
    let server = HttpServer::start();
    for status in [301, 302, 303, 307, 308] {
        let bytes = sample("far", 1000);
        let step = Trick::Status(status, vec![("Location", "step".into())]);
        server.put(&format!("/{status}/a"), Page::new([]).trick(.., step));
        server.put(&format!("/{status}/step"), Page::new([]).trick(.., to(format!("/{status}/end?sig=1"))));
        server.put(&format!("/{status}/end?sig=1"), Page::new(bytes.clone()));
        let before = server.seen().len();
        on_lane(Runtime::TokioUring, async |lane| {
            let source = open(&server.url(&format!("/{status}/a")), &[], &lane).await;
            assert!(read(&source, 0, 1000, &lane).await.unwrap() == bytes);
            assert!(read(&source, 5, 10, &lane).await.unwrap() == bytes[5..10]);
            source.close().await;
        });
        let targets: Vec<_> = server.seen()[before..].iter().map(|request| request.target.clone()).collect();
        let end = format!("/{status}/end?sig=1");
        assert_eq!(targets, [format!("/{status}/a"), format!("/{status}/step"), end.clone(), end.clone(), end]);
    }
}

#[test]
fn redirects_beyond_ten_are_refused() {
    let server = HttpServer::start();
    for hop in 0..20 {
        server.put(&format!("/{hop}"), Page::new([]).trick(.., to(format!("/{}", hop + 1))));
    }
    server.put("/20", Page::new("end"));
    server.put("/round", Page::new([]).trick(.., to("/round")));
    on_lane(Runtime::TokioUring, async |lane| {
        open(&server.url("/10"), &[], &lane).await.close().await;
        for path in ["/9", "/round"] {
            let error = failure(try_open(&server.url(path), &[], &lane).await);
            assert_error(&error, Code::RedirectRefused, Disposition::Fatal);
        }
    });
}

#[test]
fn redirects_to_another_kind_are_refused() {
    let server = HttpServer::start();
    server.put("/file", Page::new([]).trick(.., to("file:///etc/passwd")));
    server.put("/ftp", Page::new([]).trick(.., to("ftp://127.0.0.1/x")));
    server.put("/nowhere", Page::new([]).trick(.., Trick::Status(302, vec![])));
    on_lane(Runtime::TokioUring, async |lane| {
        for path in ["/file", "/ftp"] {
            let error = failure(try_open(&server.url(path), &[], &lane).await);
            assert_error(&error, Code::RedirectRefused, Disposition::Fatal);
        }
        assert_error(&failure(try_open(&server.url("/nowhere"), &[], &lane).await), Code::ProtocolViolation, RETRY);
    });
}

#[test]
fn headers_are_not_sent_to_another_origin_nor_after_coming_back() {
    let (home, away) = (HttpServer::start(), HttpServer::start());
    home.put("/a", Page::new([]).trick(.., to(home.url("/b"))));
    home.put("/b", Page::new([]).trick(.., to(away.url("/c"))));
    away.put("/c", Page::new([]).trick(.., to(home.url("/d"))));
    home.put("/d", Page::new("some"));
    on_lane(Runtime::TokioUring, async |lane| {
        let pairs = [("header.Authorization", "hush"), ("header.Cookie", "hush"), ("header.X-Key", "hush")];
        let source = open(&home.url("/a"), &pairs, &lane).await;
        assert_eq!(read(&source, 0, 4, &lane).await.unwrap(), b"some");
        source.close().await;
    });
    let told = |server: &HttpServer, target: &str| {
        let seen = server.seen();
        let request = seen.iter().find(|request| request.target == target).expect(target);
        request.headers.values().filter(|value| *value == "hush").count()
    };
    assert_eq!((told(&home, "/a"), told(&home, "/b"), told(&away, "/c"), told(&home, "/d")), (3, 3, 0, 0));
}

#[test]
fn a_final_url_that_runs_out_is_looked_for_again() {
    let server = HttpServer::start();
    let bytes = sample("signed", 1000);
    server.put("/x", Page::new([]).trick(..1, to("/signed?1")).trick(1.., to("/signed?2")));
    server.put("/signed?1", Page::new(bytes.clone()).trick(1.., Trick::Status(403, vec![])));
    server.put("/signed?2", Page::new(bytes.clone()));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        assert!(read(&source, 0, 1000, &lane).await.unwrap() == bytes);
        assert!(read(&source, 0, 1000, &lane).await.unwrap() == bytes);
        source.close().await;
    });
    let signed = server.seen().iter().filter(|request| request.target == "/signed?1").count();
    assert_eq!(signed, 2, "once at the opening, once in vain");
}
