//! Addresses of the host itself.

use super::*;
use crate::web::networks::Networks;

#[test]
fn the_hosts_own_addresses_are_read_only_where_they_were_allowed() {
    let server = HttpServer::start();
    server.put("/a", Page::new("abc"));
    let elsewhere = server.url("/a").replace("127.0.0.1", "127.0.0.2");
    server.put("/away", Page::new([]).trick(.., Trick::Status(302, vec![("Location", elsewhere.clone())])));
    let by_name = server.url("/a").replace("127.0.0.1", "localhost");
    on_lane(Runtime::TokioUring, async |lane| {
        let open = async |allowed: &[&str], url: &str| {
            let networks = Networks::of(allowed.iter().map(|text| text.parse().unwrap()));
            let http = HttpProtocol::new(Web::new().within(networks));
            http.open_source(&request(url, options(&[]), None), &lane).await
        };
        for url in [&server.url("/a"), &by_name] {
            open(&["127.0.0.0/8", "::1"], url).await.expect("it is allowed").close().await;
            for allowed in [&[][..], &["127.0.0.9"], &["169.254.0.0/16"]] {
                let error = failure(open(allowed, url).await);
                assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
                assert!(error.message.contains("allow_networks"), "{error}");
            }
        }
        // Whoever redirects chooses no more than whoever asks.
        let error = failure(open(&["127.0.0.1"], &server.url("/away")).await);
        assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
        assert!(error.message.contains("127.0.0.2"), "{error}");
        assert_error(&failure(open(&["127.0.0.1"], &elsewhere).await), Code::PermissionDenied, Disposition::Fatal);
    });
    let asked: Vec<_> = server.seen().into_iter().map(|request| request.target).collect();
    assert!(asked.iter().filter(|target| *target == "/away").count() == 1, "{asked:?}");
}
