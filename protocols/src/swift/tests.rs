//! The module against a store in memory that answers well, or exactly as badly as it is told.

use std::{rc::Rc, sync::Arc};

use super::SwiftProtocol;
use crate::{
    ObjectUrl, Options, Protocol, Runtime,
    conformance::{self, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
    testing::{
        http_server::HttpServer,
        keystone::{Keystone, PASSWORD},
    },
    web::Web,
};

mod accounts;
mod bad_destinations;
mod bad_sources;
mod limits;
mod store;
mod temp_urls;
mod unfinished;

use store::Store;

/// A store and its server.
struct Served {
    store: Arc<Store>,
    server: HttpServer,
    keystone: Option<Keystone>,
}

impl Served {
    /// For everybody.
    fn start() -> Self {
        let store = Arc::new(Store::new(None));
        Self { server: HttpServer::start_with(store.clone()), store, keystone: None }
    }

    /// For whoever Keystone knows, in its catalogue.
    fn with_keystone() -> Self {
        let keystone = Keystone::start();
        let store = Arc::new(Store::new(Some(keystone.tokens())));
        let served = Self { server: HttpServer::start_with(store.clone()), store, keystone: None };
        keystone.serve("object-store", &served.account());
        Self { keystone: Some(keystone), ..served }
    }

    fn account(&self) -> String {
        self.server.url("/v1/AUTH_demo")
    }

    fn protocol(&self) -> SwiftProtocol {
        SwiftProtocol::new(Web::new())
    }

    fn options(&self) -> Options {
        let mut pairs = vec![("part_size", "1M".to_owned()), ("stall_timeout", "10s".to_owned())];
        match &self.keystone {
            None => pairs.push(("storage_url", self.account())),
            Some(keystone) => pairs.extend([
                ("auth_url", keystone.auth_url()),
                ("username", Keystone::USER.to_owned()),
                ("password", PASSWORD.to_owned()),
                ("project_name", "demo".to_owned()),
            ]),
        }
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn url(name: &str) -> ObjectUrl {
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        ObjectUrl::parse(&format!("swift://c/{name}")).unwrap()
    }

    fn name(url: &ObjectUrl) -> String {
        super::place::Target::parse(url).unwrap().object
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
        self.store.put(&Self::name(&made.url), &made.bytes.iter().map(|byte| !byte).collect::<Vec<_>>());
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
        self.store.get(&Self::name(url))
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.store.put(&Self::name(url), bytes);
    }
    fn left_overs(&self) -> usize {
        self.store.left_overs().len()
    }
}

#[test]
fn swift_sources_conform() {
    conformance::check_source(Rc::new(Served::start()), Runtime::TokioUring);
}

#[test]
fn swift_destinations_conform() {
    conformance::check_parts_destination(Rc::new(Served::start()), Runtime::TokioUring);
}

#[test]
fn swift_conforms_with_keystone() {
    conformance::check_source(Rc::new(Served::with_keystone()), Runtime::TokioUring);
    conformance::check_parts_destination(Rc::new(Served::with_keystone()), Runtime::TokioUring);
}

#[test]
fn a_server_without_tls_needs_permission() {
    let (url, plain) = (Served::url("x"), Options::from([("storage_url".into(), "http://h/v1/a".into())]));
    let secure = SwiftProtocol::new(Web::new().secure());
    assert!(secure.check_source(&url, &plain).is_err() && secure.check_destination(&url, &plain).is_err());
    assert_eq!(SwiftProtocol::new(Web::new()).check_source(&url, &plain), Ok(()));
}
