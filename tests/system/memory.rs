//! Memory is bounded by configuration, whatever a request asks for.

use serde_json::json;
use staccato_tests::{
    bytes::{MIB, random},
    service::Service,
};

/// What an executor takes without any buffer: the program, its threads, rings and tables, and the large pages that its
/// allocator begins each thread with.
const BASE_BYTES: u64 = 56 * MIB as u64;

#[test]
fn chunks_larger_than_the_memory_allows_are_made_smaller() {
    for lane in ["tokio-uring", "glommio"] {
        let service = Service::start(&["--memory", "16M", "--lanes", "2", "--lane", lane]);
        let content = random(1, 160 * MIB);
        service.write("s", &content);
        let id = service.submit(&service.file("s"), &service.file("d"), json!({"chunk_size": 64 * MIB}));
        service.complete(&id);
        assert!(service.read("d") == content);
        let peak = peak_bytes(service.executor());
        assert!(peak < BASE_BYTES + 16 * MIB as u64, "{lane}: {} MiB at its peak", peak >> 20);
    }
}

/// The largest resident size of a process so far (`VmHWM` of proc_pid_status(5)).
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}
