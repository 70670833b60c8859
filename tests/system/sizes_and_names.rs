//! Objects of awkward sizes and names.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    service::Service,
};

#[test]
fn objects_of_0_bytes_1_byte_and_around_blocks_and_chunks() {
    let service = Service::start(&["--slots", "8"]);
    let sizes = [0, 1, MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1];
    let ids: Vec<_> = sizes
        .iter()
        .map(|size| {
            service.write(&format!("s{size}"), &random(*size as u64, *size));
            service.submit(&service.file(&format!("s{size}")), &service.file(&format!("d{size}")), json!({}))
        })
        .collect();
    for (size, id) in sizes.iter().zip(&ids) {
        let document = service.complete(id);
        assert_eq!(document["progress"], *size, "{size}");
        assert!(service.read(&format!("d{size}")) == service.read(&format!("s{size}")), "{size} bytes differ");
    }
}

#[test]
fn names_with_spaces_unicode_and_percent_signs() {
    let service = Service::start(&[]);
    let longest = "x".repeat(255);
    for name in ["with space", "Ünïcödé 你好 🎼", "100%", "%41", "a+b&c=d", "quote\"'", "back\\slash", "#?;", &longest]
    {
        let source = format!("{}s", &name[..name.len().min(100)].chars().take(20).collect::<String>());
        service.write(&source, name.as_bytes());
        let id = service.submit(&service.file(&source), &service.file(name), json!({"overwrite": "always"}));
        service.complete(&id);
        assert_eq!(service.read(name), name.as_bytes());
    }
}

#[test]
fn zero_and_null_cost_nothing() {
    let service = Service::start(&[]);
    let id = service.submit("zero:///1073741824", "null:///", json!({}));
    assert_eq!(service.complete(&id)["progress"], 1 << 30);
    let id = service.submit("zero:///5000000", &service.file("zeros"), json!({}));
    service.complete(&id);
    assert!(service.read("zeros") == vec![0; 5_000_000]);
}

#[test]
fn both_kinds_of_lane_move_files() {
    for lane in ["tokio-uring", "glommio"] {
        let service = Service::start(&["--lane", lane]);
        let content = random(1, 30 * MIB + 77);
        service.write("s", &content);
        let id = service.submit(&service.file("s"), &service.file("d"), json!({}));
        service.complete(&id);
        assert!(service.read("d") == content, "{lane}");
    }
}
