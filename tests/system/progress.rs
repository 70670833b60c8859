//! What a document tells of a transfer that runs, and how much a limit of its rate limits.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    process::eventually,
    service::{PATIENCE, Service},
};

#[test]
fn a_rate_limited_transfer_tells_throughput_and_eta() {
    const RATE: u64 = 8 * MIB as u64;
    let service = Service::start(&[]);
    service.write("s", &random(1, 48 * MIB));
    let id = service.submit(&service.file("s"), &service.file("d"), json!({"rate_limit": RATE, "chunk_size": MIB}));
    // Both are known from the second checkpoint on, while there is something left to do.
    let (mut looks, mut before) = (0, 0);
    eventually(PATIENCE, "throughput and eta are told", || {
        let document = service.show(&id);
        let number = |field: &str| document[field].as_u64();
        let progress = number("progress").unwrap();
        assert!(progress >= before, "{document:#}");
        before = progress;
        assert_ne!(document["state"], "STATE_COMPLETE", "it ended and never told: {document:#}");
        let (Some(throughput), Some(eta)) = (number("throughput"), number("eta")) else { return None };
        // A busy machine makes it slower, nothing makes it faster: only one interval can catch up with another.
        assert!((1..=2 * RATE).contains(&throughput), "{document:#}");
        let left = number("bytes_total").unwrap() - progress;
        assert_eq!(eta, left.div_ceil(throughput), "seconds that are left at this rate: {document:#}");
        looks += 1;
        (looks == 20).then_some(())
    });
    let document = service.complete(&id);
    assert_eq!(document["eta"], json!(null), "nothing is left: {document:#}");
    let throughput = document["throughput"].as_u64().unwrap();
    assert!((RATE / 8..=RATE * 5 / 4).contains(&throughput), "of the whole transfer: {document:#}");
    // What limited it: places in the window were empty, because the limit let nobody take them.
    let stages = document["stage_times"].as_object().unwrap();
    let time = |stage: &str| stages.get(stage).and_then(|time| time.as_u64()).unwrap_or(0);
    let chunks: u64 = ["queue", "memory", "read", "checksum", "write"].map(time).iter().sum();
    assert!(chunks > 0 && time("idle") > chunks, "{document:#}");
    assert!(["open", "sync", "ledger", "commit"].iter().all(|stage| time(stage) > 0), "{document:#}");
}
