//! The module against servers that answer well and badly.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use super::HttpProtocol;
use crate::{
    Access, ByteRange, Code, Disposition, Error, Interrupt, Lane, ObjectUrl, Options, Protocol, Registry, Runtime,
    Source, Validator,
    conformance::{self, Made, SourceHarness, on_lane, sample},
    contract::{SharedProtocol, SourceRequest},
    testing::http_server::{Framing, HttpServer, Page, Trick},
    web::Web,
};

mod bad_servers;
mod honest_servers;
mod networks;
mod puts;
mod redirects;
mod stretches;
mod tls;

/// Short enough that a test which waits for it stays fast, long enough for a busy machine.
const PATIENCE: &str = "1.2s";

fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options: Options = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    options.entry("stall_timeout".into()).or_insert_with(|| "10s".into());
    options
}

fn request(url: &str, options: Options, pinned: Option<Validator>) -> SourceRequest {
    SourceRequest {
        url: ObjectUrl::parse(url).unwrap(),
        options,
        pinned,
        aligned: true,
        interrupt: Interrupt::default(),
    }
}

async fn try_open(url: &str, pairs: &[(&str, &str)], lane: &Lane) -> Result<Rc<dyn Source>, Error> {
    HttpProtocol::new(Web::new()).open_source(&request(url, options(pairs), None), lane).await
}

async fn open(url: &str, pairs: &[(&str, &str)], lane: &Lane) -> Rc<dyn Source> {
    try_open(url, pairs, lane).await.expect("the object opens")
}

async fn read(source: &Rc<dyn Source>, start: usize, end: usize, lane: &Lane) -> Result<Vec<u8>, Error> {
    let range = ByteRange::new(start as u64, end as u64).unwrap();
    let chunk = source.read(range, &lane.pool).await?;
    Ok(chunk.bytes().expect("http has no holes").to_vec())
}

fn failure<T>(result: Result<T, Error>) -> Error {
    result.map(drop).expect_err("this must fail")
}

#[track_caller]
fn assert_error(error: &Error, code: Code, disposition: Disposition) {
    assert_eq!((error.code, error.disposition), (code, disposition), "{error}");
}

const RETRY: Disposition = Disposition::Retry { after: None };

#[test]
fn urls_and_options_are_checked_without_a_server() {
    let registry = Registry::new().with(HttpProtocol::new(Web::new()));
    let check = |url: &str, pairs: &[(&str, &str)]| {
        registry.source(&ObjectUrl::parse(url).unwrap(), &options(pairs)).map(drop).map_err(|error| error.code)
    };
    assert_eq!(check("https://host/a?b", &[("header.Authorization", "x"), ("connect_timeout", "3")]), Ok(()));
    assert_eq!(check("http:///path", &[]), Err(Code::InvalidUrl));
    assert_eq!(check("http://user@host/", &[]), Err(Code::InvalidUrl));
    assert_eq!(check("http://host/", &[("header.Host", "x")]), Err(Code::InvalidOption));
    assert_eq!(check("http://host/", &[("header.", "x")]), Err(Code::InvalidOption));
    assert_eq!(check("http://host/", &[("timeout", "1")]), Err(Code::InvalidOption));
    assert_eq!(check("http://host/", &[("total_timeout", "soon")]), Err(Code::InvalidOption));
    let url = ObjectUrl::parse("http://host/").unwrap();
    assert!(registry.is_secret(&url, "header.Authorization") && !registry.is_secret(&url, "connect_timeout"));
    let folder = registry.destination(&url, &Options::new()).map(drop);
    assert_eq!(folder.unwrap_err().code, Code::InvalidUrl, "a folder is no object");
}
