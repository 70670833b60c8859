//! Servers that keep to the protocol, each in its own way.

use super::*;

/// A server, and how it serves every page.
struct Served {
    server: HttpServer,
    dress: fn(Page) -> Page,
    validates: bool,
}

impl Served {
    fn new(validates: bool, dress: fn(Page) -> Page) -> Rc<Self> {
        Rc::new(Self { server: HttpServer::start(), dress, validates })
    }

    fn path(name: &str) -> String {
        format!("/{}", percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC))
    }
}

impl SourceHarness for Served {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(HttpProtocol::new(Web::new()))
    }
    fn make(&self, name: &str, len: usize) -> Made {
        let (path, bytes) = (Self::path(name), sample(name, len));
        self.server.put(&path, (self.dress)(Page::new(bytes.clone())));
        Made { url: ObjectUrl::parse(&self.server.url(&path)).unwrap(), bytes }
    }
    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        self.server.put(made.url.url().path(), (self.dress)(Page::new(bytes)));
        true
    }
    fn missing(&self) -> Option<ObjectUrl> {
        Some(ObjectUrl::parse(&self.server.url("/missing")).unwrap())
    }
    fn validates(&self) -> bool {
        self.validates
    }
}

#[test]
fn http_conforms_with_ranges() {
    conformance::check_source(Served::new(true, |page| page), Runtime::TokioUring);
}

#[test]
fn http_conforms_with_ranges_and_weak_tags() {
    conformance::check_source(Served::new(false, |page| page.etag(Some("W/\"1\""))), Runtime::TokioUring);
}

#[test]
fn http_conforms_where_the_server_ignores_if_range() {
    conformance::check_source(Served::new(true, |page| page.trick(.., Trick::IgnoreIfRange)), Runtime::TokioUring);
}

#[test]
fn http_conforms_without_ranges() {
    conformance::check_source(Served::new(true, |page| page.without_ranges(Framing::Length)), Runtime::TokioUring);
}

#[test]
fn http_conforms_with_chunked_bodies_without_length() {
    conformance::check_source(Served::new(true, |page| page.without_ranges(Framing::Chunked)), Runtime::TokioUring);
}

#[test]
fn http_conforms_with_bodies_that_end_with_the_connection() {
    let dress = |page: Page| page.without_ranges(Framing::UntilClose).etag(None);
    conformance::check_source(Served::new(false, dress), Runtime::TokioUring);
}

#[test]
fn http_sources_refuse_glommio_lanes() {
    on_lane(Runtime::Glommio, async |lane| {
        assert_eq!(failure(try_open("http://127.0.0.1:1/", &[], &lane).await).code, Code::Internal);
    });
}

#[test]
fn ranges_travel_over_several_connections_that_are_used_again() {
    let (server, bytes) = (HttpServer::start(), sample("connections", 16 << 20));
    server.put("/x", Page::new(bytes.clone()));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        for _ in 0..4 {
            let reads = (0..4).map(|i| read(&source, i << 22, (i + 1) << 22, &lane));
            for (i, part) in futures_util::future::join_all(reads).await.into_iter().enumerate() {
                assert!(part.unwrap() == bytes[i << 22..(i + 1) << 22]);
            }
        }
        source.revalidate().await.unwrap();
        source.close().await;
    });
    let seen = server.seen();
    assert_eq!(seen.len(), 1 + 16 + 1);
    let connections = server.connections();
    assert!((4..=6).contains(&connections), "4 reads at once, used again; {connections} connections");
    assert!(seen.iter().all(|request| request.method == "GET"), "servers that refuse HEAD are no problem");
    assert!(seen.iter().all(|request| request.headers["accept-encoding"] == "identity"));
    assert!(
        seen.iter().all(|request| request.headers["via"] == "1.1 staccato"),
        "nobody takes us for a user of this host"
    );
    assert!(seen[1..17].iter().all(|request| request.headers.contains_key("if-range")));
}

#[test]
fn a_server_without_ranges_is_asked_once_for_one_pass() {
    let (server, bytes) = (HttpServer::start(), sample("one pass", 3 << 20));
    server.put("/x", Page::new(bytes.clone()).without_ranges(Framing::Length));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        assert_eq!((source.object().size, source.object().access), (Some(3 << 20), Access::Sequential));
        for i in 0..3 {
            assert!(read(&source, i << 20, (i + 1) << 20, &lane).await.unwrap() == bytes[i << 20..(i + 1) << 20]);
        }
        assert_eq!(server.seen().len(), 1);
        // Going back costs a new pass.
        assert!(read(&source, 5, 9, &lane).await.unwrap() == bytes[5..9]);
        assert!(read(&source, 2 << 20, 3 << 20, &lane).await.unwrap() == bytes[2 << 20..]);
        assert_eq!(server.seen().len(), 2);
        source.close().await;
    });
}

