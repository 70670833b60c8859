//! Object stores by hand: `staccato copy`, and `staccato protocol orphans`.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use staccato_bench::servers::{
    keystone::{DEMO, Keystone},
    rclone::{self, Rclone},
    swift::{Account, Swift},
};
use staccato_tests::{
    binary::command,
    bytes::{MIB, random},
    service::scratch,
};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command().args(arguments).current_dir(folder).output().expect("the binary runs")
}

/// What a command that succeeds says.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with a file that holds the secret of rclone's access key.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    fs::write(folder.path().join("secret"), format!("{}\n", rclone::SECRET)).unwrap();
    folder
}

#[test]
fn a_copy_goes_to_an_object_store_and_comes_back_with_its_secret_in_a_file() {
    let (rclone, folder) = (Rclone::shared_s3(), folder());
    rclone.create("by-hand");
    let bytes = random(61, 12 * MIB + 5);
    fs::write(folder.path().join("s"), &bytes).unwrap();
    let (endpoint, key) = (format!("endpoint={}", rclone.url()), format!("access_key={}", rclone::USER));
    let side = |side: &str| {
        let (option, file) = (format!("--{side}-option"), format!("--{side}-option-file"));
        [option.clone(), endpoint.clone(), option, key.clone(), file, "secret_key=secret".into()]
    };
    let (to, from) = (side("destination"), side("source"));
    let copy = |source: &str, destination: &str, options: &[String], more: &[&str]| {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        run(folder.path(), &[&["copy", source, destination], &options[..], more].concat())
    };
    let there = copy("s", "s3://by-hand/x", &to, &[]);
    assert!(there.status.success(), "{there:?}");
    assert!(fs::read(rclone.path("by-hand/x")).unwrap() == bytes);
    let back = copy("s3://by-hand/x", "d", &from, &[]);
    assert!(back.status.success(), "{back:?}");
    assert!(fs::read(folder.path().join("d")).unwrap() == bytes);
    // What is wrong is given up: no upload stays behind.
    let wrong = copy("s", "s3://by-hand/y", &to, &["--checksum", "crc32:00000000"]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(!rclone.path("by-hand/y").exists() && orphans(folder.path(), rclone, "s3://by-hand/", &[]) == json!([]));
}

/// What `protocol orphans` finds in rclone's S3.
fn orphans(folder: &Path, rclone: &Rclone, url: &str, more: &[&str]) -> Value {
    let (endpoint, key) = (format!("endpoint={}", rclone.url()), format!("access_key={}", rclone::USER));
    let arguments = ["protocol", "orphans", url, "--json", "--option", &endpoint, "--option", &key];
    let output = said(folder, &[&arguments[..], &["--option-file", "secret_key=secret"], more].concat());
    serde_json::from_str(&output).unwrap()
}

#[test]
fn uploads_that_nobody_completed_are_listed_by_their_age_and_given_up_when_that_is_asked_for() {
    let (rclone, folder) = (Rclone::shared_s3(), folder());
    rclone.create("orphans");
    for name in ["a/1", "a/2", "b"] {
        let mut curl = std::process::Command::new("curl");
        let user = format!("{}:{}", rclone::USER, rclone::SECRET);
        curl.args(["--silent", "--fail", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user, "--request", "POST"]);
        let begun = curl.arg(format!("{}/orphans/{name}?uploads=", rclone.url())).output().unwrap();
        assert!(begun.status.success(), "{begun:?}");
    }
    let list = |url: &str, more: &[&str]| orphans(folder.path(), rclone, url, more);
    let names = |list: Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(list("s3://orphans", &[])), ["s3://orphans/a/1", "s3://orphans/a/2", "s3://orphans/b"]);
    let below = list("s3://orphans/a/", &[]);
    assert!(below[0]["age_seconds"].as_u64().unwrap() < 600, "{below:#}");
    assert_eq!(names(list("s3://orphans/a/", &["--older-than", "1h", "--abort"])), [""; 0]);
    let aborted = list("s3://orphans/a/", &["--older-than", "0s", "--abort"]);
    assert!(aborted.as_array().unwrap().iter().all(|one| one["aborted"] == true), "{aborted:#}");
    assert_eq!(names(list("s3://orphans", &[])), ["s3://orphans/b"]);
    let careless = run(folder.path(), &["protocol", "orphans", "s3://orphans", "--abort"]);
    assert_eq!(careless.status.code(), Some(2), "an age has to be named: {careless:?}");
    let nowhere = run(folder.path(), &["protocol", "orphans", "zero:///5"]);
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}

#[test]
fn swift_tells_of_uploads_of_ours_that_nobody_completed() {
    let account: Account = Swift::shared().account(Keystone::shared(), DEMO);
    let folder = folder();
    let segments = "x y/staccato-0190b5a0-0000-7000-8000-000000000001.1.1048576.5";
    account.create("orphans");
    account.create("orphans_segments");
    for name in ["upload", "00000001"] {
        account.put(&format!("orphans_segments/{}/{name}", segments.replace(' ', "%20")), b"whole");
    }
    let (token, url) = (format!("token={}", account.token), format!("storage_url={}", account.url));
    let arguments = ["protocol", "orphans", "swift://orphans/x", "--option", &token, "--option", &url];
    let listed = said(folder.path(), &arguments);
    assert!(listed.contains("  swift://orphans/x%20y\n") && listed.lines().count() == 2, "{listed}");
    said(folder.path(), &[&arguments[..], &["--older-than", "0s", "--abort"]].concat());
    assert_eq!(said(folder.path(), &arguments), "");
    assert_eq!(account.list("orphans_segments"), [""; 0]);
}
