//! Who asks: tokens of Keystone, and what they are shown to.

use super::{
    bad_sources::{open, open_error, read, request},
    *,
};
use crate::{Code, conformance::on_lane};

#[test]
fn a_token_that_runs_out_on_the_way_is_renewed_once() {
    let served = Served::with_keystone();
    served.store.put("x", b"some bytes");
    let keystone = served.keystone.as_ref().unwrap();
    on_lane(Runtime::TokioUring, async |lane| {
        let source = open(&served, &lane).await.expect("it opens");
        assert_eq!(keystone.issued(), 1);
        keystone.tokens().revoke_all();
        assert_eq!(read(&source, 0, 10, &lane).await.unwrap(), b"some bytes");
        assert_eq!(keystone.issued(), 2);
        source.close().await;
    });
}

#[test]
fn a_wrong_password_is_said_and_shown_nowhere() {
    let served = Served::with_keystone();
    let mut options = served.options();
    options.insert("password".into(), "hush-wrong".into());
    let error = on_lane(Runtime::TokioUring, async |lane| {
        served.protocol().open_source(&request("x", &options), &lane).await.map(drop)
    });
    let error = error.expect_err("it fails");
    assert_eq!(error.code, Code::PermissionDenied, "{error}");
    assert!(!error.message.contains("hush"), "{error}");
    assert!(served.server.seen().is_empty(), "Swift was not asked");
}

#[test]
fn a_storage_url_stands_for_the_catalogue_and_a_token_for_a_user() {
    let served = Served::with_keystone();
    served.store.put("x", b"some bytes");
    let keystone = served.keystone.as_ref().unwrap();
    let token = keystone.issue();
    on_lane(Runtime::TokioUring, async |lane| {
        let account = ("storage_url".to_owned(), served.account());
        let with_user = served.options().into_iter().chain([account.clone()]).collect();
        let with_token = Options::from([account.clone(), ("token".into(), token.clone())]);
        for options in [with_user, with_token] {
            let opened = served.protocol().open_source(&request("x", &options), &lane).await;
            opened.unwrap_or_else(|error| panic!("{error}")).close().await;
        }
        let nobody = served.protocol().open_source(&request("x", &Options::from([account])), &lane).await.map(drop);
        assert_eq!(nobody.unwrap_err().code, Code::PermissionDenied);
    });
}

#[test]
fn a_catalogue_without_swift_is_said() {
    let mut served = Served::with_keystone();
    served.keystone = Some(Keystone::start());
    assert_eq!(open_error(&served).code, Code::InvalidOption);
}
