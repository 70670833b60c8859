//! The servers themselves, without Staccato: each starts, answers, and gives back what it was given.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use data_encoding::BASE64;
use serde_json::json;
use staccato_bench::servers::{
    exchange,
    glance::Glance,
    keystone::{ADMIN, DEMO, Keystone, OTHER},
    rclone::{self, Rclone},
    swift::{self, Swift},
};
use staccato_tests::{
    bytes::{MIB, random},
    process::{Killed, children, eventually, is_alive},
    service::PATIENCE,
};
use url::Url;

fn three_mib() -> Vec<u8> {
    random(3, 3 * MIB)
}

#[test]
fn keystone_gives_tokens_and_takes_them_back() {
    let keystone = Keystone::shared();
    let token = keystone.token(DEMO);
    let asks =
        |token: &str| exchange("GET", &format!("{}/auth/projects", keystone.url()), &[("x-auth-token", token)], &[]);
    assert_eq!(asks(&token).json()["projects"][0]["name"], "demo");
    keystone.revoke(&token);
    assert_eq!(asks(&token).status, 401);
}

#[test]
fn keystone_knows_application_credentials() {
    let keystone = Keystone::shared();
    let credential = keystone.application_credential(DEMO, "of the servers' test");
    let identity = json!({"methods": ["application_credential"],
        "application_credential": {"id": credential.id, "secret": credential.secret}});
    let body = json!({"auth": {"identity": identity}}).to_string();
    let url = format!("{}/auth/tokens", keystone.url());
    let reply = exchange("POST", &url, &[("content-type", "application/json")], body.as_bytes());
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.json()["token"]["project"]["id"], keystone.project_id(DEMO));
}

#[test]
fn keystone_lists_the_other_servers() {
    let (glance, swift) = (Glance::shared(), Swift::shared());
    let catalogue = Keystone::shared().sign_in(DEMO).description["catalog"].take();
    let url = |kind: &str| {
        let mut services = catalogue.as_array().expect("the catalogue is a list").iter();
        let service = services.find(|service| service["type"] == kind).expect("the service is published");
        service["endpoints"][0]["url"].as_str().expect("an endpoint has a URL").to_owned()
    };
    assert_eq!(url("image"), glance.url());
    assert_eq!(url("object-store"), swift.account(Keystone::shared(), DEMO).url);
}

#[test]
fn short_tokens_end_and_a_keystone_that_was_killed_comes_back() {
    let mut keystone = Keystone::start_with_lifetime(Duration::from_secs(3));
    let token = keystone.token(ADMIN);
    let url = format!("{}/auth/projects", keystone.url());
    let status = || exchange("GET", &url, &[("x-auth-token", &token)], &[]).status;
    assert_eq!(status(), 200);
    keystone.kill();
    keystone.launch();
    eventually(Duration::from_secs(10), "the token ends", || (status() == 401).then_some(()));
    keystone.token(DEMO);
}

#[test]
fn glance_keeps_an_image() {
    let (keystone, glance, image) = (Keystone::shared(), Glance::shared(), three_mib());
    let token = keystone.token(DEMO);
    let fields = json!({"name": "three", "disk_format": "raw", "container_format": "bare"});
    let id = glance.create(&token, &fields);
    let status = |token: &str| glance.image(token, &id).map(|image| image["status"].clone());
    assert_eq!(status(&token), Some(json!("queued")));
    glance.upload(&token, &id, &image);
    assert_eq!(status(&token), Some(json!("active")));
    assert!(glance.download(&token, &id) == image);
    assert_eq!(status(&keystone.token(OTHER)), None, "images of a project are its own");
    glance.delete(&token, &id);
    assert_eq!(status(&token), None);
}

#[test]
fn swift_keeps_an_object_of_its_own_users_and_of_keystones() {
    let (swift, object) = (Swift::shared(), three_mib());
    for account in [swift.own_account(), swift.account(Keystone::shared(), DEMO)] {
        account.create("plain");
        account.put("plain/three", &object);
        assert!(account.get("plain/three") == object);
        assert_eq!(account.list("plain"), ["three"]);
        account.delete("plain/three");
        account.delete("plain");
    }
}

