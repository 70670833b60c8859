//! File systems that take no O_DIRECT, such as ramfs: through the page cache, and said loudly.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    disk::Disk,
    service::Service,
};

#[test]
fn without_o_direct_files_are_moved_through_the_page_cache_and_the_log_says_so() {
    for lane in ["tokio-uring", "glommio"] {
        let disk = Disk::ramfs();
        let service = Service::start(&["--lane", lane, "--root", &disk.path().display().to_string()]);
        let content = random(1, 20 * MIB + 5);
        let outside = |name: &str| format!("file://{}/{name}", disk.path().display());
        service.write("s", &content);
        // There, on the spot, and back.
        for (source, destination) in
            [(service.file("s"), outside("a")), (outside("a"), outside("b")), (outside("b"), service.file("d"))]
        {
            let id = service.submit(&source, &destination, json!({}));
            service.complete(&id);
        }
        assert!(service.read("d") == content, "{lane}");
        for what in ["writing through the page cache", "reading through the page cache"] {
            assert!(service.log().contains(what), "{lane}: {what}:\n{}", service.log());
        }
    }
}
