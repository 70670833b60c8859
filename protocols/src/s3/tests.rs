//! The module against a store in memory that answers well, or exactly as badly as it is told.

use std::{rc::Rc, sync::Arc};

use super::S3Protocol;
use crate::{
    ObjectUrl, Options, Protocol, Runtime,
    conformance::{self, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
    testing::http_server::HttpServer,
    web::Web,
};

mod bad_destinations;
mod bad_sources;
mod store;
mod unfinished;

use store::Store;

/// A store and its server.
struct Served {
    store: Arc<Store>,
    server: HttpServer,
    /// Whether requests are signed.
    signs: bool,
}

impl Served {
    fn start() -> Self {
        let store = Arc::new(Store::default());
        Self { server: HttpServer::start_with(store.clone()), store, signs: true }
    }

    fn protocol(&self) -> S3Protocol {
        S3Protocol::new(Web::new())
    }

    fn options(&self) -> Options {
        let pairs = [("endpoint", self.server.url("")), ("part_size", "5M".into()), ("stall_timeout", "10s".into())];
        let keys = [("access_key", "who".to_owned()), ("secret_key", "hush".to_owned())];
        let keys = keys.into_iter().filter(|_| self.signs);
        pairs.into_iter().chain(keys).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn url(name: &str) -> ObjectUrl {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        ObjectUrl::parse(&format!("s3://bucket/{name}")).unwrap()
    }

    fn key(url: &ObjectUrl) -> String {
        super::place::Target::parse(url).unwrap().key
    }
}

impl SourceHarness for Served {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(self.protocol())
    }
    fn options(&self) -> Options {
        self.options()
    }
    fn make(&self, name: &str, len: usize) -> Made {
        let bytes = sample(name, len);
        self.store.put(name, &bytes);
        Made { url: Self::url(name), bytes }
    }
    fn change(&self, made: &Made) -> bool {
        self.store.put(&Self::key(&made.url), &made.bytes.iter().map(|byte| !byte).collect::<Vec<_>>());
        true
    }
    fn missing(&self) -> Option<ObjectUrl> {
        Some(Self::url("missing"))
    }
}

impl DestinationHarness for Served {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(self.protocol())
    }
    fn options(&self) -> Options {
        self.options()
    }
    fn url(&self, name: &str) -> ObjectUrl {
        Self::url(name)
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        self.store.get(&Self::key(url))
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.store.put(&Self::key(url), bytes);
    }
    fn left_overs(&self) -> usize {
        self.store.uploads()
    }
}

#[test]
fn s3_sources_conform() {
    conformance::check_source(Rc::new(Served::start()), Runtime::TokioUring);
}

#[test]
fn s3_sources_conform_for_everybody() {
    conformance::check_source(Rc::new(Served { signs: false, ..Served::start() }), Runtime::TokioUring);
}

#[test]
fn s3_destinations_conform() {
    conformance::check_parts_destination(Rc::new(Served::start()), Runtime::TokioUring);
}

#[test]
fn without_credentials_nothing_is_signed() {
    for signs in [true, false] {
        let served = Served { signs, ..Served::start() };
        served.store.put("x", b"x");
        let request = bad_sources::request("x", &served.options());
        conformance::on_lane(Runtime::TokioUring, async |lane| {
            served.protocol().open_source(&request, &lane).await.expect("the object opens").close().await;
        });
        let seen = served.server.seen();
        assert!(!seen.is_empty());
        for request in seen {
            assert_eq!(request.headers.contains_key("authorization"), signs);
            assert_eq!(request.headers.contains_key("x-amz-content-sha256"), signs);
        }
    }
}

#[test]
fn an_endpoint_without_tls_needs_permission() {
    let (url, plain) = (Served::url("x"), Options::from([("endpoint".into(), "http://h".into())]));
    let secure = S3Protocol::new(Web::new().secure());
    assert!(secure.check_source(&url, &plain).is_err() && secure.check_destination(&url, &plain).is_err());
    assert_eq!(secure.check_source(&url, &Options::new()), Ok(()));
    assert_eq!(S3Protocol::new(Web::new()).check_source(&url, &plain), Ok(()));
}
