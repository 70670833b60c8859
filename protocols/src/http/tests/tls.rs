//! https.

use super::*;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A server for `localhost` with a certificate of a new authority, and the authority's root in PEM.
fn server() -> (HttpServer, String) {
    let (key, authority_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    (HttpServer::start_tls(config), root.pem())
}

#[test]
fn https_with_a_root_of_the_clients_own() {
    let (server, root) = server();
    let bytes = sample("secret", 3 << 20);
    server.put("/x", Page::new(bytes.clone()));
    server.put("/stream", Page::new(bytes.clone()).without_ranges(Framing::UntilClose));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&server.url("/x"), &[("ca", &root)], &lane).await;
        assert!(read(&source, 100, 3 << 20, &lane).await.unwrap() == bytes[100..]);
        source.close().await;
        let source = open(&server.url("/stream"), &[("ca", &root)], &lane).await;
        assert!(read(&source, 0, 4 << 20, &lane).await.unwrap() == bytes);
        source.close().await;
    });
}

#[test]
fn https_with_an_untrusted_certificate_is_refused_for_good() {
    let (server, _) = server();
    let (_, other_root) = self::server();
    server.put("/x", Page::new("some"));
    on_lane(Runtime::TokioUring, async |lane| {
        for pairs in [&[("ca", other_root.as_str())][..], &[]] {
            let error = failure(try_open(&server.url("/x"), pairs, &lane).await);
            assert_error(&error, Code::TlsFailed, Disposition::Fatal);
        }
    });
    assert!(server.seen().is_empty(), "nothing was asked of a stranger");
}

#[test]
fn https_with_a_certificate_for_another_name_is_refused_for_good() {
    let (server, root) = server();
    server.put("/x", Page::new("some"));
    let url = server.url("/x").replace("localhost", "127.0.0.1");
    on_lane(Runtime::TokioUring, async |lane| {
        let error = failure(try_open(&url, &[("ca", &root)], &lane).await);
        assert_error(&error, Code::TlsFailed, Disposition::Fatal);
    });
}

#[test]
fn https_to_a_server_without_tls_fails_clearly() {
    let server = HttpServer::start();
    let (_, root) = self::server();
    on_lane(Runtime::TokioUring, async |lane| {
        let url = format!("https://{}/x", server.address());
        let pairs = [("ca", root.as_str()), ("connect_timeout", "5s")];
        let error = failure(try_open(&url, &pairs, &lane).await);
        assert!(matches!(error.code, Code::TlsFailed | Code::ConnectFailed), "{error}");
    });
}

#[test]
fn https_stream_that_is_cut_without_goodbye_is_not_an_end() {
    let (server, root) = server();
    for trick in [Trick::CloseAfter(50_000), Trick::ResetAfter(50_000)] {
        let page = Page::new(sample("cut", 100_000)).without_ranges(Framing::UntilClose);
        server.put("/x", page.trick(.., trick));
        on_lane(Runtime::TokioUring, async |lane| {
            let source = open(&server.url("/x"), &[("ca", &root)], &lane).await;
            assert_error(&failure(read(&source, 0, 200_000, &lane).await), Code::ConnectionLost, RETRY);
            source.close().await;
        });
    }
}

#[test]
fn https_never_redirects_to_http() {
    let (server, root) = server();
    let plain = HttpServer::start();
    plain.put("/x", Page::new("some"));
    let down = Trick::Status(302, vec![("Location", plain.url("/x"))]);
    server.put("/down", Page::new([]).trick(.., down));
    let up = Trick::Status(302, vec![("Location", server.url("/x"))]);
    plain.put("/up", Page::new([]).trick(.., up));
    server.put("/x", Page::new("some"));
    on_lane(Runtime::TokioUring, async |lane| {
        let error = failure(try_open(&server.url("/down"), &[("ca", &root)], &lane).await);
        assert_error(&error, Code::RedirectRefused, Disposition::Fatal);
        open(&plain.url("/up"), &[("ca", &root)], &lane).await.close().await;
    });
    assert_eq!(plain.seen().len(), 1, "only the way up was asked for");
}