#[test]
fn an_empty_object_is_one_whether_its_first_byte_is_416_or_200() {
    let server = HttpServer::start();
    server.put("/416", Page::new([]));
    server.put("/200", Page::new([]).without_ranges(Framing::Length));
    server.put("/bare", Page::new([]).trick(0..1, Trick::Status(416, vec![])));
    on_lane(Runtime::TokioUring, async |lane| {
        for path in ["/416", "/200", "/bare"] {
            let source = open(&server.url(path), &[], &lane).await;
            let object = source.object();
            assert_eq!((object.size, object.access, object.validator.is_some()), (Some(0), Access::Random, true));
            source.revalidate().await.expect(path);
            source.close().await;
        }
    });
}

#[test]
fn a_416_for_an_object_that_is_not_empty_means_no_ranges() {
    let server = HttpServer::start();
    let outside = Trick::Status(416, vec![("Content-Range", "bytes */4".into())]);
    server.put("/x", Page::new("some").trick(0..1, outside));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[], &lane).await;
        assert_eq!((source.object().size, source.object().access), (Some(4), Access::Sequential));
        assert_eq!(read(&source, 0, 4, &lane).await.unwrap(), b"some");
        source.close().await;
    });
}

#[test]
fn a_206_that_proves_nothing_means_no_ranges() {
    let server = HttpServer::start();
    for (path, trick) in [
        ("/shifted", Trick::ShiftedRange),
        ("/unsaid", Trick::NoContentRange),
        ("/more", Trick::SurplusChunked(10)),
        ("/less", Trick::MissingChunked(1)),
    ] {
        server.put(path, Page::new("some bytes").trick(0..1, trick));
    }
    on_lane(Runtime::TokioUring, async |lane| {
        for path in ["/shifted", "/unsaid", "/more", "/less"] {
            let source = open(&server.url(path), &[], &lane).await;
            assert_eq!(source.object().access, Access::Sequential, "{path}");
            assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes", "{path}");
            source.close().await;
        }
    });
}

#[test]
fn headers_of_the_client_are_sent_with_every_request() {
    let server = HttpServer::start();
    server.put("/x", Page::new("some bytes"));
    on_lane(Runtime::TokioUring, async |lane| {
        let pairs = [("header.Authorization", "Bearer t"), ("header.User-Agent", "me")];
        let source = open(&server.url("/x"), &pairs, &lane).await;
        read(&source, 0, 10, &lane).await.unwrap();
        source.close().await;
    });
    for request in server.seen() {
        assert_eq!(request.headers["authorization"], "Bearer t");
        assert_eq!(request.headers["user-agent"], "me");
    }
}

#[test]
fn a_tag_and_size_make_the_validator() {
    let server = HttpServer::start();
    server.put("/strong", Page::new("some").etag(Some("\"v1\"")));
    server.put("/weak", Page::new("some").etag(Some("W/\"v1\"")));
    server.put("/none", Page::new("some").etag(None));
    on_lane(Runtime::TokioUring, async |lane| {
        let pin = Validator::Etag { etag: "\"v1\"".into(), size: Some(4) };
        for (path, validator) in [("/strong", Some(pin)), ("/weak", None), ("/none", None)] {
            let source = open(&server.url(path), &[], &lane).await;
            assert_eq!(source.object().validator, validator, "{path}");
            source.close().await;
        }
    });
}

#[test]
fn without_a_validator_size_and_modification_time_are_compared() {
    let server = HttpServer::start();
    let page = |bytes: &[u8], date: &str| Page::new(bytes).etag(None).last_modified(date);
    on_lane(Runtime::TokioUring, async |lane| {
        for after in [page(b"SOME", "Sun, 06 Nov 1994 08:49:38 GMT"), page(b"more!", "Sun, 06 Nov 1994 08:49:37 GMT")] {
            server.put("/x", page(b"some", "Sun, 06 Nov 1994 08:49:37 GMT"));
            let source = open(&server.url("/x"), &[], &lane).await;
            source.revalidate().await.unwrap();
            server.put("/x", after);
            assert_error(&failure(source.revalidate().await), Code::SourceChanged, Disposition::SourceChanged);
            assert_eq!(failure(read(&source, 0, 4, &lane).await).code, Code::SourceChanged);
            source.close().await;
        }
    });
}
