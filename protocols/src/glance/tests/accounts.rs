//! Who asks: tokens, their renewal, and whom they are shown.

use super::*;
use crate::{conformance::CHUNK_BYTES, testing::http_server::Seen};

fn user(keystone: &Keystone) -> Vec<(String, String)> {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    own(&[
        ("auth_url", &keystone.auth_url()),
        ("username", Keystone::USER),
        ("password", PASSWORD),
        ("project_name", "demo"),
    ])
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn tokens_shown(seen: &[Seen]) -> Vec<&str> {
    seen.iter().filter_map(|request| request.headers.get("x-auth-token")).map(String::as_str).collect()
}

#[test]
fn a_user_a_credential_and_a_token_open_an_image() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    glance.put(ID, b"some bytes");
    let token = keystone.issue();
    let auth_url = keystone.auth_url();
    let credential = [
        ("auth_url", auth_url.as_str()),
        ("application_credential_id", Keystone::CREDENTIAL),
        ("application_credential_secret", SECRET),
    ];
    let own = user(&keystone);
    let port = glance.server.address().port();
    on_lane(Runtime::TokioUring, async |lane| {
        let options =
            [&borrowed(&own)[..], &credential, &[("auth_url", &auth_url), ("token", &token)], &[("token", &token)]];
        for pairs in options {
            let source = try_open(&glance.url(ID), pairs, &lane).await.expect("it opens");
            assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
        }
        // The catalogue says where it is; the port is not Glance's usual one.
        assert_ne!(port, 9292);
        let source = try_open(&format!("glance:///{ID}"), &borrowed(&own), &lane).await.expect("it opens");
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
    });
}

#[test]
fn a_wrong_password_is_refused_with_the_names_of_keystone_and_user() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    let mut wrong = user(&keystone);
    wrong[2].1 = "hush-wrong".into();
    let error = open_fails(&glance.url(ID), &borrowed(&wrong));
    assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
    assert!(error.message.contains(&keystone.auth_url()) && error.message.contains("user demo"), "{error}");
    let auth_url = keystone.auth_url();
    let credential = [
        ("auth_url", auth_url.as_str()),
        ("application_credential_id", "gone"),
        ("application_credential_secret", SECRET),
    ];
    let error = open_fails(&glance.url(ID), &credential);
    assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
    assert!(error.message.contains("application credential gone"), "{error}");
    assert!(glance.server.seen().is_empty(), "nothing was asked of Glance");
}

#[test]
fn trouble_with_keystone_is_told_from_trouble_with_the_account() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    let own = user(&keystone);
    for (reply, code, disposition) in [
        (Reply::new(403), Code::PermissionDenied, Disposition::Fatal),
        (Reply::new(404), Code::InvalidOption, Disposition::Fatal),
        (Reply::new(300), Code::RedirectRefused, Disposition::Fatal),
        (Reply::new(201), Code::ProtocolViolation, RETRY),
        (Reply::new(500), Code::HttpStatus, RETRY),
        (
            Reply::new(429).header("Retry-After", "9"),
            Code::HttpStatus,
            Disposition::Retry { after: Some(Duration::from_secs(9)) },
        ),
    ] {
        keystone.set_trouble(Some(reply));
        assert_error(&open_fails(&glance.url(ID), &borrowed(&own)), code, disposition);
    }
    drop(keystone);
    assert_error(&open_fails(&glance.url(ID), &borrowed(&own)), Code::ConnectFailed, RETRY);
}

#[test]
fn tokens_are_shown_to_endpoints_of_the_catalogue_only() {
    let keystone = Keystone::start();
    let (glance, stranger) = (FakeGlance::behind(&keystone), FakeGlance::start());
    glance.put(ID, b"some bytes");
    stranger.put(ID, b"some bytes");
    let own = user(&keystone);
    let error = open_fails(&stranger.url(ID), &borrowed(&own));
    assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
    assert!(error.message.contains(&glance.server.url("")), "it names those that are: {error}");
    assert!(stranger.server.seen().is_empty());

    let endpoint = stranger.server.url("");
    let mut named = borrowed(&own);
    named.push(("endpoint", &endpoint));
    assert_error(&open_fails(&glance.url(ID), &named), Code::PermissionDenied, Disposition::Fatal);
    let mut elsewhere = borrowed(&own);
    elsewhere.push(("region_name", "RegionTwo"));
    assert_error(&open_fails(&glance.url(ID), &elsewhere), Code::InvalidOption, Disposition::Fatal);
    on_lane(Runtime::TokioUring, async |lane| {
        for url in [stranger.url(ID), format!("glance:///{ID}")] {
            try_open(&url, &named, &lane).await.expect("the endpoint was named");
        }
    });
}

