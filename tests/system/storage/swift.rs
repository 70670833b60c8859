//! The `swift` module held to its contract by a real Swift, with a real Keystone and with TempURLs, and whole transfers.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use serde_json::json;
use staccato_bench::servers::{
    exchange,
    keystone::{DEMO, Keystone},
    swift::{Account, Swift},
};
use staccato_protocols::{
    ObjectUrl, Options, Runtime,
    conformance::{self, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
    swift::SwiftProtocol,
    web::Web,
};
use staccato_tests::{
    bytes::{MIB, random},
    service::Service,
};

/// The account's key of TempURLs.
const KEY: &str = "secret-of-temp-urls";

/// A container of Keystone's user, and how the module is asked for it.
struct Container {
    account: Account,
    name: &'static str,
    options: Options,
}

impl Container {
    fn new(name: &'static str, options: &[(&str, &str)]) -> Self {
        let account = Swift::shared().account(Keystone::shared(), DEMO);
        account.create(name);
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { account, name, options }
    }

    /// As its user asks.
    fn with_user(name: &'static str) -> Self {
        let auth_url = Keystone::shared().url();
        let user = [("username", DEMO.name), ("password", DEMO.password), ("project_name", DEMO.project)];
        Self::new(name, &[&user[..], &[("auth_url", &auth_url), ("part_size", "1M")]].concat())
    }

    /// As whoever has the account's key asks.
    fn with_temp_urls(name: &'static str) -> Self {
        let account = Swift::shared().account(Keystone::shared(), DEMO);
        let told = account.exchange("POST", "", &[("x-account-meta-temp-url-key", KEY)], &[]);
        assert!((200..300).contains(&told.status), "{}", told.text());
        Self::new(name, &[("storage_url", &account.url), ("temp_url_key", KEY)])
    }

    fn url_of(&self, name: &str) -> ObjectUrl {
        ObjectUrl::parse(&format!("swift://{}/{}", self.name, encoded(name))).expect("the URL is valid")
    }

    /// As the account calls an object.
    fn path(&self, url: &ObjectUrl) -> String {
        format!("{}/{}", self.name, url.as_str().rsplit('/').next().expect("there is a slash"))
    }
}

fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let escape = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(escape).collect()
}

impl SourceHarness for Container {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(SwiftProtocol::new(Web::new()))
    }
    fn options(&self) -> Options {
        self.options.clone()
    }
    fn make(&self, name: &str, len: usize) -> Made {
        let (url, bytes) = (self.url_of(name), sample(name, len));
        self.account.put(&self.path(&url), &bytes);
        Made { url, bytes }
    }
    fn change(&self, made: &Made) -> bool {
        self.account.put(&self.path(&made.url), &made.bytes.iter().map(|byte| !byte).collect::<Vec<_>>());
        true
    }
    fn missing(&self) -> Option<ObjectUrl> {
        Some(self.url_of("missing"))
    }
}

impl DestinationHarness for Container {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(SwiftProtocol::new(Web::new()))
    }
    fn options(&self) -> Options {
        self.options.clone()
    }
    fn url(&self, name: &str) -> ObjectUrl {
        self.url_of(name)
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        let reply = self.account.exchange("GET", &self.path(url), &[], &[]);
        (reply.status == 200).then_some(reply.body)
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.account.put(&self.path(url), bytes);
    }
    /// Segments that no manifest names, and markers.
    fn left_overs(&self) -> usize {
        let list = self.account.exchange("GET", &format!("{}_segments", self.name), &[], &[]);
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let (mut markers, mut segments) = (0, BTreeSet::new());
        let text = list.text();
        for name in text.lines().filter(|_| list.status == 200) {
            let (object, rest) = name.rsplit_once("/staccato-").expect("it is named as segments are");
            *names.entry(object.to_owned()).or_default() += 1;
            match rest.split_once('/') {
                Some((_, "upload")) => markers += 1,
                _ => drop(segments.insert((object, name.to_owned()))),
            }
        }
        for object in names.keys() {
            let path = format!("{}/{}?multipart-manifest=get", self.name, encoded(object));
            let manifest = self.account.exchange("GET", &path, &[], &[]);
            if manifest.status == 200 && manifest.header("x-static-large-object") == "True" {
                for segment in manifest.json().as_array().expect("a manifest is a list") {
                    let (_, name) =
                        segment["name"].as_str().and_then(|name| name[1..].split_once('/')).expect("a name");
                    segments.remove(&(object, name.to_owned()));
                }
            }
        }
        markers + segments.len()
    }
}

