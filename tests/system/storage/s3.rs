//! The `s3` module held to its contract by real servers: rclone, and Swift's S3.

use std::{
    fs,
    process::{Command, Stdio},
    rc::Rc,
    sync::Arc,
};

use serde_json::json;
use staccato_bench::servers::{
    rclone::{self, Rclone},
    swift::{self, Account, Swift},
};
use staccato_protocols::{
    ObjectUrl, Options, Runtime,
    conformance::{self, DestinationHarness, Made, SourceHarness, sample},
    contract::SharedProtocol,
    s3::S3Protocol,
    web::Web,
};
use staccato_tests::{
    binary::command,
    bytes::{MIB, random},
    service::{Service, scratch},
};

/// A bucket on a server, with a way to its objects that is not S3.
struct Bucket<S> {
    storage: S,
    name: &'static str,
    options: Options,
}

/// What lies in buckets, as the server's owner sees it. Objects are named as URLs name them: encoded.
trait Storage {
    fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>>;
    fn write(&self, bucket: &str, key: &str, bytes: &[u8]);
    /// How many uploads to a bucket are not complete.
    fn uploads(&self, bucket: &str) -> usize;
}

impl<S: Storage> Bucket<S> {
    fn new(storage: S, name: &'static str, endpoint: String, user: &str, secret: &str) -> Rc<Self> {
        let pairs =
            [("endpoint", endpoint.as_str()), ("access_key", user), ("secret_key", secret), ("part_size", "5M")];
        let options = pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Rc::new(Self { storage, name, options })
    }

    fn url_of(&self, name: &str) -> ObjectUrl {
        let key: String = name
            .bytes()
            .map(|byte| match byte.is_ascii_alphanumeric() {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect();
        ObjectUrl::parse(&format!("s3://{}/{key}", self.name)).expect("the URL is valid")
    }

    fn key<'a>(&self, url: &'a ObjectUrl) -> &'a str {
        url.as_str().rsplit('/').next().expect("there is a slash")
    }
}

impl<S: Storage> SourceHarness for Bucket<S> {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(S3Protocol::new(Web::new()))
    }
    fn options(&self) -> Options {
        self.options.clone()
    }
    fn make(&self, name: &str, len: usize) -> Made {
        let (url, bytes) = (self.url_of(name), sample(name, len));
        self.storage.write(self.name, self.key(&url), &bytes);
        Made { url, bytes }
    }
    fn change(&self, made: &Made) -> bool {
        let bytes: Vec<u8> = made.bytes.iter().map(|byte| !byte).collect();
        self.storage.write(self.name, self.key(&made.url), &bytes);
        true
    }
    fn missing(&self) -> Option<ObjectUrl> {
        Some(self.url_of("missing"))
    }
}

impl<S: Storage> DestinationHarness for Bucket<S> {
    fn protocol(&self) -> SharedProtocol {
        Arc::new(S3Protocol::new(Web::new()))
    }
    fn options(&self) -> Options {
        self.options.clone()
    }
    fn url(&self, name: &str) -> ObjectUrl {
        self.url_of(name)
    }
    fn visible(&self, url: &ObjectUrl) -> Option<Vec<u8>> {
        self.storage.read(self.name, self.key(url))
    }
    fn place(&self, url: &ObjectUrl, bytes: &[u8]) {
        self.storage.write(self.name, self.key(url), bytes);
    }
    fn left_overs(&self) -> usize {
        self.storage.uploads(self.name)
    }
}

/// rclone's objects are files.
impl Storage for &Rclone {
    fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        fs::read(self.path(&format!("{bucket}/{}", decoded(key)))).ok()
    }
    fn write(&self, bucket: &str, key: &str, bytes: &[u8]) {
        fs::write(self.path(&format!("{bucket}/{}", decoded(key))), bytes).expect("a file can be written");
    }
    fn uploads(&self, bucket: &str) -> usize {
        let user = format!("{}:{}", rclone::USER, rclone::SECRET);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user]);
        let list = curl.arg(format!("{}/{bucket}?uploads=", self.url())).stderr(Stdio::inherit()).output();
        let list = list.expect("curl runs");
        assert!(list.status.success(), "{}", self.log());
        String::from_utf8_lossy(&list.stdout).matches("<UploadId>").count()
    }
}

