//! 201 means on disk.

use serde_json::json;
use staccato_tests::{service::Service, strace::Strace};

const CALLS: &str = "trace=write,pwrite64,writev,pwritev,fdatasync,sendto,sendmsg";

#[test]
fn a_transfer_is_written_then_synced_then_acknowledged() {
    let service = Service::start(&["--executors", "none"]);
    let strace = Strace::attach(service.pid(), &["-e", CALLS]);
    service.submit("zero:///1", &service.file("a-name-to-look-for"), json!({}));
    let trace = strace.finish();
    // "THREAD CALL(...) = RESULT", or that in two lines: "CALL(... <unfinished ...>" and "<... CALL resumed>...) =
    // RESULT".
    let lines: Vec<(&str, &str)> = trace.lines().filter_map(|line| line.split_once(' ')).collect();
    let find = |what: &str, after: usize, wanted: &dyn Fn(&str, &str) -> bool| {
        let found = lines.iter().skip(after).position(|(thread, call)| wanted(thread, call.trim_start()));
        found.unwrap_or_else(|| panic!("no {what} after line {after}:\n{trace}")) + after
    };
    let write = find("write to the journal", 0, &|_, call| {
        call.contains("write") && call.contains(".journal>") && call.contains("a-name-to-look-for")
    });
    let writer = lines[write].0;
    // A thread makes one call after the other: when it begins to sync, its write has ended.
    let sync = find("fdatasync of the journal", write, &|thread, call| {
        thread == writer && call.starts_with("fdatasync(") && call.contains(".journal>")
    });
    let synced = find("end of the fdatasync", sync, &|thread, call| thread == writer && call.contains(" = "));
    assert!(lines[synced].1.contains("fdatasync") && lines[synced].1.ends_with(" = 0"), "{}", lines[synced].1);
    let acknowledged = find("201", 0, &|_, call| call.contains("\"HTTP/1.1 201 "));
    assert!(synced < acknowledged, "acknowledged before it was on disk:\n{trace}");
}
