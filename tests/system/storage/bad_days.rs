//! What happens behind a transfer's back at real servers: tokens that end, images that are deleted, objects that are
//! replaced.

use std::{fs, thread, time::Duration};

use serde_json::{Value, json};
use staccato_bench::servers::{
    exchange,
    glance::Glance,
    keystone::{DEMO, Keystone},
    rclone::{self, Rclone},
    swift::Swift,
};
use staccato_tests::{
    bytes::{MIB, random},
    service::Service,
};

/// Options of Keystone's user.
fn account(keystone: &Keystone) -> Value {
    json!({"auth_url": keystone.url(), "username": DEMO.name, "password": DEMO.password, "project_name": DEMO.project})
}

/// The URL of an image, or of a Glance with `""`.
fn url(glance: &Glance, id: &str) -> String {
    format!("{}/{id}", glance.url().replace("http://", "glance://"))
}

fn image(glance: &Glance, token: &str, bytes: &[u8]) -> String {
    let id = glance.create(token, &json!({"name": "an image", "disk_format": "raw", "container_format": "bare"}));
    glance.upload(token, &id, bytes);
    id
}

/// As slowly as every MiB takes a second, each in a request of its own: something can happen meanwhile.
fn slowly(options: Value) -> Value {
    let mut options = options;
    options["rate_limit"] = MIB.into();
    options["chunk_size"] = MIB.into();
    options
}

#[test]
fn tokens_that_end_in_mid_transfer_are_renewed_on_the_way_from_glance_and_to_it() {
    const LIFE: Duration = Duration::from_secs(4);
    // Longer than a token lives, and in few requests: Glance asks Keystone about each.
    let slowly = |options: Value| {
        let mut options = options;
        options["rate_limit"] = (3 * MIB / 2).into();
        options["chunk_size"] = (2 * MIB).into();
        options
    };
    let keystone = Keystone::start_with_lifetime(LIFE);
    let glance = Glance::start(&keystone);
    let (service, bytes) = (Service::start(&[]), random(51, 8 * MIB));
    service.write("up", &bytes);
    let first = keystone.token(DEMO);
    let id = image(&glance, &first, &bytes);
    let down = service.submit(
        &url(&glance, &id),
        &service.file("down"),
        slowly(json!({"source_options": account(&keystone)})),
    );
    let up = service.submit(
        &service.file("up"),
        &url(&glance, ""),
        slowly(json!({"destination_options": account(&keystone)})),
    );
    // A stream that was begun in a token's last moment is refused as a whole, which costs an attempt.
    for transfer in [&down, &up] {
        let done = service.complete(transfer);
        assert!(done["attempts"].as_u64().unwrap() <= 3, "{done:#}");
    }
    assert!(service.read("down") == bytes);
    assert!(glance.download(&keystone.token(DEMO), &up) == bytes);
    // One of before: Glance itself refuses it.
    thread::sleep(LIFE);
    let image = format!("{}/v2/images/{id}", glance.url());
    assert_eq!(exchange("GET", &image, &[("x-auth-token", &first)], &[]).status, 401);
}

#[test]
fn a_token_that_cannot_be_renewed_ends_its_transfer_and_says_so() {
    let keystone = Keystone::shared();
    let (glance, service) = (Glance::shared(), Service::start(&[]));
    let (owner, given) = (keystone.token(DEMO), keystone.token(DEMO));
    let id = image(glance, &owner, &random(52, 6 * MIB));
    let options = slowly(json!({"source_options": {"token": given}, "retries": 0}));
    let transfer = service.submit(&url(glance, &id), &service.file("none"), options);
    service.wait_for_progress(&transfer, 1);
    keystone.revoke(&given);
    assert_eq!(service.failure(&transfer), "permission_denied");
    let message = service.show(&transfer)["error"]["message"].to_string();
    assert!(message.contains("401") && !message.contains(&given), "{message}");
    assert!(!service.path("none").exists());
}

#[test]
fn an_image_that_is_deleted_in_mid_transfer_is_missing_and_nothing_of_it_has_its_name() {
    let (keystone, glance) = (Keystone::shared(), Glance::shared());
    let (service, token) = (Service::start(&[]), keystone.token(DEMO));
    let id = image(glance, &token, &random(53, 6 * MIB));
    let options = slowly(json!({"source_options": account(keystone)}));
    let transfer = service.submit(&url(glance, &id), &service.file("vm.raw"), options);
    service.wait_for_progress(&transfer, 1);
    glance.delete(&token, &id);
    assert_eq!(service.failure(&transfer), "source_missing");
    let message = service.show(&transfer)["error"]["message"].to_string();
    assert!(message.contains(&id), "{message}");
    assert!(!service.path("vm.raw").exists());
    assert_eq!(service.delete(&format!("/v1/transfers/{transfer}")).status, 204);
}

/// Replaces the source of a slow transfer when some of it has arrived; the copy must be of the new one.
fn replaced(service: &Service, source: &str, options: Value, new: &[u8], replace: impl FnOnce()) {
    let name = source.split(':').next().expect("a URL has a scheme");
    let transfer = service.submit(source, &service.file(name), slowly(json!({"source_options": options})));
    service.wait_for_progress(&transfer, 1);
    replace();
    let done = service.complete(&transfer);
    assert!(service.read(name) == new, "it is neither the old one nor a mixture");
    assert!(done["events"].to_string().contains("changed"), "{:#}", done["events"]);
}

#[test]
fn an_object_that_is_replaced_in_swift_in_mid_transfer_is_moved_as_it_is_now() {
    let (keystone, service) = (Keystone::shared(), Service::start(&[]));
    let account_of_demo = Swift::shared().account(keystone, DEMO);
    let (old, new) = (random(54, 4 * MIB), random(55, 3 * MIB));
    account_of_demo.create("replaced");
    account_of_demo.put("replaced/x", &old);
    replaced(&service, "swift://replaced/x", account(keystone), &new, || account_of_demo.put("replaced/x", &new));
}

#[test]
fn an_object_that_is_replaced_in_rclones_s3_in_mid_transfer_is_moved_as_it_is_now() {
    let (rclone, service) = (Rclone::shared_s3(), Service::start(&[]));
    let (old, new) = (random(56, 4 * MIB), random(57, 3 * MIB));
    rclone.create("replaced");
    fs::write(rclone.path("replaced/x"), &old).unwrap();
    let options = json!({"endpoint": rclone.url(), "access_key": rclone::USER, "secret_key": rclone::SECRET});
    let replace = || {
        fs::write(rclone.path("replaced/new"), &new).unwrap();
        fs::rename(rclone.path("replaced/new"), rclone.path("replaced/x")).unwrap();
    };
    replaced(&service, "s3://replaced/x", options, &new, replace);
}
