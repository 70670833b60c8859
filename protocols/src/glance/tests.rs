//! The module against a Keystone and a Glance that answer well and badly.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use self::fake::FakeGlance;
use super::GlanceProtocol;
use crate::{
    Access, ByteRange, Code, Disposition, Error, Interrupt, Lane, ObjectUrl, Options, Protocol, Registry, Runtime,
    Source, Validator,
    conformance::{self, DestinationHarness, Made, SourceHarness, on_lane, sample},
    contract::{SharedProtocol, SourceRequest},
    testing::{
        http_server::{Framing, HttpServer, Page, Reply, Trick},
        keystone::{Keystone, PASSWORD, SECRET},
    },
    web::Web,
};

mod accounts;
mod bad_images;
mod bad_uploads;
mod conformity;
mod fake;

/// Short enough that a test which waits for it stays fast, long enough for a busy machine.
const PATIENCE: &str = "1.2s";
const ID: &str = "11111111-2222-4333-8444-555555555555";
const RETRY: Disposition = Disposition::Retry { after: None };

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options: Options = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    options.entry("stall_timeout".into()).or_insert_with(|| "10s".into());
    options
}

fn request(url: &str, options: Options) -> SourceRequest {
    let url = ObjectUrl::parse(url).unwrap();
    SourceRequest { url, options, pinned: None, aligned: true, interrupt: Interrupt::default() }
}

async fn try_open(url: &str, pairs: &[(&str, &str)], lane: &Lane) -> Result<Rc<dyn Source>, Error> {
    GlanceProtocol::new(Web::new()).open_source(&request(url, options(pairs)), lane).await
}

fn open_fails(url: &str, pairs: &[(&str, &str)]) -> Error {
    on_lane(Runtime::TokioUring, async |lane| failure(try_open(url, pairs, &lane).await))
}

async fn read(source: &Rc<dyn Source>, start: usize, end: usize, lane: &Lane) -> Result<Vec<u8>, Error> {
    let range = ByteRange::new(start as u64, end as u64).unwrap();
    let chunk = source.read(range, &lane.pool).await?;
    Ok(chunk.bytes().expect("images have no holes").to_vec())
}

fn failure<T>(result: Result<T, Error>) -> Error {
    result.map(drop).expect_err("this must fail")
}

#[track_caller]
fn assert_error(error: &Error, code: Code, disposition: Disposition) {
    assert_eq!((error.code, error.disposition), (code, disposition), "{error}");
    assert!(!format!("{error:?} {error}").contains("hush"), "a secret is shown: {error}");
}

#[test]
fn urls_and_options_are_checked_without_a_server() {
    let registry = Registry::new().with(GlanceProtocol::new(Web::new()));
    let check = |url: &str, pairs: &[(&str, &str)]| {
        registry.source(&ObjectUrl::parse(url).unwrap(), &options(pairs)).map(drop).map_err(|error| error.code)
    };
    let user = [("auth_url", "http://k"), ("username", "u"), ("password", "p"), ("project_name", "a")];
    assert_eq!(check("glance://h/i", &[]), Ok(()));
    assert_eq!(check("glance+https://h:443/image/i", &user), Ok(()));
    assert_eq!(check("glance:///i", &user), Ok(()));
    assert_eq!(check("glance:///i", &[]), Err(Code::InvalidOption), "nobody knows the endpoint");
    assert_eq!(check("glance://h/", &[]), Err(Code::InvalidUrl), "no image");
    assert_eq!(check("glance://h/i", &[("password", "p")]), Err(Code::InvalidOption));
    assert_eq!(check("glance://h/i", &[("user", "p")]), Err(Code::InvalidOption));
    let url = ObjectUrl::parse("glance://h/i").unwrap();
    for (name, secret) in
        [("password", true), ("token", true), ("application_credential_secret", true), ("username", false)]
    {
        assert_eq!(registry.is_secret(&url, name), secret, "{name}");
    }
    let secure = Registry::new().with(GlanceProtocol::new(Web::new().secure()));
    assert_eq!(secure.module(&url).map(drop).unwrap_err().code, Code::UnsupportedScheme, "plain http is not allowed");
}