#[test]
fn swift_sources_conform_with_keystone() {
    conformance::check_source(Rc::new(Container::with_user("swift-sources")), Runtime::TokioUring);
}

#[test]
fn swift_destinations_conform_with_keystone() {
    conformance::check_parts_destination(Rc::new(Container::with_user("swift-destinations")), Runtime::TokioUring);
}

#[test]
fn swift_sources_conform_with_temp_urls() {
    conformance::check_source(Rc::new(Container::with_temp_urls("swift-temp-sources")), Runtime::TokioUring);
}

#[test]
fn a_file_goes_to_swift_and_comes_back_with_a_user_and_with_temp_urls() {
    let service = Service::start(&[]);
    let bytes = random(41, 5 * MIB + 17);
    service.write("image", &bytes);
    for (container, large) in
        [(Container::with_user("swift-images"), true), (Container::with_temp_urls("swift-temp-images"), false)]
    {
        let (url, options) = (container.url_of("größe 1"), json!(container.options));
        let there = service.submit(&service.file("image"), url.as_str(), json!({"destination_options": options}));
        let done = service.complete(&there);
        assert!(!done.to_string().contains("secret-of") && !done.to_string().contains(DEMO.password));
        assert!(container.account.get(&container.path(&url)) == bytes);
        let segments = container.account.exchange("GET", &format!("{}_segments", container.name), &[], &[]);
        assert_eq!((segments.status == 200, segments.text().lines().count() == 6), (large, large));
        let back = format!("back-from-{}", container.name);
        let back_id = service.submit(url.as_str(), &service.file(&back), json!({"source_options": options}));
        service.complete(&back_id);
        assert!(service.read(&back) == bytes, "{back}");
    }
    for secret in [KEY, DEMO.password] {
        assert!(!service.log().contains(secret), "a secret is logged");
    }
}

#[test]
fn a_wrong_key_and_a_missing_container_are_said() {
    let service = Service::start(&[]);
    let container = Container::with_temp_urls("swift-refusals");
    container.account.put("swift-refusals/x", b"x");
    let mut options = container.options.clone();
    options.insert("temp_url_key".into(), "wrong-secret".into());
    let refused = service.submit("swift://swift-refusals/x", &service.file("x"), json!({"source_options": options}));
    assert_eq!(service.failure(&refused), "permission_denied");
    let user = json!(Container::with_user("swift-refusals").options);
    let nowhere = service.submit("swift://nowhere/x", &service.file("x"), json!({"source_options": user}));
    assert_eq!(service.failure(&nowhere), "bucket_missing");
    assert!(!service.log().contains("wrong-secret"));
}

#[test]
fn a_real_server_tells_its_limits_where_they_are_looked_for() {
    let info = exchange("GET", &format!("{}/info", Swift::shared().url()), &[], &[]).json();
    for limit in ["/slo/max_manifest_segments", "/slo/min_segment_size", "/swift/max_file_size"] {
        assert!(info.pointer(limit).is_some_and(|limit| limit.as_u64() > Some(0)), "{limit}: {info:#}");
    }
    assert!(
        info.pointer("/tempurl/methods").is_some_and(|methods| methods.to_string().contains("\"PUT\"")),
        "{info:#}"
    );
}