#[test]
fn tokens_are_not_shown_behind_a_redirect_to_another_origin() {
    let keystone = Keystone::start();
    let (glance, away) = (FakeGlance::behind(&keystone), HttpServer::start());
    away.put("/data", Page::new("some bytes"));
    let redirect = Trick::Status(302, vec![("Location", away.url("/data"))]);
    glance.put_page(ID, b"some bytes", Page::new([]).trick(.., redirect));
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &borrowed(&user(&keystone)), &lane).await.expect("it opens");
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
    });
    assert_eq!(tokens_shown(&away.seen()), [""; 0]);
    assert!(!tokens_shown(&glance.server.seen()).is_empty());
}

#[test]
fn a_token_that_runs_out_while_an_image_is_read_is_renewed_before() {
    let keystone = Keystone::start();
    // Its clock is another than ours: only the life of a token counts.
    keystone.set_clock_ahead(Duration::from_secs(86_400));
    keystone.set_life(Duration::from_secs(2));
    let glance = FakeGlance::behind(&keystone);
    let bytes = sample("long", 4 * CHUNK_BYTES);
    glance.put(ID, &bytes);
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &borrowed(&user(&keystone)), &lane).await.expect("it opens");
        for start in (0..bytes.len()).step_by(CHUNK_BYTES) {
            let chunk = read(&source, start, start + CHUNK_BYTES, &lane).await.expect("it is read");
            assert!(chunk == bytes[start..start + CHUNK_BYTES]);
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
    });
    assert!((2..=3).contains(&keystone.issued()), "{} tokens were issued", keystone.issued());
}

#[test]
fn a_refusal_that_another_token_heals_is_healed_once_for_all_lanes() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    let bytes = sample("revoked", 8 * CHUNK_BYTES);
    glance.put(ID, &bytes);
    let module = GlanceProtocol::new(Web::new());
    on_lane(Runtime::TokioUring, async |lane| {
        let request = request(&glance.url(ID), options(&borrowed(&user(&keystone))));
        // Two lanes, as far as the module can tell.
        let (one, two) =
            (module.open_source(&request, &lane).await.unwrap(), module.open_source(&request, &lane).await.unwrap());
        assert_eq!(keystone.issued(), 1, "lanes share a token");
        keystone.tokens().revoke_all();
        let reads = (0..8).map(|index| {
            let source = if index % 2 == 0 { &one } else { &two };
            read(source, index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES, &lane)
        });
        for (index, chunk) in futures_util::future::join_all(reads).await.into_iter().enumerate() {
            assert!(chunk.expect("it is read") == bytes[index * CHUNK_BYTES..][..CHUNK_BYTES]);
        }
        assert_eq!(keystone.issued(), 2, "one renewal for all");
    });
}

#[test]
fn a_refusal_that_no_token_heals_is_final() {
    let keystone = Keystone::start();
    let glance = FakeGlance::behind(&keystone);
    glance.put(ID, b"some bytes");
    glance.trouble([Reply::new(401), Reply::new(401)]);
    let error = open_fails(&glance.url(ID), &borrowed(&user(&keystone)));
    assert_error(&error, Code::PermissionDenied, Disposition::Fatal);
    assert_eq!((keystone.issued(), glance.server.seen().len()), (2, 2), "it was tried with another token, once");

    // A token that was given cannot be renewed.
    let token = keystone.issue();
    keystone.tokens().revoke_all();
    let auth_url = keystone.auth_url();
    for pairs in [&[("token", token.as_str())][..], &[("auth_url", &auth_url), ("token", &token)]] {
        assert_error(&open_fails(&glance.url(ID), pairs), Code::PermissionDenied, Disposition::Fatal);
    }
}

#[test]
fn keystone_may_be_away_while_a_token_is_in_force() {
    let keystone = Keystone::start();
    keystone.set_life(Duration::from_secs(4));
    let glance = FakeGlance::behind(&keystone);
    glance.put(ID, b"some bytes");
    on_lane(Runtime::TokioUring, async |lane| {
        let source = try_open(&glance.url(ID), &borrowed(&user(&keystone)), &lane).await.expect("it opens");
        keystone.set_trouble(Some(Reply::new(503)));
        // Past three quarters of its life.
        tokio::time::sleep(Duration::from_millis(3_200)).await;
        let asked = keystone.seen().len();
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
        assert!(keystone.seen().len() > asked, "it was tried");
    });
}