#[test]
fn swift_and_rclone_speak_s3() {
    let object = three_mib();
    // With a length that is known before: rclone wants one.
    let file = tempfile::NamedTempFile::new().expect("a file can be made");
    fs::write(file.path(), &object).expect("the file can be written");
    let (swift, rclone) = (Swift::shared(), Rclone::shared_s3());
    swift.own_account().create("signed");
    rclone.create("signed");
    let keeps = |endpoint: &str, key: &str, secret: &str| {
        let url = format!("{endpoint}/signed/three");
        curl(&["--upload-file", file.path().to_str().expect("its path is text")], &url, key, secret);
        assert!(curl(&[], &url, key, secret) == object);
    };
    keeps(&swift.url(), swift::USER, swift::SECRET);
    keeps(&rclone.url(), rclone::USER, rclone::SECRET);
    assert!(swift.own_account().get("signed/three") == object, "buckets are containers");
    assert!(fs::read(rclone.path("signed/three")).expect("objects are files") == object);
}

#[test]
fn rclone_speaks_webdav() {
    let (rclone, object) = (Rclone::shared_webdav(), three_mib());
    let credentials = BASE64.encode(format!("{}:{}", rclone::USER, rclone::SECRET).as_bytes());
    let (url, authorization) = (format!("{}/three", rclone.url()), format!("Basic {credentials}"));
    let signed = [("authorization", authorization.as_str())];
    assert_eq!(exchange("PUT", &url, &[], &object).status, 401);
    assert_eq!(exchange("PUT", &url, &signed, &object).status, 201);
    assert!(exchange("GET", &url, &signed, &[]).body == object);
    assert!(fs::read(rclone.path("three")).expect("objects are files") == object);
}

/// It starts itself again, as the process that shares a server and is killed.
#[test]
fn a_shared_server_and_its_folder_end_with_the_process_of_the_tests() {
    const SHARES: &str = "TEST_SHARES_A_SERVER";
    if env::var_os(SHARES).is_some() {
        println!("folder {}", Rclone::shared_s3().path("").display());
        thread::sleep(PATIENCE);
        return;
    }
    let name = thread::current().name().expect("a test's thread has its name").to_owned();
    let mut tests = Command::new(env::current_exe().expect("a test knows its own path"));
    tests.args(["--exact", &name, "--nocapture"]).env(SHARES, "1").stdout(Stdio::piped());
    let mut tests = Killed(tests.spawn().expect("tests can be started"));
    let output = BufReader::new(tests.0.stdout.take().expect("it is piped"));
    let mut lines = output.lines().map(|line| line.expect("tests print text"));
    let folder = lines.find_map(|line| line.split_once("folder ").map(|(_, folder)| PathBuf::from(folder)));
    let folder = folder.expect("the folder is printed");
    assert!(folder.exists());
    let programs = children(tests.0.id());
    assert_eq!(programs.len(), 2, "the server, and the shell that removes the folder");
    drop(tests);
    eventually(PATIENCE, "the programs end", || programs.iter().all(|pid| !is_alive(*pid)).then_some(()));
    assert!(!folder.exists());
}

/// What curl, which signs by itself, gets.
fn curl(arguments: &[&str], url: &str, key: &str, secret: &str) -> Vec<u8> {
    let mut url = Url::parse(url).expect("servers have URLs");
    // Swift's access keys hold a colon: here it is escaped.
    url.set_username(key).and_then(|()| url.set_password(Some(secret))).expect("the URL has a host");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body"]).args(arguments).arg(url.as_str());
    curl.args(["--aws-sigv4", &format!("aws:amz:{}:s3", swift::REGION)]);
    curl.args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
    let output = curl.output().expect("curl is installed; tests/run does it");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
