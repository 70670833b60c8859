//! Images of a real Glance, with a real Keystone: the README's example, word for word, and both directions.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use staccato_bench::servers::{
    glance::Glance,
    keystone::{DEMO, Keystone, REGION},
};
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
    service::{PATIENCE, Service},
};

/// Options of a user.
fn account(keystone: &Keystone) -> Value {
    json!({"auth_url": keystone.url(), "username": DEMO.name, "password": DEMO.password, "project_name": DEMO.project})
}

/// An image of these bytes; its id.
fn image(glance: &Glance, token: &str, bytes: &[u8]) -> String {
    let id = glance.create(token, &json!({"name": "an image", "disk_format": "raw", "container_format": "bare"}));
    glance.upload(token, &id, bytes);
    id
}

/// The URL of an image, or of a Glance with `""`.
fn url(glance: &Glance, id: &str) -> String {
    format!("{}/{id}", glance.url().replace("http://", "glance://"))
}

/// The shell blocks of a section.
fn blocks(page: &str, section: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).expect("the section is there");
    let section = rest.split("\n## ").next().unwrap_or_default();
    section.split("```sh\n").skip(1).filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn the_readme_leads_from_glance_to_a_local_file_word_for_word() {
    let (keystone, glance) = (Keystone::shared(), Glance::shared());
    let (service, bytes) = (Service::start(&[]), random(31, 5 * MIB + 17));
    let id = image(glance, &keystone.token(DEMO), &bytes);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let script = blocks(&readme, "From Glance to a local file");
    // Only where things are differs.
    let script = script.replace("/tmp/images", &service.root().display().to_string());
    let script = script.replace("http://127.0.0.1:5309", &service.url());
    let output = Command::new("sh")
        .args(["-e", "-c", &script])
        .envs([("OS_USERNAME", DEMO.name), ("OS_PASSWORD", DEMO.password), ("OS_PROJECT_NAME", DEMO.project)])
        .envs([("OS_AUTH_URL", keystone.url()), ("OS_REGION_NAME", REGION.into()), ("IMAGE_ID", id)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("the answer is a document");
    let done = service.complete(document["id"].as_str().unwrap_or_else(|| panic!("{document:#}")));
    assert!(service.read("vm.raw") == bytes);
    assert_eq!(done["source_options"]["password"], "<redacted>");
    assert!(!service.log().contains(DEMO.password), "a password is logged");
}

#[test]
fn an_image_is_read_by_a_credential_and_by_a_token() {
    let (keystone, glance) = (Keystone::shared(), Glance::shared());
    let (service, bytes) = (Service::start(&[]), random(32, 9 * MIB));
    let token = keystone.token(DEMO);
    let id = image(glance, &token, &bytes);
    let credential = keystone.application_credential(DEMO, "to read images");
    let ways = [
        json!({"auth_url": keystone.url(), "application_credential_id": credential.id,
            "application_credential_secret": credential.secret}),
        json!({"token": token}),
        json!({"auth_url": keystone.url(), "token": token}),
    ];
    for (number, options) in ways.into_iter().enumerate() {
        let name = format!("copy-{number}");
        let transfer = service.submit(&url(glance, &id), &service.file(&name), json!({"source_options": options}));
        service.complete(&transfer);
        assert!(service.read(&name) == bytes, "{name}");
    }
    let mut wrong = account(keystone);
    wrong["password"] = "wrong-password".into();
    let transfer = service.submit(&url(glance, &id), &service.file("none"), json!({"source_options": wrong}));
    assert_eq!(service.failure(&transfer), "permission_denied");
    let message = service.show(&transfer)["error"]["message"].to_string();
    assert!(message.contains(&keystone.url()) && message.contains(DEMO.name), "{message}");
    for secret in [&credential.secret, &token, "wrong-password"] {
        assert!(!service.log().contains(secret) && !message.contains(secret), "a secret is shown");
    }
}

#[test]
fn an_image_is_made_whole_and_verified() {
    let (keystone, glance) = (Keystone::shared(), Glance::shared());
    let (service, token) = (Service::start(&[]), keystone.token(DEMO));
    for (name, len) in [("empty", 0), ("small", 1), ("large", 9 * MIB + 5)] {
        let bytes = random(33, len);
        service.write(name, &bytes);
        let mut options = account(keystone);
        options["name"] = name.into();
        options["property.os_distro"] = "debian".into();
        let transfer = service.submit(&service.file(name), &url(glance, ""), json!({"destination_options": options}));
        service.complete(&transfer);
        // Without an id in the URL the image has the transfer's.
        let record = glance.image(&token, &transfer).expect("the image is there");
        assert_eq!((&record["status"], &record["size"]), (&json!("active"), &json!(len)), "{record:#}");
        assert_eq!((&record["name"], &record["os_distro"]), (&json!(name), &json!("debian")));
        assert!(len == 0 || glance.download(&token, &transfer) == bytes, "{name}");
    }
}

#[test]
fn an_image_that_is_given_up_is_not_there() {
    let (keystone, glance) = (Keystone::shared(), Glance::shared());
    let (service, token) = (Service::start(&[]), keystone.token(DEMO));
    service.write("slow", &random(34, 8 * MIB));
    let slow = json!({"destination_options": account(keystone), "rate_limit": MIB});
    let transfer = service.submit(&service.file("slow"), &url(glance, ""), slow);
    let made = || glance.image(&token, &transfer).filter(|record| record["status"] != "active");
    eventually(PATIENCE, "its record is made", made);
    assert!(service.action(&transfer, "cancel").status < 300);
    service.wait_for(&transfer, "STATE_CANCELED");
    let gone = || glance.image(&token, &transfer).is_none().then_some(());
    eventually(Duration::from_secs(20), "its record is deleted", gone);
}
