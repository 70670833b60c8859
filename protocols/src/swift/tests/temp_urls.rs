//! TempURLs: what is read and written without a user.

use futures_util::future::LocalBoxFuture;

use super::*;
use crate::{
    Capabilities, Code, Error, Interrupt, Lane, Session, Source,
    contract::{DestinationRequest, Overwrite, Secrecy, SourceRequest, SweepRequest, Takes},
};

/// The store behind TempURLs; the module as it is then: its destinations take one stream.
struct Signed(Served);

struct InOrder(SwiftProtocol);

impl Signed {
    fn all_options(&self) -> Options {
        let pairs =
            [("storage_url", self.0.account()), ("temp_url_key", "hush".into()), ("stall_timeout", "10s".into())];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Protocol for InOrder {
    fn schemes(&self) -> &'static [&'static str] {
        self.0.schemes()
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities { takes: Takes::InOrder, ..self.0.capabilities() }
    }
    fn secrecy(&self) -> Secrecy {
        self.0.secrecy()
    }
    fn check_source(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.0.check_source(url, options)
    }
    fn check_destination(&self, url: &ObjectUrl, options: &Options) -> Result<(), Error> {
        self.0.check_destination(url, options)
    }
    fn open_source<'a>(
        &'a self,
        request: &'a SourceRequest,
        lane: &'a Lane,
    ) -> LocalBoxFuture<'a, Result<Rc<dyn Source>, Error>> {
        self.0.open_source(request, lane)
    }
    fn begin(&self, request: &DestinationRequest) -> Result<Box<dyn Session>, Error> {
        self.0.begin(request)
    }
    fn sweep(&self, request: &SweepRequest) -> Result<(), Error> {
        self.0.sweep(request)
    }
}

impl SourceHarness for Signed {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(self.0.protocol())
    }
    fn options(&self) -> Options {
        self.all_options()
    }
    fn make(&self, name: &str, len: usize) -> Made {
        self.0.make(name, len)
    }
    fn change(&self, made: &Made) -> bool {
        self.0.change(made)
    }
    fn missing(&self) -> Option<ObjectUrl> {
        self.0.missing()
    }
}

impl DestinationHarness for Signed {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(InOrder(self.0.protocol()))
    }
    fn options(&self) -> Options {
        self.all_options()
    }
    fn url(&self, name: &str) -> ObjectUrl {
        Served::url(name)
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        self.0.visible(url)
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.0.place(url, bytes);
    }
    fn left_overs(&self) -> usize {
        self.0.left_overs()
    }
}

#[test]
fn temp_urls_conform_and_every_request_is_signed_by_itself() {
    let signed = Rc::new(Signed(Served::start()));
    conformance::check_source(signed.clone(), Runtime::TokioUring);
    conformance::check_in_order_destination(signed.clone(), Runtime::TokioUring);
    let seen = signed.0.server.seen();
    assert!(!seen.is_empty());
    // Anybody may ask for the server's limits.
    for request in seen.iter().filter(|request| request.target != "/info") {
        assert!(request.target.contains("?temp_url_sig=") && request.target.contains("&temp_url_expires="));
        assert!(!request.headers.contains_key("x-auth-token"));
    }
}

#[test]
fn what_is_too_long_for_one_put_is_refused_with_what_to_do() {
    let signed = Signed(Served::start());
    let request = DestinationRequest {
        url: Served::url("x"),
        options: signed.all_options(),
        transfer: "t".into(),
        epoch: 1,
        overwrite: Overwrite::Always,
        resume: true,
        upload: None,
        prepared: None,
        interrupt: Interrupt::default(),
    };
    let mut session = signed.0.protocol().begin(&request).unwrap();
    let error = session.writes(Some((5 << 30) + 1)).unwrap_err();
    assert_eq!(error.code, Code::WriteFailed);
    assert!(error.message.contains("auth_url"), "{error}");
}