/// Swift's buckets are containers of an account.
impl Storage for Account {
    fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let reply = self.exchange("GET", &format!("{bucket}/{key}"), &[], &[]);
        (reply.status == 200).then_some(reply.body)
    }
    fn write(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.put(&format!("{bucket}/{key}"), bytes);
    }
    /// An upload is `KEY/UPLOAD` in a container of its own until it is complete, its parts are `KEY/UPLOAD/NUMBER`.
    fn uploads(&self, bucket: &str) -> usize {
        let list = self.exchange("GET", &format!("{bucket}+segments"), &[], &[]);
        let is_upload = |name: &&str| name.rsplit('/').next().is_none_or(|last| last.parse::<u32>().is_err());
        list.text().lines().filter(|_| list.status == 200).filter(is_upload).count()
    }
}

fn decoded(key: &str) -> String {
    let query = format!("k={}", key.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes()).next().expect("there is one").1.into_owned()
}

fn of_rclone(name: &'static str) -> Rc<Bucket<&'static Rclone>> {
    let rclone = Rclone::shared_s3();
    rclone.create(name);
    Bucket::new(rclone, name, rclone.url(), rclone::USER, rclone::SECRET)
}

fn of_swift(name: &'static str) -> Rc<Bucket<Account>> {
    let account = Swift::shared().own_account();
    account.create(name);
    Bucket::new(account, name, Swift::shared().url(), swift::USER, swift::SECRET)
}

#[test]
fn s3_sources_conform_on_rclone() {
    conformance::check_source(of_rclone("s3-sources"), Runtime::TokioUring);
}

#[test]
fn s3_destinations_conform_on_rclone() {
    conformance::check_parts_destination(of_rclone("s3-destinations"), Runtime::TokioUring);
}

#[test]
fn s3_sources_conform_on_swift() {
    conformance::check_source(of_swift("s3-sources"), Runtime::TokioUring);
}

#[test]
fn s3_destinations_conform_on_swift() {
    conformance::check_parts_destination(of_swift("s3-destinations"), Runtime::TokioUring);
}

#[test]
fn objects_go_to_a_server_with_tls_and_come_back_where_its_authority_is_trusted() {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pki = |arguments: &[&str]| {
        let made = command().arg("pki").args(arguments).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    pki(&["init", "--dir", &path("ca")]);
    pki(&["issue", "--dir", &path("ca"), "--host", "localhost", "--cert", &path("cert"), "--key", &path("key")]);
    let rclone = Rclone::start_s3_with_tls(path("cert").as_ref(), path("key").as_ref());
    rclone.create("tls");
    let (service, bytes) = (Service::start(&["--allow-http", "false"]), random(41, 12 * MIB + 3));
    let ca = fs::read_to_string(folder.path().join("ca/ca.pem")).unwrap();
    let unknown =
        json!({"endpoint": rclone.url(), "access_key": rclone::USER, "secret_key": rclone::SECRET, "part_size": "5M"});
    let mut trusted = unknown.clone();
    trusted["ca"] = ca.into();
    service.write("s", &bytes);
    let there = service.submit(&service.file("s"), "s3://tls/x", json!({"destination_options": trusted}));
    service.complete(&there);
    assert!(fs::read(rclone.path("tls/x")).unwrap() == bytes);
    let back = service.submit("s3://tls/x", &service.file("d"), json!({"source_options": trusted}));
    service.complete(&back);
    assert!(service.read("d") == bytes);
    let refused = service.submit("s3://tls/x", &service.file("e"), json!({"source_options": unknown, "retries": 0}));
    assert_eq!(service.failure(&refused), "tls_failed");
}
